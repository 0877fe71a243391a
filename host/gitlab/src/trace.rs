//! What the sending of a trace needs from the one who writes it, and what it tells in return.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::FailureReason;

/// A trace as it stands: masked, limited, only ever growing.
pub trait TraceSource: Send + Sync {
    /// Bytes written so far.
    fn len(&self) -> u64;

    /// Whether nothing has been written.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `max` bytes from offset `from`; empty at the end.
    ///
    /// # Errors
    /// What keeps the trace cannot be read.
    fn read(&self, from: u64, max: usize) -> std::io::Result<Bytes>;

    /// CRC-32 (IEEE) of all bytes written so far.
    fn checksum(&self) -> u32;

    /// The length, told at each change.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// What GitLab wants of a job that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remote {
    /// Go on.
    #[default]
    Running,
    /// Cancelled: end the script, then run `after_script`.
    Canceling,
    /// Over at GitLab: stop all and send no more.
    Aborted,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Final {
    /// Well or badly.
    pub state: FinalState,
    /// The script's exit code, where it had one.
    pub exit_code: Option<i32>,
    /// Why it failed; `None` for a success.
    pub failure_reason: Option<FailureReason>,
}

/// Well or badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalState {
    /// The job succeeded.
    Success,
    /// The job failed.
    Failed,
}
