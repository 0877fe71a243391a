//! What is said to GitLab of one job: that it is held, that it runs, its trace, its end.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::time::Duration;

use crate::client::{Answer, Ask, Client};
use crate::error::{Attempt, GitlabError};
use crate::info::Info;
use crate::observe::Endpoint;
use crate::{Final, FinalState, JobKey, Remote};

/// One job at GitLab: where, which, and who speaks. Its token is not in its `Debug`.
#[derive(Clone)]
pub struct JobLine {
    client: Client,
    key: JobKey,
    info: Info,
}

impl fmt::Debug for JobLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobLine")
            .field("job", &self.key.id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Update<'a> {
    info: &'a Info,
    token: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

#[derive(Serialize)]
struct Output<'a> {
    checksum: &'a str,
    bytesize: u64,
}

/// The checksum and length of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) checksum: u32,
    pub(crate) length: u64,
}

/// What GitLab answered to an update or a part of a trace.
#[derive(Debug)]
pub(crate) enum Said {
    /// Done.
    Yes(Remote),
    /// 202 to a final update: to be repeated after a while.
    Wait(Remote),
    /// 416: the trace has this many bytes there.
    Resume(u64),
    /// 412: what came is not what was sent; all of it again.
    Resend,
    /// 404 to a part of a trace, which a proxy may have said.
    NotThere,
    /// The job is over there: 403, 404 to an update, or `Job-Status` says so.
    Over {
        /// What it is there, where that was said.
        status: Option<String>,
    },
    /// 409.
    Conflict,
    /// Anything else.
    Failed(GitlabError),
}

/// An answer, and how long GitLab wants to hear nothing.
pub(crate) struct Heard {
    pub(crate) said: Said,
    pub(crate) interval: Option<Duration>,
}

impl Heard {
    fn failed(error: GitlabError) -> Self {
        Self {
            said: Said::Failed(error),
            interval: None,
        }
    }
}

impl JobLine {
    /// A line for a job that was received.
    #[must_use]
    pub fn new(client: Client, key: JobKey, info: Info) -> Self {
        Self { client, key, info }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.key.id
    }

    /// An answer of a kind that this request cannot have.
    pub(crate) fn makes_no_sense(&self, said: &Said) -> GitlabError {
        GitlabError::Malformed {
            attempt: Attempt {
                what: "telling of a job",
                method: "PUT",
                url: format!("{}jobs/{}", self.client.base(), self.key.id),
            },
            problem: format!("it is {said:?}"),
        }
    }

    async fn put(&self, what: &'static str, body: &Update<'_>) -> Result<Answer, GitlabError> {
        let path = format!("jobs/{}", self.key.id);
        let token = ("job-token", &self.key.token);
        let ask = Ask::json(what, Method::PUT, path, token, body)?;
        self.client.ask(ask.at(Endpoint::UpdateJob)).await
    }

    fn update<'a>(&'a self, state: &'static str) -> Update<'a> {
        Update {
            info: &self.info,
            token: self.key.token.expose_secret(),
            state,
            failure_reason: None,
            checksum: None,
            output: None,
            exit_code: None,
        }
    }

    /// `pending`: the machine is not ready yet.
    pub(crate) async fn pending(&self) -> Heard {
        let what = "keeping a job that waits for its machine";
        update_said(self.put(what, &self.update("pending")).await, false)
    }

    /// `running`: the job is accepted, or still runs.
    pub(crate) async fn running(&self, extent: Option<Extent>) -> Heard {
        let checksum = extent.map(|extent| format!("crc32:{:08x}", extent.checksum));
        let mut update = self.update("running");
        update.output = extent
            .zip(checksum.as_deref())
            .map(|(extent, checksum)| Output {
                checksum,
                bytesize: extent.length,
            });
        update_said(self.put("telling that a job runs", &update).await, false)
    }

    /// The end, with the reason as this GitLab knows it.
    pub(crate) async fn end(&self, end: Final, reasons: &[String], extent: Extent) -> Heard {
        let checksum = format!("crc32:{:08x}", extent.checksum);
        let mut update = self.update(state_word(end.state));
        update.exit_code = end.exit_code;
        if end.state == FinalState::Failed {
            let reason = end
                .failure_reason
                .unwrap_or(crate::FailureReason::UnknownFailure);
            update.failure_reason = Some(reason.for_server(reasons).as_str());
        }
        update.checksum = Some(&checksum);
        update.output = Some(Output {
            checksum: &checksum,
            bytesize: extent.length,
        });
        update_said(self.put("telling the end of a job", &update).await, true)
    }

    /// A part of the trace, not empty.
    pub(crate) async fn patch(&self, from: u64, part: Bytes, debug: bool) -> Heard {
        let last = from + (part.len() as u64).saturating_sub(1);
        let range = match HeaderValue::from_str(&format!("{from}-{last}")) {
            Ok(range) => range,
            Err(error) => {
                return Heard::failed(GitlabError::BadOption {
                    option: "trace",
                    problem: format!("has no range: {error}"),
                });
            }
        };
        let answer = self.client.ask(Ask {
            what: "sending a part of a trace",
            method: Method::PATCH,
            path: format!("jobs/{}/trace", self.key.id),
            query: Some(("debug_trace", if debug { "true" } else { "false" })),
            token: ("job-token", &self.key.token),
            headers: vec![
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
                (header::CONTENT_RANGE, range),
            ],
            body: part,
            patient: true,
            endpoint: Some(Endpoint::PatchTrace),
        });
        trace_said(answer.await)
    }
}

pub(crate) fn state_word(state: FinalState) -> &'static str {
    match state {
        FinalState::Success => "success",
        FinalState::Failed => "failed",
    }
}

fn interval(answer: &Answer) -> Option<Duration> {
    let text = answer.header("x-gitlab-trace-update-interval")?;
    let seconds: u64 = text.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn status(answer: &Answer) -> Option<String> {
    answer.header("job-status").map(str::to_owned)
}

/// The remote state of an answer that is no refusal; `None` where the job is over.
fn remote(answer: &Answer) -> Option<Remote> {
    match answer.header("job-status") {
        Some("canceled" | "failed") => None,
        Some("canceling") => Some(Remote::Canceling),
        _ => Some(Remote::Running),
    }
}

/// Whether an answer to an update came from GitLab, which says its status in words too, and not
/// from a proxy that answers 200 to everything.
fn is_gitlabs(answer: &Answer) -> bool {
    let said = String::from_utf8_lossy(&answer.body);
    let said = said.trim().trim_matches('"');
    said.is_empty() || said == answer.status.to_string() || status(answer).is_some()
}

fn update_said(answer: Result<Answer, GitlabError>, ending: bool) -> Heard {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Heard::failed(error),
    };
    let over = || Said::Over {
        status: status(&answer),
    };
    let said = match (answer.status, remote(&answer)) {
        (403 | 404, _) => over(),
        // The answer to the update that ended it says what it has become.
        (200 | 202, _) if ending && !is_gitlabs(&answer) => {
            Said::Failed(answer.malformed("it is not the answer to an update"))
        }
        (200, remote) if ending => Said::Yes(remote.unwrap_or_default()),
        (200, Some(remote)) => Said::Yes(remote),
        (200, None) => over(),
        (202, Some(remote)) => Said::Wait(remote),
        (202, None) => over(),
        (412, _) => Said::Resend,
        (409, _) => Said::Conflict,
        (300.., _) => Said::Failed(answer.refusal()),
        (status, _) => Said::Failed(answer.malformed(format!("its status is {status}, not 200"))),
    };
    Heard {
        said,
        interval: interval(&answer),
    }
}

fn trace_said(answer: Result<Answer, GitlabError>) -> Heard {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Heard::failed(error),
    };
    let over = || Said::Over {
        status: status(&answer),
    };
    let said = match (answer.status, remote(&answer)) {
        (403, _) | (_, None) => over(),
        (202, Some(remote)) => Said::Yes(remote),
        (416, _) => match answer.header("range").and_then(stored) {
            Some(length) => Said::Resume(length),
            None => Said::Failed(answer.malformed("416 came without a Range that can be read")),
        },
        (404, _) => Said::NotThere,
        (300.., _) => Said::Failed(answer.refusal()),
        (status, _) => Said::Failed(answer.malformed(format!("its status is {status}, not 202"))),
    };
    Heard {
        said,
        interval: interval(&answer),
    }
}

/// How many bytes GitLab has: the number after the dash of `0-123`.
fn stored(range: &str) -> Option<u64> {
    range.split_once('-')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::stored;

    #[test]
    fn ranges_as_gitlab_writes_them() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-123", Some(123)),
            ("0-", None),
            ("123", None),
            ("0-x", None),
            ("0--5", None),
        ] {
            assert_eq!(stored(text), expected, "{text}");
        }
    }
}
