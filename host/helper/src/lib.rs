//! The small program put on a machine: runs a job's work detached and spools its output, and moves
//! its artifacts and cache.
//!
//! The library is its protocol, for those who call it.

pub mod frame;
mod protocol;
mod request;
mod work;

pub use protocol::{Answer, Ending, Fault, FaultKind, Hello, PROTOCOL};
pub use request::{
    ArtifactFormat, ArtifactsDownload, ArtifactsItem, ArtifactsUpload, CacheFormat, CacheRestore,
    CacheSave, CacheSource, CacheUrl, Calls, Files, Level, Transfer, TransferEnd,
};
pub use work::{REACH, SELF, Work, WorkEnd, WorkFile, WorkSignal, is_work_id};
