//! Reaches a machine: over SSH, or as a process on this host.
//!
//! A [`Connection`] starts the helper on a machine; [`HelperClient`] speaks the helper's protocol
//! over it. Every call can be dropped at any point: what it started on this host is killed, the
//! work on the machine goes on.

mod client;
mod connection;
mod follow;
mod process;
mod ssh;

pub use client::{HelperClient, HelperError};
pub use connection::{
    ByteStream, ConnectError, Connection, Duplex, Exit, HelperExit, HelperProcess,
};
pub use follow::{Follow, Output};
pub use process::ProcessConnection;
pub use springtide_helper::{
    ArtifactFormat, ArtifactsDownload, ArtifactsItem, ArtifactsUpload, CacheFormat, CacheRestore,
    CacheSave, CacheSource, CacheUrl, Calls, Files, Hello, Level, REACH, Transfer, TransferEnd,
    Work, WorkEnd, WorkFile, WorkSignal, is_work_id,
};
pub use ssh::{
    CommandOutput, FarEnd, HostKeys, KeyError, ListenAt, LocalForward, Shell, SshConnection,
    SshKey, SshOptions, SshProcess, SshStream, SshTarget, SshTimes, Terminal, probe_tcp,
};
