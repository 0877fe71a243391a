//! A taken job until it runs: kept alive at GitLab, and accepted once its machine is ready.

use super::{AGAIN, Inner, Job, KEEP};
use crate::pool_loop::Canceled;
use springtide_gitlab::{Held, HeldJob, Remote, TraceSource as _};
use springtide_pool::JobId;
use tokio_util::sync::CancellationToken;

impl Inner {
    /// Keeps a job alive that waits for a machine.
    pub(super) async fn keep(&self, id: JobId, stop: CancellationToken, canceled: Canceled) {
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

    pub(super) async fn wait_aloud(
        &self,
        id: JobId,
        job: &Job,
        stop: CancellationToken,
        canceled: Canceled,
    ) {
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
    pub(super) async fn accept(&self, id: JobId, job: &Job) -> bool {
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
}
