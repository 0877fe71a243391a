//! Connections to a real OpenSSH server of the test's own.
#![allow(dead_code)]

#[path = "../../../helper/tests/support/built.rs"]
mod built;
mod server;

pub use built::helper;
pub use server::Server;
use springtide_machines::{ConnectError, SshConnection, SshOptions, SshTimes};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Server {
    pub fn connection(&self) -> Arc<SshConnection> {
        self.connection_with(self.options())
    }

    pub fn connection_with(&self, options: SshOptions) -> Arc<SshConnection> {
        SshConnection::with_options(
            self.target(),
            self.key(),
            self.host_keys(),
            helper().to_owned(),
            options,
        )
    }

    pub fn impatient(&self, change: impl FnOnce(&mut SshTimes)) -> Arc<SshConnection> {
        let mut options = self.options();
        change(&mut options.times);
        self.connection_with(options)
    }
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "not so after 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Why something is unreachable.
pub fn unreachable<T: std::fmt::Debug>(asked: Result<T, ConnectError>) -> String {
    match asked {
        Err(ConnectError::Unreachable { why, .. }) => why,
        other => panic!("not unreachable: {other:?}"),
    }
}

/// Why something is refused.
pub fn refused<T: std::fmt::Debug>(asked: Result<T, ConnectError>) -> String {
    match asked {
        Err(ConnectError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}
