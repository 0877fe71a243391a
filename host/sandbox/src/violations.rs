//! What runners did against the rules of the protocol. A violation changes no answer: it is noted
//! beside whatever GitLab would have said. No detail holds a token.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stamp::seconds;

const KEPT: usize = 1000;

/// A rule of the runner's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// A request with a body names its type, JSON for all but traces and artifacts.
    ContentType,
    /// A JSON body is a JSON object.
    BodyNotJson,
    /// A token is one this GitLab gave out.
    UnknownToken,
    /// A runner says which manager it is: `s_` or `r_` and 12 letters or digits.
    SystemId,
    /// The runner's token is in the header `RUNNER-TOKEN` too.
    RunnerTokenHeader,
    /// The job's token is in the header `JOB-TOKEN` too.
    JobTokenHeader,
    /// `info` is an object, and its `features` are all true or false.
    Info,
    /// `Content-Range` is `start-end` and as long as the body.
    ContentRange,
    /// A trace's part is not empty.
    EmptyPatch,
    /// A trace's part starts where the one before it ended, or at 0, or where a 416 said.
    TraceRange,
    /// A job that is over is left alone.
    AfterFinal,
    /// A job is taken with `running` before anything else is said of it.
    NotStarted,
    /// The final update has the trace's checksum and length.
    ChecksumMissing,
    /// The trace that came is the one the runner says it sent.
    TraceDiffers,
    /// A job that succeeded has no exit code but 0.
    ExitCodeOnSuccess,
    /// Jobs are not asked for more often than the limit of a minute.
    PollTooFast,
    /// A runner that was told 429 waits until the time it was told.
    PollWhileLimited,
    /// A runner speaks of its own jobs alone.
    ForeignJob,
    /// A failure has one of the reasons the job offered.
    FailureReason,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ContentType => "content-type",
            Self::BodyNotJson => "body-not-json",
            Self::UnknownToken => "unknown-token",
            Self::SystemId => "system-id",
            Self::RunnerTokenHeader => "runner-token-header",
            Self::JobTokenHeader => "job-token-header",
            Self::Info => "info",
            Self::ContentRange => "content-range",
            Self::EmptyPatch => "empty-patch",
            Self::TraceRange => "trace-range",
            Self::AfterFinal => "after-final",
            Self::NotStarted => "not-started",
            Self::ChecksumMissing => "checksum-missing",
            Self::TraceDiffers => "trace-differs",
            Self::ExitCodeOnSuccess => "exit-code-on-success",
            Self::PollTooFast => "poll-too-fast",
            Self::PollWhileLimited => "poll-while-limited",
            Self::ForeignJob => "foreign-job",
            Self::FailureReason => "failure-reason",
        })
    }
}

/// One breach of a [`Rule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Seconds since the epoch.
    pub at: f64,
    /// The request, `PUT jobs/7` say.
    pub request: String,
    /// The job it was about.
    pub job: Option<u64>,
    /// The runner that made it, where it is known.
    pub runner: Option<u64>,
    /// What was wrong, in words.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.request, self.rule, self.detail)
    }
}

/// A finding before it is known whose it is.
pub(crate) type Finding = (Rule, String);

/// The list, the first thousand in full and the rest as a number.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    kept: Vec<Violation>,
    dropped: u64,
}

impl Violations {
    pub(crate) fn note(
        &mut self,
        now: Duration,
        request: &str,
        (job, runner): (Option<u64>, Option<u64>),
        findings: impl IntoIterator<Item = Finding>,
    ) {
        for (rule, detail) in findings {
            if self.kept.len() >= KEPT {
                self.dropped += 1;
                continue;
            }
            let violation = Violation {
                rule,
                at: seconds(now),
                request: request.to_owned(),
                job,
                runner,
                detail,
            };
            tracing::debug!(%violation, "a runner broke a rule of the protocol");
            self.kept.push(violation);
        }
    }

    pub(crate) fn all(&self) -> &[Violation] {
        &self.kept
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
