//! What [`crate::step()`] answers: actions, each with its reason, and reasons to hold still.

use crate::machine::{MachineId, RetireCause};
use crate::snapshot::{JobId, RequestId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// Something to do. The doer records the phase it leads to before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Make one machine.
    Create,
    /// Ask GitLab for a job; with a machine, reserve it first.
    RequestJob {
        /// The idle machine that will run it; none where one will be made for it.
        machine: Option<MachineId>,
    },
    /// End a job request, to free its machine or because it is no longer wanted.
    CancelRequest {
        /// The request.
        request: RequestId,
    },
    /// Give a held job to an idle machine.
    Assign {
        /// The job.
        job: JobId,
        /// The machine.
        machine: MachineId,
    },
    /// Take no new job on this machine; it goes when its job ends.
    Drain {
        /// The machine.
        machine: MachineId,
        /// Why.
        cause: RetireCause,
    },
    /// Remove this machine.
    Retire {
        /// The machine.
        machine: MachineId,
        /// Why.
        cause: RetireCause,
    },
    /// Believe that this machine is gone and drop its record.
    Forget {
        /// The machine.
        machine: MachineId,
    },
    /// End a held job as a system failure, so that its `retry` works.
    FailJob {
        /// The job.
        job: JobId,
    },
}

/// One decision: something to do, or to leave be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do; none where the decision is to hold.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Why, with the numbers.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Why, as data; [`std::fmt::Display`] makes a sentence of it when someone reads it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reason {
    /// Fewer machines are available than the idle target.
    BelowIdleTarget {
        /// Idle, reserved, booting, creating and intended ones that no job waits for.
        available: u32,
        /// The idle target.
        target: u32,
    },
    /// Jobs wait and fewer machines are on their way than they need.
    JobsWaiting {
        /// Machines wanted: held jobs and what the policies want.
        wanted: u32,
        /// Machines free or on their way.
        available: u32,
    },
    /// A machine is free and a request may begin.
    MachineFree,
    /// No machine is free, none is kept idle, and nothing tells whether jobs wait: ask first.
    AskFirst,
    /// A held job and an idle machine meet.
    MachineReady {
        /// Milliseconds the job was held.
        waited: Millis,
    },
    /// The idle machine beyond the idle target was idle long enough.
    IdleTooLong {
        /// Milliseconds it was idle.
        idle: Millis,
        /// Milliseconds it may be idle.
        idle_time: Millis,
        /// Available machines without it.
        available: u32,
        /// The idle target.
        target: u32,
    },
    /// It ran as many jobs as `MaxBuilds` allows.
    MaxBuilds {
        /// Jobs it ran.
        builds: u32,
        /// `MaxBuilds`.
        max: u32,
    },
    /// There are more machines than allowed.
    OverLimit {
        /// Machines in any phase but gone.
        total: u32,
        /// The limit or the ceiling.
        limit: u32,
    },
    /// Its creation took too long.
    CreateTimeout {
        /// Milliseconds so far.
        took: Millis,
        /// Milliseconds allowed.
        timeout: Millis,
    },
    /// Its boot took too long.
    BootTimeout {
        /// Milliseconds so far.
        took: Millis,
        /// Milliseconds allowed.
        timeout: Millis,
    },
    /// The provider takes it back.
    Interrupted,
    /// It was out of sight for long enough to be believed gone.
    OutOfSight {
        /// Milliseconds out of sight.
        missing: Millis,
        /// Milliseconds of grace.
        grace: Millis,
    },
    /// A reserved machine is needed elsewhere, or goes.
    RequestNotNeeded,
    /// The job waited longer for a machine than allowed.
    PrepareTimeout {
        /// Milliseconds it was held.
        held: Millis,
        /// Milliseconds allowed.
        timeout: Millis,
    },
    /// The job failed to start on as many machines as it may try.
    MachineTries {
        /// Machines tried.
        tries: u32,
    },
    /// Held back: the limit or the ceiling is reached.
    HeldByLimit {
        /// Machines that were wanted and are not made.
        short: u32,
        /// Machines in any phase but gone.
        total: u32,
        /// The limit.
        limit: u32,
    },
    /// Held back: a policy's ceiling is reached.
    HeldByCeiling {
        /// Machines that were wanted and are not made.
        short: u32,
        /// Machines in any phase but gone.
        total: u32,
        /// The ceiling.
        ceiling: u32,
    },
    /// Held back: `MaxGrowthRate` machines are being made.
    HeldByGrowth {
        /// Machines that were wanted and are not made now.
        short: u32,
        /// Machines being made.
        growing: u32,
        /// `MaxGrowthRate`.
        max: u32,
    },
    /// Held back: creations failed and wait before the next try.
    HeldByBackOff {
        /// Machines that were wanted and are not made now.
        short: u32,
        /// Milliseconds until the next try.
        wait: Millis,
    },
    /// No request: as many jobs as allowed are held or running.
    JobsAtLimit {
        /// Jobs held, running or asked for.
        jobs: u32,
        /// Jobs allowed.
        max: u32,
    },
    /// No request: none is free and an idle target is kept; one is asked for when ready.
    NoneFree,
    /// Nothing: what is known of the queue is too old to act on.
    StaleQueue {
        /// Its age in milliseconds.
        age: Millis,
    },
    /// No request, no new machine: paused.
    Paused,
    /// No request, no new machine: the daemon ends.
    Closing,
    /// There is what there should be.
    Steady {
        /// Available machines.
        available: u32,
        /// The idle target.
        target: u32,
    },
}
