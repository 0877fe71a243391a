//! The machine's way: intended, asked for, seen, ready, removed until it is gone; and the sweep that
//! holds the provider's list against the records, both ways.

use super::{Controller, Tries};
use crate::event::{DriverFailure, Effect, Seen, SeenState};
use crate::record::{Boot, Change, Ending, MachineRecord, Stage, Store};
use rand::Rng;
use springtide_pool::{Event, JobId, Machine, MachineId, Millis, Phase, RetireCause, Time};
use std::collections::BTreeSet;

impl<S: Store> Controller<S> {
    pub(super) fn intend(&mut self, now: Time) {
        let token = self.rng.random();
        self.intend_as(token, false, now);
    }

    /// A machine that a person asks for. It counts against the limit as any other.
    pub(super) fn make(&mut self, token: u128, now: Time) {
        let limit = usize::try_from(self.options.limits.limit).unwrap_or(usize::MAX);
        if self.closing || self.paused || (limit > 0 && self.machines.len() >= limit) {
            tracing::warn!(
                limit,
                "no machine is made for a person: the limit is reached, or the pool makes none"
            );
            return;
        }
        self.intend_as(token, true, now);
    }

    fn intend_as(&mut self, token: u128, keep: bool, now: Time) {
        let token = format!("{token:032x}");
        let name = self.options.machine_name.replace("%s", &token[..12]);
        let record = MachineRecord {
            machine: Machine {
                id: MachineId(self.next_machine),
                phase: Phase::Intended { since: now },
                builds: 0,
                made: now,
                interrupted: false,
            },
            name,
            token,
            provider_id: None,
            scope: self.options.scope.clone(),
            reach: None,
            lease_until: now.after(self.options.lease),
            removal_accepted: false,
            boot: Boot::default(),
            keep,
        };
        self.add(record);
    }

    fn add(&mut self, record: MachineRecord) {
        let id = record.machine.id;
        self.next_machine = id.0 + 1;
        self.by_token.insert(record.token.clone(), id);
        self.changes.push(Change::NextMachine(self.next_machine));
        self.changes.push(Change::PutMachine(record.clone()));
        self.machines.insert(id, record);
    }

    fn remove(&mut self, id: MachineId) {
        if let Some(record) = self.machines.remove(&id) {
            self.by_token.remove(&record.token);
            self.changes.push(Change::DropMachine(id));
            self.effects.push(Effect::Forget(Box::new(record)));
        }
        self.creates.remove(&id);
        self.destroys.remove(&id);
        self.probes.remove(&id);
    }

    pub(super) fn retire(&mut self, id: MachineId, cause: RetireCause, now: Time) {
        if self.on(id, Event::Retire { cause }, now) {
            self.effects.push(Effect::Goes(id, cause));
        } else {
            self.on(id, Event::Drain { cause }, now);
        }
    }

    pub(super) fn created(
        &mut self,
        id: MachineId,
        answer: Result<Seen, DriverFailure>,
        now: Time,
    ) {
        let tries = self.creates.entry(id).or_default();
        tries.under_way = false;
        tries.answered = now;
        match answer {
            Ok(seen) => {
                tries.failed = 0;
                tries.not_before = now.after(self.options.probe);
                self.failed_creates = 0;
                self.create_not_before = Time(0);
                self.seen(id, &seen, now);
            }
            Err(failure) => self.create_failed(id, failure, now),
        }
    }

    fn create_failed(&mut self, id: MachineId, failure: DriverFailure, now: Time) {
        let refused = matches!(failure, DriverFailure::Refused(_));
        self.failed_creates = self.failed_creates.saturating_add(1);
        let wait = self.failure_wait(&failure, self.failed_creates);
        self.create_not_before = now.after(wait);
        let tries = self.creates.entry(id).or_default();
        tries.failed = tries.failed.saturating_add(1);
        tries.not_before = now.after(wait);
        tries.unsure |= !refused;
        let unsure = tries.unsure;
        self.effects.push(Effect::CreateFailed(id, failure));
        if refused {
            self.retire(id, RetireCause::CreateFailed, now);
            let never_made = self
                .machines
                .get(&id)
                .is_some_and(|record| record.provider_id.is_none())
                && !unsure;
            if never_made {
                self.remove(id);
            }
        }
    }

    /// What a provider says of a machine we have a record of.
    fn seen(&mut self, id: MachineId, seen: &Seen, now: Time) {
        let Some(record) = self.machines.get_mut(&id) else {
            return;
        };
        let taken_back = matches!(seen.state, SeenState::Interrupted | SeenState::Stopped);
        let news = record.provider_id.as_deref() != Some(&seen.id)
            || (seen.reach.is_some() && record.reach != seen.reach)
            || (taken_back && !record.machine.interrupted);
        if news {
            record.provider_id = Some(seen.id.clone());
            if seen.reach.is_some() {
                record.reach.clone_from(&seen.reach);
            }
            record.machine.interrupted |= taken_back;
            self.put(id);
        }
        let phase = self.machines[&id].machine.phase;
        match phase {
            Phase::Creating { .. } if seen.state == SeenState::Running => {
                self.passed(id, Stage::Exists, now);
                self.on(id, Event::Exists, now);
            }
            Phase::Missing { .. } => {
                self.on(id, Event::SeenAgain, now);
            }
            _ => {}
        }
    }

    /// The sweep. A list that failed says nothing; one that was answered is held against what was
    /// known before it was begun.
    pub(super) fn listed(&mut self, answer: Result<Vec<Seen>, DriverFailure>, now: Time) {
        self.list.under_way = false;
        let begun = self.list_begun;
        let seen = match answer {
            Ok(seen) => seen,
            Err(failure) => {
                self.list.failed = self.list.failed.saturating_add(1);
                let wait = self.failure_wait(&failure, self.list.failed);
                self.list.not_before = now.after(wait);
                return;
            }
        };
        self.list.failed = 0;
        self.last_list = Some(begun);
        let mut listed = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for at in &seen {
            if at.owner != self.options.owner || at.pool != self.options.pool {
                continue;
            }
            match self.by_token.get(&at.token).copied() {
                Some(id) => {
                    listed.insert(id);
                    self.seen(id, at, now);
                }
                None => {
                    unknown.insert(at.id.clone());
                    listed.extend(self.stranger(at, now));
                }
            }
        }
        self.strangers.retain(|id, _| unknown.contains(id));
        let ids: Vec<MachineId> = self.machines.keys().copied().collect();
        for id in ids {
            let looked_at = self
                .machines
                .get(&id)
                .is_some_and(|record| !self.unlisted.contains(&record.scope));
            if looked_at && !listed.contains(&id) {
                self.unseen(id, begun, now);
            }
        }
        let calm = if self.settled() {
            self.options.list_calm
        } else {
            self.options.list_busy
        };
        self.list.not_before = now.after(calm);
    }

    /// A machine that carries our mark and has no record. A second look after a grace period, then it
    /// gets a record and is removed as any other.
    fn stranger(&mut self, seen: &Seen, now: Time) -> Option<MachineId> {
        let first = *self.strangers.entry(seen.id.clone()).or_insert(now);
        if first == now
            || now.since(first) < self.options.grace
            || seen.state == SeenState::Removing
        {
            return None;
        }
        tracing::warn!(machine = %seen.name, "a machine with our mark and no record is removed");
        let id = MachineId(self.next_machine);
        self.add(MachineRecord {
            machine: Machine {
                id,
                phase: Phase::Retiring {
                    since: now,
                    cause: RetireCause::Orphaned,
                },
                builds: 0,
                made: first,
                interrupted: false,
            },
            name: seen.name.clone(),
            token: seen.token.clone(),
            provider_id: Some(seen.id.clone()),
            scope: seen
                .scope
                .clone()
                .unwrap_or_else(|| self.options.scope.clone()),
            reach: None,
            lease_until: Time(0),
            removal_accepted: false,
            boot: Boot::default(),
            keep: false,
        });
        Some(id)
    }

    /// A machine with a record that a list begun at `begun` does not show.
    fn unseen(&mut self, id: MachineId, begun: Time, now: Time) {
        let Some(record) = self.machines.get(&id) else {
            return;
        };
        let create = self.creates.get(&id).copied().unwrap_or_default();
        let settled = !create.under_way && begun > create.answered.after(self.options.grace);
        let removed = record.removal_accepted
            && !create.under_way
            && self
                .destroys
                .get(&id)
                .is_none_or(|tries| !tries.under_way && begun > tries.answered);
        match record.machine.phase {
            Phase::Retiring { .. } if settled || removed => self.remove(id),
            Phase::Booting { .. }
            | Phase::Idle { .. }
            | Phase::Reserved { .. }
            | Phase::Busy { .. }
            | Phase::Draining { .. }
                if settled =>
            {
                self.on(id, Event::NotSeen, now);
            }
            _ => {}
        }
    }

    pub(super) fn destroyed(
        &mut self,
        id: MachineId,
        answer: Result<(), DriverFailure>,
        now: Time,
    ) {
        let mut tries = self.destroys.get(&id).copied().unwrap_or_default();
        tries.under_way = false;
        tries.answered = now;
        tries.failed = tries.failed.saturating_add(1);
        let wait = match &answer {
            Ok(()) => self.back_off(tries.failed),
            Err(failure) => self.failure_wait(failure, tries.failed),
        };
        tries.not_before = now.after(wait);
        self.destroys.insert(id, tries);
        if let (Ok(()), Some(record)) = (&answer, self.machines.get_mut(&id)) {
            self.list.not_before = self.list.not_before.min(now.after(self.options.list_busy));
            if !record.removal_accepted {
                record.removal_accepted = true;
                self.put(id);
            }
        }
    }

    /// The first time a machine passes a stage of its boot is written down.
    pub(super) fn passed(&mut self, id: MachineId, stage: Stage, now: Time) {
        if let Some(record) = self.machines.get_mut(&id)
            && record.boot.pass(stage, now)
        {
            self.put(id);
        }
    }

    pub(super) fn probed(&mut self, id: MachineId, ready: bool, now: Time) {
        let tries = self.probes.entry(id).or_default();
        tries.under_way = false;
        tries.not_before = now.after(self.options.probe);
        let Some(Phase::Booting { asked, .. }) = self.machines.get(&id).map(|at| at.machine.phase)
        else {
            return;
        };
        if ready && self.on(id, Event::Ready, now) {
            self.passed(id, Stage::Ready, now);
            self.probes.remove(&id);
            if self.machines.get(&id).is_some_and(|record| record.keep) {
                self.on(id, Event::Hold, now);
            }
            if self.boots.len() == 20 {
                self.boots.remove(0);
            }
            self.boots.push(now.since(asked));
        }
    }

    pub(super) fn renewed(&mut self, answer: &Result<(), DriverFailure>, now: Time) {
        self.renew.under_way = false;
        let wait = match answer {
            Ok(()) => {
                self.renew.failed = 0;
                Millis(self.options.lease.0 / 4)
            }
            Err(failure) => {
                self.renew.failed = self.renew.failed.saturating_add(1);
                self.failure_wait(failure, self.renew.failed)
            }
        };
        self.renew.not_before = now.after(wait);
    }

    /// Drops a machine out of sight: only where a list begun after its grace does not show it either,
    /// so that a provider that can't be reached never makes a machine gone.
    pub(super) fn forget(&mut self, id: MachineId, now: Time) {
        let Some(Phase::Missing { since, job }) = self.machines.get(&id).map(|at| at.machine.phase)
        else {
            return;
        };
        let grace = since.after(self.options.limits.missing_grace);
        if self
            .machines
            .get(&id)
            .is_some_and(|record| self.unlisted.contains(&record.scope))
        {
            return;
        }
        if self.last_list.is_none_or(|begun| begun < grace) {
            self.list.not_before = self.list.not_before.min(now);
            return;
        }
        if let Some(job) = job {
            self.machine_lost(job);
        }
        self.remove(id);
    }

    fn machine_lost(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).copied() else {
            return;
        };
        if job.started || job.ending.is_some() {
            return self.end_job(id, Ending::SystemFailure);
        }
        if self.running.remove(&id) {
            self.effects.push(Effect::AbandonRun(id));
        }
        self.hold_again(job);
    }

    fn settled(&self) -> bool {
        self.strangers.is_empty()
            && self
                .machines
                .values()
                .all(|record| match record.machine.phase {
                    Phase::Intended { .. }
                    | Phase::Creating { .. }
                    | Phase::Retiring { .. }
                    | Phase::Missing { .. } => false,
                    // The list is what tells how it is reached.
                    Phase::Booting { .. } => record.reach.is_some(),
                    _ => true,
                })
    }

    /// Hands out the calls that are due.
    pub(super) fn due(&mut self, now: Time) {
        let ids: Vec<MachineId> = self.machines.keys().copied().collect();
        for id in ids {
            self.due_for(id, now);
        }
        if self.list.due(now) {
            self.list.under_way = true;
            self.list_begun = now;
            self.effects.push(Effect::List);
        }
        if self.renew.due(now) {
            self.renew_leases(now);
        }
    }

    fn due_for(&mut self, id: MachineId, now: Time) {
        if matches!(
            self.machines.get(&id).map(|at| at.machine.phase),
            Some(Phase::Intended { .. })
        ) {
            self.on(id, Event::Asked, now);
        }
        let Some(record) = self.machines.get(&id) else {
            return;
        };
        let (calls, effect): (_, fn(Box<MachineRecord>) -> Effect) = match record.machine.phase {
            Phase::Creating { .. } => (&mut self.creates, Effect::Create),
            Phase::Booting { .. } => (&mut self.probes, Effect::Probe),
            Phase::Retiring { .. } if record.provider_id.is_some() => {
                if self.creates.get(&id).is_some_and(|tries| tries.under_way) {
                    return;
                }
                (&mut self.destroys, Effect::Destroy)
            }
            _ => return,
        };
        let tries = calls.entry(id).or_default();
        if tries.due(now) {
            tries.under_way = true;
            self.effects.push(effect(Box::new(record.clone())));
        }
    }

    fn renew_leases(&mut self, now: Time) {
        let until = now.after(self.options.lease);
        let mut renewed = Vec::new();
        for record in self.machines.values_mut() {
            if record.provider_id.is_none() {
                continue;
            }
            if matches!(record.machine.phase, Phase::Retiring { .. }) {
                continue;
            }
            record.lease_until = until;
            renewed.push(record.clone());
            self.changes.push(Change::PutMachine(record.clone()));
        }
        if renewed.is_empty() {
            self.renew.not_before = now.after(Millis(self.options.lease.0 / 4));
        } else {
            self.renew.under_way = true;
            self.effects.push(Effect::Renew(renewed, until));
        }
    }

    /// When each call that is not under way is due.
    pub(super) fn due_times(&self, now: Time) -> impl Iterator<Item = Time> {
        let machines = self.machines.values().filter_map(move |record| {
            let id = record.machine.id;
            let tries = match record.machine.phase {
                Phase::Intended { .. } => return Some(now),
                Phase::Creating { .. } => self.creates.get(&id),
                Phase::Booting { .. } => self.probes.get(&id),
                Phase::Retiring { .. } if record.provider_id.is_some() => {
                    if self.creates.get(&id).is_some_and(|tries| tries.under_way) {
                        return None;
                    }
                    self.destroys.get(&id)
                }
                _ => return None,
            };
            let tries = tries.copied().unwrap_or_default();
            (!tries.under_way).then_some(tries.not_before)
        });
        let sweeps = [self.list, self.renew]
            .into_iter()
            .filter(|tries| !tries.under_way)
            .map(|tries| tries.not_before);
        machines.chain(sweeps).map(move |at| at.max(now))
    }
}

impl Tries {
    fn due(&self, now: Time) -> bool {
        !self.under_way && self.not_before <= now
    }
}
