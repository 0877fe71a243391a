//! The daemon: what touches the world, around the loop of [`springtide_control`].

pub mod commands;
pub mod logging;
pub mod machine_log;
pub mod metrics;
pub mod pool_loop;
pub mod runtime;
pub mod signals;
pub mod snapshot;
pub mod table;
pub mod view;
