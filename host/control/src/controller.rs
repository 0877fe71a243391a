//! The loop: what happened is applied, the pool's [`springtide_pool::step()`] decides, all of it is
//! committed at once, and only then are effects handed out.

use crate::event::{DriverFailure, Effect, Happening};
use crate::record::{Change, Ending, JobRecord, MachineRecord, Store, StoreError};
use rand::{Rng, rngs::StdRng};
use springtide_pool::{
    Action, Decision, Event, Job, JobId, Limits, MachineId, Millis, Phase, Pool, Request,
    RequestId, RetireCause, Source, Targets, Time, next_wake, step,
};
use std::collections::{BTreeMap, BTreeSet};

mod jobs;
mod machines;
mod start;

/// What a controller is told once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose machines it makes and removes.
    pub owner: String,
    /// The pool's key.
    pub pool: String,
    /// The scope new machines are made in.
    pub scope: String,
    /// `MachineName`, with `%s` where the unique part goes.
    pub machine_name: String,
    /// What the operator allows.
    pub limits: Limits,
    /// Between two lists while something is under way.
    pub list_busy: Millis,
    /// Between two lists while all is settled.
    pub list_calm: Millis,
    /// Between two looks at a booting machine.
    pub probe: Millis,
    /// How long a lease runs.
    pub lease: Millis,
    /// The least time before anything unknown that carries our mark is removed, and before a create
    /// whose answer was lost is judged by a list.
    pub grace: Millis,
    /// The longest wait between two tries at the same call.
    pub longest_back_off: Millis,
}

impl Options {
    /// Options with the defaults of a provider that answers within seconds.
    #[must_use]
    pub fn new(owner: &str, pool: &str, scope: &str, machine_name: &str, limits: Limits) -> Self {
        Options {
            owner: owner.to_owned(),
            pool: pool.to_owned(),
            scope: scope.to_owned(),
            machine_name: machine_name.to_owned(),
            limits,
            list_busy: Millis::seconds(5),
            list_calm: Millis::seconds(60),
            probe: Millis(200),
            lease: Millis::seconds(4 * 3600),
            grace: Millis::seconds(60),
            longest_back_off: Millis::seconds(300),
        }
    }
}

/// Tries of one call and when the next may be.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    failed: u32,
    not_before: Time,
    under_way: bool,
    /// When the last one was answered.
    answered: Time,
    /// Whether one may have happened though it was not answered.
    unsure: bool,
}

/// One pool's loop.
#[derive(Debug)]
pub struct Controller<S> {
    store: S,
    options: Options,
    rng: StdRng,
    machines: BTreeMap<MachineId, MachineRecord>,
    by_token: BTreeMap<String, MachineId>,
    jobs: BTreeMap<JobId, JobRecord>,
    requests: BTreeMap<RequestId, Request>,
    next_machine: u64,
    next_request: u64,
    targets: Targets,
    source: Source,
    request_not_before: Time,
    create_not_before: Time,
    failed_creates: u32,
    paused: bool,
    closing: bool,
    leaving: Option<RetireCause>,
    creates: BTreeMap<MachineId, Tries>,
    destroys: BTreeMap<MachineId, Tries>,
    probes: BTreeMap<MachineId, Tries>,
    list: Tries,
    list_begun: Time,
    /// Scopes the latest list does not cover.
    unlisted: BTreeSet<String>,
    last_list: Option<Time>,
    renew: Tries,
    strangers: BTreeMap<String, Time>,
    running: BTreeSet<JobId>,
    boots: Vec<Millis>,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    decisions: Vec<Decision>,
    commits: u64,
}

impl<S: Store> Controller<S> {
    /// Tells what happened. What follows is committed before effects are returned.
    ///
    /// # Errors
    /// Where the state can't be written: nothing is to be carried out then, and the daemon stops.
    pub fn handle(&mut self, what: Happening, now: Time) -> Result<Vec<Effect>, StoreError> {
        match what {
            Happening::Created(id, answer) => self.created(id, answer, now),
            Happening::Listed(answer) => self.listed(answer, now),
            Happening::Destroyed(id, answer) => self.destroyed(id, answer, now),
            Happening::Probed(id, ready) => self.probed(id, ready, now),
            Happening::Reach(id, reach) => {
                if let Some(record) = self.machines.get_mut(&id) {
                    record.reach = Some(reach);
                    self.put(id);
                }
            }
            Happening::Passed(id, stage) => self.passed(id, stage, now),
            Happening::Renewed(answer) => self.renewed(&answer, now),
            Happening::Requested(id, end) => self.requested(id, end, now),
            Happening::Started(job) => self.started(job),
            Happening::RunEnded(job, end) => self.run_ended(job, end, now),
            Happening::Canceled(job) => self.canceled(job),
            Happening::Finished(job) => {
                if self.jobs.remove(&job).is_some() {
                    self.changes.push(Change::DropJob(job));
                }
            }
            Happening::Found(job) => self.found(job, now),
            Happening::Targets(targets) => self.targets = targets,
            Happening::Limits(limits) => self.options.limits = limits,
            Happening::Made {
                scope,
                machine_name,
            } => {
                self.options.scope = scope;
                self.options.machine_name = machine_name;
            }
            Happening::Source(source) => self.source = source,
            Happening::Make(token) => self.make(token, now),
            Happening::Remove(id) => {
                // One that is held for a person goes when a person says so.
                self.on(id, Event::LetGo, now);
                self.retire(id, RetireCause::Asked, now);
            }
            Happening::Hold(id) => {
                self.on(id, Event::Hold, now);
            }
            Happening::LetGo(id) => {
                self.on(id, Event::LetGo, now);
            }
            Happening::Close => {
                self.closing = true;
                self.leaving = None;
                self.end_requests();
            }
            Happening::Leave(cause) => {
                self.closing = true;
                self.leaving = Some(cause);
                self.end_requests();
            }
            Happening::Unlisted(scopes) => self.unlisted = scopes,
            Happening::Pause(paused) => self.paused = paused,
            Happening::EndHeld => self.end_held(),
        }
        self.commit()
    }

    /// Decides: one step of the pool, then the calls that are due.
    ///
    /// # Errors
    /// As [`Controller::handle`].
    pub fn step(&mut self, now: Time) -> Result<Vec<Effect>, StoreError> {
        let decisions = step(&self.pool(), &self.targets, &self.options.limits, now);
        for decision in &decisions {
            if let Some(action) = decision.action {
                self.act(action, now);
            }
        }
        self.decisions = decisions;
        self.leave(now);
        self.due(now);
        self.commit()
    }

    /// When [`Controller::step`] would do something though nothing happens.
    #[must_use]
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let pool = next_wake(&self.pool(), &self.targets, &self.options.limits, now);
        pool.into_iter().chain(self.due_times(now)).min()
    }

    /// The snapshot the next step will look at.
    #[must_use]
    pub fn pool(&self) -> Pool {
        Pool {
            machines: self
                .machines
                .values()
                .map(|at| at.machine.clone())
                .collect(),
            jobs: self.pool_jobs(),
            requests: self.requests.values().copied().collect(),
            source: self.source,
            request_not_before: self.request_not_before,
            create_not_before: self.create_not_before,
            paused: self.paused,
            closing: self.closing,
        }
    }

    fn pool_jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self
            .jobs
            .values()
            .filter(|job| job.ending.is_none())
            .map(|job| Job {
                id: job.id,
                phase: job.phase,
                taken: job.taken,
                tries: job.tries,
            })
            .collect();
        jobs.sort_by_key(|job| (job.taken, job.id));
        jobs
    }

    /// The targets in force.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// What the operator allows.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The earliest time for the next job request.
    pub fn set_request_not_before(&mut self, at: Time) {
        self.request_not_before = at;
    }

    /// What the last step decided.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// One machine's record.
    #[must_use]
    pub fn machine(&self, id: MachineId) -> Option<&MachineRecord> {
        self.machines.get(&id)
    }

    /// Every machine's record.
    pub fn machines(&self) -> impl Iterator<Item = &MachineRecord> {
        self.machines.values()
    }

    /// Every job's record.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values()
    }

    /// How long recent machines took from asked for to ready, newest last, at most 20.
    #[must_use]
    pub fn boot_times(&self) -> &[Millis] {
        &self.boots
    }

    /// Commits this controller has made.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The store, with all that was committed.
    pub fn into_store(self) -> S {
        self.store
    }

    fn commit(&mut self) -> Result<Vec<Effect>, StoreError> {
        if !self.changes.is_empty() {
            self.store.commit(&self.changes)?;
            self.commits += 1;
            self.changes.clear();
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// Whether nothing is left to do before the end: no job, and where it was told to leave, no
    /// machine but those kept for a person.
    #[must_use]
    pub fn done(&self) -> bool {
        // A pool without a runner stays for its held machines, or nobody could let them go.
        let stays = |record: &MachineRecord| {
            self.leaving != Some(RetireCause::Orphaned)
                && matches!(record.machine.phase, Phase::Held { .. })
        };
        self.closing
            && self.jobs.is_empty()
            && self.requests.is_empty()
            && (self.leaving.is_none() || self.machines.values().all(stays))
    }

    /// Machines that are not needed for a job that was taken go.
    fn leave(&mut self, now: Time) {
        let Some(cause) = self.leaving else { return };
        if self.jobs.values().any(|job| job.ending.is_none()) {
            return;
        }
        let goes = |record: &&MachineRecord| {
            !matches!(
                record.machine.phase,
                Phase::Retiring { .. }
                    | Phase::Missing { .. }
                    | Phase::Held { .. }
                    | Phase::Gone { .. }
            )
        };
        let ids: Vec<MachineId> = self
            .machines
            .values()
            .filter(goes)
            .map(|record| record.machine.id)
            .collect();
        for id in ids {
            self.retire(id, cause, now);
        }
    }

    fn act(&mut self, action: Action, now: Time) {
        match action {
            Action::Create => self.intend(now),
            Action::RequestJob { machine } => self.request(machine, now),
            Action::CancelRequest { request } => self.cancel_request(request),
            Action::Assign { job, machine } => self.assign(job, machine, now),
            Action::Drain { machine, cause } => {
                self.on(machine, Event::Drain { cause }, now);
            }
            Action::Retire { machine, cause } => self.retire(machine, cause, now),
            Action::Forget { machine } => self.forget(machine, now),
            Action::FailJob { job } => self.end_job(job, Ending::SystemFailure),
        }
    }

    /// Takes a machine one transition further and writes it down; a transition the rules do not have
    /// is left out and answered with `false`.
    fn on(&mut self, id: MachineId, event: Event, now: Time) -> bool {
        let Some(record) = self.machines.get_mut(&id) else {
            return false;
        };
        match record.machine.phase.on(event, now) {
            Ok(phase) => {
                if phase != record.machine.phase {
                    record.machine.phase = phase;
                    self.changes.push(Change::PutMachine(record.clone()));
                }
                true
            }
            Err(refused) => {
                tracing::debug!(machine = record.name, %refused, "a transition was refused");
                false
            }
        }
    }

    fn put(&mut self, id: MachineId) {
        if let Some(record) = self.machines.get(&id) {
            self.changes.push(Change::PutMachine(record.clone()));
        }
    }

    /// A wait that doubles with each failure up to the longest, the later half of it random.
    fn back_off(&mut self, failed: u32) -> Millis {
        let most = self.options.longest_back_off.0.max(2);
        let whole = 1000_u64
            .saturating_mul(1 << failed.saturating_sub(1).min(20))
            .min(most);
        Millis(whole / 2 + self.rng.random_range(0..=whole / 2))
    }

    fn failure_wait(&mut self, failure: &DriverFailure, failed: u32) -> Millis {
        let wait = self.back_off(failed);
        match failure {
            DriverFailure::Throttled(millis) => Millis(wait.0.max(*millis)),
            _ => wait,
        }
    }
}
