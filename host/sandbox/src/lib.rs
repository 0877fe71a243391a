//! A GitLab to test against: the runner API as GitLab serves it, with faults and a list of violations.
//!
//! [`Sandbox::start`] opens a server that any conforming runner can register with, ask for jobs and
//! report to. It serves git over HTTP with the job's token, the API that lists waiting jobs, and
//! webhooks. What a runner does against the protocol's rules is kept as a [`Violation`]; what can
//! go wrong on a network is called up as a [`Fault`]. All of it is in memory and ends with the
//! server. It is for tests and demonstrations: its control API under `/sandbox/` asks for no
//! password, so it belongs on loopback.

mod artifacts;
mod asked;
mod control;
mod faults;
mod git;
mod job;
mod jobs_api;
mod ledger;
mod lfs;
mod merge;
mod options;
mod payload;
mod queue_api;
mod runner;
mod runner_api;
mod server;
mod spec;
mod stamp;
mod trace;
mod violations;
mod wait;
mod webhooks;

pub use faults::{BadFault, Endpoint, Fault, FaultKind};
pub use job::{ArtifactView, JobStatus, JobView, SessionView, Timings};
pub use options::{RunnerSeed, SandboxOptions, Webhook};
pub use runner::{ManagerView, RunnerView};
pub use server::Sandbox;
pub use spec::{JobSpec, SpecError, VariableSpec};
pub use violations::{Rule, Violation};
pub use wait::WaitError;
