//! A machine's life: one enum with its data in the variants, and [`Phase::on`], the one exhaustive
//! `match` that says which phase follows which event.

use crate::snapshot::{JobId, RequestId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

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

impl Phase {
    /// The phase that follows when `event` happens at `now`.
    ///
    /// What repeats in ordinary life (asked again, exists still, not seen still, gone still) leaves
    /// the phase as it is. A machine with a job is never retired: it drains, or it is gone. A
    /// machine that is free, `Reserved` included, goes at once when drained or retired; a job that
    /// its request still brings is held for another machine. `Retiring` ends with `Gone` alone: not
    /// being seen proves nothing. A machine that is seen again, or that a person lets go on, is busy
    /// if it has a job and idle from now on if not, for its old idle clock is not known any more.
    ///
    /// # Errors
    /// [`Refused`] where the event can't happen in this phase; the phase is then to stay as it is.
    pub fn on(self, event: Event, now: Time) -> Result<Phase, Refused> {
        use Event as E;
        let retiring = |cause| Phase::Retiring { since: now, cause };
        let next = match (self, event) {
            (Phase::Intended { .. }, E::Asked) => Phase::Creating { since: now },
            (Phase::Intended { since } | Phase::Creating { since }, E::Exists) => Phase::Booting {
                since: now,
                asked: since,
            },
            (Phase::Intended { .. }, E::Retire { cause } | E::Drain { cause }) => retiring(cause),
            (Phase::Intended { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Intended { .. },
                E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::NotSeen
                | E::SeenAgain
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Creating { .. }, E::Asked) => self,
            (Phase::Creating { .. }, E::Ready) => Phase::Idle { since: now },
            (Phase::Creating { .. }, E::Retire { cause } | E::Drain { cause }) => retiring(cause),
            (Phase::Creating { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Creating { .. },
                E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::NotSeen
                | E::SeenAgain
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Booting { .. }, E::Exists) => self,
            (Phase::Booting { .. }, E::Ready) => Phase::Idle { since: now },
            (Phase::Booting { .. }, E::Retire { cause } | E::Drain { cause }) => retiring(cause),
            (Phase::Booting { .. }, E::NotSeen) => Phase::Missing {
                since: now,
                job: None,
            },
            (Phase::Booting { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Booting { .. },
                E::Asked
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::SeenAgain
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Idle { since }, E::Reserve { request }) => Phase::Reserved {
                since: now,
                idle_since: since,
                request,
            },
            (Phase::Idle { .. }, E::Assign { job }) => Phase::Busy { since: now, job },
            (Phase::Idle { .. }, E::Retire { cause } | E::Drain { cause }) => retiring(cause),
            (Phase::Idle { .. }, E::NotSeen) => Phase::Missing {
                since: now,
                job: None,
            },
            (Phase::Idle { .. }, E::Hold) => Phase::Held {
                since: now,
                job: None,
            },
            (Phase::Idle { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Idle { .. },
                E::Asked | E::Exists | E::Ready | E::Release | E::JobOver | E::SeenAgain | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Reserved { idle_since, .. }, E::Release) => Phase::Idle { since: idle_since },
            (Phase::Reserved { .. }, E::Assign { job }) => Phase::Busy { since: now, job },
            (Phase::Reserved { .. }, E::Retire { cause } | E::Drain { cause }) => retiring(cause),
            (Phase::Reserved { .. }, E::NotSeen) => Phase::Missing {
                since: now,
                job: None,
            },
            (Phase::Reserved { .. }, E::Hold) => Phase::Held {
                since: now,
                job: None,
            },
            (Phase::Reserved { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Reserved { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::JobOver
                | E::SeenAgain
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Busy { .. }, E::JobOver) => Phase::Idle { since: now },
            (Phase::Busy { job, .. }, E::Drain { cause }) => Phase::Draining {
                since: now,
                job,
                cause,
            },
            (Phase::Draining { .. }, E::Drain { .. }) => self,
            (Phase::Draining { cause, .. }, E::JobOver) => retiring(cause),
            (Phase::Busy { job, .. } | Phase::Draining { job, .. }, E::NotSeen) => Phase::Missing {
                since: now,
                job: Some(job),
            },
            (Phase::Busy { job, .. } | Phase::Draining { job, .. }, E::Hold) => Phase::Held {
                since: now,
                job: Some(job),
            },
            (Phase::Busy { .. } | Phase::Draining { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Busy { .. } | Phase::Draining { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::Retire { .. }
                | E::SeenAgain
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Retiring { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Retiring { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::Drain { .. }
                | E::Retire { .. }
                | E::NotSeen
                | E::SeenAgain
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (Phase::Missing { .. }, E::NotSeen) => self,
            (Phase::Missing { job, .. }, E::SeenAgain) => back(job, now),
            (
                Phase::Missing {
                    since,
                    job: Some(_),
                },
                E::JobOver,
            ) => Phase::Missing { since, job: None },
            (Phase::Missing { job: None, .. }, E::Retire { cause } | E::Drain { cause }) => {
                retiring(cause)
            }
            (Phase::Missing { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Missing { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::Drain { .. }
                | E::Retire { .. }
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),

            (
                Phase::Held {
                    since,
                    job: Some(_),
                },
                E::JobOver,
            ) => Phase::Held { since, job: None },
            (Phase::Held { job, .. }, E::LetGo) => back(job, now),
            (Phase::Held { .. }, E::Gone) => Phase::Gone { since: now },
            (
                Phase::Held { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::Drain { .. }
                | E::Retire { .. }
                | E::NotSeen
                | E::SeenAgain
                | E::Hold,
            ) => return Err(self.refuse(event)),

            (Phase::Gone { .. }, E::Gone) => self,
            (
                Phase::Gone { .. },
                E::Asked
                | E::Exists
                | E::Ready
                | E::Reserve { .. }
                | E::Release
                | E::Assign { .. }
                | E::JobOver
                | E::Drain { .. }
                | E::Retire { .. }
                | E::NotSeen
                | E::SeenAgain
                | E::Hold
                | E::LetGo,
            ) => return Err(self.refuse(event)),
        };
        Ok(next)
    }

    /// The word for this phase in status, logs, metrics and snapshots.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Intended { .. } => "intended",
            Phase::Creating { .. } => "creating",
            Phase::Booting { .. } => "booting",
            Phase::Idle { .. } => "idle",
            Phase::Reserved { .. } => "reserved",
            Phase::Busy { .. } => "busy",
            Phase::Draining { .. } => "draining",
            Phase::Retiring { .. } => "retiring",
            Phase::Missing { .. } => "missing",
            Phase::Held { .. } => "held",
            Phase::Gone { .. } => "gone",
        }
    }

    /// The job on this machine, if there is one.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match *self {
            Phase::Busy { job, .. } | Phase::Draining { job, .. } => Some(job),
            Phase::Missing { job, .. } | Phase::Held { job, .. } => job,
            Phase::Intended { .. }
            | Phase::Creating { .. }
            | Phase::Booting { .. }
            | Phase::Idle { .. }
            | Phase::Reserved { .. }
            | Phase::Retiring { .. }
            | Phase::Gone { .. } => None,
        }
    }

    /// When the machine entered this phase.
    #[must_use]
    pub fn since(&self) -> Time {
        match *self {
            Phase::Intended { since }
            | Phase::Creating { since }
            | Phase::Booting { since, .. }
            | Phase::Idle { since }
            | Phase::Reserved { since, .. }
            | Phase::Busy { since, .. }
            | Phase::Draining { since, .. }
            | Phase::Retiring { since, .. }
            | Phase::Missing { since, .. }
            | Phase::Held { since, .. }
            | Phase::Gone { since } => since,
        }
    }

    /// Whether a machine in this phase counts against `limit`: all do but `Gone`.
    #[must_use]
    pub fn counts_against_limit(&self) -> bool {
        !matches!(self, Phase::Gone { .. })
    }

    fn refuse(self, event: Event) -> Refused {
        Refused { phase: self, event }
    }
}

fn back(job: Option<JobId>, now: Time) -> Phase {
    match job {
        Some(job) => Phase::Busy { since: now, job },
        None => Phase::Idle { since: now },
    }
}

impl Event {
    /// The word for this event in logs and errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Asked => "asked",
            Event::Exists => "exists",
            Event::Ready => "ready",
            Event::Reserve { .. } => "reserve",
            Event::Release => "release",
            Event::Assign { .. } => "assign",
            Event::JobOver => "job-over",
            Event::Drain { .. } => "drain",
            Event::Retire { .. } => "retire",
            Event::NotSeen => "not-seen",
            Event::SeenAgain => "seen-again",
            Event::Hold => "hold",
            Event::LetGo => "let-go",
            Event::Gone => "gone",
        }
    }
}

/// A transition the rules do not have: the event can't happen in that phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The phase it was in.
    pub phase: Phase,
    /// What was said to happen.
    pub event: Event,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the event '{}' can't happen to a machine that is {}",
            self.event.name(),
            self.phase.name()
        )?;
        match (self.event, self.phase.job()) {
            (Event::Retire { .. }, Some(job)) => write!(
                f,
                ": it has job {}, so drain it, or end the job first",
                job.0
            ),
            _ => write!(f, "; it stays as it is"),
        }
    }
}

impl std::error::Error for Refused {}
