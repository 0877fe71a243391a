//! Files put on a machine by SFTP.

use super::channel::Purpose;
use super::connection::{Link, SshConnection, SshTarget, Way};
use super::install::{quote, sh};
use super::process::{CommandOutput, SshProcess};
use super::stream::SshStream;
use crate::connection::ConnectError;
use russh::Channel;
use russh::client::Msg;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, SftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWriteExt, BufReader};

/// What is read at once of a source, in bytes.
const CHUNK: usize = 256 << 10;

impl SshConnection {
    /// Puts a file on the machine: whole or not at all, at that path with those permission bits. A
    /// file that is there is replaced.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] where the user may not write there or the directory is missing;
    /// else as [`connect`](Self::connect).
    pub async fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), ConnectError> {
        self.put_from(path, bytes, mode).await
    }

    /// As [`put`](Self::put), from a stream.
    ///
    /// # Errors
    /// As [`put`](Self::put), and where the source can't be read.
    pub async fn put_from(
        &self,
        path: &str,
        source: impl AsyncRead + Unpin + Send,
        mode: u32,
    ) -> Result<(), ConnectError> {
        let channel = self.channel(&Way::Session).await?;
        let beside = beside(path);
        let source = BufReader::with_capacity(CHUNK, source);
        self.upload(channel, &beside, source, mode).await?;
        let moved = self.output(&rename(&beside, path), &[]).await?;
        settled(self.target(), path, &moved)
    }

    pub(super) async fn put_over(
        &self,
        link: &Link,
        path: &str,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), ConnectError> {
        let channel = self.open(link, &Way::Session).await?;
        // The same name each time: one that was given up half way is written over.
        let beside = format!("{path}.{}", self.mark());
        self.upload(channel, &beside, bytes, mode).await?;
        let moved = self.output_over(link, &rename(&beside, path)).await?;
        settled(self.target(), path, &moved)
    }

    pub(super) async fn output_over(
        &self,
        link: &Link,
        command: &str,
    ) -> Result<CommandOutput, ConnectError> {
        let channel = self.open(link, &Way::Session).await?;
        self.start(&channel, command).await?;
        let streams = self.streams(channel, Purpose::Command);
        SshProcess::new(self.target().clone(), streams)
            .output(&[])
            .await
    }
}

fn beside(path: &str) -> String {
    format!("{path}.{}", uuid::Uuid::new_v4().simple())
}

/// SFTP's own rename replaces nothing.
fn rename(from: &str, to: &str) -> String {
    let (from, to) = (quote(from), quote(to));
    sh(&format!("mv -f {from} {to} || {{ rm -f {from}; exit 1; }}"))
}

fn settled(target: &SshTarget, path: &str, moved: &CommandOutput) -> Result<(), ConnectError> {
    match moved.code {
        0 => Ok(()),
        _ => Err(target.refused(format!(
            "putting {path} there: {}",
            String::from_utf8_lossy(&moved.stderr).trim()
        ))),
    }
}

impl SshConnection {
    async fn upload(
        &self,
        channel: Channel<Msg>,
        path: &str,
        mut source: impl AsyncBufRead + Unpin,
        mode: u32,
    ) -> Result<(), ConnectError> {
        let target = self.target();
        let broken =
            |error: russh::Error| target.unreachable(format!("starting SFTP there: {error}"));
        channel
            .request_subsystem(true, "sftp")
            .await
            .map_err(broken)?;
        let config = Config {
            // Enough under way for a line that is both fast and long.
            max_concurrent_writes: 64,
            request_timeout_secs: 60,
            ..Config::default()
        };
        let session = SftpSession::new_with_config(SshStream::new(channel, self.stalled()), config)
        .await
        .map_err(|error| {
            target.unreachable(format!(
                "starting SFTP there: {error}. Its sshd needs the subsystem sftp (Debian's package openssh-sftp-server)"
            ))
        })?;
        let failed = |error: SftpError| match &error {
            SftpError::Status(status)
                if matches!(
                    status.status_code,
                    StatusCode::PermissionDenied | StatusCode::NoSuchFile
                ) =>
            {
                target.refused(format!("writing {path} there: {error}"))
            }
            _ => target.unreachable(format!("writing {path} there: {error}")),
        };
        let attributes = FileAttributes {
            permissions: Some(mode),
            ..FileAttributes::empty()
        };
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE;
        let mut file = session
            .open_with_flags_and_attributes(path, flags, attributes.clone())
            .await
            .map_err(failed)?;
        let copied = async {
            tokio::io::copy_buf(&mut source, &mut file).await?;
            file.flush().await
        };
        if let Err(error) = copied.await {
            let why = target.unreachable(format!("writing {path} there: {error}"));
            return match session.remove_file(path).await {
                Ok(()) => Err(why),
                Err(left) => Err(target.unreachable(format!(
                    "writing {path} there: {error}; and it was left behind: {left}"
                ))),
            };
        }
        // Once more, for the first was subject to the user's umask.
        file.set_metadata(attributes).await.map_err(failed)?;
        file.close()
            .await
            .map_err(|error| target.unreachable(format!("closing {path} there: {error}")))?;
        session.close().await.map_err(failed)
    }
}
