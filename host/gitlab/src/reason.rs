//! Why a job failed, in the words GitLab accepts, and what is sent where GitLab is too old for one.

use serde::{Deserialize, Serialize};

/// The reason of a failed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The job's own script failed.
    ScriptFailure,
    /// The machine or the runner failed; GitLab's `retry: runner_system_failure` acts on it.
    RunnerSystemFailure,
    /// The job ran longer than its timeout.
    JobExecutionTimeout,
    /// The job's image could not be had.
    ImagePullFailure,
    /// Nothing better is known.
    UnknownFailure,
    /// The runner or the job is configured wrongly.
    RunnerConfigurationError,
    /// Something the runner depends on (a secret store, say) failed.
    RunnerExternalDependencyFailure,
    /// The runner was stopped while the job ran.
    RunnerInterrupted,
    /// The job was cancelled at GitLab.
    JobCanceled,
}

impl FailureReason {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::ImagePullFailure => "image_pull_failure",
            Self::UnknownFailure => "unknown_failure",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::JobCanceled => "job_canceled",
        }
    }

    /// The reason to send to a GitLab that said it knows `supported`.
    #[must_use]
    pub fn for_server(self, supported: &[String]) -> Self {
        let known = |reason: Self| supported.iter().any(|name| name == reason.as_str());
        if known(self) {
            return self;
        }
        let older = match self {
            Self::ImagePullFailure | Self::RunnerExternalDependencyFailure => {
                Self::RunnerSystemFailure
            }
            // GitLab Runner sends an unknown failure here; a job that was cut off by its runner is
            // one that `retry: runner_system_failure` is meant for.
            Self::RunnerInterrupted => Self::RunnerSystemFailure,
            Self::RunnerConfigurationError => Self::ScriptFailure,
            other => other,
        };
        match older {
            Self::ScriptFailure | Self::RunnerSystemFailure | Self::JobExecutionTimeout => older,
            _ => Self::UnknownFailure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FailureReason as R;

    #[test]
    fn a_reason_the_server_does_not_know_becomes_one_it_does() {
        let cases = [
            (R::ImagePullFailure, "", R::RunnerSystemFailure),
            (
                R::ImagePullFailure,
                "image_pull_failure",
                R::ImagePullFailure,
            ),
            (R::RunnerConfigurationError, "", R::ScriptFailure),
            (
                R::RunnerExternalDependencyFailure,
                "",
                R::RunnerSystemFailure,
            ),
            (R::ScriptFailure, "", R::ScriptFailure),
            (R::JobExecutionTimeout, "", R::JobExecutionTimeout),
            (R::RunnerInterrupted, "", R::RunnerSystemFailure),
            (
                R::RunnerInterrupted,
                "runner_interrupted",
                R::RunnerInterrupted,
            ),
            (R::JobCanceled, "", R::UnknownFailure),
        ];
        for (reason, known, sent) in cases {
            assert_eq!(reason.for_server(&[known.to_owned()]), sent, "{reason:?}");
        }
    }
}
