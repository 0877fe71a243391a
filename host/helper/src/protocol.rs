//! What the helper says: one JSON object on standard output for a command, frames for `follow`.
//!
//! Errors are on standard output too. Over SSH the other stream carries what the machine's login
//! scripts print.

use crate::work::WorkEnd;
use serde::{Deserialize, Serialize};

/// The protocol's version; the two sides must have the same.
pub const PROTOCOL: u32 = 1;

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the helper that answers.
    pub protocol: u32,
    /// The helper's own version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since the machine started.
    pub uptime: u64,
}

/// What went wrong, for a caller to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The call itself is wrong: an argument, or a work that can't be.
    BadCall,
    /// There is no work of that id.
    NotFound,
    /// The machine itself is not there.
    NoMachine,
    /// The work's program could not be started.
    NotStarted,
    /// The machine does not take work: it boots, or is being removed.
    NotReady,
    /// The provider has no room, played by the driver `local`.
    Capacity,
    /// Something on the machine failed: a disk that is full, a process that can't be made.
    Failed,
}

impl FaultKind {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            FaultKind::Failed => 1,
            FaultKind::BadCall => 2,
            FaultKind::NotFound | FaultKind::NoMachine => 3,
            FaultKind::NotStarted => 4,
            FaultKind::NotReady => 5,
            FaultKind::Capacity => 6,
        }
    }
}

/// An error as the helper says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What sort.
    pub kind: FaultKind,
    /// For a person: what was attempted, on what, why it failed.
    pub message: String,
}

impl Fault {
    /// A fault of a kind.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// One line of JSON on standard output: `{"ok": ...}` or `{"error": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// What was asked for.
    Ok(T),
    /// Why not.
    Error(Fault),
}

/// The last word of `follow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// How the work ended.
    pub end: WorkEnd,
    /// Bytes of output that were kept.
    pub kept: u64,
    /// Bytes of output beyond the spool's limit, which are lost.
    pub discarded: u64,
}
