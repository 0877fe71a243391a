//! The small program put on a machine: runs a job's work detached and spools its output.
//!
//! The library is its protocol, for those who call it.

pub mod frame;
mod protocol;
mod work;

pub use protocol::{Answer, Ending, Fault, FaultKind, Hello, PROTOCOL};
pub use work::{Work, WorkEnd, WorkFile, WorkSignal, is_work_id};
