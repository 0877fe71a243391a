//! The daemon's moving parts around each pool's loop.

pub mod exporter;
pub mod job_dir;
pub mod pools;
pub mod share;
pub mod socket;
