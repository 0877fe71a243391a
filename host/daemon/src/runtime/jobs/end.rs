//! A job's end: told until GitLab has it, then the job is forgotten.

use super::fixed::Fixed;
use super::{AGAIN, Inner, Job, NoJob, OUTCOME, system_failure};
use crate::pool_loop::now;
use springtide_control::Ending;
use springtide_gitlab::{Delivered, FailureReason, Final, FinalState, SenderOptions, TraceSender};
use springtide_pool::JobId;
use std::sync::Arc;

impl Inner {
    pub(super) async fn finish(&self, id: JobId, ending: Ending) {
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

    pub(super) async fn tell_end(&self, id: JobId, ending: Ending) {
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

    /// Tells GitLab of a job without its trace, where that can't be opened.
    pub(super) fn send_without(&self, id: JobId, job: &Job, why: &str) {
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
}
