//! What only a job in containers goes through: they are made, they may vanish, they are removed.

use super::stages::{failure_of, next_step, said};
use super::{Attended, Ended, Limits, RunOutcome, Runner};
use crate::docker::{BuildState, Fault, is_gone};
use crate::follow::persist;
use crate::plan::Plan;
use crate::progress::{Cause, Failure, Stage, Stop};
use crate::words;
use springtide_machines::WorkEnd;
use std::time::Duration;

/// How often containers are tried for, and how long it is between: GitLab Runner's
/// `PreparationRetries` and `PreparationRetryInterval`.
const PREPARATIONS: u32 = 3;
const PREPARE_AGAIN: Duration = Duration::from_secs(3);

/// What a script is ended with that the kernel killed.
const KILLED: i32 = 137;

impl<F: FnOnce() + Send> Runner<F> {
    /// Makes what the job's containers need, and the one that gets its sources.
    pub(super) async fn executor(&mut self) -> Result<Stage, RunOutcome> {
        self.introduce();
        self.open(
            "prepare_executor",
            "Preparing the \"docker+machine\" executor",
        );
        let trace = &self.run.trace;
        let made = match &self.pod {
            Some(pod) => {
                let make = async {
                    let mut left = PREPARATIONS;
                    loop {
                        left -= 1;
                        persist(self.run.settings.lost_after, || pod.reach()).await?;
                        match pod.set_up(trace).await {
                            Err(fault) if left > 0 && fault.may_pass() => {
                                trace.write(&words::error(&format!("Preparation failed: {fault}")));
                                let wait = words::go_duration(PREPARE_AGAIN);
                                trace
                                    .write(&words::good(&format!("Will be retried in {wait} ...")));
                                tokio::time::sleep(PREPARE_AGAIN).await;
                            }
                            made => return made,
                        }
                    }
                };
                self.unless_stopped(make).await
            }
            None => Ok(Ok(())),
        };
        self.judge_containers(made, Stage::Prepare, "prepare_executor")
    }

    /// Makes the container of the job's scripts. Its entry point runs when the sources are there.
    pub(super) async fn build(&mut self, plan: &Plan) -> Result<Stage, RunOutcome> {
        let trace = &self.run.trace;
        let made = match &self.pod {
            Some(pod) => {
                let make = async {
                    persist(self.run.settings.lost_after, || pod.reach()).await?;
                    pod.start_build(trace).await
                };
                self.unless_stopped(make).await
            }
            None => Ok(Ok(())),
        };
        self.judge_containers(made, next_step(plan, 0, false), "")
    }

    async fn unless_stopped<T>(&self, doing: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            done = doing => Ok(done),
            stop = self.stopped(Limits::of_job(None)) => Err(stop),
        }
    }

    fn judge_containers(
        &mut self,
        made: Result<Result<(), Fault>, Stop>,
        next: Stage,
        section: &str,
    ) -> Result<Stage, RunOutcome> {
        if !section.is_empty() && !matches!(made, Ok(Err(Fault::Engine(_)))) {
            self.close(section);
        }
        match made {
            Ok(Ok(())) => Ok(next),
            Ok(Err(Fault::Engine(error))) => Err(self.lost(error.to_string())),
            Ok(Err(Fault::Job(failure))) => {
                self.fail(failure);
                Ok(Stage::Cleanup)
            }
            Err(stop) => {
                let limit = self.limit_of(stop, Limits::of_job(None));
                self.fail(failure_of(stop, limit));
                Ok(Stage::Cleanup)
            }
        }
    }

    /// Tells a container that is gone from a machine that is. `None`: the job has failed by it.
    pub(super) async fn vanished(
        &mut self,
        attended: Attended,
    ) -> Result<Option<Attended>, RunOutcome> {
        let Some(pod) = &self.pod else {
            return Ok(Some(attended));
        };
        let is_about_container = match &attended {
            Attended::Lost(error) | Attended::Refused(error) => is_gone(error),
            Attended::Ended(Ended { end, stop }) => *end == WorkEnd::Lost && stop.is_none(),
            Attended::Interrupted => false,
        };
        if !is_about_container {
            return Ok(Some(attended));
        }
        let state = match pod.build_state().await {
            Ok(state) => state,
            Err(error) => return Err(self.lost(error.to_string())),
        };
        self.fail(failure_of_container(state));
        Ok(None)
    }

    /// Says in the trace that a script was killed for want of memory.
    pub(super) async fn tell_memory(&self, end: WorkEnd) {
        let Some(pod) = &self.pod else { return };
        if said(end).is_none() {
            return;
        }
        // The engine itself counts only what the kernel killed of a container's first process.
        if matches!(pod.build_client().memory_kills().await, Ok(1..)) {
            self.run.trace.write(&words::warning(
                "the container was out of memory, and the kernel killed a process in it: `memory` in [runners.docker] is its limit",
            ));
        }
    }

    /// Lets a person in.
    pub(super) fn open_door(&self, plan: &Plan) {
        if let (Some(door), Some(pod)) = (&self.run.door, &self.pod) {
            door.open(pod.terminal(&plan.project));
        }
    }

    /// Waits for who is in, as long as he and the job may, and shuts the door. The words are GitLab
    /// Runner's.
    pub(super) async fn see_off(&self) {
        let Some(door) = &self.run.door else { return };
        if door.is_visited() {
            let limit = self.run.settings.terminal_timeout.min(self.time_left());
            let shown = words::go_duration(Duration::from_secs_f64(limit.as_secs_f64().round()));
            let say = |line: &str| self.run.trace.write(&words::good(line));
            say(&format!(
                "Terminal is connected, will time out in {shown}..."
            ));
            let from_outside = Limits {
                by_job: false,
                ..Limits::of_job(None)
            };
            tokio::select! {
                () = door.left() => say("Terminal disconnected"),
                () = tokio::time::sleep(limit) => say(&format!(
                    "terminal session timed out (maximum time allowed - {shown})"
                )),
                _ = self.stopped(from_outside) => say("Terminal disconnected"),
            }
        }
        door.shut();
    }

    /// Removes the job's containers, and before that what must not stay in a volume that does.
    pub(super) async fn tidy_containers(&mut self, plan: &Plan) -> Result<(), String> {
        let lost_after = self.run.settings.lost_after;
        let Some(pod) = &self.pod else { return Ok(()) };
        pod.remove_build()
            .await
            .map_err(|error| error.to_string())?;
        if pod
            .has_predefined()
            .await
            .map_err(|error| error.to_string())?
        {
            let id = self.progress.stage.work(self.id);
            let cleaned = self.clean(&id, plan, lost_after).await?;
            if let Some((_, said)) = said(cleaned) {
                return Err(format!("it ended with {said}"));
            }
        }
        let Some(pod) = &self.pod else { return Ok(()) };
        pod.remove_all().await.map_err(|error| error.to_string())
    }
}

/// What a job fails with whose container ended under it.
fn failure_of_container(state: Option<BuildState>) -> Failure {
    match state {
        Some(state) if state.out_of_memory => Failure {
            exit_code: Some(KILLED),
            ..Failure::new(
                Cause::Script,
                "the container was out of memory, and the kernel killed it",
            )
        },
        Some(BuildState {
            ended: Some(code), ..
        }) => Failure::new(
            Cause::System,
            format!("the container of the job ended with exit code {code} while its script ran"),
        ),
        Some(_) => Failure::new(
            Cause::System,
            "the process that watched over the script was killed in its container",
        ),
        None => Failure::new(
            Cause::System,
            "the container of the job was removed while its script ran",
        ),
    }
}
