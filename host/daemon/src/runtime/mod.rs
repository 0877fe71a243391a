//! The daemon's moving parts around each pool's loop.

pub mod advice;
pub mod answers;
pub mod boots;
pub mod daemon;
pub mod driver;
pub mod exporter;
pub mod first_boot;
pub mod grants;
pub mod identity;
pub mod job_dir;
pub mod jobs;
pub mod own_file;
pub mod paths;
pub mod plugins;
pub mod policies;
pub mod pool;
pub mod pools;
pub mod reach;
pub mod scope;
pub mod secrets;
pub mod sessions;
pub mod setup;
pub mod share;
pub mod slots;
pub mod socket;
pub mod troubles;
