//! A machine's life: one enum with its data in the variants, and [`Phase::on`], the one exhaustive
//! `match` that says which phase follows which event.

use crate::snapshot::{JobId, RequestId};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// A machine's number in the state, given with its intent and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(pub u64);

/// Why a machine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetireCause {
    /// It ran `MaxBuilds` jobs.
    MaxBuilds,
    /// It was idle for `IdleTime` and more are idle than wanted.
    IdleTime,
    /// There are more machines than `limit` or a policy's ceiling.
    TooMany,
    /// Its creation failed or did not end in time.
    CreateFailed,
    /// It did not become ready in time.
    BootTimeout,
    /// It stopped answering.
    Unreachable,
    /// The provider takes it back.
    Interrupted,
    /// A job left it in a state no other job should meet.
    Broken,
    /// Its runner is no longer in the configuration.
    Orphaned,
    /// A person asked.
    Asked,
    /// The daemon ends and was told to take its machines with it.
    Shutdown,
}

/// Where a machine is in its life. Every phase but `Gone` counts against `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Written down, not yet asked for.
    Intended {
        /// When it was written down.
        since: Time,
    },
    /// Asked for; whether it exists is not known for sure.
    Creating {
        /// When it was first asked for.
        since: Time,
    },
    /// It exists and is not yet ready.
    Booting {
        /// When it was first seen to exist.
        since: Time,
        /// When it was first asked for.
        asked: Time,
    },
    /// Ready and free.
    Idle {
        /// When it became idle: the idle clock.
        since: Time,
    },
    /// Free, with a job request under way for it.
    Reserved {
        /// When it was reserved.
        since: Time,
        /// Its idle clock, which a request that brings no job does not touch.
        idle_since: Time,
        /// The request.
        request: RequestId,
    },
    /// Running a job.
    Busy {
        /// When the job was given to it.
        since: Time,
        /// The job.
        job: JobId,
    },
    /// Running its last job.
    Draining {
        /// When it began to drain.
        since: Time,
        /// The job.
        job: JobId,
        /// Why it goes after the job.
        cause: RetireCause,
    },
    /// Being removed, again and again until the provider says it is gone.
    Retiring {
        /// When its removal was decided.
        since: Time,
        /// Why it goes.
        cause: RetireCause,
    },
    /// Not seen where it should be; not yet believed gone.
    Missing {
        /// When it was first not seen.
        since: Time,
        /// The job it ran, if it did.
        job: Option<JobId>,
    },
    /// Kept for a person: no job, no removal.
    Held {
        /// Since when.
        since: Time,
        /// The job it still runs, if any.
        job: Option<JobId>,
    },
    /// Gone for certain; the record is about to be forgotten.
    Gone {
        /// Since when.
        since: Time,
    },
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The provider is about to be asked for it.
    Asked,
    /// The provider says it exists.
    Exists,
    /// It can take a job.
    Ready,
    /// A job request begins for it.
    Reserve {
        /// The request.
        request: RequestId,
    },
    /// The request ended without a job.
    Release,
    /// A job is given to it.
    Assign {
        /// The job.
        job: JobId,
    },
    /// Its job is over and it may take another.
    JobOver,
    /// It takes no new job and goes when free.
    Drain {
        /// Why.
        cause: RetireCause,
    },
    /// It goes now.
    Retire {
        /// Why.
        cause: RetireCause,
    },
    /// The provider did not list it where it should be.
    NotSeen,
    /// The provider lists it after all.
    SeenAgain,
    /// A person keeps it.
    Hold,
    /// A person lets it go on.
    LetGo,
    /// The provider is certain that it is gone.
    Gone,
}

/// A machine as the pool sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Its number.
    pub id: MachineId,
    /// Where it is in its life.
    #[serde(flatten)]
    pub phase: Phase,
    /// Jobs it was given so far.
    #[serde(default)]
    pub builds: u32,
    /// When it was first asked for, or written down.
    #[serde(default)]
    pub made: Time,
    /// Whether the provider announced that it takes the machine back.
    #[serde(default)]
    pub interrupted: bool,
}

/// A transition the rules do not have: the event can't happen in that phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The phase it was in.
    pub phase: Phase,
    /// What was said to happen.
    pub event: Event,
}
