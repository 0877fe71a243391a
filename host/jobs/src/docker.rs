//! A job in containers: images, services, network and volumes on the machine's engine.
//!
//! A job has two containers. `predefined` is of the helper image and gets sources; `build` is of the
//! job's image and runs its scripts. In both the machine's `springtide-helper` is the first process,
//! after the image's entry point, and every stage is a piece of work it starts there, detached. What
//! things are called follows from the job alone and each bears its labels, so that a manager that
//! restarts finds them, and what any job left is found before the next one.

mod allow;
mod auth;
mod connection;
mod containers;
mod engine;
mod image;
mod names;
mod pod;
mod reference;
mod services;
mod terminal;
mod volumes;

pub(crate) use auth::own_file as own_auth_file;
use engine::{Engine, EngineError, SOCKET};
pub(crate) use pod::{BuildState, Pod, is_gone};

use crate::progress::{Cause, Failure};

/// The helper's program in a container.
const HELPER: &str = "/.springtide/helper";

/// Where works are kept in a container.
const ROOT: &str = "/.springtide/root";

/// Where those of the build's container are seen from the other.
const BUILD_ROOT: &str = "/.springtide/build";

/// The program that is a shell in a container, with the start of its arguments.
pub(crate) fn shell(name: &str) -> Vec<String> {
    [HELPER, "shell", name].map(str::to_owned).to_vec()
}

/// Why a job's containers are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine's engine is out of reach, or does not work: another machine may do.
    Engine(EngineError),
    /// The job can't be run like this on any machine, or its image can't be had.
    Job(Failure),
}

impl Fault {
    /// Whether another try on the same machine may do.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Engine(_) => true,
            Self::Job(failure) => failure.cause == Cause::System,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Job(failure) => f.write_str(&failure.said),
        }
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Missing { why } | EngineError::Refused { why } => {
                Self::Job(Failure::new(Cause::System, why))
            }
            other => Self::Engine(other),
        }
    }
}

impl From<springtide_machines::HelperError> for Fault {
    fn from(error: springtide_machines::HelperError) -> Self {
        Self::Engine(EngineError::Unreachable {
            call: "run the job's containers".into(),
            why: error.to_string(),
        })
    }
}

fn fault(cause: Cause, said: impl Into<String>) -> Fault {
    Fault::Job(Failure::new(cause, said))
}
