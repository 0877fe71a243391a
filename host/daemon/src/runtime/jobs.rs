//! The jobs of one pool: asked for at GitLab, on disk before anything is done with them, kept alive
//! while they wait, run, and told their end until GitLab has it.

use super::advice::jitter;
use super::job_dir::{JobDir, JobDirs, Origin};
use super::reach::Ways;
use super::setup::Setup;
use super::slots::{Slot, Slots, Turns};
use super::troubles::Troubles;
use crate::metrics::{Metrics, RunnerLabels};
use crate::pool_loop::{Canceled, Jobs, Started, now};
use async_trait::async_trait;
use springtide_control::{Ending, Happening, JobRecord, MachineRecord, RequestEnd, RunEnd};
use springtide_gitlab::queue::TakenJob;
use springtide_gitlab::{
    Client, Delivered, FailureReason, Final, FinalState, Health, Held, HeldJob, JobAnswer, JobKey,
    JobLine, JobRequestOutcome, Payload, Remote, SenderOptions, Sign, TraceSender, TraceSource,
};
use springtide_jobs::{JobRun, JobTrace, RunOutcome};
use springtide_pool::{JobId, Time};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often GitLab is shown that a job which waits for a machine is still held.
const KEEP: Duration = Duration::from_secs(20);
/// Between two tries to accept a job at a GitLab that does not answer.
const AGAIN: Duration = Duration::from_secs(2);
/// The wait for a slot where `concurrent` is used up.
const NO_SLOT: Duration = Duration::from_millis(500);
/// Where a job's end is kept in its directory.
const OUTCOME: &str = "outcome.json";

/// What the jobs of a pool share with the rest of the daemon.
pub struct Shared {
    /// The runner as it is configured now.
    pub setup: watch::Sender<Arc<Setup>>,
    /// `concurrent`.
    pub slots: Slots,
    /// When runners ask.
    pub turns: Turns,
    /// The ways to machines.
    pub ways: Ways,
    /// The metrics.
    pub metrics: Metrics,
    /// The runner in metrics.
    pub labels: RunnerLabels,
    /// Told of each job that is taken.
    pub taken: mpsc::UnboundedSender<TakenJob>,
    /// What keeps the pool from working as configured.
    pub troubles: Troubles,
    /// No more time: jobs that run are ended.
    pub interrupt: CancellationToken,
}

impl Shared {
    /// The runner as it is configured now.
    #[must_use]
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.borrow().clone()
    }
}

/// The jobs of one pool. Clones share everything.
#[derive(Clone)]
pub struct PoolJobs(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    dirs: JobDirs,
    asking: Mutex<Asking>,
    not_before: AtomicU64,
    active: Mutex<HashMap<JobId, Active>>,
    tell: OnceLock<mpsc::UnboundedSender<Happening>>,
    /// The loop is over: nobody is there for a job any more.
    over: CancellationToken,
}

struct Asking {
    health: Health,
    /// When GitLab last refused, or did not answer.
    refused: Time,
    last_update: Option<String>,
}

/// A job that is taken and not final, in memory.
#[derive(Default)]
struct Active {
    /// Free again when the job is final.
    _slot: Option<Slot>,
    trace: Option<Arc<JobTrace>>,
    sender: Option<TraceSender>,
    /// Ends the task that keeps it alive while it waits.
    keeping: Option<CancellationToken>,
    /// It runs at GitLab already.
    accepted: bool,
    /// GitLab wants to hear no more of it.
    gone: bool,
}

/// Everything a job is told by, from its directory.
struct Job {
    dir: JobDir,
    payload: Payload,
    line: JobLine,
}

/// Why a job can't be read from its directory.
#[derive(Debug, thiserror::Error)]
enum NoJob {
    /// It never will be.
    #[error("{0}")]
    Lost(String),
    /// Another try may do it.
    #[error("{0}")]
    Unread(String),
}

impl PoolJobs {
    /// The jobs of a pool, those among them that were taken before this daemon started.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn new(shared: Arc<Shared>, dirs: JobDirs) -> std::io::Result<PoolJobs> {
        let adopted = |job| {
            let active = Active {
                _slot: Some(shared.slots.adopt()),
                ..Active::default()
            };
            (job, active)
        };
        let active = dirs.all()?.into_iter().map(adopted).collect();
        let setup = shared.setup();
        let health = Health::new(setup.health_limits());
        let (begun, interval) = (now().0, millis(setup.check_interval));
        let first = shared
            .turns
            .next(begun, millis(setup.step), begun.saturating_add(interval));
        Ok(PoolJobs(Arc::new(Inner {
            shared,
            dirs,
            asking: Mutex::new(Asking {
                health,
                refused: Time(0),
                last_update: None,
            }),
            not_before: AtomicU64::new(first),
            active: Mutex::new(active),
            tell: OnceLock::new(),
            over: CancellationToken::new(),
        })))
    }

    /// Where a job is told that comes when nobody waits for it any more.
    pub fn tell(&self, to: mpsc::UnboundedSender<Happening>) {
        // Told once, before the loop runs.
        self.0.tell.set(to).ok();
    }

    /// The loop is over: requests that are under way still are given up.
    pub fn over(&self) {
        self.0.over.cancel();
    }

    /// The jobs that are on disk.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn on_disk(&self) -> std::io::Result<Vec<JobId>> {
        self.0.dirs.all()
    }
}

impl Inner {
    fn active(&self) -> MutexGuard<'_, HashMap<JobId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, at: Time) {
        self.not_before.store(at.0, Ordering::SeqCst);
    }

    /// Asks GitLab once, and has what comes on disk when it returns.
    async fn ask(&self, slot: Slot) -> RequestEnd {
        let setup = self.shared.setup();
        let begun = now();
        // GitLab holds a request that knows the latest news; the last slot is not parked there, for
        // others need it too.
        let last_update = match self.shared.slots.any_left() {
            true => self.asking().last_update.clone(),
            false => None,
        };
        let answer = setup
            .client
            .request_job(&setup.identity, last_update.as_deref())
            .await;
        self.note(&answer, &setup, begun);
        match answer.outcome {
            JobRequestOutcome::Job(payload) => self.take(&setup, *payload, slot).await,
            JobRequestOutcome::Unreadable(problem) => {
                tracing::error!(runner = setup.runner.name, %problem, "a job can't be run");
                if let Some(key) = problem.key {
                    self.refuse(&setup, key, problem.problem).await;
                }
                RequestEnd::NoJob
            }
            JobRequestOutcome::Nothing | JobRequestOutcome::Conflict => RequestEnd::NoJob,
            JobRequestOutcome::Throttled { error, .. }
            | JobRequestOutcome::Forbidden(error)
            | JobRequestOutcome::Failed(error) => {
                tracing::warn!(runner = setup.runner.name, %error, "no job could be asked for");
                RequestEnd::Failed
            }
        }
    }

    /// What an answer says of GitLab, and when to ask again.
    fn note(&self, answer: &JobAnswer, setup: &Setup, begun: Time) {
        let at = Duration::from_millis(now().0);
        let sign = answer.outcome.sign();
        let (next, disabled, disables) = {
            let mut asking = self.asking();
            asking.last_update.clone_from(&answer.last_update);
            // A request that was held since before a refusal does not lift it.
            let old = sign == Sign::Well && begun < asking.refused;
            let disables = !old && asking.health.note(sign, at, jitter());
            if sign != Sign::Well {
                asking.refused = now();
            }
            let (health, at) = (&asking.health, at);
            (health.not_before(), health.disabled_until(at), disables)
        };
        if disables {
            tracing::error!(
                runner = setup.runner.name,
                "GitLab forbids this runner's token again and again: it is left alone for a while"
            );
        }
        let next = match answer.outcome {
            JobRequestOutcome::Job(_) if !setup.runner.strict_check_interval => millis(next),
            _ => {
                let interval = millis(setup.check_interval);
                let from = millis(next).max(begun.0.saturating_add(interval));
                let latest = from.max(now().0.saturating_add(interval));
                self.shared.turns.next(from, millis(setup.step), latest)
            }
        };
        self.wait_until(Time(next));
        let trouble = match (&answer.outcome, disabled) {
            (_, Some(until)) => Some(format!(
                "GitLab forbids this runner's token; it is asked again in {}",
                crate::table::duration(until.saturating_sub(at).as_secs())
            )),
            (
                JobRequestOutcome::Forbidden(error)
                | JobRequestOutcome::Failed(error)
                | JobRequestOutcome::Throttled { error, .. },
                _,
            ) => Some(error.to_string()),
            _ => None,
        };
        self.shared.troubles.set("GitLab", trouble);
    }

    /// A job is GitLab's until it is on disk; if it can't be written it is failed there, not lost.
    async fn take(&self, setup: &Setup, payload: Payload, slot: Slot) -> RequestEnd {
        let id = JobId(payload.id);
        let origin = Origin {
            url: setup.client.options().url.clone(),
            taken: now().0,
        };
        let (dirs, json) = (self.dirs.clone(), payload.to_secret_json());
        let written =
            tokio::task::spawn_blocking(move || dirs.create(id, &origin, json.as_bytes())).await;
        let error = match written {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            tracing::error!(
                job = id.0,
                error,
                "a job can't be written down and is refused"
            );
            let why = "the runner's manager can't write the job down; its disk may be full";
            self.refuse(setup, payload.key(), why).await;
            return RequestEnd::Failed;
        }
        let queued = payload.job_info.time_in_queue_seconds;
        self.shared.metrics.job_taken(&self.shared.labels, queued);
        let project = u64::try_from(payload.job_info.project_id).ok();
        let taken = TakenJob {
            id: id.0,
            project: project.filter(|project| *project > 0),
            queued_for: Duration::try_from_secs_f64(queued).unwrap_or_default(),
        };
        // Without a queue source nobody listens.
        self.shared.taken.send(taken).ok();
        tracing::info!(
            runner = setup.runner.name,
            job = id.0,
            project = payload.job_info.project_full_path,
            "a job was taken"
        );
        // One that is offered a second time is known already.
        self.active().entry(id).or_insert_with(|| Active {
            _slot: Some(slot),
            ..Active::default()
        });
        RequestEnd::Job(id)
    }

    /// Fails a job at GitLab that never came so far as to be kept.
    async fn refuse(&self, setup: &Setup, key: JobKey, why: &str) {
        let line = JobLine::new(setup.client.clone(), key, setup.identity.info.clone());
        let mut held = HeldJob::new(line.clone());
        if let Err(error) = held.accept().await {
            tracing::warn!(%error, "a job that is refused could not be accepted first");
        }
        let sender = TraceSender::start(SenderOptions {
            line,
            failure_reasons: Vec::new(),
            source: Arc::new(Fixed::new(format!(
                "ERROR: Job failed (system failure): {why}\n"
            ))),
            acknowledged: 0,
            debug_trace: false,
        });
        let patience = Duration::from_secs(60);
        let told = tokio::time::timeout(patience, sender.finish(system_failure())).await;
        if told.is_err() {
            tracing::error!("GitLab could not be told of a job that was refused");
        }
    }

    /// A job from its directory.
    async fn read(&self, id: JobId) -> Result<Job, NoJob> {
        let dir = self.dirs.dir(id);
        let read = {
            let dir = dir.clone();
            tokio::task::spawn_blocking(move || {
                Ok::<_, std::io::Error>((dir.payload()?, dir.origin()?))
            })
        };
        let (payload, origin) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(NoJob::Lost(format!("its directory is gone: {error}")));
            }
            Ok(Err(error)) => {
                return Err(NoJob::Unread(format!(
                    "its directory can't be read: {error}"
                )));
            }
            Err(error) => return Err(NoJob::Unread(error.to_string())),
        };
        let lost = |error: &dyn std::fmt::Display| NoJob::Lost(error.to_string());
        let text = String::from_utf8(payload).map_err(|error| lost(&error))?;
        let payload = Payload::from_json(&text).map_err(|error| lost(&error))?;
        let setup = self.shared.setup();
        // A job is told at the GitLab that gave it, also where the file names another by now.
        let client = if setup.client.options().url == origin.url {
            setup.client.clone()
        } else {
            let options = springtide_gitlab::ClientOptions {
                url: origin.url,
                ..setup.client.options().clone()
            };
            Client::new(options).map_err(|error| lost(&error))?
        };
        let line = JobLine::new(client, payload.key(), setup.identity.info.clone());
        Ok(Job { dir, payload, line })
    }

    /// The trace of a job, opened once.
    async fn trace(&self, id: JobId, job: &Job) -> Result<Arc<JobTrace>, String> {
        if let Some(trace) = self.active().get(&id).and_then(|at| at.trace.clone()) {
            return Ok(trace);
        }
        let limit = u64::from(self.shared.setup().runner.output_limit) * 1024;
        let (path, payload) = (job.dir.path().to_owned(), job.payload.clone());
        let opened =
            tokio::task::spawn_blocking(move || JobTrace::open(&path, &payload, Some(limit))).await;
        let trace = match opened {
            Ok(Ok(trace)) => Arc::new(trace),
            Ok(Err(error)) => return Err(format!("its trace can't be opened: {error}")),
            Err(error) => return Err(error.to_string()),
        };
        let mut active = self.active();
        let at = active.entry(id).or_default();
        Ok(at.trace.get_or_insert(trace).clone())
    }

    /// Begins to send a job's trace, unless that has begun, and tells what GitLab wants of it.
    fn send(&self, id: JobId, job: &Job, trace: &Arc<JobTrace>) -> watch::Receiver<Remote> {
        let mut active = self.active();
        let at = active.entry(id).or_default();
        at.accepted = true;
        let sender = at.sender.get_or_insert_with(|| {
            let source: Arc<dyn TraceSource> = trace.clone();
            let on = |one: &springtide_gitlab::Variable| {
                one.key == "CI_DEBUG_TRACE" && one.value == "true"
            };
            TraceSender::start(SenderOptions {
                line: job.line.clone(),
                failure_reasons: job.payload.features.failure_reasons.clone(),
                source,
                // After a restart GitLab says itself where the trace goes on.
                acknowledged: 0,
                debug_trace: job.payload.variables.iter().any(on),
            })
        });
        sender.remote()
    }

    /// Tells GitLab of a job without its trace, where that can't be opened.
    fn send_without(&self, id: JobId, job: &Job, why: &str) {
        let mut active = self.active();
        let at = active.entry(id).or_default();
        at.sender.get_or_insert_with(|| {
            TraceSender::start(SenderOptions {
                line: job.line.clone(),
                failure_reasons: job.payload.features.failure_reasons.clone(),
                source: Arc::new(Fixed::new(format!(
                    "ERROR: Job failed (system failure): {why}\n"
                ))),
                acknowledged: 0,
                debug_trace: false,
            })
        });
    }

    /// Keeps a job alive that waits for a machine.
    async fn keep(&self, id: JobId, stop: CancellationToken, canceled: Canceled) {
        let job = match self.read(id).await {
            Ok(job) => job,
            Err(why) => {
                // It ends when it is given to a machine, or its time to wait is over.
                tracing::error!(job = id.0, %why, "a job that waits can't be kept alive");
                return;
            }
        };
        let mut held = HeldJob::new(job.line.clone());
        loop {
            let said = tokio::select! {
                said = held.keep() => said,
                () = stop.cancelled() => return,
            };
            match said {
                Ok(Held::Offered) => {}
                // Its clock runs, so its trace says what it waits for.
                Ok(Held::Running) => return self.wait_aloud(id, &job, stop, canceled).await,
                Ok(Held::Canceling) => {
                    if let Some(at) = self.active().get_mut(&id) {
                        at.accepted = true;
                    }
                    return canceled.now();
                }
                Ok(Held::Gone { status }) => {
                    tracing::info!(job = id.0, status, "a job that waited is over at GitLab");
                    if let Some(at) = self.active().get_mut(&id) {
                        at.gone = true;
                    }
                    return canceled.now();
                }
                Err(error) => {
                    tracing::warn!(job = id.0, %error, "a job that waits was not heard of")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(KEEP) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn wait_aloud(&self, id: JobId, job: &Job, stop: CancellationToken, canceled: Canceled) {
        let trace = match self.trace(id, job).await {
            Ok(trace) => trace,
            Err(why) => {
                tracing::error!(job = id.0, why, "a job waits without a trace");
                return;
            }
        };
        if trace.is_empty() {
            trace.say("Waiting for a machine to be ready; the time for this is not the job's.");
        }
        let mut remote = self.send(id, job, &trace);
        loop {
            let wanted = *remote.borrow_and_update();
            match wanted {
                Remote::Running => {}
                Remote::Canceling => return canceled.now(),
                Remote::Aborted => {
                    if let Some(at) = self.active().get_mut(&id) {
                        at.gone = true;
                    }
                    return canceled.now();
                }
            }
            tokio::select! {
                changed = remote.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tells GitLab that a job runs from now on. False where it is over there.
    async fn accept(&self, id: JobId, job: &Job) -> bool {
        if self.active().get(&id).is_some_and(|at| at.accepted) {
            return true;
        }
        let mut held = HeldJob::new(job.line.clone());
        loop {
            match held.accept().await {
                Ok(Held::Running | Held::Offered | Held::Canceling) => {
                    if let Some(at) = self.active().get_mut(&id) {
                        at.accepted = true;
                    }
                    return true;
                }
                Ok(Held::Gone { status }) => {
                    tracing::info!(
                        job = id.0,
                        status,
                        "a job is over at GitLab before it began"
                    );
                    if let Some(at) = self.active().get_mut(&id) {
                        at.gone = true;
                    }
                    return false;
                }
                Err(error) => tracing::warn!(job = id.0, %error, "a job was not accepted yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn run(
        &self,
        record: JobRecord,
        machine: &MachineRecord,
        resume: bool,
        started: Started,
        abandon: CancellationToken,
    ) -> RunEnd {
        let id = record.id;
        if let Some(stop) = self.active().get_mut(&id).and_then(|at| at.keeping.take()) {
            stop.cancel();
        }
        let broken = |why: &str| {
            tracing::error!(job = id.0, why, "a job can't be run");
            RunEnd::Ran { broken: false }
        };
        let job = match self.read(id).await {
            Ok(job) => job,
            Err(why) => return broken(&why.to_string()),
        };
        let accepted = tokio::select! {
            accepted = self.accept(id, &job) => accepted,
            () = abandon.cancelled() => return RunEnd::MachineLost,
        };
        if !accepted {
            return RunEnd::Ran { broken: false };
        }
        let trace = match self.trace(id, &job).await {
            Ok(trace) => trace,
            Err(why) => return broken(&why),
        };
        let mut remote = self.send(id, &job, &trace);
        let connection = match self.shared.ways.to(machine) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(job = id.0, machine = machine.name, %error, "no way to a machine");
                return RunEnd::NeverStarted;
            }
        };
        // GitLab's wish, or ours where there is no more time.
        let (wish, wanted) = watch::channel(*remote.borrow_and_update());
        let interrupt = self.shared.interrupt.clone();
        let passing = async {
            loop {
                tokio::select! {
                    changed = remote.changed() => {
                        if changed.is_err() {
                            std::future::pending::<()>().await;
                        }
                        wish.send_replace(*remote.borrow_and_update());
                    }
                    () = interrupt.cancelled() => {
                        wish.send_replace(Remote::Aborted);
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let setup = self.shared.setup();
        let let_go = abandon.clone();
        let running = springtide_jobs::run(
            JobRun {
                payload: job.payload.clone(),
                directory: job.dir.path().to_owned(),
                connection,
                settings: setup.job_settings(machine),
                trace: trace.clone(),
                remote: wanted,
                abandon,
                resume,
            },
            move || started.now(),
        );
        let outcome = tokio::select! {
            outcome = running => outcome,
            never = passing => match never {},
        };
        // The job is another run's by now, or has its end.
        if let_go.is_cancelled() {
            return RunEnd::MachineLost;
        }
        match outcome {
            RunOutcome::Ended { mut end, broken } => {
                let canceled = end.failure_reason == Some(FailureReason::JobCanceled);
                if self.shared.interrupt.is_cancelled() && canceled {
                    trace.say(
                        "ERROR: Job failed (system failure): the runner's manager was stopped",
                    );
                    end.failure_reason = Some(FailureReason::RunnerInterrupted);
                }
                if let Err(error) = job.dir.put(OUTCOME, &end) {
                    tracing::error!(job = id.0, %error, "a job's end can't be written down");
                }
                RunEnd::Ran { broken }
            }
            RunOutcome::NeverStarted { why } => {
                tracing::warn!(
                    job = id.0,
                    machine = machine.name,
                    why,
                    "a job never started"
                );
                trace.say(&format!(
                    "WARNING: the machine failed before the job began: {why}"
                ));
                RunEnd::NeverStarted
            }
            RunOutcome::MachineLost { why } => {
                tracing::warn!(
                    job = id.0,
                    machine = machine.name,
                    why,
                    "a job's machine is lost"
                );
                trace.say(&format!("ERROR: the machine was lost: {why}"));
                RunEnd::MachineLost
            }
        }
    }

    async fn finish(&self, id: JobId, ending: Ending) {
        let gone = {
            let mut active = self.active();
            let at = active.entry(id).or_default();
            if let Some(stop) = at.keeping.take() {
                stop.cancel();
            }
            at.gone
        };
        if !gone {
            self.tell_end(id, ending).await;
        }
        let dir = self.dirs.dir(id);
        let removed = tokio::task::spawn_blocking(move || dir.remove()).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::error!(
                job = id.0,
                "the directory of a job that is over can't be removed"
            );
        }
        self.active().remove(&id);
    }

    async fn tell_end(&self, id: JobId, ending: Ending) {
        let job = loop {
            match self.read(id).await {
                Ok(job) => break job,
                Err(NoJob::Lost(why)) => {
                    tracing::error!(job = id.0, why, "GitLab can't be told how a job ended");
                    return;
                }
                Err(NoJob::Unread(why)) => {
                    tracing::warn!(
                        job = id.0,
                        why,
                        "a job's end is told as soon as it can be read"
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let end = match ending {
            Ending::Ran => match job.dir.get::<Final>(OUTCOME) {
                Ok(Some(end)) => end,
                Ok(None) | Err(_) => system_failure(),
            },
            Ending::Canceled => Final {
                failure_reason: Some(FailureReason::JobCanceled),
                ..system_failure()
            },
            Ending::SystemFailure => system_failure(),
        };
        // A job that is only offered is GitLab's until it is accepted.
        if !self.accept(id, &job).await {
            return;
        }
        match self.trace(id, &job).await {
            Ok(trace) => {
                if ending == Ending::SystemFailure {
                    trace.say("ERROR: Job failed (system failure): no machine could run the job to its end");
                }
                self.send(id, &job, &trace);
            }
            Err(why) => {
                tracing::error!(job = id.0, why, "a job ends without its trace");
                self.send_without(id, &job, &why);
            }
        }
        let sender = self.active().get_mut(&id).and_then(|at| at.sender.take());
        let Some(sender) = sender else { return };
        let delivered = sender.finish(end).await;
        match &delivered {
            Delivered::Accepted => tracing::info!(job = id.0, state = ?end.state, "a job is final"),
            Delivered::Over { status } => {
                tracing::info!(job = id.0, status, "a job was over at GitLab already");
            }
            Delivered::Refused(error) => {
                tracing::error!(job = id.0, %error, "GitLab refuses to hear how a job ended");
            }
        }
        let seconds = job
            .dir
            .origin()
            .map_or(0, |origin| now().0.saturating_sub(origin.taken) / 1000);
        let reason = end
            .failure_reason
            .filter(|_| end.state == FinalState::Failed)
            .map(FailureReason::as_str);
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of a job are far below 2^52"
        )]
        self.shared
            .metrics
            .job_final(&self.shared.labels, seconds as f64, reason);
    }
}

#[async_trait]
impl Jobs for PoolJobs {
    async fn request(&self, cancel: CancellationToken) -> RequestEnd {
        let Some(slot) = self.0.shared.slots.take() else {
            self.0
                .wait_until(Time(now().0.saturating_add(millis(NO_SLOT))));
            return RequestEnd::NoJob;
        };
        // A request that is dropped on the way may lose the job it was about to bring, so it goes on
        // by itself, and the job is told as found.
        let inner = Arc::clone(&self.0);
        let mut asking = tokio::spawn(async move { inner.ask(slot).await });
        tokio::select! {
            end = &mut asking => end.unwrap_or(RequestEnd::Failed),
            () = cancel.cancelled() => {
                let tell = self.0.tell.get().cloned();
                let over = self.0.over.clone();
                tokio::spawn(async move {
                    let end = tokio::select! {
                        end = &mut asking => end,
                        () = over.cancelled() => {
                            asking.abort();
                            return;
                        }
                    };
                    if let (Ok(RequestEnd::Job(job)), Some(tell)) = (end, tell) {
                        // A loop that is over left it on disk, for the next start to find.
                        tell.send(Happening::Found(job)).ok();
                    }
                });
                RequestEnd::Failed
            }
        }
    }

    fn not_before(&self) -> Time {
        Time(self.0.not_before.load(Ordering::SeqCst))
    }

    fn hold(&self, job: JobId, canceled: Canceled) {
        let stop = CancellationToken::new();
        {
            let mut active = self.0.active();
            let at = active.entry(job).or_default();
            if at
                .keeping
                .as_ref()
                .is_some_and(|keeping| !keeping.is_cancelled())
            {
                return;
            }
            at.keeping = Some(stop.clone());
        }
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.keep(job, stop, canceled).await });
    }

    async fn run(
        &self,
        job: JobRecord,
        machine: &MachineRecord,
        resume: bool,
        started: Started,
        abandon: CancellationToken,
    ) -> RunEnd {
        self.0.run(job, machine, resume, started, abandon).await
    }

    async fn finish(&self, job: JobId, ending: Ending) {
        self.0.finish(job, ending).await;
    }
}

/// A trace that is whole from the start.
struct Fixed {
    text: bytes::Bytes,
    length: watch::Sender<u64>,
}

impl Fixed {
    fn new(text: String) -> Fixed {
        let length = watch::Sender::new(text.len() as u64);
        Fixed {
            text: text.into(),
            length,
        }
    }
}

impl TraceSource for Fixed {
    fn len(&self) -> u64 {
        self.text.len() as u64
    }

    fn read(&self, from: u64, max: usize) -> std::io::Result<bytes::Bytes> {
        let from = usize::try_from(from).map_or(self.text.len(), |at| at.min(self.text.len()));
        let to = from.saturating_add(max).min(self.text.len());
        Ok(self.text.slice(from..to))
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.text)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }
}

fn system_failure() -> Final {
    Final {
        state: FinalState::Failed,
        exit_code: None,
        failure_reason: Some(FailureReason::RunnerSystemFailure),
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
