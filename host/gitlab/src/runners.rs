//! A runner's own affairs with GitLab: register, verify, leave, a new token.

use std::fmt;

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::client::{Answer, Ask, Client};
use crate::error::GitlabError;
use crate::info::Info;
use crate::request::RunnerIdentity;

const RUNNER_TOKEN: &str = "runner-token";

/// What a registration with a registration token says of the new runner. With an authentication
/// token (`glrt-...`) all of it was said in GitLab when the runner was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// What it is called in GitLab.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A note for those who maintain it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Its tags, separated by commas.
    #[serde(rename = "tag_list", skip_serializing_if = "String::is_empty")]
    pub tags: String,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Whether it stays with its project.
    pub locked: bool,
    /// `not_protected` or `ref_protected`; empty leaves it to GitLab.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Seconds a job may run on it; 0 leaves it to GitLab.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: u32,
    /// Whether it takes no jobs yet.
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A runner as GitLab knows it. Its token is not in its `Debug`.
#[derive(Clone)]
pub struct Credentials {
    /// GitLab's number of the runner; 0 from an old GitLab that does not tell it.
    pub id: u64,
    /// The runner's authentication token.
    pub token: SecretString,
    /// When the token runs out, as GitLab writes it (RFC 3339); `None` where it does not.
    pub token_expires_at: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id)
            .field("token_expires_at", &self.token_expires_at)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    token: Option<SecretString>,
    #[serde(default)]
    token_expires_at: Option<String>,
}

impl Told {
    fn credentials(self, known: Option<&SecretString>) -> Option<Credentials> {
        let told = self.token.filter(|token| !token.expose_secret().is_empty());
        Some(Credentials {
            id: self.id,
            token: told.or_else(|| known.cloned())?,
            token_expires_at: self.token_expires_at,
        })
    }
}

#[derive(Serialize)]
struct Registering<'a> {
    #[serde(flatten)]
    registration: &'a Registration,
    info: &'a Info,
    token: &'a str,
}

#[derive(Serialize)]
struct Speaking<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a Info>,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_id: Option<&'a str>,
}

/// Whether a token is a runner's own, made with it in GitLab, and not a registration token.
#[must_use]
pub fn is_authentication_token(token: &SecretString) -> bool {
    let token = token.expose_secret();
    // A prefix set by the instance may stand before it.
    token.starts_with("glrt-") || token.contains("-glrt-")
}

impl Client {
    /// Makes a runner with a registration token.
    ///
    /// # Errors
    /// [`GitlabError::Forbidden`]: the token is not known; [`GitlabError::Refused`] with 410: this
    /// GitLab takes no registration tokens.
    pub async fn register(
        &self,
        token: &SecretString,
        info: &Info,
        registration: &Registration,
    ) -> Result<Credentials, GitlabError> {
        let body = Registering {
            registration,
            info,
            token: token.expose_secret(),
        };
        let answer = self.say(
            "registering a runner",
            Method::POST,
            "runners",
            token,
            &body,
        );
        let answer = answer.await?;
        match answer.status {
            201 => told(&answer, None),
            _ => Err(refused(&answer)),
        }
    }

    /// Asks whether the runner's token is good, and tells GitLab of this manager.
    ///
    /// # Errors
    /// [`GitlabError::Forbidden`]: it is not, or no longer.
    pub async fn verify(&self, runner: &RunnerIdentity) -> Result<Credentials, GitlabError> {
        let body = Speaking {
            info: Some(&runner.info),
            token: runner.token.expose_secret(),
            system_id: Some(&runner.system_id),
        };
        let what = "verifying a runner";
        let answer = self.say(what, Method::POST, "runners/verify", &runner.token, &body);
        let answer = answer.await?;
        let old = || matches!(answer.body.trim_ascii(), b"200" | b"" | b"\"200\"");
        match answer.status {
            // An old GitLab says no more than that.
            200 if old() => Ok(Credentials {
                id: 0,
                token: runner.token.clone(),
                token_expires_at: None,
            }),
            200 => told(&answer, Some(&runner.token)),
            _ => Err(refused(&answer)),
        }
    }

    /// Removes the runner, and with it every manager it has.
    ///
    /// # Errors
    /// [`GitlabError::Forbidden`]: there is no runner with this token.
    pub async fn unregister(&self, token: &SecretString) -> Result<(), GitlabError> {
        let body = Speaking {
            info: None,
            token: token.expose_secret(),
            system_id: None,
        };
        let what = "removing a runner";
        done(
            &self
                .say(what, Method::DELETE, "runners", token, &body)
                .await?,
        )
    }

    /// Removes this manager of the runner; the runner stays.
    ///
    /// # Errors
    /// [`GitlabError::Forbidden`]: there is no runner with this token; [`GitlabError::Refused`]
    /// with 404: it has no such manager.
    pub async fn unregister_manager(
        &self,
        token: &SecretString,
        system_id: &str,
    ) -> Result<(), GitlabError> {
        let body = Speaking {
            info: None,
            token: token.expose_secret(),
            system_id: Some(system_id),
        };
        let what = "removing a manager of a runner";
        let answer = self.say(what, Method::DELETE, "runners/managers", token, &body);
        done(&answer.await?)
    }

    /// Changes the runner's token for a new one. The old one is worth nothing from then on.
    ///
    /// # Errors
    /// [`GitlabError::Forbidden`]: there is no runner with this token.
    pub async fn reset_token(&self, token: &SecretString) -> Result<Credentials, GitlabError> {
        let body = Speaking {
            info: None,
            token: token.expose_secret(),
            system_id: None,
        };
        let what = "changing a runner's token";
        let path = "runners/reset_authentication_token";
        let answer = self.say(what, Method::POST, path, token, &body).await?;
        match answer.status {
            201 => told(&answer, None),
            _ => Err(refused(&answer)),
        }
    }

    async fn say(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        token: &SecretString,
        body: &impl Serialize,
    ) -> Result<Answer, GitlabError> {
        let ask = Ask::json(what, method, path, (RUNNER_TOKEN, token), body)?;
        self.ask(ask).await
    }
}

fn told(answer: &Answer, known: Option<&SecretString>) -> Result<Credentials, GitlabError> {
    let credentials = answer.json::<Told>()?.credentials(known);
    credentials.ok_or_else(|| answer.malformed("it has no token"))
}

fn done(answer: &Answer) -> Result<(), GitlabError> {
    match answer.status {
        200..=299 => Ok(()),
        _ => Err(refused(answer)),
    }
}

fn refused(answer: &Answer) -> GitlabError {
    match answer.status {
        200..=299 => answer.malformed(format!("its status is {}", answer.status)),
        _ => answer.refusal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runners_own_token_is_told_from_a_registration_token() {
        for (token, own) in [
            ("glrt-abc", true),
            ("acme-glrt-abc", true),
            ("GR1348941abc", false),
            ("glpat-abc", false),
            ("", false),
        ] {
            assert_eq!(is_authentication_token(&token.into()), own, "{token}");
        }
    }

    #[test]
    fn what_is_not_said_of_a_runner_is_left_to_gitlab() {
        let text = serde_json::to_string(&Registration::default()).expect("JSON");
        assert_eq!(
            text,
            r#"{"run_untagged":false,"locked":false,"paused":false}"#
        );
    }
}
