//! The two ends of a channel as streams of bytes.

use super::channel::{Purpose, streams};
use bytes::Bytes;
use russh::Channel;
use russh::client::Msg;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Messages of at most 32 KiB that are buffered for a reader.
const BUFFERED: usize = 128;

/// What comes out of a channel.
pub(super) struct Reader {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
    /// Why what came is not all; nothing where it is.
    broke: Arc<OnceLock<ErrorKind>>,
}

impl Reader {
    pub(super) fn new() -> (Self, mpsc::Sender<Bytes>) {
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let reader = Self {
            receiver,
            rest: Bytes::new(),
            broke: Arc::default(),
        };
        (reader, sender)
    }

    /// Where to tell, before its senders are dropped, that there should have been more.
    pub(super) fn broke(&self) -> Arc<OnceLock<ErrorKind>> {
        Arc::clone(&self.broke)
    }

    fn end(&self) -> io::Result<()> {
        let why = match self.broke.get() {
            None => return Ok(()),
            Some(ErrorKind::TimedOut) => "it was left unread for too long",
            Some(_) => "the SSH connection was cut",
        };
        Err(io::Error::new(ErrorKind::ConnectionReset, why))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Some(data) => self.rest = data,
                None => return Poll::Ready(self.end()),
            }
        }
        let taken = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

/// What goes into a channel. Shut down or dropped, the other side reads an end.
pub(super) struct Writer {
    inner: Pin<Box<dyn AsyncWrite + Send>>,
    // Of a channel whose window is full, russh's own writer would not learn that it closed.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    eof: CancellationToken,
}

impl Writer {
    /// `closed` is cancelled by the channel when it has ended, `eof` by this when its end is to be
    /// told.
    pub(super) fn new(
        inner: impl AsyncWrite + Send + 'static,
        closed: CancellationToken,
        eof: CancellationToken,
    ) -> Self {
        Self {
            inner: Box::pin(inner),
            closed: Box::pin(closed.cancelled_owned()),
            eof,
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.eof.is_cancelled() || self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.eof.cancel();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.eof.cancel();
    }
}

/// A stream of bytes through a machine: a socket or a port there. Dropped, it is closed.
pub struct SshStream {
    reader: Reader,
    writer: Writer,
    _abandoned: DropGuard,
}

impl SshStream {
    pub(super) fn new(channel: Channel<Msg>, stalled: Duration) -> Self {
        let (streams, _) = streams(channel, Purpose::Stream, stalled);
        Self {
            reader: streams.stdout,
            writer: streams.stdin,
            _abandoned: streams.abandoned,
        }
    }
}

impl fmt::Debug for SshStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SshStream")
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
