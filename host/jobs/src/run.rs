//! One job on one machine, from its first stage to its last.

mod attend;
mod containers;
mod stages;
mod transfers;

use crate::JobTrace;
use crate::docker::{Fault, Pod};
use crate::follow::persist;
use crate::plan::Plan;
use crate::progress::{Cause, Failure, Progress, Stage, Stop, final_of};
use crate::settings::JobSettings;
use crate::terminal::Door;
use crate::words;
use attend::{Attended, Ended, Limits};
use springtide_gitlab::{Final, Payload, Remote};
use springtide_machines::{Connection, HelperClient, HelperError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a machine that is to be left tidy may take about it.
const TIDY: Duration = Duration::from_secs(60);

/// How long its containers may take to go.
const TIDY_CONTAINERS: Duration = Duration::from_secs(300);

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
    /// Where a person may come in while it runs, in containers.
    pub door: Option<Door>,
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
    let first = match run.settings.docker {
        Some(_) => Stage::Executor,
        None => Stage::Prepare,
    };
    let progress = saved.unwrap_or_else(|| Progress::new(now(), run.trace.mark(), first));
    // What is done anew says what it finds now, which may be other than what was found before.
    let is_work = !matches!(progress.stage, Stage::Executor | Stage::Build);
    if taken_up && is_work {
        run.trace.rewind(progress.mark);
    }
    let planned = plan(&run);
    let (plan, pod) = match planned {
        Ok((plan, pod)) => (Ok(plan), pod),
        Err(failure) => (Err(failure), None),
    };
    let mut runner = Runner {
        client: HelperClient::new(Arc::clone(&run.connection)),
        pod,
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
        Err(failure) => Err(runner.refuse(failure)),
    };
    match outcome {
        Ok(()) => runner.conclude(),
        Err(outcome) => outcome,
    }
}

/// What a job comes to on its machine, and its containers if it runs in some.
fn plan(run: &JobRun) -> Result<(Plan, Option<Pod>), Failure> {
    let home = match run.settings.docker {
        Some(_) => "",
        None => run.connection.home(),
    };
    let plan = Plan::new(&run.payload, &run.settings, home)
        .map_err(|bad| Failure::new(bad.cause, bad.said))?;
    let Some(runner) = &run.settings.docker else {
        return Ok((plan, None));
    };
    let machine = Arc::clone(&run.connection);
    match Pod::new(&run.payload, &run.settings, runner, &plan, machine) {
        Ok(pod) => Ok((plan, Some(pod))),
        Err(Fault::Job(failure)) => Err(failure),
        Err(Fault::Engine(error)) => Err(Failure::new(Cause::System, error.to_string())),
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
    /// The helper on the machine itself.
    client: HelperClient,
    /// The job's containers, where it runs in some.
    pod: Option<Pod>,
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
                Stage::Executor => self.executor().await?,
                Stage::Build => self.build(plan).await?,
                Stage::Prepare => self.prepare(plan).await?,
                Stage::Sources { attempt } => self.sources(plan, attempt).await?,
                Stage::Restore { index } => self.restore(plan, index).await?,
                Stage::Download { attempt } => self.download(plan, attempt).await?,
                Stage::Step { index } => self.step(plan, index).await?,
                Stage::After => self.after(plan).await?,
                Stage::Keep { index } => self.keep(plan, index).await?,
                Stage::Upload { index } => self.upload(plan, index).await?,
                Stage::Cleanup => {
                    self.see_off().await;
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
    fn refuse(&mut self, failure: Failure) -> RunOutcome {
        self.introduce();
        self.fail(failure);
        self.conclude()
    }

    /// The helper where the current stage's work is.
    fn client(&self) -> HelperClient {
        match (&self.pod, self.progress.stage) {
            (None, _) => self.client.clone(),
            (Some(pod), Stage::Build | Stage::Step { .. } | Stage::After) => pod.build_client(),
            (Some(pod), _) => pod.predefined_client(),
        }
    }

    /// The program that runs the current stage's script.
    fn program(&self) -> Vec<String> {
        let shell = self.run.settings.shell;
        match self.pod {
            None => shell.program(),
            Some(_) => shell.program_in_container(),
        }
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
