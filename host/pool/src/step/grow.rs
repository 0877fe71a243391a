//! How many machines to make: what is needed, within what is allowed. Every clamp says so.

use super::{Kind, MOST_CREATES, Step, count};
use crate::decision::{Action, Decision, Reason};

impl Step<'_> {
    /// Most jobs at once, by this pool's share of `concurrent` and by `limit`.
    pub(super) fn most_jobs(&self) -> Option<u32> {
        let limit = (self.limits.limit > 0).then_some(self.limits.limit);
        self.limits.max_jobs.into_iter().chain(limit).min()
    }

    /// Machines the policies want for waiting jobs, less those for jobs that could not start.
    pub(super) fn wanted(&mut self) -> u32 {
        let wanted = self.targets.wanted;
        let Some(max) = self.most_jobs() else {
            return wanted;
        };
        let jobs = count(self.pool.jobs.iter());
        let could_start = max.saturating_sub(jobs);
        if could_start < wanted {
            self.jobs_at_limit(jobs, max);
        }
        wanted.min(could_start)
    }

    pub(super) fn jobs_at_limit(&mut self, jobs: u32, max: u32) {
        if !self.told {
            self.told = true;
            self.hold(Reason::JobsAtLimit { jobs, max });
        }
    }

    pub(super) fn growing(&self) -> u32 {
        count(
            self.free
                .iter()
                .filter(|free| matches!(free.kind, Kind::Coming)),
        )
    }

    /// Makes machines for held jobs, then for waiting ones, then for the idle target, within what
    /// is allowed. Answers how many.
    pub(super) fn make_machines(&mut self, unserved: u32, wanted: u32) -> u32 {
        let available = self.available();
        let for_held = unserved.saturating_sub(available);
        let for_jobs = unserved.saturating_add(wanted);
        let all = for_jobs
            .saturating_add(self.target)
            .saturating_sub(available);
        let asked = if self.pool.paused {
            0
        } else if self.pool.closing {
            for_held
        } else {
            all
        };
        if asked == 0 {
            return 0;
        }

        self.free_slots(for_held);
        let made = self.clamp(asked);
        let job_machines = for_jobs.saturating_sub(available).min(made);
        for _ in 0..job_machines {
            let reason = Reason::JobsWaiting {
                wanted: for_jobs,
                available,
            };
            self.act(Action::Create, reason);
        }
        for number in 0..made - job_machines {
            let spare = available
                .saturating_add(job_machines)
                .saturating_sub(for_jobs);
            let reason = Reason::BelowIdleTarget {
                available: spare.saturating_add(number),
                target: self.target,
            };
            self.act(Action::Create, reason);
        }
        made
    }

    /// Ends requests that have no machine where they keep the slots that taken jobs need.
    fn free_slots(&mut self, for_held: u32) {
        let Some(most) = self.most_machines() else {
            return;
        };
        let room = most.saturating_sub(self.counts.total());
        let needed = for_held.min(room);
        let slots = self.requests_without_machine();
        let lacking = needed.saturating_sub(room.saturating_sub(slots));
        let without = || self.pool.requests.iter().filter(|it| it.machine.is_none());
        let ending = count(without().filter(|it| it.cancelling));
        let newest = without().rev().filter(|it| !it.cancelling);
        for request in newest.take(lacking.saturating_sub(ending) as usize) {
            self.out.push(Decision {
                action: Some(Action::CancelRequest {
                    request: request.id,
                }),
                reason: Reason::RequestNotNeeded,
            });
        }
    }

    /// How many of the machines asked for may be made; those for held jobs come first. A request
    /// that has no machine keeps a slot.
    fn clamp(&mut self, asked: u32) -> u32 {
        let total = self.counts.total();
        let slots = self.requests_without_machine();
        let room = |most: u32| {
            let room = most.saturating_sub(total).saturating_sub(slots);
            room.min(asked)
        };
        let mut made = asked;
        let mut bound = |step: &mut Self, most: u32, reason: &dyn Fn(u32) -> Reason| {
            if most < asked {
                step.hold(reason(asked - most));
                made = made.min(most);
            }
        };
        let (limit, max) = (self.limits.limit, self.limits.max_growth_rate);
        if limit > 0 {
            bound(self, room(limit), &|short| Reason::HeldByLimit {
                short,
                total,
                limit,
            });
        }
        if let Some(ceiling) = self.targets.ceiling {
            bound(self, room(ceiling), &|short| Reason::HeldByCeiling {
                short,
                total,
                ceiling,
            });
        }
        if max > 0 {
            let growing = self.growing();
            bound(self, max.saturating_sub(growing), &|short| {
                Reason::HeldByGrowth {
                    short,
                    growing,
                    max,
                }
            });
        }
        if self.pool.create_not_before > self.now {
            let wait = self.pool.create_not_before.since(self.now);
            bound(self, 0, &|short| Reason::HeldByBackOff { short, wait });
        }
        if made > MOST_CREATES {
            self.hold(Reason::HeldByStep {
                short: made - MOST_CREATES,
                max: MOST_CREATES,
            });
        }
        made.min(MOST_CREATES)
    }

    pub(super) fn requests_without_machine(&self) -> u32 {
        count(self.pool.requests.iter().filter(|it| it.machine.is_none()))
    }
}
