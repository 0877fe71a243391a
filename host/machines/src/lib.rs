//! Reaches a machine: a process on this host.
//!
//! A [`Connection`] starts the helper on a machine; [`HelperClient`] speaks the helper's protocol
//! over it. Every call can be dropped at any point: what it started on this host is killed, the
//! work on the machine goes on.

mod client;
mod connection;
mod follow;
mod process;

pub use client::{HelperClient, HelperError};
pub use connection::{ConnectError, Connection, HelperExit, HelperProcess};
pub use follow::{Follow, Output};
pub use process::ProcessConnection;
pub use springtide_helper::{Hello, Work, WorkEnd, WorkFile, WorkSignal, is_work_id};
