//! The stages that move files. A cache never fails a job; artifacts do.

use super::attend::Task;
use super::stages::{failure_of, next_step, said};
use super::{Attended, Ended, Limits, RunOutcome, Runner};
use crate::plan::{Plan, is_due};
use crate::progress::{Cause, Failure, Stage};
use crate::transfers::validity;
use crate::words;
use springtide_cache::{CacheKey, Keys, Signed};
use springtide_machines::{Transfer, TransferEnd, WorkEnd};
use std::time::{Duration, SystemTime};

/// After the scripts: a cancel has been heard already.
const AFTER: Limits = Limits {
    stage: None,
    by_job: true,
    by_cancel: false,
};

/// What came of a transfer.
enum Moved {
    /// It was moved, or there was nothing to move.
    Done,
    /// It was not, with its exit code.
    Failed {
        failure: Failure,
        said: String,
        again: bool,
    },
    /// The job was ended from outside.
    Stopped,
}

impl<F: FnOnce() + Send> Runner<F> {
    /// Restores a cache.
    pub(super) async fn restore(&mut self, plan: &Plan, index: usize) -> Result<Stage, RunOutcome> {
        let Some(cache) = plan.caches.get(index) else {
            return Ok(Stage::Download { attempt: 0 });
        };
        // One section has them all.
        if index == 0 {
            self.open("restore_cache", "Restoring cache");
        }
        let moved = match &cache.keys {
            Err(why) => {
                self.tell(&format!("Skipping cache extraction due to {why}"));
                Moved::Done
            }
            Ok(keys) if !cache.is_pulled() => {
                self.tell(&format!("Not downloading cache {} due to policy", keys.key));
                Moved::Done
            }
            Ok(keys) => {
                let mut warnings = cache.warnings.clone();
                let downloads = self.downloads(keys, &mut warnings).await;
                for warning in &warnings {
                    self.run.trace.write(&words::warning(warning));
                }
                let transfer = Transfer::CacheRestore(cache.restore(keys, downloads));
                self.transfer(plan, &transfer, Limits::of_job(None)).await?
            }
        };
        if index + 1 == plan.caches.len() || matches!(moved, Moved::Stopped) {
            self.close("restore_cache");
        }
        match moved {
            Moved::Stopped => Ok(Stage::Cleanup),
            Moved::Failed { said, .. } => {
                self.run.trace.write(&words::warning(&format!(
                    "the cache was not restored ({said}); the job goes on without it"
                )));
                Ok(Stage::Restore { index: index + 1 })
            }
            Moved::Done => Ok(Stage::Restore { index: index + 1 }),
        }
    }

    async fn downloads(&self, keys: &Keys, warnings: &mut Vec<String>) -> Vec<(CacheKey, Signed)> {
        let Some(store) = &self.run.settings.cache else {
            return Vec::new();
        };
        let (runner, project) = (
            &self.run.settings.runner_short_token,
            self.run.payload.job_info.project_id,
        );
        let valid = validity(&self.run.payload);
        let now = SystemTime::now();
        let restores = store.restores(runner, project, keys, valid, now, warnings);
        let restores = restores.await.into_iter();
        restores.map(|one| (one.key, one.from)).collect()
    }

    /// Saves a cache, if the job ended as it asks for.
    pub(super) async fn keep(&mut self, plan: &Plan, index: usize) -> Result<Stage, RunOutcome> {
        let failed = self.progress.failure.is_some();
        let due = |at: &usize| is_due(plan.caches[*at].when, failed);
        let mut left = (index..plan.caches.len()).filter(due);
        let Some(at) = left.next() else {
            return Ok(Stage::Upload { index: 0 });
        };
        let cache = &plan.caches[at];
        let (section, title) = match failed {
            false => ("archive_cache", "Saving cache for successful job"),
            true => ("archive_cache_on_failure", "Saving cache for failed job"),
        };
        if !(0..at).any(|before| due(&before)) {
            self.open(section, title);
        }
        let moved = match &cache.keys {
            Err(why) => {
                self.tell(&format!("Skipping cache archiving due to {why}"));
                Moved::Done
            }
            Ok(keys) if !cache.is_pushed() => {
                self.tell(&format!("Not uploading cache {} due to policy", keys.key));
                Moved::Done
            }
            Ok(keys) => {
                let upload = self.place(&keys.key).await;
                let largest = self.run.settings.cache.as_ref();
                let largest = largest.and_then(|store| store.largest_archive());
                let save = cache.save(&keys.key, upload, largest.unwrap_or(0));
                let transfer = Transfer::CacheSave(save);
                self.transfer(plan, &transfer, AFTER).await?
            }
        };
        if left.next().is_none() || matches!(moved, Moved::Stopped) {
            self.close(section);
        }
        match moved {
            Moved::Stopped => return Ok(Stage::Cleanup),
            Moved::Failed { said, .. } => self.run.trace.write(&words::warning(&format!(
                "the cache was not saved ({said}); the job stays as it is"
            ))),
            Moved::Done => {}
        }
        Ok(Stage::Keep { index: at + 1 })
    }

    /// Where an archive is uploaded to; nothing without a cache server, or where it can't be signed
    /// for.
    async fn place(&self, key: &CacheKey) -> Option<Signed> {
        let store = self.run.settings.cache.as_ref()?;
        let (runner, project) = (
            &self.run.settings.runner_short_token,
            self.run.payload.job_info.project_id,
        );
        let signed = match store.object(runner, project, key) {
            Err(error) => Err(error.to_string()),
            Ok(object) => {
                let valid = validity(&self.run.payload);
                let signed = store.upload(&object, valid, SystemTime::now()).await;
                signed.map_err(|error| error.to_string())
            }
        };
        signed
            .inspect_err(|why| self.run.trace.write(&words::warning(why)))
            .ok()
    }

    fn tell(&self, line: &str) {
        self.run.trace.write(&words::plain(line));
    }

    /// Gets artifacts of earlier jobs.
    pub(super) async fn download(
        &mut self,
        plan: &Plan,
        attempt: u32,
    ) -> Result<Stage, RunOutcome> {
        let first = match self.pod {
            Some(_) => Stage::Build,
            None => next_step(plan, 0, false),
        };
        let Some(download) = &plan.artifacts.download else {
            return Ok(first);
        };
        self.open("download_artifacts", "Downloading artifacts");
        let transfer = Transfer::ArtifactsDownload(download.clone());
        let moved = self.transfer(plan, &transfer, Limits::of_job(None)).await?;
        self.close("download_artifacts");
        match moved {
            Moved::Done => Ok(first),
            Moved::Stopped => Ok(Stage::Cleanup),
            Moved::Failed { again, .. } if again && attempt + 1 < plan.download_attempts() => {
                self.pause(attempt).await;
                Ok(Stage::Download {
                    attempt: attempt + 1,
                })
            }
            Moved::Failed { failure, .. } => {
                self.fail(failure);
                Ok(Stage::Cleanup)
            }
        }
    }

    /// Uploads what the job leaves.
    pub(super) async fn upload(&mut self, plan: &Plan, index: usize) -> Result<Stage, RunOutcome> {
        let failed_before = self.progress.failure.is_some();
        let due = |at: &usize| is_due(plan.artifacts.uploads[*at].0, failed_before);
        let mut left = (index..plan.artifacts.uploads.len()).filter(due);
        let Some(at) = left.next() else {
            return Ok(Stage::Cleanup);
        };
        let (section, title) = match failed_before {
            false => (
                "upload_artifacts_on_success",
                "Uploading artifacts for successful job",
            ),
            true => (
                "upload_artifacts_on_failure",
                "Uploading artifacts for failed job",
            ),
        };
        if !(0..at).any(|before| due(&before)) {
            self.open(section, title);
        }
        let last = left.next().is_none();
        let transfer = Transfer::ArtifactsUpload(plan.artifacts.uploads[at].1.clone());
        let moved = self.transfer(plan, &transfer, AFTER).await?;
        if last {
            self.close(section);
        }
        match moved {
            Moved::Stopped => return Ok(Stage::Cleanup),
            // It does not count before all are tried: whether the job failed decides which are due.
            Moved::Failed { failure, .. } => {
                self.progress.upload_failure.get_or_insert(failure);
            }
            Moved::Done => {}
        }
        if last {
            if let Some(failure) = self.progress.upload_failure.take() {
                self.fail(failure);
            }
            return Ok(Stage::Cleanup);
        }
        Ok(Stage::Upload { index: at + 1 })
    }

    async fn transfer(
        &mut self,
        plan: &Plan,
        transfer: &Transfer,
        limits: Limits,
    ) -> Result<Moved, RunOutcome> {
        let task = match Task::transfer(transfer, &plan.variables) {
            Ok(task) => task,
            Err(error) => return Err(self.lost(format!("writing a transfer as JSON: {error}"))),
        };
        let attended = self.attend(&plan.project, task, limits, |_| {}).await;
        let ended = match attended {
            // The script is over, and how is known: a machine that is lost now moves nothing more.
            Attended::Lost(error) | Attended::Refused(error) if self.is_over() => {
                self.progress.broken = true;
                let said = error.to_string();
                return Ok(Moved::Failed {
                    failure: Failure::new(Cause::System, &said),
                    said,
                    again: false,
                });
            }
            // What watched over it was killed: that is told below as any other end.
            Attended::Ended(ended) if self.is_over() => Some(ended),
            attended => self.ended(attended)?,
        };
        let Some(Ended { end, stop }) = ended else {
            return Ok(Moved::Stopped);
        };
        if let Some(stop) = stop {
            let whole = self.run.payload.runner_info.timeout_seconds();
            self.fail(failure_of(stop, Duration::from_secs(whole)));
            return Ok(Moved::Stopped);
        }
        let known = match end {
            WorkEnd::Exited { code } => TransferEnd::of_exit_code(code),
            WorkEnd::Signaled { .. } | WorkEnd::Lost => None,
        };
        Ok(match (known, said(end)) {
            (Some(TransferEnd::Done | TransferEnd::Nothing), _) | (_, None) => Moved::Done,
            // GitLab Runner's helper ends with 1, whatever went wrong.
            (Some(end), Some(_)) => Moved::Failed {
                failure: failed(1, "exit code 1"),
                said: "exit code 1".into(),
                again: end == TransferEnd::MayBeRetried,
            },
            (None, Some((code, said))) => Moved::Failed {
                failure: failed(code, &said),
                said,
                again: true,
            },
        })
    }

    /// Whether the job's scripts are over.
    fn is_over(&self) -> bool {
        matches!(
            self.progress.stage,
            Stage::Upload { .. } | Stage::Keep { .. }
        )
    }
}

fn failed(code: i32, said: &str) -> Failure {
    Failure {
        cause: Cause::Script,
        exit_code: Some(code),
        said: said.to_owned(),
    }
}
