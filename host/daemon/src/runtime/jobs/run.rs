//! A job on its machine, from its first stage to its end, or followed again after a restart.

use super::{Inner, OUTCOME, Session};
use crate::pool_loop::Started;
use springtide_control::{JobRecord, MachineRecord, RunEnd};
use springtide_gitlab::{FailureReason, Remote};
use springtide_jobs::{JobRun, RunOutcome};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

impl Inner {
    pub(super) async fn run(
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
        let connection = match self.shared.ways.to(machine).await {
            Ok(way) => way.connection(),
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
        let door = self
            .active()
            .get(&id)
            .and_then(|at| at.session.as_ref().map(Session::door));
        let running = springtide_jobs::run(
            JobRun {
                payload: job.payload.clone(),
                directory: job.dir.path().to_owned(),
                connection,
                settings: setup.job_settings(machine),
                trace: trace.clone(),
                remote: wanted,
                abandon,
                door,
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
}
