//! A shell on a machine for a person.

use super::channel::{Purpose, Resizer, streams};
use super::connection::{Link, SshTarget};
use super::process::SshProcess;
use crate::connection::ConnectError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The terminal that a shell is shown on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind: the value of `TERM`.
    pub kind: String,
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
}

/// A shell under a terminal. Dropped, it is hung up.
pub struct Shell {
    /// Its streams and its end; standard error comes with standard output.
    pub process: SshProcess,
    target: SshTarget,
    size: Resizer,
    _link: Arc<Link>,
}

impl Shell {
    /// Tells it that the terminal's size has changed.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn resize(&self, columns: u32, rows: u32) -> Result<(), ConnectError> {
        self.size
            .resize(columns, rows)
            .await
            .map_err(|()| self.target.unreachable("its shell has ended"))
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shell")
    }
}

pub(super) async fn open_shell(
    target: &SshTarget,
    link: Arc<Link>,
    terminal: &Terminal,
    stalled: Duration,
) -> Result<Shell, ConnectError> {
    let broken =
        |error: russh::Error| target.unreachable(format!("opening a shell there: {error}"));
    let channel = link.handle.channel_open_session().await.map_err(broken)?;
    let (columns, rows) = (terminal.columns, terminal.rows);
    channel
        .request_pty(false, &terminal.kind, columns, rows, 0, 0, &[])
        .await
        .map_err(broken)?;
    channel.request_shell(true).await.map_err(broken)?;
    let (streams, size) = streams(channel, Purpose::Command, stalled);
    Ok(Shell {
        process: SshProcess::new(target.clone(), streams),
        target: target.clone(),
        size,
        _link: link,
    })
}
