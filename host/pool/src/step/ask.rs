//! When to ask GitLab for a job: for an idle machine, or, where nothing else can tell whether jobs
//! wait, for a machine that is still to be made.

use super::{Free, Kind, Step, count};
use crate::decision::{Action, Reason};
use crate::machine::MachineId;
use crate::snapshot::Source;

impl Step<'_> {
    /// Asks for jobs: for idle machines, newest first; or, where nothing else can tell whether jobs
    /// wait, before there is a machine.
    pub(super) fn ask_for_jobs(&mut self, unserved: u32, made: u32) {
        if self.pool.paused {
            return self.hold(Reason::Paused);
        }
        if self.pool.closing {
            return self.hold(Reason::Closing);
        }
        if let Source::Stale { age } = self.pool.source {
            self.hold(Reason::StaleQueue { age });
        }
        let idle = |free: &&Free| !free.taken && matches!(free.kind, Kind::Idle { .. });
        let machines: Vec<MachineId> = self
            .free
            .iter()
            .rev()
            .filter(idle)
            .map(|it| it.id)
            .collect();
        let ask_first = machines.is_empty() && self.target == 0;
        if machines.is_empty() {
            match self.pool.source {
                Source::Fresh { .. } => return,
                Source::None | Source::Stale { .. } | Source::Silent if ask_first => {}
                Source::None | Source::Stale { .. } | Source::Silent => {
                    return self.hold(Reason::NoneFree);
                }
            }
        }
        if self.pool.request_not_before > self.now {
            let wait = self.pool.request_not_before.since(self.now);
            return self.hold(Reason::RequestsWait { wait });
        }

        let mut requests = count(self.pool.requests.iter());
        let mut machines = machines.into_iter();
        let mut slots = self.requests_without_machine();
        let jobs = count(self.pool.jobs.iter());
        let most = self.limits.request_concurrency.max(1);
        loop {
            let machine = machines.next();
            if machine.is_none() && !ask_first {
                return;
            }
            if requests >= most {
                return self.hold(Reason::RequestsAtLimit {
                    requests,
                    max: most,
                });
            }
            if let Some(max) = self.most_jobs()
                && jobs.saturating_add(requests) >= max
            {
                return self.jobs_at_limit(jobs.saturating_add(requests), max);
            }
            if machine.is_none() {
                if let Some(reason) = self.no_slot(unserved, made, slots) {
                    return self.hold(reason);
                }
                slots = slots.saturating_add(1);
            }
            let reason = match machine {
                Some(_) => Reason::MachineFree,
                None => Reason::AskFirst,
            };
            self.act(Action::RequestJob { machine }, reason);
            requests = requests.saturating_add(1);
        }
    }

    /// Why no job may be asked for before there is a machine for it, if so.
    fn no_slot(&self, unserved: u32, made: u32, slots: u32) -> Option<Reason> {
        let total = self.counts.total();
        // Held jobs with nothing on its way for them will need a machine each.
        let promised = unserved
            .saturating_sub(self.available())
            .max(made)
            .saturating_add(slots);
        let (limit, max) = (self.limits.limit, self.limits.max_growth_rate);
        let full = |most: u32| total.saturating_add(promised) >= most;
        if limit > 0 && full(limit) {
            return Some(Reason::HeldByLimit {
                short: 1,
                total,
                limit,
            });
        }
        if let Some(ceiling) = self.targets.ceiling.filter(|ceiling| full(*ceiling)) {
            return Some(Reason::HeldByCeiling {
                short: 1,
                total,
                ceiling,
            });
        }
        let growing = self.growing().saturating_add(promised);
        if max > 0 && growing >= max {
            return Some(Reason::HeldByGrowth {
                short: 1,
                growing,
                max,
            });
        }
        (self.pool.create_not_before > self.now).then(|| Reason::HeldByBackOff {
            short: 1,
            wait: self.pool.create_not_before.since(self.now),
        })
    }
}
