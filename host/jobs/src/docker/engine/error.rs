//! Why an engine did not do what it was asked for.

use super::LONGEST;
use bollard::errors::Error;
use std::time::Duration;

/// Why the engine did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// It can't be reached, or the connection broke.
    #[error("the container engine can't be reached to {call}: {why}")]
    Unreachable { call: String, why: String },
    /// It took too long.
    #[error("the container engine did not {call} within {} s", limit.as_secs())]
    Hung { call: String, limit: Duration },
    /// There is no such thing.
    #[error("{why}")]
    Missing { why: String },
    /// It refuses: what it was asked for can't be done.
    #[error("{why}")]
    Refused { why: String },
    /// It failed itself.
    #[error("the container engine failed to {call}: {why}")]
    Failed { call: String, why: String },
}

impl EngineError {
    pub(super) fn of(call: &str, error: &Error) -> Self {
        let call = call.to_owned();
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => {
                let why = format!("Error response from daemon: {}", message.trim());
                match status_code {
                    404 => Self::Missing { why },
                    400..=499 => Self::Refused { why },
                    _ => Self::Failed { call, why },
                }
            }
            Error::DockerStreamError { error } => Self::Refused {
                why: format!("Error response from daemon: {error}"),
            },
            Error::RequestTimeoutError => Self::Hung {
                call,
                limit: Duration::from_secs(LONGEST),
            },
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => Self::Failed {
                call,
                why: format!("its answer can't be read: {error}"),
            },
            other => Self::Unreachable {
                call,
                why: chain(other),
            },
        }
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
