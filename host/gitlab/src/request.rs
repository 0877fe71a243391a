//! Asking for a job.

use std::fmt;
use std::time::Duration;

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::client::{Ask, Client};
use crate::error::GitlabError;
use crate::info::Info;
use crate::observe::Endpoint;
use crate::{Payload, PayloadError};

/// Who asks: one runner, and the manager that speaks for it. Its token is not in its `Debug`.
#[derive(Clone)]
pub struct RunnerIdentity {
    /// The runner's authentication token.
    pub token: SecretString,
    /// The manager: `s_` or `r_` and 12 letters or digits.
    pub system_id: String,
    /// What it can do.
    pub info: Info,
}

impl fmt::Debug for RunnerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerIdentity")
            .field("system_id", &self.system_id)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What came of asking for a job.
#[derive(Debug)]
pub struct JobAnswer {
    /// Whether there was one.
    pub outcome: JobRequestOutcome,
    /// `X-GitLab-Last-Update`: to be sent with the next request, which is then held until
    /// something changes.
    pub last_update: Option<String>,
}

/// Whether there was a job.
#[derive(Debug)]
pub enum JobRequestOutcome {
    /// 201: a job. It must be held or accepted, see [`crate::HeldJob`].
    Job(Box<Payload>),
    /// 201: a job that cannot be run. Where its key is known, it can be failed at GitLab.
    Unreadable(PayloadError),
    /// 204: none.
    Nothing,
    /// 409: another manager was faster. There may be more jobs.
    Conflict,
    /// 429, or 503 with a time: nothing is to be asked for this long.
    Throttled {
        /// How long, by the server's own word where it gave one.
        wait: Duration,
        /// All of it.
        error: GitlabError,
    },
    /// 403: the token is not known, or no longer.
    Forbidden(GitlabError),
    /// Anything else.
    Failed(GitlabError),
}

#[derive(Serialize)]
struct Body<'a> {
    info: &'a Info,
    token: &'a str,
    system_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionBody<'a>>,
}

#[derive(Serialize)]
struct SessionBody<'a> {
    url: &'a str,
    certificate: &'a str,
    authorization: &'a str,
}

/// Where GitLab finds the terminal of the job that a request may bring.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// What comes before `/exec`.
    pub url: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// What the header `Authorization` has to be.
    pub authorization: SecretString,
}

impl Client {
    /// Asks for a job, once: the pace is the caller's, see [`crate::Health`].
    ///
    /// With the `last_update` of the answer before, GitLab may hold the request for 50 seconds or
    /// more until there is something. Dropped meanwhile, a job that was on its way is lost to this
    /// manager: GitLab gives it back or fails it after a while.
    pub async fn request_job(
        &self,
        runner: &RunnerIdentity,
        last_update: Option<&str>,
        session: Option<&SessionInfo>,
    ) -> JobAnswer {
        let body = Body {
            info: &runner.info,
            token: runner.token.expose_secret(),
            system_id: &runner.system_id,
            last_update: last_update.filter(|value| !value.is_empty()),
            session: session.map(|session| SessionBody {
                url: &session.url,
                certificate: &session.certificate,
                authorization: session.authorization.expose_secret(),
            }),
        };
        let token = ("runner-token", &runner.token);
        let asked = Ask::json(
            "asking for a job",
            Method::POST,
            "jobs/request",
            token,
            &body,
        );
        let answer = match asked {
            Ok(ask) => self.ask(ask.once().at(Endpoint::RequestJob)).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return JobAnswer {
                    outcome: JobRequestOutcome::Failed(error),
                    last_update: last_update.map(str::to_owned),
                };
            }
        };
        let told = answer.header("x-gitlab-last-update");
        let last_update = told.or(last_update).map(str::to_owned);
        let outcome = match answer.status {
            201 => match answer.json_text().map(Payload::from_json) {
                Ok(Ok(job)) => JobRequestOutcome::Job(Box::new(job)),
                Ok(Err(problem)) => JobRequestOutcome::Unreadable(problem),
                Err(error) => JobRequestOutcome::Failed(error),
            },
            204 => JobRequestOutcome::Nothing,
            200..=299 => JobRequestOutcome::Failed(
                answer.malformed(format!("its status is {}, not 201 or 204", answer.status)),
            ),
            _ => match answer.refusal() {
                GitlabError::Conflict { .. } => JobRequestOutcome::Conflict,
                error @ GitlabError::Forbidden { .. } => JobRequestOutcome::Forbidden(error),
                error => match error.wait() {
                    Some(wait) => JobRequestOutcome::Throttled { wait, error },
                    None => JobRequestOutcome::Failed(error),
                },
            },
        };
        JobAnswer {
            outcome,
            last_update,
        }
    }
}
