//! The stages of a job, one function each. Each ends in the next, or in an outcome.

use super::attend::Task;
use super::{Attended, Ended, Limits, RunOutcome, Runner, TIDY, TIDY_CONTAINERS, now};
use crate::plan::{Plan, PlannedStep, is_due};
use crate::progress::{Cause, Failure, Stage, Stop};
use crate::words;
use springtide_gitlab::Remote;
use springtide_machines::{HelperError, WorkEnd, WorkFile};
use std::time::Duration;

/// The first wait before sources, or artifacts, are tried for again.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// How a stage's work ended, in words; nothing for a success.
pub(super) fn said(end: WorkEnd) -> Option<(i32, String)> {
    match end {
        WorkEnd::Exited { code: 0 } => None,
        WorkEnd::Exited { code } => Some((code, format!("exit code {code}"))),
        WorkEnd::Signaled { signal } => Some((128 + signal, format!("killed by signal {signal}"))),
        WorkEnd::Lost => Some((1, "the machine restarted, or lost track of it".into())),
    }
}

/// What a job fails with whose work was ended for a reason.
pub(super) fn failure_of(stop: Stop, limit: Duration) -> Failure {
    let limit = words::go_duration(limit);
    match stop {
        Stop::JobTimeout | Stop::StageTimeout => Failure::new(
            Cause::Timeout,
            format!("execution took longer than {limit} seconds"),
        ),
        Stop::Canceled | Stop::Aborted => Failure::new(Cause::Canceled, "canceled"),
        Stop::Abandoned => Failure::new(Cause::Interrupted, "the runner was told to stop"),
    }
}

impl<F: FnOnce() + Send> Runner<F> {
    fn script(&self, script: Vec<u8>) -> Task {
        Task::script(self.program(), script)
    }

    fn seconds(&self) -> u64 {
        self.progress.stage_began / 1000
    }

    pub(super) fn open(&self, section: &str, title: &str) {
        if self.run.payload.features.trace_sections {
            self.run
                .trace
                .write(&words::section_start(self.seconds(), section));
        }
        self.run.trace.write(&words::title(title));
    }

    pub(super) fn close(&self, section: &str) {
        if self.run.payload.features.trace_sections {
            self.run
                .trace
                .write(&words::section_end(now() / 1000, section));
        }
    }

    /// Who runs the job.
    pub(super) fn introduce(&self) {
        let settings = &self.run.settings;
        let trace = &self.run.trace;
        trace.write(&words::plain(&format!(
            "Running with springtide {}",
            settings.version
        )));
        let system = match settings.system_id.as_str() {
            "" => String::new(),
            id => format!(", system ID: {id}"),
        };
        trace.write(&words::plain(&format!(
            "  on {} {}{system}",
            settings.runner_name, settings.runner_short_token
        )));
    }

    /// Waits after an attempt that failed, counted from 0; not beyond the job's time.
    pub(super) async fn pause(&self, attempt: u32) {
        let wait = RETRY_WAIT.saturating_mul(1 << attempt.min(6));
        tokio::select! {
            () = tokio::time::sleep(wait.min(self.time_left())) => {}
            () = self.run.abandon.cancelled() => {}
        }
    }

    /// The limit a stop was about.
    pub(super) fn limit_of(&self, stop: Stop, limits: Limits) -> Duration {
        let whole = Duration::from_secs(self.run.payload.runner_info.timeout_seconds());
        match stop {
            Stop::StageTimeout => limits.stage.unwrap_or(whole),
            _ => whole,
        }
    }

    pub(super) async fn prepare(&mut self, plan: &Plan) -> Result<Stage, RunOutcome> {
        if self.pod.is_none() {
            self.introduce();
            self.open(
                "prepare_executor",
                "Preparing the \"shell+machine\" executor",
            );
            self.run
                .trace
                .write(&words::plain("Using Shell executor..."));
            self.close("prepare_executor");
        }
        self.open("prepare_script", "Preparing environment");
        if !plan.passed_over.is_empty() {
            self.run.trace.write(&words::warning(&format!(
                "this version of springtide does not move or start: {}. The job runs without.",
                plan.passed_over.join(", ")
            )));
        }
        if !self.progress.launched && self.pod.is_none() {
            match self.ask(|| self.sweep()).await {
                None => {
                    self.fail(self.interruption());
                    return Ok(Stage::Cleanup);
                }
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(self.lost(error.to_string())),
            }
        }
        let files = plan
            .variables
            .files()
            .into_iter()
            .map(|(key, value)| WorkFile {
                path: format!("{}/{key}", plan.files),
                mode: plan.file_mode(),
                bytes: value.as_bytes().to_vec(),
            })
            .collect();
        let limits = Limits::of_job(None);
        let task = Task {
            files,
            ..self.script(plan.prepare())
        };
        let attended = self.attend(&plan.builds, task, limits, |_| {}).await;
        let Ended { end, stop } = match self.ended(attended)? {
            Some(ended) => ended,
            None => return Ok(Stage::Cleanup),
        };
        self.close("prepare_script");
        if let Some(stop) = stop {
            self.fail(failure_of(stop, self.limit_of(stop, limits)));
            return Ok(Stage::Cleanup);
        }
        match said(end) {
            None => Ok(Stage::Sources { attempt: 0 }),
            Some((_, said)) => Err(self.lost(format!("preparing it ended with {said}"))),
        }
    }

    /// Removes works that earlier jobs left on the machine.
    async fn sweep(&self) -> Result<(), HelperError> {
        for id in self.client.list().await? {
            if id.starts_with("job-") {
                self.client.remove(&id).await?;
            }
        }
        Ok(())
    }

    /// What ended; nothing where the job was ended from outside and only tidying is left.
    pub(super) fn ended(&mut self, attended: Attended) -> Result<Option<Ended>, RunOutcome> {
        match attended {
            Attended::Ended(Ended {
                end: WorkEnd::Lost,
                stop: None,
            }) => Err(self.lost("the machine restarted, or lost track of the job")),
            Attended::Ended(ended) => Ok(Some(ended)),
            Attended::Lost(error) | Attended::Refused(error) => Err(self.lost(error.to_string())),
            Attended::Interrupted => {
                self.fail(self.interruption());
                Ok(None)
            }
        }
    }

    pub(super) async fn sources(&mut self, plan: &Plan, attempt: u32) -> Result<Stage, RunOutcome> {
        self.open("get_sources", "Getting source from Git repository");
        let limits = Limits::of_job(self.run.settings.get_sources_timeout);
        let task = self.script(plan.sources(attempt > 0));
        let attended = self.attend(&plan.builds, task, limits, |_| {}).await;
        let Some(Ended { end, stop }) = self.ended(attended)? else {
            return Ok(Stage::Cleanup);
        };
        self.close("get_sources");
        if let Some(stop) = stop {
            self.fail(failure_of(stop, self.limit_of(stop, limits)));
            return Ok(Stage::Cleanup);
        }
        let Some((_, said)) = said(end) else {
            return Ok(Stage::Restore { index: 0 });
        };
        let tried = attempt + 1;
        if tried < plan.sources_attempts() {
            self.run.trace.write(&words::warning(&format!(
                "getting the sources failed ({said}); they are tried for again, into an empty directory"
            )));
            self.pause(attempt).await;
            return Ok(Stage::Sources { attempt: tried });
        }
        let said = format!("getting the sources failed: {said}");
        self.fail(Failure::new(Cause::System, said));
        Ok(Stage::Cleanup)
    }

    pub(super) async fn step(&mut self, plan: &Plan, index: usize) -> Result<Stage, RunOutcome> {
        let Some(step) = plan.steps.get(index) else {
            return Ok(Stage::After);
        };
        let section = format!("step_{}", step.name);
        let title = format!("Executing \"{section}\" stage of the job script");
        self.open(&section, &title);
        if !self.progress.ran {
            // From here on the script may run; a machine that is lost now can't be replaced.
            self.progress.ran = true;
            self.save().await;
        }
        self.open_door(plan);
        let first = self.started.is_some();
        let limits = Limits::of_job(plan.script_timeout());
        let task = self.script(plan.step(step));
        let begun = |runner: &mut Self| runner.tell_started();
        let attended = self.attend(&plan.builds, task, limits, begun).await;
        if let Attended::Refused(_) = &attended
            && first
        {
            // The helper said that nothing was started.
            self.progress.ran = false;
        }
        let attended = match self.vanished(attended).await? {
            Some(attended) => attended,
            None => return Ok(Stage::Cleanup),
        };
        let Some(Ended { end, stop }) = self.ended(attended)? else {
            return Ok(Stage::Cleanup);
        };
        self.tell_memory(end).await;
        self.close(&section);
        if let Some(stop) = stop {
            self.fail(failure_of(stop, self.limit_of(stop, limits)));
            return Ok(match stop {
                Stop::Canceled | Stop::StageTimeout => Stage::After,
                Stop::JobTimeout | Stop::Aborted | Stop::Abandoned => Stage::Cleanup,
            });
        }
        self.judge(step, end);
        Ok(next_step(plan, index + 1, self.progress.failure.is_some()))
    }

    fn judge(&mut self, step: &PlannedStep, end: WorkEnd) {
        let Some((code, said)) = said(end) else {
            return;
        };
        if step.allow_failure {
            self.run.trace.write(&words::warning(&format!(
                "step {} failed ({said}), which it may",
                step.name
            )));
            return;
        }
        self.fail(Failure {
            cause: Cause::Script,
            exit_code: Some(code),
            said,
        });
    }

    pub(super) async fn after(&mut self, plan: &Plan) -> Result<Stage, RunOutcome> {
        let status = match &self.progress.failure {
            None => "success",
            Some(failure) if failure.cause == Cause::Canceled => "canceled",
            Some(_) => "failed",
        };
        let Some(script) = plan.after(status) else {
            return Ok(self.leave());
        };
        self.open("after_script", "Running after_script");
        let limits = Limits {
            stage: Some(plan.after_timeout()),
            by_job: false,
            by_cancel: false,
        };
        let task = self.script(script);
        let attended = self.attend(&plan.builds, task, limits, |_| {}).await;
        let problem = match attended {
            Attended::Ended(Ended {
                stop: Some(stop), ..
            }) => match stop {
                Stop::Aborted | Stop::Abandoned => {
                    self.fail(failure_of(stop, Duration::ZERO));
                    None
                }
                _ => {
                    let limit = words::go_duration(plan.after_timeout());
                    Some((1, format!("it took longer than {limit}")))
                }
            },
            Attended::Ended(Ended { end, .. }) => {
                self.progress.broken |= end == WorkEnd::Lost && self.pod.is_none();
                said(end)
            }
            // The script is over and how is known: that a machine is lost now changes nothing.
            Attended::Lost(error) | Attended::Refused(error) => {
                // A container goes with the job, whatever is the matter with it.
                self.progress.broken |= self.pod.is_none();
                Some((1, error.to_string()))
            }
            Attended::Interrupted => {
                self.fail(self.interruption());
                None
            }
        };
        if let Some((code, said)) = problem {
            self.after_failed(plan, code, said);
        }
        self.close("after_script");
        Ok(self.leave())
    }

    /// What comes when the scripts are over: what the job leaves is kept, unless it was the machine, or
    /// somebody, that ended it.
    fn leave(&self) -> Stage {
        let cause = self.progress.failure.as_ref().map(|failure| failure.cause);
        match cause {
            None | Some(Cause::Script | Cause::Timeout) => Stage::Keep { index: 0 },
            // A job that GitLab still listens to.
            Some(Cause::Canceled) if *self.run.remote.borrow() != Remote::Aborted => {
                Stage::Keep { index: 0 }
            }
            Some(
                Cause::Canceled
                | Cause::System
                | Cause::Interrupted
                | Cause::Configuration
                | Cause::Image,
            ) => Stage::Cleanup,
        }
    }

    fn after_failed(&mut self, plan: &Plan, code: i32, said: String) {
        if plan.after_failure_ignored() {
            self.run.trace.write(&words::warning(&format!(
                "after_script failed, but job will continue unaffected: {said}"
            )));
            return;
        }
        self.fail(Failure {
            cause: Cause::Script,
            exit_code: Some(code),
            said: format!("after_script: {said}"),
        });
    }

    /// Removes what must not stay on the machine. What can't be removed makes the machine unfit for
    /// another job, and leaves this one as it is.
    pub(super) async fn cleanup(&mut self, plan: &Plan) {
        let section = "cleanup_file_variables";
        self.open(
            section,
            "Cleaning up project directory and file based variables",
        );
        let limit = match self.pod {
            Some(_) => TIDY_CONTAINERS,
            None => TIDY,
        };
        let tidied = tokio::time::timeout(limit, async {
            match self.pod {
                Some(_) => self.tidy_containers(plan).await,
                None => self.tidy(plan).await,
            }
        });
        let problem = match tidied.await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("it took longer than {} s", limit.as_secs())),
        };
        if let Some(why) = problem {
            tracing::warn!(
                job = self.id,
                why,
                "a machine could not be tidied after a job"
            );
            self.progress.broken = true;
            self.run.trace.write(&words::warning(&format!(
                "cleaning up the machine failed: {why}"
            )));
        }
        self.close(section);
    }

    async fn tidy(&mut self, plan: &Plan) -> Result<(), String> {
        let lost_after = self.run.settings.lost_after.min(TIDY / 2);
        let id = self.progress.stage.work(self.id);
        // What the job left running could still write into what is removed.
        self.remove_works(Some(&id)).await?;
        let end = self.clean(&id, plan, lost_after).await?;
        self.remove_works(None).await?;
        match said(end) {
            None => Ok(()),
            Some((_, said)) => Err(format!("it ended with {said}")),
        }
    }

    pub(super) async fn clean(
        &mut self,
        id: &str,
        plan: &Plan,
        lost_after: Duration,
    ) -> Result<WorkEnd, String> {
        let work = springtide_machines::Work {
            id: id.to_owned(),
            program: self.program(),
            directory: "/".into(),
            environment: std::collections::BTreeMap::new(),
            stdin: plan.cleanup(),
            files: Vec::new(),
            spool_limit: 64 * 1024,
        };
        let client = self.client();
        crate::follow::persist(lost_after, || client.start(&work))
            .await
            .map_err(|error| error.to_string())?;
        let mut tasks = tokio::task::JoinSet::new();
        let mut heard = crate::follow::follow(client, id.to_owned(), lost_after, &mut tasks);
        use crate::follow::Heard;
        loop {
            match heard.recv().await {
                Some(Heard::Bytes(bytes)) => self.run.trace.output(&bytes),
                Some(Heard::Ended(end, _)) => {
                    self.run.trace.settle();
                    return Ok(end);
                }
                Some(Heard::Lost(error)) => return Err(error.to_string()),
                None => return Err("the task that followed it died".into()),
            }
        }
    }

    /// Removes the job's works, and with them what they left running.
    async fn remove_works(&self, but: Option<&str>) -> Result<(), String> {
        let mine = format!("job-{}-", self.id);
        let listed = self
            .client
            .list()
            .await
            .map_err(|error| error.to_string())?;
        let removals = listed
            .iter()
            .filter(|id| id.starts_with(&mine) && Some(id.as_str()) != but)
            .map(|id| self.client.remove(id));
        let answers = futures_util::future::join_all(removals).await;
        answers
            .into_iter()
            .collect::<Result<(), HelperError>>()
            .map_err(|error| error.to_string())
    }
}

/// The next script that runs after those before, well or badly; after the last, `after_script`.
pub(super) fn next_step(plan: &Plan, from: usize, failed: bool) -> Stage {
    (from..plan.steps.len())
        .find(|index| is_due(plan.steps[*index].when, failed))
        .map_or(Stage::After, |index| Stage::Step { index })
}
