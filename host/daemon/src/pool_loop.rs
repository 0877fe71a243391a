//! One pool's loop in the real world: effects become tasks, their answers come back as happenings,
//! and the pool's step runs at most once in 50 ms and whenever time alone would change its answer.
//!
//! It ends when the state can't be written, or when it was told to close and nothing runs any more.

use crate::metrics::{Metrics, RunnerLabels};
use crate::runtime::exporter;
use crate::view::{PoolView, Watcher};
use async_trait::async_trait;
use springtide_control::{
    Controller, DriverFailure, Effect, Ending, Happening, JobRecord, MachineRecord, RequestEnd,
    RunEnd, Seen, Stage, Store, StoreError,
};
use springtide_pool::{JobId, JobPhase, MachineId, RequestId, Time};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The least time between two steps.
const STEP: Duration = Duration::from_millis(50);

/// Machines, as a loop needs them made, seen and removed. Calls end by themselves within their own
/// deadlines.
#[async_trait]
pub trait Machines: Send + Sync + 'static {
    /// Makes a machine or carries one further; safe to repeat.
    async fn create(&self, record: &MachineRecord) -> Result<Seen, DriverFailure>;
    /// All machines of all scopes that can be listed; an error where none can.
    async fn list(&self) -> Result<Listing, DriverFailure>;
    /// Removes a machine; safe to repeat.
    async fn destroy(&self, record: &MachineRecord) -> Result<(), DriverFailure>;
    /// Sets the end of leases.
    async fn renew(&self, records: &[MachineRecord], until: Time) -> Result<(), DriverFailure>;
    /// Whether a machine can take a job, and how it is reached where that was not known. Stages of
    /// its boot are told as it passes them.
    async fn look(&self, record: &MachineRecord, passing: &Passing) -> Look;
    /// Forgets what is kept of a machine that is gone.
    async fn forget(&self, _record: &MachineRecord) {}
}

/// The machines there are, as far as could be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The machines.
    pub seen: Vec<Seen>,
    /// The scopes that could not be listed: their machines are neither there nor gone.
    pub unlisted: BTreeSet<String>,
}

/// What a look at a machine showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// It can take a job.
    pub ready: bool,
    /// How it is reached, where its record did not say.
    pub reach: Option<String>,
}

/// Jobs, as a loop needs them asked for, run and told.
#[async_trait]
pub trait Jobs: Send + Sync + 'static {
    /// Asks for a job. What it brings is on disk when this returns. Ends soon after `cancel`, with
    /// the job if one was given meanwhile.
    async fn request(&self, cancel: CancellationToken) -> RequestEnd;
    /// The earliest time for the next request; asked after each.
    fn not_before(&self) -> Time {
        Time(0)
    }
    /// A taken job waits for a machine: keeps it alive at GitLab, and tells `canceled` if GitLab
    /// takes it back. Returns at once; the same job may be held twice.
    fn hold(&self, _job: JobId, _canceled: Canceled) {}
    /// Runs a job on a machine, or follows it where it runs already; says once when its script begins.
    async fn run(
        &self,
        job: JobRecord,
        machine: &MachineRecord,
        resume: bool,
        started: Started,
        abandon: CancellationToken,
    ) -> RunEnd;
    /// Has GitLab told a job's final state; returns when it has it or will never take it.
    async fn finish(&self, job: JobId, ending: Ending);
}

/// Says that a job's script has begun.
#[derive(Debug)]
pub struct Started {
    job: JobId,
    to: mpsc::UnboundedSender<Happening>,
}

impl Started {
    /// Says it.
    pub fn now(&self) {
        // A loop that is over needs not know.
        self.to.send(Happening::Started(self.job)).ok();
    }
}

/// Says that a machine passed a stage of its boot.
#[derive(Debug)]
pub struct Passing {
    machine: MachineId,
    to: mpsc::UnboundedSender<Happening>,
}

impl Passing {
    /// For this machine, to its pool's loop.
    #[must_use]
    pub fn new(machine: MachineId, to: mpsc::UnboundedSender<Happening>) -> Passing {
        Passing { machine, to }
    }

    /// Says it.
    pub fn stage(&self, stage: Stage) {
        // A loop that is over needs not know.
        self.to.send(Happening::Passed(self.machine, stage)).ok();
    }
}

/// Says that GitLab took a job back that waited for a machine.
#[derive(Debug)]
pub struct Canceled {
    job: JobId,
    to: mpsc::UnboundedSender<Happening>,
}

impl Canceled {
    /// Says it.
    pub fn now(&self) {
        // A loop that is over needs not know.
        self.to.send(Happening::Canceled(self.job)).ok();
    }
}

/// One pool's loop.
pub struct PoolLoop<S> {
    controller: Controller<S>,
    machines: Arc<dyn Machines>,
    jobs: Arc<dyn Jobs>,
    to: mpsc::UnboundedSender<Happening>,
    from: mpsc::UnboundedReceiver<Happening>,
    requests: HashMap<RequestId, CancellationToken>,
    runs: HashMap<JobId, CancellationToken>,
    watcher: Watcher,
    metrics: Option<(Metrics, RunnerLabels)>,
    view: watch::Sender<PoolView>,
}

/// The wall clock.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl<S: Store + Send + 'static> PoolLoop<S> {
    /// A loop around a controller that has been started.
    #[must_use]
    pub fn new(
        controller: Controller<S>,
        machines: Arc<dyn Machines>,
        jobs: Arc<dyn Jobs>,
    ) -> PoolLoop<S> {
        let (to, from) = mpsc::unbounded_channel();
        PoolLoop {
            controller,
            machines,
            jobs,
            to,
            from,
            requests: HashMap::new(),
            runs: HashMap::new(),
            watcher: Watcher::default(),
            metrics: None,
            view: watch::Sender::new(PoolView::default()),
        }
    }

    /// Counts what becomes of machines and requests in these metrics, as this runner's.
    #[must_use]
    pub fn counted_in(mut self, metrics: Metrics, runner: RunnerLabels) -> PoolLoop<S> {
        self.metrics = Some((metrics, runner));
        self
    }

    /// The pool as it stands after each step.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<PoolView> {
        self.view.subscribe()
    }

    /// Where to tell it that something happened.
    #[must_use]
    pub fn teller(&self) -> mpsc::UnboundedSender<Happening> {
        self.to.clone()
    }

    /// Runs until it is told to close and no job is held, running or unreported any more; the
    /// machines it has then stay, for the next start to adopt. Told to leave, it runs until its
    /// machines are gone too.
    ///
    /// # Errors
    /// Where the state can't be written: then nothing more is done.
    pub async fn run(mut self, effects: Vec<Effect>) -> Result<Controller<S>, StoreError> {
        self.carry_out(effects);
        self.hold_all();
        let mut wake = tokio::time::Instant::now();
        loop {
            tokio::select! {
                Some(what) = self.from.recv() => {
                    self.hear(what)?;
                    while let Ok(what) = self.from.try_recv() {
                        self.hear(what)?;
                    }
                    wake = wake.min(tokio::time::Instant::now() + STEP);
                }
                () = tokio::time::sleep_until(wake) => {
                    let at = now();
                    let effects = self.controller.step(at)?;
                    self.watcher.decided(&self.controller, at);
                    self.carry_out(effects);
                    self.show();
                    wake = tokio::time::Instant::now() + self.rest();
                }
            }
            if self.controller.done() {
                self.show();
                return Ok(self.controller);
            }
        }
    }

    fn show(&mut self) {
        let view = self.watcher.look(&self.controller, now());
        let passages = self.watcher.passages();
        if let Some((metrics, runner)) = &self.metrics {
            exporter::count(metrics, runner, &passages);
        }
        self.view.send_replace(view);
    }

    /// Jobs that have no machine are kept alive at GitLab until they have one.
    fn hold_all(&self) {
        let held = |job: &&JobRecord| job.phase == JobPhase::Held && job.ending.is_none();
        for job in self.controller.jobs().filter(held) {
            self.hold(job.id);
        }
    }

    fn hold(&self, job: JobId) {
        let canceled = Canceled {
            job,
            to: self.to.clone(),
        };
        self.jobs.hold(job, canceled);
    }

    /// A job that has just been taken, or that lost its machine before it began.
    fn hold_if_waiting(&self, id: JobId) {
        let waits =
            |job: &JobRecord| job.id == id && job.phase == JobPhase::Held && job.ending.is_none();
        if self.controller.jobs().any(waits) {
            self.hold(id);
        }
    }

    /// How long nothing would change by time alone; at least the least time between steps.
    fn rest(&self) -> Duration {
        let now = now();
        self.controller
            .next_wake(now)
            .map_or(Duration::from_secs(60), |at| {
                Duration::from_millis(at.since(now).0)
            })
            .clamp(STEP, Duration::from_secs(60))
    }

    fn hear(&mut self, what: Happening) -> Result<(), StoreError> {
        let mut waits = None;
        match &what {
            Happening::Requested(id, end) => {
                self.requests.remove(id);
                self.controller
                    .set_request_not_before(self.jobs.not_before());
                if let RequestEnd::Job(job) = end {
                    self.watcher.job_taken();
                    waits = Some(*job);
                }
            }
            Happening::Found(job) => waits = Some(*job),
            Happening::RunEnded(job, end) => {
                self.runs.remove(job);
                if *end == RunEnd::NeverStarted {
                    waits = Some(*job);
                }
            }
            Happening::Created(id, Err(_)) => {
                let mut machines = self.controller.machines();
                let asked = machines.find(|at| at.machine.id == *id);
                let after = asked.map(|at| now().since(at.machine.made));
                self.watcher.not_made(after.unwrap_or_default());
            }
            _ => {}
        }
        let effects = self.controller.handle(what, now())?;
        self.carry_out(effects);
        if let Some(job) = waits {
            self.hold_if_waiting(job);
        }
        Ok(())
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let machines = Arc::clone(&self.machines);
        match effect {
            Effect::Create(record) => {
                let id = record.machine.id;
                self.spawn(
                    async move { Happening::Created(id, machines.create(&record).await) },
                    Happening::Created(id, Err(died())),
                );
            }
            Effect::List => {
                let to = self.to.clone();
                self.spawn(
                    async move {
                        let listing = machines.list().await;
                        if let Ok(Listing { unlisted, .. }) = &listing {
                            // A loop that is over needs not know.
                            to.send(Happening::Unlisted(unlisted.clone())).ok();
                        }
                        Happening::Listed(listing.map(|listing| listing.seen))
                    },
                    Happening::Listed(Err(died())),
                );
            }
            Effect::Probe(record) => {
                let id = record.machine.id;
                let to = self.to.clone();
                self.spawn(
                    async move {
                        let passing = Passing::new(id, to.clone());
                        let look = machines.look(&record, &passing).await;
                        if let Some(reach) = look.reach {
                            // A loop that is over needs not know.
                            to.send(Happening::Reach(id, reach)).ok();
                        }
                        if look.ready {
                            tracing::info!(machine = record.name, "a machine is ready");
                        }
                        Happening::Probed(id, look.ready)
                    },
                    Happening::Probed(id, false),
                );
            }
            Effect::Destroy(record) => {
                let id = record.machine.id;
                self.spawn(
                    async move { Happening::Destroyed(id, machines.destroy(&record).await) },
                    Happening::Destroyed(id, Err(died())),
                );
            }
            Effect::Renew(records, until) => self.spawn(
                async move { Happening::Renewed(machines.renew(&records, until).await) },
                Happening::Renewed(Err(died())),
            ),
            Effect::Request(id) => {
                let cancel = CancellationToken::new();
                self.requests.insert(id, cancel.clone());
                let jobs = Arc::clone(&self.jobs);
                self.spawn(
                    async move { Happening::Requested(id, jobs.request(cancel).await) },
                    Happening::Requested(id, RequestEnd::Failed),
                );
            }
            Effect::CancelRequest(id) => {
                if let Some(cancel) = self.requests.get(&id) {
                    cancel.cancel();
                }
            }
            Effect::Run {
                job,
                machine,
                resume,
            } => self.run_job(job, machine, resume),
            Effect::AbandonRun(job) => {
                if let Some(cancel) = self.runs.remove(&job) {
                    cancel.cancel();
                }
            }
            Effect::Finish(job, ending) => {
                let jobs = Arc::clone(&self.jobs);
                self.spawn(
                    async move {
                        jobs.finish(job, ending).await;
                        Happening::Finished(job)
                    },
                    Happening::Finished(job),
                );
            }
            Effect::Forget(record) => {
                tokio::spawn(async move { machines.forget(&record).await });
            }
            Effect::CreateFailed(id, failure) => {
                let machine = self.watcher.called(&self.controller, id);
                tracing::warn!(machine, ?failure, "a machine could not be made");
            }
            Effect::Goes(id, cause) => {
                let machine = self.watcher.called(&self.controller, id);
                tracing::info!(machine, ?cause, "a machine goes");
            }
        }
    }

    fn run_job(&mut self, job: JobRecord, machine: Box<MachineRecord>, resume: bool) {
        self.watcher.used();
        let abandon = CancellationToken::new();
        self.runs.insert(job.id, abandon.clone());
        let started = Started {
            job: job.id,
            to: self.to.clone(),
        };
        let jobs = Arc::clone(&self.jobs);
        let to = self.to.clone();
        tokio::spawn(async move {
            let gone = abandon.clone();
            let work = async move { jobs.run(job, &machine, resume, started, abandon).await };
            let end = tokio::spawn(work).await.unwrap_or(RunEnd::MachineLost);
            // What an abandoned run came to is of no interest: its job was ended or given on.
            if !gone.is_cancelled() {
                to.send(Happening::RunEnded(job.id, end)).ok();
            }
        });
    }

    /// Sends what the work comes to, or `otherwise` where it dies: a call that is never answered
    /// would be under way for ever.
    fn spawn(
        &mut self,
        work: impl Future<Output = Happening> + Send + 'static,
        otherwise: Happening,
    ) {
        let to = self.to.clone();
        tokio::spawn(async move {
            let what = tokio::spawn(work).await.unwrap_or(otherwise);
            // A loop that is over needs no answer; the next start asks again.
            to.send(what).ok();
        });
    }
}

fn died() -> DriverFailure {
    DriverFailure::Unknown("the call died".into())
}

#[cfg(test)]
mod tests;
