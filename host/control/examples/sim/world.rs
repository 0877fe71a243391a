//! A provider and a GitLab that misbehave, in virtual time, from a seed.
//!
//! [`World`] carries out the controller's effects: what happens at the provider or at GitLab happens
//! there whether or not the manager lives to see the answer.

use rand::{Rng, SeedableRng, rngs::StdRng};
use springtide_control::{DriverFailure, Effect, Happening, RequestEnd, RunEnd, Seen, SeenState};
use springtide_pool::{JobId, RequestId, Source, Time};
use std::collections::{BTreeMap, BTreeSet};

/// Whose machines the pool under test makes.
pub const OWNER: &str = "ours";
/// Its pool.
pub const POOL: &str = "pool";

/// What goes wrong, and how often. Later faults are added here.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Creates that are accepted and whose answer is lost, as a share.
    pub create_lost: f64,
    /// Creates that fail and may be tried again.
    pub create_fails: f64,
    /// Creates that are refused for good.
    pub create_refused: f64,
    /// Machines that never get ready.
    pub never_boots: f64,
    /// Lists that fail.
    pub list_fails: f64,
    /// From when to when every removal is refused.
    pub no_removal: (Time, Time),
    /// From when to when GitLab answers 5xx and the queue source is stale.
    pub gitlab_down: (Time, Time),
    /// Times at which a machine vanishes.
    pub vanish: Vec<Time>,
    /// Times at which a person cancels a job.
    pub cancel: Vec<Time>,
}

impl Faults {
    /// None at all.
    pub fn none() -> Faults {
        Faults {
            create_lost: 0.0,
            create_fails: 0.0,
            create_refused: 0.0,
            never_boots: 0.0,
            list_fails: 0.0,
            no_removal: (Time(0), Time(0)),
            gitlab_down: (Time(0), Time(0)),
            vanish: Vec::new(),
            cancel: Vec::new(),
        }
    }
}

/// A job's work on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub job: JobId,
    pub ends: Time,
}

/// A machine at the provider.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub name: String,
    pub token: String,
    pub owner: String,
    pub ready_at: Option<Time>,
    /// From when lists show it.
    pub listed_at: Time,
    pub gone_at: Option<Time>,
    pub work: Option<Work>,
}

/// A job at GitLab.
#[derive(Clone, Copy, Debug)]
pub struct GitlabJob {
    pub queued: Time,
    pub assigned: Option<Time>,
    /// When the runner last said anything of it.
    pub heard: Time,
    pub length: u64,
    pub finals: u32,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Item {
    /// A call reaches its server.
    Serve(u64, Effect),
    /// An answer reaches the manager of this life, if it still lives.
    Answer(u64, Happening),
    /// A job's work is looked at by the manager that follows it.
    Follow(u64, JobId, String),
    /// The loop's timer.
    Step(u64),
    /// The manager starts again.
    Restart,
    /// A machine vanishes.
    Vanish,
    /// A person cancels a job.
    Cancel,
    /// The queue source is read.
    Source,
    /// GitLab looks for jobs nobody speaks of.
    Stuck,
}

/// The world outside the manager.
#[derive(Debug)]
pub struct World {
    pub now: Time,
    pub rng: StdRng,
    pub faults: Faults,
    pub cloud: BTreeMap<String, Cloud>,
    pub jobs: BTreeMap<JobId, GitlabJob>,
    pub queue: BTreeMap<(Time, u64), Item>,
    pub cancelled: BTreeSet<(u64, RequestId)>,
    pub abandoned: BTreeSet<(u64, JobId)>,
    pub source: bool,
    /// The disk was lost once: machines of a forgotten life may be there until they are swept.
    pub state_lost: bool,
    pub most: usize,
    pub made: u64,
    pub violations: Vec<String>,
    pub log: Vec<String>,
    serial: u64,
}

/// How long GitLab waits for a word of a running job before it ends it.
const STUCK_MILLIS: u64 = 3_600_000;

impl World {
    pub fn new(seed: u64, faults: Faults, source: bool) -> World {
        let mut world = World {
            now: Time(0),
            rng: StdRng::seed_from_u64(seed),
            faults,
            cloud: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queue: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            source,
            state_lost: false,
            most: 0,
            made: 0,
            violations: Vec::new(),
            log: Vec::new(),
            serial: 0,
        };
        let theirs = Cloud {
            name: "theirs".into(),
            token: "theirs".into(),
            owner: "another".into(),
            ready_at: Some(Time(0)),
            listed_at: Time(0),
            gone_at: None,
            work: None,
        };
        world.cloud.insert("theirs".into(), theirs);
        world
    }

    pub fn at(&mut self, time: Time, item: Item) {
        self.serial += 1;
        self.queue.insert((time, self.serial), item);
    }

    pub fn soon(&mut self, least: u64, most: u64, item: Item) {
        let wait = self.rng.random_range(least..=most);
        self.at(Time(self.now.0 + wait), item);
    }

    fn within(&self, (from, to): (Time, Time)) -> bool {
        from <= self.now && self.now < to
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// Sends an effect on its way.
    pub fn carry_out(&mut self, life: u64, effect: Effect) {
        self.log.push(format!("{} {life} {effect:?}", self.now.0));
        match effect {
            Effect::CancelRequest(id) => {
                self.cancelled.insert((life, id));
            }
            Effect::AbandonRun(job) => {
                self.abandoned.insert((life, job));
            }
            Effect::CreateFailed(..) | Effect::Goes(..) | Effect::Forget(_) => {}
            Effect::Probe(_) => self.soon(5, 50, Item::Serve(life, effect)),
            Effect::Create(_) => self.soon(50, 4_000, Item::Serve(life, effect)),
            _ => self.soon(20, 1_500, Item::Serve(life, effect)),
        }
    }

    /// A call reaches its server: what it does there is done, whoever hears of it.
    pub fn serve(&mut self, life: u64, effect: Effect) {
        let answer = match effect {
            Effect::Create(record) => {
                Happening::Created(record.machine.id, self.create(&record.token, &record.name))
            }
            Effect::List => Happening::Listed(self.list()),
            Effect::Probe(record) => {
                let ready = record
                    .provider_id
                    .as_ref()
                    .and_then(|id| self.cloud.get(id))
                    .and_then(|at| at.ready_at)
                    .is_some_and(|at| at <= self.now);
                Happening::Probed(record.machine.id, ready)
            }
            Effect::Destroy(record) => Happening::Destroyed(
                record.machine.id,
                self.destroy(record.provider_id.as_deref().unwrap_or_default()),
            ),
            Effect::Renew(..) => Happening::Renewed(Ok(())),
            Effect::Request(id) => Happening::Requested(id, self.give_job(life, id)),
            Effect::Run {
                job,
                machine,
                resume,
            } => {
                self.abandoned.remove(&(life, job.id));
                let id = machine.provider_id.clone().unwrap_or_default();
                self.begin(life, job.id, &id, resume && job.started);
                return;
            }
            Effect::Finish(job, ending) => {
                if self.within(self.faults.gitlab_down) {
                    return self.soon(
                        1_000,
                        30_000,
                        Item::Serve(life, Effect::Finish(job, ending)),
                    );
                }
                self.end(job);
                Happening::Finished(job)
            }
            Effect::CancelRequest(_)
            | Effect::AbandonRun(_)
            | Effect::CreateFailed(..)
            | Effect::Goes(..)
            | Effect::Forget(_) => return,
        };
        self.soon(5, 500, Item::Answer(life, answer));
    }

    fn create(&mut self, token: &str, name: &str) -> Result<Seen, DriverFailure> {
        // A provider may refuse before it looks whether the token is known.
        if self.chance(self.faults.create_refused) {
            return Err(DriverFailure::Refused("no capacity".into()));
        }
        if let Some((id, at)) = self.cloud.iter().find(|(_, at)| at.token == token) {
            return Ok(seen(id, at));
        }
        if self.chance(self.faults.create_fails) {
            return Err(DriverFailure::Transient("try again".into()));
        }
        let boot = self.rng.random_range(500..60_000);
        let lag = self.rng.random_range(0..20_000);
        let never = self.chance(self.faults.never_boots);
        self.made += 1;
        let id = format!("m-{}", self.made);
        let machine = Cloud {
            name: name.to_owned(),
            token: token.to_owned(),
            owner: OWNER.into(),
            ready_at: (!never).then_some(Time(self.now.0 + boot)),
            listed_at: Time(self.now.0 + lag),
            gone_at: None,
            work: None,
        };
        let answer = seen(&id, &machine);
        self.cloud.insert(id, machine);
        self.most = self.most.max(self.ours());
        if self.chance(self.faults.create_lost) {
            return Err(DriverFailure::Unknown("no answer".into()));
        }
        Ok(answer)
    }

    fn list(&mut self) -> Result<Vec<Seen>, DriverFailure> {
        self.sweep_gone();
        if self.chance(self.faults.list_fails) {
            return Err(DriverFailure::Throttled(5_000));
        }
        Ok(self
            .cloud
            .iter()
            .filter(|(_, at)| at.listed_at <= self.now)
            .map(|(id, at)| seen(id, at))
            .collect())
    }

    fn destroy(&mut self, id: &str) -> Result<(), DriverFailure> {
        if self.within(self.faults.no_removal) {
            return Err(DriverFailure::Transient("not now".into()));
        }
        let wait = self.rng.random_range(0..20_000);
        if let Some(machine) = self.cloud.get_mut(id) {
            if machine.owner != OWNER {
                self.violations
                    .push(format!("another owner's machine {id} was touched"));
            }
            if let Some(work) = machine.work
                && work.ends > self.now
                && !self.state_lost
                && self.jobs.get(&work.job).is_some_and(|job| job.finals == 0)
            {
                self.violations
                    .push(format!("{id} was removed while {:?} ran", work.job));
            }
            machine.gone_at.get_or_insert(Time(self.now.0 + wait));
        }
        Ok(())
    }

    /// Machines of ours that exist.
    pub fn ours(&self) -> usize {
        self.cloud.values().filter(|at| at.owner == OWNER).count()
    }

    pub fn sweep_gone(&mut self) {
        let now = self.now;
        self.cloud
            .retain(|_, at| at.gone_at.is_none_or(|gone| gone > now));
    }

    fn give_job(&mut self, life: u64, id: RequestId) -> RequestEnd {
        if self.cancelled.remove(&(life, id)) || self.within(self.faults.gitlab_down) {
            return RequestEnd::Failed;
        }
        let now = self.now;
        let next = self
            .jobs
            .iter_mut()
            .find(|(_, job)| job.assigned.is_none() && job.queued <= now);
        match next {
            Some((id, job)) => {
                job.assigned = Some(now);
                job.heard = now;
                RequestEnd::Job(*id)
            }
            None => RequestEnd::NoJob,
        }
    }

    /// The helper on the machine starts a job's work, or finds that it runs already.
    fn begin(&mut self, life: u64, job: JobId, id: &str, expected: bool) {
        let now = self.now;
        self.sweep_gone();
        let length = self.jobs.get(&job).map_or(0, |job| job.length);
        let Some(at) = self.cloud.get_mut(id) else {
            let end = if expected {
                RunEnd::MachineLost
            } else {
                RunEnd::NeverStarted
            };
            return self.soon(5, 100, Item::Answer(life, Happening::RunEnded(job, end)));
        };
        match at.work {
            Some(work) if work.job == job => {}
            Some(work) if work.ends > now => {
                self.violations
                    .push(format!("{id} was given {job:?} while {:?} ran", work.job));
            }
            _ if expected => {
                let lost = Happening::RunEnded(job, RunEnd::MachineLost);
                return self.soon(5, 100, Item::Answer(life, lost));
            }
            _ => {
                at.work = Some(Work {
                    job,
                    ends: Time(now.0 + length),
                })
            }
        }
        self.soon(1, 20, Item::Answer(life, Happening::Started(job)));
        self.soon(100, 200, Item::Follow(life, job, id.to_owned()));
    }

    /// The manager follows a job's work until it ends or the machine is lost.
    pub fn follow(&mut self, life: u64, job: JobId, id: String) {
        if self.abandoned.contains(&(life, job)) {
            return;
        }
        self.sweep_gone();
        if let Some(at) = self.jobs.get_mut(&job) {
            at.heard = self.now;
        }
        let ends = self
            .cloud
            .get(&id)
            .and_then(|at| at.work)
            .filter(|work| work.job == job);
        let end = match ends {
            None => RunEnd::MachineLost,
            Some(work) if work.ends <= self.now => RunEnd::Ran { broken: false },
            Some(_) => return self.soon(2_000, 10_000, Item::Follow(life, job, id)),
        };
        self.soon(1, 10, Item::Answer(life, Happening::RunEnded(job, end)));
    }

    fn end(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(&job)
            && job.finals == 0
        {
            job.finals += 1;
        }
    }

    /// GitLab ends jobs nobody has spoken of for an hour.
    pub fn stuck(&mut self) {
        let now = self.now;
        for job in self.jobs.values_mut() {
            if job.assigned.is_some() && job.finals == 0 && now.since(job.heard).0 > STUCK_MILLIS {
                job.finals += 1;
            }
        }
    }

    pub fn vanish(&mut self) {
        let ours: Vec<String> = self
            .cloud
            .iter()
            .filter(|(_, at)| at.owner == OWNER)
            .map(|(id, _)| id.clone())
            .collect();
        if !ours.is_empty() {
            let at = self.rng.random_range(0..ours.len());
            self.cloud.remove(&ours[at]);
        }
    }

    /// What a queue source would say now.
    pub fn waiting(&self) -> (Source, u32) {
        if !self.source {
            return (Source::None, 0);
        }
        if self.within(self.faults.gitlab_down) {
            let age = self.now.since(self.faults.gitlab_down.0);
            return (Source::Stale { age }, 0);
        }
        let waits = |job: &&GitlabJob| job.assigned.is_none() && job.queued <= self.now;
        let waiting = u32::try_from(self.jobs.values().filter(waits).count()).unwrap_or(u32::MAX);
        let oldest = self.jobs.values().filter(waits).map(|job| job.queued).min();
        let oldest = oldest.map_or_else(Default::default, |at| self.now.since(at));
        (Source::Fresh { waiting, oldest }, waiting)
    }
}

fn seen(id: &str, at: &Cloud) -> Seen {
    Seen {
        id: id.to_owned(),
        name: at.name.clone(),
        token: at.token.clone(),
        owner: at.owner.clone(),
        pool: POOL.into(),
        state: if at.gone_at.is_some() {
            SeenState::Removing
        } else {
            SeenState::Running
        },
        reach: None,
        scope: None,
    }
}
