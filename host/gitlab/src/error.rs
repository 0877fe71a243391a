//! What went wrong between Springtide and GitLab: what was attempted, why it failed, what to do.

use std::fmt;
use std::time::Duration;

/// What was attempted: in words, and as a request. Without query and token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// In words: `asking for a job`.
    pub what: &'static str,
    /// The request's method.
    pub method: &'static str,
    /// The address, without its query.
    pub url: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.what, self.method, self.url)
    }
}

/// Why a request to GitLab failed. No token is in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitlabError {
    /// An option makes no sense, so that nothing could be asked.
    #[error("GitLab cannot be asked: `{option}` {problem}")]
    BadOption {
        /// The option's name in the configuration.
        option: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// No connection, or it broke before the answer was whole.
    #[error(
        "{attempt}: GitLab cannot be reached: {problem}; look at `url`, the network, and `tls-ca-file` if the certificate is the problem"
    )]
    Unreachable {
        /// What was attempted.
        attempt: Attempt,
        /// What went wrong.
        problem: String,
    },
    /// 403: the token is not known, was revoked, or may not do this.
    #[error(
        "{attempt}: GitLab forbids it (403){}: {}",
        said(message),
        advice(attempt)
    )]
    Forbidden {
        /// What was attempted.
        attempt: Attempt,
        /// GitLab's own words, shortened, without tokens; empty where it gave none.
        message: String,
        /// `Job-Status`, where the answer had it: what the job is at GitLab.
        job_status: Option<String>,
    },
    /// 409: another was faster.
    #[error("{attempt}: another manager was faster (409); it can be asked again")]
    Conflict {
        /// What was attempted.
        attempt: Attempt,
    },
    /// 429: too many requests.
    #[error("{attempt}: GitLab takes no more requests for {wait:?} (429); it is asked again then")]
    RateLimited {
        /// What was attempted.
        attempt: Attempt,
        /// How long to ask nothing, by the server's own word where it gave one.
        wait: Duration,
    },
    /// GitLab has troubles of its own: 5xx or 408.
    #[error(
        "{attempt}: GitLab answered {status}{}; it is asked again later",
        said(message)
    )]
    Unavailable {
        /// What was attempted.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// GitLab's own words.
        message: String,
        /// How long to wait, if the server said so.
        wait: Option<Duration>,
    },
    /// Another status that is no success.
    #[error("{attempt}: GitLab answered {status}{}: {}", said(message), meaning(*status))]
    Refused {
        /// What was attempted.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// GitLab's own words.
        message: String,
    },
    /// A redirect, which would carry the token elsewhere.
    #[error(
        "{attempt}: GitLab redirects to {to}, where the token is not sent: write that address as `url` if it is right"
    )]
    Redirected {
        /// What was attempted.
        attempt: Attempt,
        /// Scheme, host and port of the other place.
        to: String,
    },
    /// The answer is not what GitLab gives.
    #[error(
        "{attempt}: the answer cannot be read: {problem}; is `url` GitLab's own address, and does no proxy stand before it that wants a login?"
    )]
    Malformed {
        /// What was attempted.
        attempt: Attempt,
        /// What is wrong with it; never a part of its text.
        problem: String,
    },
}

fn said(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(" and says {message:?}"),
    }
}

fn advice(attempt: &Attempt) -> &'static str {
    if attempt.url.contains("/jobs/") && !attempt.url.ends_with("/jobs/request") {
        "the job is over there, or was given to another"
    } else {
        "the token is not known there, was revoked, or its runner was removed; register the runner again"
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 | 422 => "it does not accept what was sent",
        404 => "there is no such thing at this address; look at `url`",
        410 => {
            "registration tokens are switched off there; make a runner in GitLab and use its token, which begins with glrt-"
        }
        413 => "what was sent is too large for it, or for a proxy before it",
        _ => "that makes no sense here; does a proxy stand before GitLab?",
    }
}

impl GitlabError {
    /// How long the server itself wants nothing asked.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } => Some(*wait),
            Self::Unavailable { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether the same request may well succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::Conflict { .. }
            | Self::Malformed { .. }
            | Self::Redirected { .. } => true,
            Self::BadOption { .. } | Self::Forbidden { .. } | Self::Refused { .. } => false,
        }
    }
}
