//! How far a job is, on disk, so that a manager that restarts goes on from there.
//!
//! Nothing needs to be exact but the marks: a stage that is begun again finds its work on the
//! machine under the same id, and its trace is written again from its mark.

use crate::trace::Mark;
use serde::{Deserialize, Serialize};
use springtide_gitlab::{FailureReason, Final, FinalState};
use std::io;
use std::path::Path;

const FILE: &str = "progress.json";

/// A part of a job that is one piece of work on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Containers, networks, images: what is no piece of work, and is done anew after a restart.
    Executor,
    /// Directories, files of variables.
    Prepare,
    /// Getting the sources, for the `attempt`th time, counted from 0.
    Sources { attempt: u32 },
    /// Restoring a cache, by its place.
    Restore { index: usize },
    /// Getting artifacts of earlier jobs, for the `attempt`th time, counted from 0.
    Download { attempt: u32 },
    /// The container of the job's scripts; no piece of work either.
    Build,
    /// A script of the job's, by its place.
    Step { index: usize },
    /// `after_script`.
    After,
    /// Saving a cache, by its place.
    Keep { index: usize },
    /// Uploading artifacts, by their place.
    Upload { index: usize },
    /// Removing what must not stay.
    Cleanup,
}

impl Stage {
    /// The id of its work.
    pub(crate) fn work(self, job: u64) -> String {
        match self {
            Stage::Executor => format!("job-{job}-executor"),
            Stage::Build => format!("job-{job}-build"),
            Stage::Prepare => format!("job-{job}-prepare"),
            Stage::Sources { attempt } => format!("job-{job}-sources-{attempt}"),
            Stage::Restore { index } => format!("job-{job}-restore-{index}"),
            Stage::Download { attempt } => format!("job-{job}-download-{attempt}"),
            Stage::Step { index } => format!("job-{job}-step-{index}"),
            Stage::After => format!("job-{job}-after"),
            Stage::Keep { index } => format!("job-{job}-keep-{index}"),
            Stage::Upload { index } => format!("job-{job}-upload-{index}"),
            Stage::Cleanup => format!("job-{job}-cleanup"),
        }
    }
}

/// Why work is being ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stop {
    /// The job's own timeout.
    JobTimeout,
    /// The stage's.
    StageTimeout,
    /// Cancelled at GitLab.
    Canceled,
    /// Over at GitLab.
    Aborted,
    /// The manager lets the job go.
    Abandoned,
}

/// Why a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    Script,
    Timeout,
    Canceled,
    System,
    Interrupted,
    Configuration,
    Image,
}

/// How a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) exit_code: Option<i32>,
    /// For the trace, after `Job failed: `.
    pub(crate) said: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, said: impl Into<String>) -> Self {
        Self {
            cause,
            exit_code: None,
            said: said.into(),
        }
    }

    fn reason(&self) -> FailureReason {
        match self.cause {
            Cause::Script => FailureReason::ScriptFailure,
            Cause::Timeout => FailureReason::JobExecutionTimeout,
            Cause::Canceled => FailureReason::JobCanceled,
            Cause::System => FailureReason::RunnerSystemFailure,
            Cause::Interrupted => FailureReason::RunnerInterrupted,
            Cause::Configuration => FailureReason::RunnerConfigurationError,
            Cause::Image => FailureReason::ImagePullFailure,
        }
    }
}

/// What GitLab is to be told of a job that failed like this, or did not.
pub(crate) fn final_of(failure: Option<&Failure>) -> Final {
    match failure {
        None => Final {
            state: FinalState::Success,
            exit_code: Some(0),
            failure_reason: None,
        },
        Some(failure) => Final {
            state: FinalState::Failed,
            exit_code: failure.exit_code,
            failure_reason: Some(failure.reason()),
        },
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// When the job began on this machine, in milliseconds since the epoch; its timeout counts
    /// from here.
    pub(crate) began: u64,
    pub(crate) stage: Stage,
    /// When the stage began, in milliseconds since the epoch.
    pub(crate) stage_began: u64,
    /// Where the trace stood then.
    pub(crate) mark: Mark,
    /// Whether the stage's work is known to have been started.
    pub(crate) launched: bool,
    /// Whether a script of the job's may have begun.
    pub(crate) ran: bool,
    /// Why the stage's work is being ended.
    pub(crate) stop: Option<Stop>,
    /// How the job failed, if it did so far.
    pub(crate) failure: Option<Failure>,
    /// How an upload failed, which counts when all have been tried.
    #[serde(default)]
    pub(crate) upload_failure: Option<Failure>,
    /// Whether the machine should meet no other job.
    pub(crate) broken: bool,
}

impl Progress {
    /// A job that begins with a stage.
    pub(crate) fn new(now: u64, mark: Mark, stage: Stage) -> Self {
        Self {
            began: now,
            stage,
            stage_began: now,
            mark,
            launched: false,
            ran: false,
            stop: None,
            failure: None,
            upload_failure: None,
            broken: false,
        }
    }

    /// Reads what was saved; nothing where nothing was, or where it can't be read as progress.
    pub(crate) async fn load(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .inspect_err(|error| {
                    tracing::warn!(path = %path.display(), %error, "a job's progress can't be read; it begins anew");
                })
                .ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what was saved.
    pub(crate) async fn save(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(FILE);
        let new = directory.join("progress.json.new");
        tokio::fs::write(&new, serde_json::to_vec(self)?).await?;
        tokio::fs::rename(&new, &path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_is_saved_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let load = || Progress::load(directory.path());
        assert_eq!(load().await.expect("readable"), None);
        let mut progress = Progress::new(5, Mark::default(), Stage::Prepare);
        progress.stage = Stage::Sources { attempt: 2 };
        progress.failure = Some(Failure::new(Cause::System, "x"));
        progress.save(directory.path()).await.expect("saved");
        assert_eq!(load().await.expect("readable"), Some(progress));
        std::fs::write(directory.path().join(FILE), "{").expect("written");
        assert_eq!(load().await.expect("readable"), None);
    }

    #[test]
    fn works_have_names_a_helper_takes() {
        for stage in [
            Stage::Executor,
            Stage::Prepare,
            Stage::Build,
            Stage::Sources { attempt: 9 },
            Stage::Restore { index: 1 },
            Stage::Download { attempt: 1 },
            Stage::Keep { index: 1 },
            Stage::Upload { index: 1 },
            Stage::Step { index: 3 },
            Stage::After,
            Stage::Cleanup,
        ] {
            assert!(springtide_machines::is_work_id(&stage.work(u64::MAX)));
        }
    }
}
