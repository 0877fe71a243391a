//! The rules.
//!
//! In this order, each on what the ones before it left: what ran out of time goes; jobs that can't
//! be started fail; taken jobs get machines, newest machine first; machines above the limit go;
//! machines idle for too long go; machines are made; jobs are asked for.
//!
//! A machine that is to go in this step is no longer available in it, but still counts against
//! `limit`: it does so until it is gone.

use crate::decision::{Action, Decision, Reason};
use crate::machine::{Machine, MachineId, Phase, RetireCause};
use crate::snapshot::{Counts, Job, JobPhase, Limits, Pool, RequestId, Targets};
use crate::time::{Millis, Time};

mod ask;
mod grow;

/// Most machines one step makes, so that no policy can make it answer without end.
pub const MOST_CREATES: u32 = 1000;

/// Says what should happen to a pool now, and why.
///
/// At most one action concerns a given machine, and every decision has a reason. Where nothing is to
/// be done and nothing is held back, the answer is one [`Reason::Steady`]. It takes time in
/// proportion to the snapshot: under 2 ms for 10,000 machines and 1,000 jobs.
#[must_use]
pub fn step(pool: &Pool, targets: &Targets, limits: &Limits, now: Time) -> Vec<Decision> {
    let counts = Counts::of(&pool.machines);
    let mut step = Step {
        pool,
        targets,
        limits,
        now,
        counts,
        target: targets.idle_target(counts.in_use()),
        free: Vec::with_capacity(counts.available() as usize),
        ending: ending(pool),
        going: counts.retiring,
        told: false,
        out: Vec::new(),
    };
    step.look_at_machines();
    let unserved = step.serve_held_jobs();
    let wanted = step.wanted();
    step.retire_surplus();
    step.retire_idle(unserved, wanted);
    let made = step.make_machines(unserved, wanted);
    step.ask_for_jobs(unserved, made);
    if step.out.is_empty() {
        step.hold(Reason::Steady {
            available: step.available(),
            target: step.target,
        });
    }
    step.out
}

/// A machine that is free or on its way to be, and not yet spoken for in this step.
struct Free {
    id: MachineId,
    made: Time,
    kind: Kind,
    /// Given to a job, or to go.
    taken: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Intended, creating or booting.
    Coming,
    Idle {
        since: Time,
    },
    Reserved {
        idle_since: Time,
        request: RequestId,
        /// Its request is being ended.
        cancelling: bool,
    },
}

struct Step<'a> {
    pool: &'a Pool,
    targets: &'a Targets,
    limits: &'a Limits,
    now: Time,
    counts: Counts,
    /// The idle target.
    target: u32,
    /// Oldest first.
    free: Vec<Free>,
    /// Requests that were told to end already, sorted.
    ending: Vec<RequestId>,
    /// Machines that go, those decided in this step included.
    going: u32,
    /// The reason jobs are at their limit has been given.
    told: bool,
    out: Vec<Decision>,
}

impl Step<'_> {
    fn act(&mut self, action: Action, reason: Reason) {
        self.out.push(Decision {
            action: Some(action),
            reason,
        });
    }

    fn hold(&mut self, reason: Reason) {
        self.out.push(Decision {
            action: None,
            reason,
        });
    }

    fn retire(&mut self, machine: MachineId, cause: RetireCause, reason: Reason) {
        self.going = self.going.saturating_add(1);
        self.act(Action::Retire { machine, cause }, reason);
    }

    /// How long something has lasted, where that is longer than allowed.
    fn over(&self, since: Time, allowed: Millis) -> Option<Millis> {
        let lasted = self.now.since(since);
        (allowed.0 > 0 && lasted > allowed).then_some(lasted)
    }

    fn available(&self) -> u32 {
        count(self.free.iter().filter(|free| !free.taken))
    }

    fn look_at_machines(&mut self) {
        for machine in &self.pool.machines {
            self.look_at(machine);
        }
        // The snapshot promises this order; one made by hand may not keep it.
        if !self.free.is_sorted_by_key(|free| (free.made, free.id)) {
            self.free.sort_unstable_by_key(|free| (free.made, free.id));
        }
    }

    fn look_at(&mut self, machine: &Machine) {
        let id = machine.id;
        let kind = match machine.phase {
            Phase::Intended { .. } | Phase::Creating { .. } | Phase::Booting { .. }
                if machine.interrupted =>
            {
                return self.retire(id, RetireCause::Interrupted, Reason::Interrupted);
            }
            Phase::Intended { .. } => Kind::Coming,
            Phase::Creating { since } => {
                let timeout = self.limits.create_timeout;
                if let Some(took) = self.over(since, timeout) {
                    let reason = Reason::CreateTimeout { took, timeout };
                    return self.retire(id, RetireCause::CreateFailed, reason);
                }
                Kind::Coming
            }
            Phase::Booting { since, .. } => {
                let timeout = self.limits.boot_timeout;
                if let Some(took) = self.over(since, timeout) {
                    let reason = Reason::BootTimeout { took, timeout };
                    return self.retire(id, RetireCause::BootTimeout, reason);
                }
                Kind::Coming
            }
            Phase::Idle { .. } if machine.interrupted => {
                return self.retire(id, RetireCause::Interrupted, Reason::Interrupted);
            }
            Phase::Idle { since } => {
                let (builds, max) = (machine.builds, self.limits.max_builds);
                if max > 0 && builds >= max {
                    let reason = Reason::MaxBuilds { builds, max };
                    return self.retire(id, RetireCause::MaxBuilds, reason);
                }
                Kind::Idle { since }
            }
            Phase::Reserved {
                idle_since,
                request,
                ..
            } => {
                let cancelling = self.ending.binary_search(&request).is_ok();
                if machine.interrupted {
                    if !cancelling {
                        self.act(Action::CancelRequest { request }, Reason::Interrupted);
                    }
                    return;
                }
                Kind::Reserved {
                    idle_since,
                    request,
                    cancelling,
                }
            }
            Phase::Busy { .. } => {
                if machine.interrupted {
                    let cause = RetireCause::Interrupted;
                    self.act(Action::Drain { machine: id, cause }, Reason::Interrupted);
                }
                return;
            }
            Phase::Missing { since, .. } => {
                let grace = self.limits.missing_grace;
                if let Some(missing) = self.over(since, grace) {
                    let reason = Reason::OutOfSight { missing, grace };
                    self.act(Action::Forget { machine: id }, reason);
                }
                return;
            }
            Phase::Draining { .. }
            | Phase::Retiring { .. }
            | Phase::Held { .. }
            | Phase::Gone { .. } => return,
        };
        self.free.push(Free {
            id,
            made: machine.made,
            kind,
            taken: false,
        });
    }

    /// Ends the jobs that waited or tried too long, gives machines to the others, oldest job first,
    /// and takes back reserved machines for the rest. Answers how many jobs are left without one.
    fn serve_held_jobs(&mut self) -> u32 {
        let mut held = Vec::new();
        for job in &self.pool.jobs {
            if job.phase != JobPhase::Held {
                continue;
            }
            match self.gives_up(job) {
                Some(reason) => self.act(Action::FailJob { job: job.id }, reason),
                None => held.push(job),
            }
        }
        if !held.is_sorted_by_key(|job| (job.taken, job.id)) {
            held.sort_unstable_by_key(|job| (job.taken, job.id));
        }

        let mut held = held.into_iter();
        let mut machines = self.free.iter_mut().rev();
        for free in machines.by_ref() {
            if !matches!(free.kind, Kind::Idle { .. }) {
                continue;
            }
            let Some(job) = held.next() else { break };
            free.taken = true;
            self.out.push(Decision {
                action: Some(Action::Assign {
                    job: job.id,
                    machine: free.id,
                }),
                reason: Reason::MachineReady {
                    waited: self.now.since(job.taken),
                },
            });
        }

        let unserved = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let coming_back = count(self.free.iter().filter(|free| {
            matches!(
                free.kind,
                Kind::Reserved {
                    cancelling: true,
                    ..
                }
            )
        }));
        self.cancel_newest(unserved.saturating_sub(coming_back), false);
        unserved
    }

    fn gives_up(&self, job: &Job) -> Option<Reason> {
        let (tries, timeout) = (job.tries, self.limits.prepare_timeout);
        if self.limits.machine_tries > 0 && tries >= self.limits.machine_tries {
            return Some(Reason::MachineTries { tries });
        }
        let held = self.over(job.taken, timeout)?;
        Some(Reason::PrepareTimeout { held, timeout })
    }

    /// Ends the requests of the newest reserved machines, so that they come back idle.
    fn cancel_newest(&mut self, most: u32, goes: bool) {
        let mut left = most;
        for free in self.free.iter_mut().rev() {
            if left == 0 {
                return;
            }
            let Kind::Reserved {
                request,
                cancelling,
                ..
            } = &mut free.kind
            else {
                continue;
            };
            if free.taken {
                continue;
            }
            if !*cancelling {
                *cancelling = true;
                self.out.push(Decision {
                    action: Some(Action::CancelRequest { request: *request }),
                    reason: Reason::RequestNotNeeded,
                });
            } else if !goes {
                continue;
            }
            free.taken = goes;
            left -= 1;
        }
    }

    /// The lower of the limit and the ceiling.
    fn most_machines(&self) -> Option<u32> {
        let limit = Some(self.limits.limit).filter(|limit| *limit > 0);
        limit.into_iter().chain(self.targets.ceiling).min()
    }

    /// Lets idle machines above the limit go, newest first. Those that go already are not counted:
    /// they bring the number down by themselves.
    fn retire_surplus(&mut self) {
        let Some(limit) = self.most_machines() else {
            return;
        };
        let total = self.counts.total();
        let mut surplus = total.saturating_sub(self.going).saturating_sub(limit);
        if surplus == 0 {
            return;
        }
        for index in (0..self.free.len()).rev() {
            let free = &mut self.free[index];
            if free.taken || !matches!(free.kind, Kind::Idle { .. }) {
                continue;
            }
            if surplus == 0 {
                return;
            }
            surplus -= 1;
            free.taken = true;
            let id = free.id;
            self.retire(id, RetireCause::TooMany, Reason::OverLimit { total, limit });
        }
        self.cancel_newest(surplus, true);
    }

    /// Lets machines go that were idle for too long. The oldest available ones are kept, as many as
    /// the idle target and the jobs that wait need.
    fn retire_idle(&mut self, unserved: u32, wanted: u32) {
        let keep = self.target.saturating_add(unserved).saturating_add(wanted);
        let mut available = self.available();
        if available <= keep {
            return;
        }
        let idle_time = Millis::seconds(u64::from(self.targets.idle_time));
        let mut older = 0_u32;
        for index in 0..self.free.len() {
            let free = &self.free[index];
            if free.taken {
                continue;
            }
            let since = match free.kind {
                Kind::Coming => None,
                Kind::Idle { since } => Some(since),
                Kind::Reserved { idle_since, .. } => Some(idle_since),
            };
            let idle = since.map_or(Millis(0), |since| self.now.since(since));
            if older < keep || idle <= idle_time {
                older = older.saturating_add(1);
                continue;
            }
            available -= 1;
            let (id, kind) = (free.id, free.kind);
            self.free[index].taken = true;
            match kind {
                Kind::Reserved {
                    cancelling: true, ..
                }
                | Kind::Coming => {}
                Kind::Reserved { request, .. } => {
                    self.act(Action::CancelRequest { request }, Reason::RequestNotNeeded);
                }
                Kind::Idle { .. } => {
                    let reason = Reason::IdleTooLong {
                        idle,
                        idle_time,
                        available,
                        target: self.target,
                    };
                    self.retire(id, RetireCause::IdleTime, reason);
                }
            }
        }
    }
}

fn ending(pool: &Pool) -> Vec<RequestId> {
    let ending = pool.requests.iter().filter(|it| it.cancelling);
    let mut ending: Vec<RequestId> = ending.map(|it| it.id).collect();
    ending.sort_unstable();
    ending
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
