//! What [`crate::step()`] looks at: one whole snapshot of a pool, what it should hold to, and what it
//! may do. All of it is data that `springtide status --snapshot` dumps and `springtide pool step` reads.

use crate::machine::{Machine, MachineId, Phase};
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};

/// GitLab's number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// A job request's number, unique in the life of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// Where a job this pool has taken is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum JobPhase {
    /// Taken, and waiting for a machine.
    Held,
    /// Given to a machine.
    Running {
        /// The machine.
        machine: MachineId,
    },
}

/// A job this pool has taken and not yet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// GitLab's number.
    pub id: JobId,
    /// Where it is.
    #[serde(flatten)]
    pub phase: JobPhase,
    /// When it was taken.
    pub taken: Time,
    /// Machines it was given to and that failed before its first script byte.
    #[serde(default)]
    pub tries: u32,
}

/// A job request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// The machine reserved for it; none where a machine will be made for the job it may bring.
    pub machine: Option<MachineId>,
    /// When it began.
    pub since: Time,
    /// Whether it was already told to end.
    #[serde(default)]
    pub cancelling: bool,
}

/// What is known of the jobs that wait at GitLab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Source {
    /// There is no queue source.
    #[default]
    None,
    /// There is one, and it is fresh enough to act on.
    Fresh {
        /// Jobs that wait and that this runner takes, less those it has taken already.
        waiting: u32,
        /// Milliseconds the oldest of them has been queued.
        oldest: Millis,
    },
    /// There is one, and what it said last is too old to act on.
    Stale {
        /// How old.
        age: Millis,
    },
    /// There is one, and it has proved silent: jobs came that it never showed.
    Silent,
}

/// One whole snapshot of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Pool {
    /// Every machine that is not forgotten, in the order they were made.
    pub machines: Vec<Machine>,
    /// Every job taken and not ended, in the order they were taken.
    pub jobs: Vec<Job>,
    /// Every job request under way.
    pub requests: Vec<Request>,
    /// What is known of waiting jobs.
    pub source: Source,
    /// The earliest time for the next job request: check interval, back-off, disabled runner.
    pub request_not_before: Time,
    /// The earliest time for the next creation: back-off after failures, a provider's throttle.
    pub create_not_before: Time,
    /// A person paused it: no requests, no machines made.
    pub paused: bool,
    /// The daemon ends: no requests; held and running jobs go on.
    pub closing: bool,
}

/// What the pool should hold to: the values of `[runners.machine]` after the chain of policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Targets {
    /// Idle machines to keep; with a scale factor, the most.
    pub idle_count: u32,
    /// Least idle machines with a scale factor; 0 counts as 1 there.
    pub idle_count_min: u32,
    /// Idle machines as a factor of busy ones; 0.0 means `idle_count` is a plain number.
    pub idle_scale_factor: f64,
    /// Seconds an idle machine beyond the idle count is kept.
    pub idle_time: u32,
    /// Machines wanted for waiting jobs, beside the idle ones.
    pub wanted: u32,
    /// Most machines a policy allows.
    pub ceiling: Option<u32>,
    /// When the policies would answer differently though nothing else changed, in epoch seconds.
    pub wake_at: Option<u32>,
}

/// What the operator allows, whatever the policies say. 0 is no limit, as in GitLab Runner; that
/// goes for the lengths of time and the tries as well, but not for `max_jobs`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Limits {
    /// `limit`: most machines in any phase but gone, and most jobs at once.
    pub limit: u32,
    /// `MaxGrowthRate`: most machines intended, creating or booting at once.
    pub max_growth_rate: u32,
    /// `MaxBuilds`: jobs a machine runs.
    pub max_builds: u32,
    /// Most jobs at once by this pool's share of `concurrent`, which may be none at all; `None` is no
    /// limit.
    pub max_jobs: Option<u32>,
    /// `request_concurrency`: most job requests at once, at least 1.
    pub request_concurrency: u32,
    /// How long a creation may take before the machine is given up.
    pub create_timeout: Millis,
    /// How long a boot may take before the machine is given up.
    pub boot_timeout: Millis,
    /// How long a taken job waits for a machine before it is ended.
    pub prepare_timeout: Millis,
    /// Machines a taken job may try.
    pub machine_tries: u32,
    /// How long a machine may be out of sight before it is believed gone.
    pub missing_grace: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            limit: 0,
            max_growth_rate: 0,
            max_builds: 0,
            max_jobs: None,
            request_concurrency: 1,
            create_timeout: Millis::seconds(15 * 60),
            boot_timeout: Millis::seconds(10 * 60),
            prepare_timeout: Millis::seconds(30 * 60),
            machine_tries: 2,
            missing_grace: Millis::seconds(5 * 60),
        }
    }
}

/// Machines by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Counts {
    /// Written down.
    pub intended: u32,
    /// Asked for.
    pub creating: u32,
    /// Not yet ready.
    pub booting: u32,
    /// Free.
    pub idle: u32,
    /// Free, with a request under way.
    pub reserved: u32,
    /// With a job.
    pub busy: u32,
    /// With their last job.
    pub draining: u32,
    /// Being removed.
    pub retiring: u32,
    /// Out of sight.
    pub missing: u32,
    /// Kept for a person.
    pub held: u32,
}

impl Counts {
    /// Counts machines by phase. Those that are gone are in no count.
    #[must_use]
    pub fn of(machines: &[Machine]) -> Counts {
        let mut counts = Counts::default();
        for machine in machines {
            let count = match machine.phase {
                Phase::Intended { .. } => &mut counts.intended,
                Phase::Creating { .. } => &mut counts.creating,
                Phase::Booting { .. } => &mut counts.booting,
                Phase::Idle { .. } => &mut counts.idle,
                Phase::Reserved { .. } => &mut counts.reserved,
                Phase::Busy { .. } => &mut counts.busy,
                Phase::Draining { .. } => &mut counts.draining,
                Phase::Retiring { .. } => &mut counts.retiring,
                Phase::Missing { .. } => &mut counts.missing,
                Phase::Held { .. } => &mut counts.held,
                Phase::Gone { .. } => continue,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Every machine that counts against `limit`.
    #[must_use]
    pub fn total(&self) -> u32 {
        [
            self.busy,
            self.draining,
            self.retiring,
            self.missing,
            self.held,
        ]
        .into_iter()
        .fold(self.available(), u32::saturating_add)
    }

    /// Machines being made: intended, creating and booting.
    #[must_use]
    pub fn growing(&self) -> u32 {
        self.intended
            .saturating_add(self.creating)
            .saturating_add(self.booting)
    }

    /// Machines that are free or on their way to be.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.growing()
            .saturating_add(self.idle)
            .saturating_add(self.reserved)
    }

    /// Machines that run a job and are in sight.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.busy.saturating_add(self.draining)
    }
}

impl Targets {
    /// Idle machines to keep while `in_use` machines run jobs, by the rules of GitLab Runner: with
    /// a scale factor it is the factor's share of those in use, rounded toward 0, at least
    /// `idle_count_min` (and 1), and never more than `idle_count`.
    #[must_use]
    pub fn idle_target(&self, in_use: u32) -> u32 {
        if self.idle_scale_factor > 0.0 {
            let least = self.idle_count_min.max(1);
            let share = (f64::from(in_use) * self.idle_scale_factor) as u32;
            self.idle_count.min(share.max(least))
        } else {
            self.idle_count
        }
    }
}
