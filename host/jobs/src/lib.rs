//! Runs one job on one machine, under its shell or in containers: scripts, trace, masking.
//!
//! [`run`] takes a job through its stages, each a piece of work the machine's helper runs detached.
//! How far it is and what the trace holds are on disk, so a run that was dropped anywhere, a
//! manager's death included, is taken up again where it was, and nothing runs twice.

mod docker;
mod expand;
mod follow;
mod git;
mod masking;
mod plan;
mod progress;
mod run;
mod settings;
mod shell;
mod terminal;
mod trace;
mod transfers;
mod variables;
mod words;

pub use masking::{Masker, Secrets};
pub use run::{JobRun, RunOutcome, run};
pub use settings::{DockerRunner, JobSettings};
pub use shell::{Shell, UnknownShell, quoted};
pub use terminal::{Door, NoEntry, Visit};
pub use trace::{DEFAULT_OUTPUT_LIMIT, JobTrace, TraceOptions, is_debug_traced};
