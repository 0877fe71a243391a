//! GitLab as a runner sees it: register, request a job, trace, update; and which jobs wait.
//!
//! Tokens are held as secrets and shown by no `Debug`, log line or error of this crate.

mod payload;
mod reason;
mod retry;
mod trace;

pub mod queue;
pub mod webhook;

pub use payload::*;
pub use reason::FailureReason;
pub use retry::{MAX_ATTEMPTS, retriable, retry_wait};
pub use trace::{Final, FinalState, Remote, TraceSource};
