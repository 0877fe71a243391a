//! One job: what was asked for, where it is in its life, its trace, and how it is shown.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use crate::spec::JobSpec;
use crate::stamp::seconds;

/// Where a job is, in GitLab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It waits for a runner, or for the runner it is offered to.
    Pending,
    /// A runner has it.
    Running,
    /// It was cancelled, and its runner finishes it.
    Canceling,
    /// It succeeded.
    Success,
    /// It failed.
    Failed,
    /// It was cancelled and is over.
    Canceled,
}

impl JobStatus {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the job is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Canceled)
    }
}

/// A job's life. The first phase of the two-phase commit is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Offered { expires: Duration },
    Running,
    Canceling,
    Success,
    Failed,
    Canceled,
}

impl Phase {
    pub(crate) fn status(self) -> JobStatus {
        match self {
            Self::Pending | Self::Offered { .. } => JobStatus::Pending,
            Self::Running => JobStatus::Running,
            Self::Canceling => JobStatus::Canceling,
            Self::Success => JobStatus::Success,
            Self::Failed => JobStatus::Failed,
            Self::Canceled => JobStatus::Canceled,
        }
    }
}

/// Who has a job, and what that runner can do.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) runner: u64,
    pub(crate) system_id: String,
    pub(crate) graceful: bool,
    /// Whether the runner said `running`.
    pub(crate) started: bool,
}

/// A trace as it came.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) bytes: Vec<u8>,
    crc: crc32fast::Hasher,
    /// The offset the last 416 named, until a part arrives there.
    pub(crate) resume: Option<u64>,
}

impl Trace {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes.extend_from_slice(bytes);
        self.resume = None;
    }

    /// Forgets the second half; false where there is nothing to forget.
    pub(crate) fn forget_tail(&mut self) -> bool {
        if self.bytes.is_empty() {
            return false;
        }
        self.bytes.truncate(self.bytes.len() / 2);
        self.crc = crc32fast::Hasher::new();
        self.crc.update(&self.bytes);
        true
    }

    pub(crate) fn checksum(&self) -> String {
        format!("crc32:{:08x}", self.crc.clone().finalize())
    }
}

/// An uploaded file.
pub(crate) struct Artifact {
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) expire_in: String,
    pub(crate) filename: String,
    pub(crate) bytes: Bytes,
}

/// When what happened; since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) created: Duration,
    pub(crate) queued: Duration,
    pub(crate) assigned: Option<Duration>,
    pub(crate) started: Option<Duration>,
    pub(crate) first_trace_byte: Option<Duration>,
    pub(crate) finished: Option<Duration>,
}

pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) pipeline: u64,
    pub(crate) project: String,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) sha: String,
    pub(crate) ref_name: String,
    pub(crate) is_tag: bool,
    pub(crate) phase: Phase,
    /// The token of the present assignment, or of the last one.
    pub(crate) token: String,
    pub(crate) holder: Option<Holder>,
    pub(crate) assignments: u32,
    pub(crate) trace: Trace,
    /// Whether a part of the trace was marked as what only developers may read.
    pub(crate) debug_trace: bool,
    pub(crate) session: Option<SessionView>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) times: Times,
    pub(crate) exit_code: Option<i64>,
    pub(crate) failure_reason: Option<String>,
    /// How many final updates are still answered 202.
    pub(crate) accepted_left: u32,
    /// From when on its runner must leave it alone: it ended the job, or was told of the end.
    pub(crate) quiet_from: Option<Duration>,
    pub(crate) answer_lost: bool,
}

impl Job {
    pub(crate) fn name(&self) -> &str {
        self.spec.name.as_deref().unwrap_or("job")
    }

    pub(crate) fn stage(&self) -> &str {
        self.spec.stage.as_deref().unwrap_or("test")
    }

    pub(crate) fn timeout(&self) -> u64 {
        self.spec.timeout.unwrap_or(3600)
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.phase.status()
    }

    pub(crate) fn view(&self) -> JobView {
        let times = &self.times;
        JobView {
            id: self.id,
            name: self.name().to_owned(),
            status: self.status(),
            offered: matches!(self.phase, Phase::Offered { .. }),
            project: self.project.clone(),
            pipeline: self.pipeline,
            tags: self.spec.tags.clone(),
            ref_name: self.ref_name.clone(),
            sha: self.sha.clone(),
            runner: self.holder.as_ref().map(|holder| holder.runner),
            system_id: self.holder.as_ref().map(|holder| holder.system_id.clone()),
            assignments: self.assignments,
            exit_code: self.exit_code,
            failure_reason: self.failure_reason.clone(),
            trace_bytes: self.trace.len(),
            debug_trace: self.debug_trace,
            session: self.session.clone(),
            artifacts: self
                .artifacts
                .iter()
                .map(|artifact| ArtifactView {
                    kind: artifact.kind.clone(),
                    format: artifact.format.clone(),
                    expire_in: artifact.expire_in.clone(),
                    filename: artifact.filename.clone(),
                    size: artifact.bytes.len() as u64,
                })
                .collect(),
            timings: Timings {
                created: seconds(times.created),
                queued: seconds(times.queued),
                assigned: times.assigned.map(seconds),
                started: times.started.map(seconds),
                first_trace_byte: times.first_trace_byte.map(seconds),
                finished: times.finished.map(seconds),
            },
        }
    }
}

/// Where a job's terminal is, as the runner that took the job said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// What comes before `/exec`.
    pub url: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// What the header `Authorization` has to be.
    pub authorization: String,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub status: JobStatus,
    /// Whether it is pending because a runner has yet to accept it (two-phase commit).
    pub offered: bool,
    /// Its project's path.
    pub project: String,
    /// Its pipeline.
    pub pipeline: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its branch or tag.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// Its commit.
    pub sha: String,
    /// The runner that has or had it.
    pub runner: Option<u64>,
    /// That runner's manager.
    pub system_id: Option<String>,
    /// How often it was handed to a runner.
    pub assignments: u32,
    /// The script's exit code, where the runner told one.
    pub exit_code: Option<i64>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Bytes of trace that came.
    pub trace_bytes: u64,
    /// Whether the runner marked its trace as one of `CI_DEBUG_TRACE`, which only developers may read.
    #[serde(default)]
    pub debug_trace: bool,
    /// Where its terminal is, by the request that took it.
    #[serde(default)]
    pub session: Option<SessionView>,
    /// What was uploaded.
    pub artifacts: Vec<ArtifactView>,
    /// When what happened.
    pub timings: Timings,
}

/// An uploaded file as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactView {
    /// `archive`, `junit`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `zip`, `gzip`, `raw`, ...; empty where the runner did not say.
    pub format: String,
    /// How long GitLab is to keep it, in words; empty where the runner did not say.
    pub expire_in: String,
    /// Its name.
    pub filename: String,
    /// Its bytes.
    pub size: u64,
}

/// When what happened to a job, in seconds since the epoch, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// It was made.
    pub created: f64,
    /// It began to wait.
    pub queued: f64,
    /// It was sent to a runner, the last time.
    pub assigned: Option<f64>,
    /// The runner said `running`.
    pub started: Option<f64>,
    /// The first part of its trace came.
    pub first_trace_byte: Option<f64>,
    /// It was over.
    pub finished: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_tail_leaves_a_checksum_of_what_is_left() {
        let mut trace = Trace::default();
        assert!(!trace.forget_tail());
        trace.append(b"abc");
        trace.append(b"def");
        assert_eq!(
            trace.checksum(),
            format!("crc32:{:08x}", crc32fast::hash(b"abcdef"))
        );
        assert!(trace.forget_tail());
        assert_eq!(
            trace.checksum(),
            format!("crc32:{:08x}", crc32fast::hash(b"abc"))
        );
    }
}
