//! A command that runs on a machine.

use super::channel::{End, Streams};
use super::connection::SshTarget;
use crate::connection::{ConnectError, Exit, HelperExit, HelperProcess};
use async_trait::async_trait;
use std::fmt;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

/// Of each stream of a command that runs to its end, this much is kept, in bytes.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// A command on a machine. Its streams have to be read: one that is left standing is closed, for it
/// would hold up everything else on the machine. Dropped, its streams are closed and it is killed; an
/// sshd that serves root does only the first.
pub struct SshProcess {
    /// Its standard input; its end is told by dropping it.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// Its standard error.
    pub stderr: Pin<Box<dyn AsyncRead + Send>>,
    exit: SshExit,
}

/// How a command ended, and what it put out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

impl SshProcess {
    pub(super) fn new(target: SshTarget, streams: Streams) -> Self {
        let stderr: Pin<Box<dyn AsyncRead + Send>> = match streams.stderr {
            Some(stderr) => Box::pin(stderr),
            None => Box::pin(tokio::io::empty()),
        };
        Self {
            stdin: Box::pin(streams.stdin),
            stdout: Box::pin(streams.stdout),
            stderr,
            exit: SshExit::new(target, streams.end, streams.abandoned),
        }
    }

    /// Waits for its end, and gives its exit code; 128 and the signal's number if a signal ended it.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] where the connection is cut before the end: what became of the
    /// command is not known then.
    pub async fn wait(&mut self) -> Result<i32, ConnectError> {
        self.exit.wait().await.map(|exit| exit.code)
    }

    /// Gives it input, and runs it to its end.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn output(self, input: &[u8]) -> Result<CommandOutput, ConnectError> {
        let Self {
            mut stdin,
            stdout,
            stderr,
            mut exit,
        } = self;
        let write = async move {
            // A command that ends early reads no further.
            match stdin.write_all(input).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => stdin.shutdown().await,
            }
        };
        let streams = async { tokio::try_join!(write, beginning(stdout), beginning(stderr)) };
        match streams.await {
            Ok(((), stdout, stderr)) => Ok(CommandOutput {
                code: exit.wait().await?.code,
                stdout,
                stderr,
            }),
            Err(error) => Err(exit
                .target
                .unreachable(format!("talking to a command there: {error}"))),
        }
    }
}

impl fmt::Debug for SshProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SshProcess")
    }
}

/// The beginning of a stream, which is read to its end.
async fn beginning(mut from: Pin<Box<dyn AsyncRead + Send>>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut from)
        .take(OUTPUT_LIMIT)
        .read_to_end(&mut kept)
        .await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

pub(super) fn helper_process(target: SshTarget, streams: Streams) -> HelperProcess {
    HelperProcess::new(
        Box::pin(streams.stdin),
        Box::pin(streams.stdout),
        Box::new(SshExit::new(target, streams.end, streams.abandoned)),
    )
}

pub(super) struct SshExit {
    target: SshTarget,
    end: oneshot::Receiver<End>,
    ended: Option<Result<HelperExit, ConnectError>>,
    _abandoned: DropGuard,
}

impl SshExit {
    pub(super) fn new(
        target: SshTarget,
        end: oneshot::Receiver<End>,
        abandoned: DropGuard,
    ) -> Self {
        Self {
            target,
            end,
            ended: None,
            _abandoned: abandoned,
        }
    }
}

#[async_trait]
impl Exit for SshExit {
    async fn wait(&mut self) -> Result<HelperExit, ConnectError> {
        if self.ended.is_none() {
            let end = (&mut self.end).await.unwrap_or(End::Cut);
            self.ended = Some(exit_of(&self.target, end));
        }
        self.ended
            .clone()
            .unwrap_or_else(|| exit_of(&self.target, End::Cut))
    }
}

fn exit_of(target: &SshTarget, end: End) -> Result<HelperExit, ConnectError> {
    match end {
        End::Exited { code, stderr } => Ok(HelperExit { code, stderr }),
        End::Refused => Err(target.refused("its sshd starts no commands for this key")),
        End::Cut => Err(target.unreachable("the connection was cut while a command ran there")),
        End::Closed => {
            Err(target.unreachable("a command ended there and its sshd did not say how"))
        }
        End::Stalled => Err(target.unreachable(
            "the output of a command there was left unread for so long that it was closed",
        )),
    }
}
