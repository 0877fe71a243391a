//! The jobs of one pool: asked for at GitLab, on disk before anything is done with them, kept alive
//! while they wait, run, and told their end until GitLab has it.

mod ask;
mod end;
mod fixed;
mod keep;
mod run;

use super::job_dir::{JobDir, JobDirs};
use super::reach::Ways;
use super::sessions::{Session, Sessions};
use super::setup::Setup;
use super::slots::{Slot, Slots, Turns};
use super::troubles::Troubles;
use crate::metrics::{Metrics, RunnerLabels};
use crate::pool_loop::{Canceled, Jobs, Started, now};
use async_trait::async_trait;
use springtide_control::{Ending, Happening, JobRecord, MachineRecord, RequestEnd, RunEnd};
use springtide_gitlab::queue::TakenJob;
use springtide_gitlab::{
    FailureReason, Final, FinalState, Health, JobLine, Payload, Remote, SenderOptions, TraceSender,
    TraceSource,
};
use springtide_jobs::{JobTrace, TraceOptions, is_debug_traced};
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
    /// Where terminals of jobs are served, if they are.
    pub sessions: Option<Sessions>,
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
    /// Where GitLab comes for its terminal; none of a job that an earlier daemon took.
    session: Option<Session>,
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
            let elsewhere = setup.client.elsewhere(origin.url);
            elsewhere.map_err(|error| lost(&error))?
        };
        let line = JobLine::new(client, payload.key(), setup.identity.info.clone());
        Ok(Job { dir, payload, line })
    }

    /// The trace of a job, opened once.
    async fn trace(&self, id: JobId, job: &Job) -> Result<Arc<JobTrace>, String> {
        if let Some(trace) = self.active().get(&id).and_then(|at| at.trace.clone()) {
            return Ok(trace);
        }
        let setup = self.shared.setup();
        let limit = u64::from(setup.runner.output_limit) * 1024;
        let options = TraceOptions::of(&job.payload, &setup.environment(), limit);
        let (path, payload) = (job.dir.path().to_owned(), job.payload.clone());
        let opened =
            tokio::task::spawn_blocking(move || JobTrace::open(&path, &payload, options)).await;
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
            let setup = self.shared.setup();
            let forbidden = setup.runner.debug_trace_disabled;
            TraceSender::start(SenderOptions {
                line: job.line.clone(),
                failure_reasons: job.payload.features.failure_reasons.clone(),
                source,
                // After a restart GitLab says itself where the trace goes on.
                acknowledged: 0,
                debug_trace: is_debug_traced(&job.payload, &setup.environment(), forbidden),
            })
        });
        sender.remote()
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
