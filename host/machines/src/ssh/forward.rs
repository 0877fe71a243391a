//! Ports and sockets of a machine, and places on this host that lead to them.

use super::connection::SshConnection;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// What is copied at once, in bytes.
const CHUNK: usize = 64 << 10;

/// A place on a machine that streams lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A unix socket on the machine, by its absolute path.
    Unix(String),
    /// A TCP port as the machine sees it.
    Port {
        /// An address or a name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for FarEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FarEnd::Unix(path) => write!(f, "the socket {path}"),
            FarEnd::Port { host, port } => write!(f, "{host} port {port}"),
        }
    }
}

/// A place on this host that leads to one on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// A TCP address; with port 0, one that is free. Everybody on this host can connect to it.
    Tcp(SocketAddr),
    /// A unix socket for the owner of this process alone, in a directory that others can't enter. It
    /// must not be there yet.
    Unix(PathBuf),
}

/// A place on this host that leads to one on a machine, until it is dropped.
#[derive(Debug)]
pub struct LocalForward {
    at: ListenAt,
    serving: JoinHandle<()>,
}

impl LocalForward {
    /// Where it is; a port that was 0 is known here.
    #[must_use]
    pub fn at(&self) -> &ListenAt {
        &self.at
    }
}

impl Drop for LocalForward {
    fn drop(&mut self) {
        self.serving.abort();
        if let ListenAt::Unix(path) = &self.at
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "a forwarded socket was not removed");
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl SshConnection {
    /// Listens on this host, and leads each connection to a place on the machine. One that can't be
    /// led there is closed, with a warning in the log.
    ///
    /// # Errors
    /// Where this host does not let us listen there.
    pub async fn listen_local(
        self: &Arc<Self>,
        at: ListenAt,
        to: FarEnd,
    ) -> io::Result<LocalForward> {
        let (listener, at) = match at {
            ListenAt::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                (Listener::Tcp(listener), ListenAt::Tcp(address))
            }
            ListenAt::Unix(path) => {
                let listener = UnixListener::bind(&path)?;
                tokio::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).await?;
                (Listener::Unix(listener), ListenAt::Unix(path))
            }
        };
        let connection = Arc::clone(self);
        let serving = tokio::spawn(async move {
            // What was accepted ends with this, too.
            let mut led = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok(stream) => {
                            let (connection, to) = (Arc::clone(&connection), to.clone());
                            led.spawn(async move { connection.lead(stream, to).await });
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a forwarded connection was not taken");
                            // It is this host that is short of something, and not only for a moment.
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    },
                    Some(ended) = led.join_next() => {
                        if let Err(error) = ended {
                            tracing::warn!(%error, "a forwarded connection broke");
                        }
                    }
                }
            }
        });
        Ok(LocalForward { at, serving })
    }

    async fn lead(&self, mut near: Box<dyn Stream>, to: FarEnd) {
        let machine = &self.target().machine;
        let mut far = match self.forward(to).await {
            Ok(far) => far,
            Err(error) => {
                tracing::warn!(machine, %error, "a connection was not forwarded");
                return;
            }
        };
        if let Err(error) = copy_bidirectional_with_sizes(&mut near, &mut far, CHUNK, CHUNK).await {
            tracing::debug!(machine, %error, "a forwarded connection broke");
        }
    }
}
