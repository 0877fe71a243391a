//! A way to one machine.

use async_trait::async_trait;
use std::fmt;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A way to one machine: how to start the helper there.
#[async_trait]
pub trait Connection: Send + Sync + fmt::Debug {
    /// Starts `springtide-helper ARGUMENTS...` on the machine. Nothing secret is in arguments.
    ///
    /// # Errors
    /// Where the helper could not be started there.
    async fn helper(&self, arguments: &[&str]) -> Result<HelperProcess, ConnectError>;

    /// The directory on the machine under which builds live, absolute.
    fn home(&self) -> &str;

    /// A stream to a unix socket on the machine: that of its container engine.
    ///
    /// # Errors
    /// Where nothing listens there, or we may not connect to it.
    async fn socket(&self, path: &str) -> Result<ByteStream, ConnectError>;

    /// Where on the machine the helper's program is, absolute; it is put there if it is not yet.
    ///
    /// # Errors
    /// Where the machine can't be reached, or takes no helper.
    async fn helper_path(&self) -> Result<String, ConnectError>;

    /// Whether other machines have the same container engine.
    fn shares_engine(&self) -> bool;
}

/// A stream of bytes in both directions.
pub type ByteStream = Box<dyn Duplex>;

/// What a [`ByteStream`] is made of.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A helper that runs on a machine. Dropped, it is killed; the work it may have started is not.
pub struct HelperProcess {
    /// Its standard input.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    exit: Box<dyn Exit>,
}

/// What waits for a helper's end, and kills it when dropped.
#[async_trait]
pub trait Exit: Send {
    /// Waits for the end.
    ///
    /// # Errors
    /// Where the end can't be learned.
    async fn wait(&mut self) -> Result<HelperExit, ConnectError>;
}

/// How a helper ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperExit {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// The end of what it, or the way to it, wrote to standard error.
    pub stderr: String,
}

impl HelperProcess {
    /// A helper, by its two streams and what waits for its end.
    #[must_use]
    pub fn new(
        stdin: Pin<Box<dyn AsyncWrite + Send>>,
        stdout: Pin<Box<dyn AsyncRead + Send>>,
        exit: Box<dyn Exit>,
    ) -> Self {
        Self {
            stdin,
            stdout,
            exit,
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where the end can't be learned.
    pub async fn wait(&mut self) -> Result<HelperExit, ConnectError> {
        self.exit.wait().await
    }
}

impl fmt::Debug for HelperProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelperProcess")
    }
}

/// Why a machine was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It did not answer; it may later.
    #[error("{machine} can't be reached: {why}")]
    Unreachable {
        /// Which machine.
        machine: String,
        /// What happened.
        why: String,
    },
    /// The machine is not there any more.
    #[error("{machine} is gone: {why}")]
    Gone {
        /// Which machine.
        machine: String,
        /// What tells so.
        why: String,
    },
    /// It is there and will not let us in, however often it is tried.
    #[error("{machine} refuses: {why}")]
    Refused {
        /// Which machine.
        machine: String,
        /// What it said.
        why: String,
    },
}
