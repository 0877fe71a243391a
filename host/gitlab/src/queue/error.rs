//! Why waiting jobs could not be read, and what to do about it.

use std::time::Duration;

/// Why waiting jobs could not be read. No token is in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// An option makes no sense.
    #[error("the queue source cannot be used: `{option}` {problem}")]
    BadOption {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// 401: the token is not known, has been revoked or has run out.
    #[error(
        "GitLab does not know the token that reads waiting jobs (401 for {what}): \
         it may have run out or been revoked; make a new one with the scope read_api and put it \
         into token_file"
    )]
    Unauthorized {
        /// What was asked for.
        what: String,
    },
    /// 403: the token is known but lacks the scope.
    #[error(
        "the token that reads waiting jobs lacks the scope read_api (403 for {what}): \
         make a new one that has it and put it into token_file"
    )]
    Scope {
        /// What was asked for.
        what: String,
    },
    /// 403: the token's user may not see this.
    #[error(
        "GitLab does not let the token read {what} (403): give the token's user at least the role Reporter \
         there, and look whether CI/CD is switched on for it"
    )]
    Forbidden {
        /// What was asked for.
        what: String,
    },
    /// 404: not there, or hidden from the token's user.
    #[error(
        "GitLab has no {what} (404), or hides it from the token's user: look at its full path \
         in projects or groups, and make the token's user a member"
    )]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// 429: too many requests.
    #[error("GitLab takes no more requests for {what} for {wait:?} (429)")]
    RateLimited {
        /// What was asked for.
        what: String,
        /// How long to ask nothing, by the server's own word where it gave one.
        wait: Duration,
    },
    /// GitLab has troubles of its own, or answered with a status that makes no sense here.
    #[error("GitLab answered {status} for {what}; it is asked again later")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// How long to wait, if the server said so.
        wait: Option<Duration>,
    },
    /// A redirect that would carry the token elsewhere, or leads in circles.
    #[error(
        "GitLab redirects {what} to {to}, where the token is not sent: \
         write that address as `url` if it is right"
    )]
    Redirected {
        /// What was asked for.
        what: String,
        /// Scheme, host and port of the other place.
        to: String,
    },
    /// The answer is not what GitLab's API gives.
    #[error(
        "the answer for {what} cannot be read: {problem}; is `url` GitLab's own address, and does \
         no proxy stand before it that wants a login?"
    )]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection, or it broke.
    #[error("GitLab cannot be reached for {what}: {problem}")]
    Network {
        /// What was asked for.
        what: String,
        /// What went wrong.
        problem: String,
    },
    /// The reading did not end in time.
    #[error(
        "waiting jobs were not read within {limit:?}: name fewer projects, or let Springtide ask \
         more often a minute"
    )]
    TooSlow {
        /// How long it was given.
        limit: Duration,
    },
}

impl QueueError {
    /// How long the server itself wants nothing asked.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } => Some(*wait),
            Self::Unavailable { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether the answer is about one project or group alone, so that the others can be read.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::NotFound { .. })
    }
}
