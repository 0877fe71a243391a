//! One job on one machine, from its first stage to its last.

mod attend;
mod stages;
mod transfers;

use crate::JobTrace;
use crate::follow::persist;
use crate::plan::{BadJob, Plan};
use crate::progress::{Cause, Failure, Progress, Stage, Stop, final_of};
use crate::settings::JobSettings;
use crate::words;
use attend::{Attended, Ended, Limits};
use springtide_gitlab::{FailureReason, Final, Payload, Remote};
use springtide_machines::{Connection, HelperClient, HelperError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a machine that is to be left tidy may take about it.
const TIDY: Duration = Duration::from_secs(60);

/// A job, and all that is needed to run it.
#[derive(Debug)]
pub struct JobRun {
    /// The job.
    pub payload: Payload,
    /// The job's own directory on this host, mode 0700: its progress is kept there.
    pub directory: PathBuf,
    /// The way to its machine.
    pub connection: Arc<dyn Connection>,
    /// What it needs to know of its runner.
    pub settings: JobSettings,
    /// Its trace.
    pub trace: Arc<JobTrace>,
    /// What GitLab wants of it.
    pub remote: watch::Receiver<Remote>,
    /// Lets go of the job: what runs is killed.
    pub abandon: CancellationToken,
    /// Whether it may run on this machine already; if so it is followed from where it was.
    pub resume: bool,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// The job is over.
    Ended {
        /// What GitLab is to be told.
        end: Final,
        /// Whether the machine should meet no other job: something of this one may be left on it.
        broken: bool,
    },
    /// The machine failed before the job's script began; another may take it.
    NeverStarted {
        /// Why.
        why: String,
    },
    /// The machine was lost when the script may have begun.
    MachineLost {
        /// Why.
        why: String,
    },
}

/// Runs a job, or follows it where it runs already. `started` is called once, when the job's
/// script begins or is found to have begun. Dropped, it leaves the job as it is on its machine.
pub async fn run(run: JobRun, started: impl FnOnce() + Send) -> RunOutcome {
    let saved = match run.resume {
        true => Progress::load(&run.directory).await,
        false => Ok(None),
    };
    let saved = match saved {
        Ok(saved) => saved,
        Err(error) => {
            let why = format!(
                "reading the job's progress in {}: {error}",
                run.directory.display()
            );
            return RunOutcome::MachineLost { why };
        }
    };
    let taken_up = saved.is_some();
    let progress = saved.unwrap_or_else(|| Progress::new(now(), run.trace.mark()));
    if taken_up {
        run.trace.rewind(progress.mark);
    }
    let plan = Plan::new(&run.payload, &run.settings, run.connection.home());
    let mut runner = Runner {
        client: HelperClient::new(Arc::clone(&run.connection)),
        id: run.payload.id,
        progress,
        run,
        started: Some(started),
    };
    if !taken_up {
        runner.save().await;
    }
    if runner.progress.ran {
        runner.tell_started();
    }
    let outcome = match plan {
        Ok(plan) => runner.stages(&plan).await,
        Err(bad) => Err(runner.refuse(&bad)),
    };
    match outcome {
        Ok(()) => runner.conclude(),
        Err(outcome) => outcome,
    }
}

/// Milliseconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Runner<F> {
    run: JobRun,
    client: HelperClient,
    id: u64,
    progress: Progress,
    started: Option<F>,
}

impl<F: FnOnce() + Send> Runner<F> {
    async fn save(&self) {
        if let Err(error) = self.progress.save(&self.run.directory).await {
            // An older progress is as good: its stages find their works as they were.
            tracing::error!(job = self.id, %error, "a job's progress can't be saved");
        }
    }

    fn tell_started(&mut self) {
        if let Some(started) = self.started.take() {
            started();
        }
    }

    /// Goes through the stages that are left.
    async fn stages(&mut self, plan: &Plan) -> Result<(), RunOutcome> {
        self.run.trace.hide(plan.variables.masked());
        loop {
            let next = match self.progress.stage {
                Stage::Prepare => self.prepare(plan).await?,
                Stage::Sources { attempt } => self.sources(plan, attempt).await?,
                Stage::Restore { index } => self.restore(plan, index).await?,
                Stage::Download { attempt } => self.download(plan, attempt).await?,
                Stage::Step { index } => self.step(plan, index).await?,
                Stage::After => self.after(plan).await?,
                Stage::Keep { index } => self.keep(plan, index).await?,
                Stage::Upload { index } => self.upload(plan, index).await?,
                Stage::Cleanup => {
                    self.cleanup(plan).await;
                    return Ok(());
                }
            };
            self.progress.stage = next;
            self.progress.stage_began = now();
            self.progress.mark = self.run.trace.mark();
            self.progress.launched = false;
            self.progress.stop = None;
            self.save().await;
        }
    }

    /// A job that can't be run on any machine.
    fn refuse(&mut self, bad: &BadJob) -> RunOutcome {
        self.introduce();
        let cause = match bad.reason {
            FailureReason::RunnerConfigurationError => Cause::Configuration,
            _ => Cause::System,
        };
        self.fail(Failure::new(cause, &bad.said));
        self.conclude()
    }

    /// The last words, and what GitLab is to be told.
    fn conclude(&self) -> RunOutcome {
        let line = match &self.progress.failure {
            None => words::good("Job succeeded"),
            Some(failure) => {
                let system = match failure.cause {
                    Cause::System | Cause::Interrupted => " (system failure)",
                    _ => "",
                };
                words::error(&format!("Job failed{system}: {}", failure.said))
            }
        };
        self.run.trace.write(&line);
        RunOutcome::Ended {
            end: final_of(self.progress.failure.as_ref()),
            broken: self.progress.broken,
        }
    }

    /// The first failure is the one that counts.
    fn fail(&mut self, failure: Failure) {
        self.progress.failure.get_or_insert(failure);
    }

    /// The machine can't be reached any more, or not used.
    fn lost(&self, why: impl Into<String>) -> RunOutcome {
        let why = why.into();
        if self.progress.ran {
            let line = format!("Job failed (system failure): the machine was lost: {why}");
            self.run.trace.write(&words::error(&line));
            return RunOutcome::MachineLost { why };
        }
        let line = words::warning(&format!("the machine could not be used: {why}"));
        self.run.trace.write(&line);
        RunOutcome::NeverStarted { why }
    }

    /// What is left of the job's whole time.
    fn time_left(&self) -> Duration {
        let whole = Duration::from_secs(self.run.payload.runner_info.timeout_seconds());
        let used = now().saturating_sub(self.progress.began);
        whole.saturating_sub(Duration::from_millis(used))
    }

    /// Calls the helper until it answers, or has not for too long, or nobody wants to know.
    async fn ask<T, C>(&self, call: impl FnMut() -> C) -> Option<Result<T, HelperError>>
    where
        C: Future<Output = Result<T, HelperError>>,
    {
        let mut remote = self.run.remote.clone();
        tokio::select! {
            answer = persist(self.run.settings.lost_after, call) => Some(answer),
            () = self.run.abandon.cancelled() => None,
            // A sender that is gone says nothing any more.
            Ok(_) = remote.wait_for(|remote| *remote == Remote::Aborted) => None,
        }
    }

    /// What ended the job from outside while the machine was being asked.
    fn interruption(&self) -> Failure {
        if self.run.abandon.is_cancelled() {
            stages::failure_of(Stop::Abandoned, Duration::ZERO)
        } else {
            stages::failure_of(Stop::Aborted, Duration::ZERO)
        }
    }
}
