//! GitLab as a runner sees it: register, request a job, trace, update; and which jobs wait.
//!
//! Tokens are held as secrets and shown by no `Debug`, log line or error of this crate.

mod address;
mod client;
mod error;
mod health;
mod held;
mod info;
mod job;
mod observe;
mod payload;
mod reason;
mod request;
mod retry;
mod runners;
mod sender;
mod trace;

pub mod queue;
pub mod webhook;

pub use client::{Client, ClientOptions};
pub use error::{Attempt, GitlabError};
pub use health::{Health, HealthLimits, Sign};
pub use held::{Held, HeldJob};
pub use info::{Claim, FEATURES, Info};
pub use job::JobLine;
pub use observe::{Answered, Endpoint, Observer};
pub use payload::*;
pub use reason::FailureReason;
pub use request::{JobAnswer, JobRequestOutcome, RunnerIdentity, SessionInfo};
pub use retry::{MAX_ATTEMPTS, retriable, retry_wait};
pub use runners::{Credentials, Registration, is_authentication_token};
pub use sender::{Delivered, PART, SenderOptions, TraceSender};
pub use trace::{Final, FinalState, Remote, TraceSource};
