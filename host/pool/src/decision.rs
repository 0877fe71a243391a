//! What [`crate::step()`] answers: actions, each with its reason, and reasons to hold still.

use crate::machine::{MachineId, RetireCause};
use crate::snapshot::{JobId, RequestId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// The machine or the slot the request keeps is needed for a job already taken, or goes.
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
    /// Held back: one step makes no more machines than this; the next one goes on.
    HeldByStep {
        /// Machines that were wanted and are not made now.
        short: u32,
        /// Most machines one step makes.
        max: u32,
    },
    /// No request now: the check interval or a back-off is not over.
    RequestsWait {
        /// Milliseconds until the next request.
        wait: Millis,
    },
    /// No further request: `request_concurrency` of them are under way.
    RequestsAtLimit {
        /// Requests under way.
        requests: u32,
        /// `request_concurrency`.
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

/// Milliseconds as seconds, with no more digits than they have.
struct Seconds(Millis);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.0 / 1000, self.0.0 % 1000);
        if rest == 0 {
            write!(f, "{whole} s")
        } else {
            write!(
                f,
                "{} s",
                format!("{whole}.{rest:03}").trim_end_matches('0')
            )
        }
    }
}

/// A count and its noun in the right number; one "machine", two "machines".
struct Many(u32, &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}{}",
            self.0,
            self.1,
            if self.0 == 1 { "" } else { "s" }
        )
    }
}

/// One sentence for people, without a full stop.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = |n: u32| Many(n, "machine");
        match *self {
            Reason::BelowIdleTarget { available, target } => write!(
                f,
                "{} free or on the way, and the idle target is {target}",
                m(available)
            ),
            Reason::JobsWaiting { wanted, available } => write!(
                f,
                "jobs need {} and {available} free or on the way",
                m(wanted)
            ),
            Reason::MachineFree => f.write_str("a machine is free, so a job is asked for"),
            Reason::AskFirst => f.write_str(
                "no machine is free, none is kept idle and nothing tells whether jobs wait, so a job is asked for first",
            ),
            Reason::MachineReady { waited } => write!(
                f,
                "a machine is free for the job, which waited {} for it",
                Seconds(waited)
            ),
            Reason::IdleTooLong {
                idle,
                idle_time,
                available,
                target,
            } => write!(
                f,
                "idle for {}, more than {}, with {} without it and an idle target of {target}",
                Seconds(idle),
                Seconds(idle_time),
                m(available)
            ),
            Reason::MaxBuilds { builds, max } => write!(
                f,
                "it was given {} and MaxBuilds is {max}",
                Many(builds, "job")
            ),
            Reason::OverLimit { total, limit } => {
                write!(f, "there are {} and {limit} allowed", m(total))
            }
            Reason::CreateTimeout { took, timeout } => write!(
                f,
                "its creation has taken {}, more than {}",
                Seconds(took),
                Seconds(timeout)
            ),
            Reason::BootTimeout { took, timeout } => write!(
                f,
                "its boot has taken {}, more than {}",
                Seconds(took),
                Seconds(timeout)
            ),
            Reason::Interrupted => f.write_str("the provider takes the machine back"),
            Reason::OutOfSight { missing, grace } => write!(
                f,
                "not seen for {}, more than {}, so it is believed gone",
                Seconds(missing),
                Seconds(grace)
            ),
            Reason::RequestNotNeeded => {
                f.write_str("the machine or slot kept for this request is needed for a job already taken, or goes")
            }
            Reason::PrepareTimeout { held, timeout } => write!(
                f,
                "the job has waited {} for a machine, more than {}",
                Seconds(held),
                Seconds(timeout)
            ),
            Reason::MachineTries { tries } => {
                write!(f, "the job failed to start on {}", m(tries))
            }
            Reason::HeldByLimit {
                short,
                total,
                limit,
            } => write!(
                f,
                "{} fewer than wanted: there are {total} and the limit is {limit}",
                m(short)
            ),
            Reason::HeldByCeiling {
                short,
                total,
                ceiling,
            } => write!(
                f,
                "{} fewer than wanted: there are {total} and a policy's ceiling is {ceiling}",
                m(short)
            ),
            Reason::HeldByGrowth {
                short,
                growing,
                max,
            } => write!(
                f,
                "{} fewer than wanted for now: {growing} being made and MaxGrowthRate is {max}",
                m(short)
            ),
            Reason::HeldByBackOff { short, wait } => write!(
                f,
                "{} fewer than wanted for now: creations failed and the next try is in {}",
                m(short),
                Seconds(wait)
            ),
            Reason::HeldByStep { short, max } => write!(
                f,
                "{} fewer than wanted for now: one step makes {max} at most",
                m(short)
            ),
            Reason::JobsAtLimit { jobs, max } => write!(
                f,
                "{} held, running or asked for, and {max} allowed",
                Many(jobs, "job")
            ),
            Reason::RequestsWait { wait } => {
                write!(f, "the next job request may begin in {}", Seconds(wait))
            }
            Reason::RequestsAtLimit { requests, max } => write!(
                f,
                "{} under way and request_concurrency is {max}",
                Many(requests, "job request")
            ),
            Reason::NoneFree => {
                f.write_str("no machine is free; a job is asked for when one is ready")
            }
            Reason::StaleQueue { age } => write!(
                f,
                "what is known of the queue is {} old, too old to act on",
                Seconds(age)
            ),
            Reason::Paused => f.write_str("paused: no job is asked for and no machine made"),
            Reason::Closing => f.write_str("the daemon ends: no job is asked for"),
            Reason::Steady { available, target } => write!(
                f,
                "{} free or on the way and the idle target is {target}: nothing to do",
                m(available)
            ),
        }
    }
}
