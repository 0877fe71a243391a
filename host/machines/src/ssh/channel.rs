//! One channel of a connection, as streams.
//!
//! All of a machine's channels share one connection, and russh hands out what comes in strictly in
//! turn: a channel whose reader stands still holds up all others. So one that leaves 4 MiB unread
//! for too long loses its channel.

use super::stream::{Reader, Writer};
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is kept of a standard error that nobody reads, in bytes.
const KEPT: usize = 4096;

/// Extended data of this type is standard error.
const STDERR: u32 = 1;

/// What a channel is for, where it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A command whose standard error is read.
    Command,
    /// A command of whose standard error only the end is kept.
    Helper,
    /// A stream of bytes to somewhere beyond the machine's sshd: a cut is an error of its reads.
    Stream,
}

/// How a channel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its command ended; 128 and the signal's number if a signal ended it.
    Exited { code: i32, stderr: String },
    /// The other side would not do what was asked.
    Refused,
    /// It was closed, and there was no command whose end could be told.
    Closed,
    /// It ended without a word: the connection was cut.
    Cut,
    /// Its reader stood still.
    Stalled,
}

/// A channel's streams. What is abandoned is killed and closed.
pub(super) struct Streams {
    pub(super) stdin: Writer,
    pub(super) stdout: Reader,
    pub(super) stderr: Option<Reader>,
    pub(super) end: oneshot::Receiver<End>,
    pub(super) abandoned: DropGuard,
}

/// Takes a channel apart, and keeps it going. `stalled` is how long a reader may leave a full
/// buffer.
pub(super) fn streams(
    channel: Channel<Msg>,
    purpose: Purpose,
    stalled: Duration,
) -> (Streams, Resizer) {
    let (read, write) = channel.split();
    let (stdout, out) = Reader::new();
    let (stderr, err) = match purpose {
        Purpose::Command => {
            let (reader, sender) = Reader::new();
            (Some(reader), Stderr::Read(Some(sender)))
        }
        Purpose::Helper | Purpose::Stream => (None, Stderr::Kept(Vec::new())),
    };
    let (ended, end) = oneshot::channel();
    let closed = CancellationToken::new();
    let abandoned = CancellationToken::new();
    let eof = CancellationToken::new();
    let (resize, sizes) = mpsc::channel(4);
    let stdin = Writer::new(write.make_writer(), closed.clone(), eof.clone());
    let broke = stdout.broke();
    let pump = Pump {
        read,
        out: Some(out),
        err,
        code: None,
        stalled,
    };
    tokio::spawn({
        let (closed, abandoned) = (closed.clone(), abandoned.clone());
        async move {
            let end = pump.run(&abandoned, purpose, &broke).await;
            if matches!(end, End::Refused | End::Stalled) {
                abandoned.cancel();
            }
            closed.cancel();
            // Whoever would wait for it may be gone.
            drop(ended.send(end));
        }
    });
    tokio::spawn(steer(write, purpose, eof, abandoned.clone(), closed, sizes));
    let streams = Streams {
        stdin,
        stdout,
        stderr,
        end,
        abandoned: abandoned.drop_guard(),
    };
    (streams, Resizer(resize))
}

/// Tells the other side the size of a terminal.
#[derive(Debug)]
pub(super) struct Resizer(mpsc::Sender<(u32, u32)>);

impl Resizer {
    pub(super) async fn resize(&self, columns: u32, rows: u32) -> Result<(), ()> {
        self.0.send((columns, rows)).await.map_err(|_| ())
    }
}

/// Sends what is not data. Apart from the pump, which must never wait for the connection: the
/// connection waits for the pump.
async fn steer(
    write: ChannelWriteHalf<Msg>,
    purpose: Purpose,
    eof: CancellationToken,
    abandoned: CancellationToken,
    closed: CancellationToken,
    mut sizes: mpsc::Receiver<(u32, u32)>,
) {
    let mut open = true;
    loop {
        // A send fails only where the connection is gone, and then the pump ends.
        let sent = tokio::select! {
            biased;
            () = abandoned.cancelled() => {
                if purpose != Purpose::Stream && write.signal(Sig::KILL).await.is_err() {
                    break;
                }
                drop(write.close().await);
                break;
            }
            () = closed.cancelled() => break,
            Some((columns, rows)) = sizes.recv() => write.window_change(columns, rows, 0, 0).await,
            () = eof.cancelled(), if open => {
                open = false;
                write.eof().await
            }
        };
        if sent.is_err() {
            break;
        }
    }
}

enum Stderr {
    Read(Option<mpsc::Sender<Bytes>>),
    Kept(Vec<u8>),
}

struct Pump {
    read: ChannelReadHalf,
    out: Option<mpsc::Sender<Bytes>>,
    err: Stderr,
    code: Option<i32>,
    stalled: Duration,
}

impl Pump {
    async fn run(
        mut self,
        abandoned: &CancellationToken,
        purpose: Purpose,
        broke: &OnceLock<ErrorKind>,
    ) -> End {
        let end = self.pump(abandoned).await;
        // Told before the senders are dropped, for a reader looks once they are.
        let told = match end {
            End::Cut if purpose == Purpose::Stream => broke.set(ErrorKind::ConnectionReset),
            End::Stalled => broke.set(ErrorKind::TimedOut),
            _ => Ok(()),
        };
        debug_assert!(told.is_ok(), "a channel ended twice");
        end
    }

    async fn pump(&mut self, abandoned: &CancellationToken) -> End {
        loop {
            let message = tokio::select! {
                message = self.read.wait() => message,
                () = abandoned.cancelled() => return End::Closed,
            };
            let kept = match message {
                Some(ChannelMsg::Data { data }) => {
                    hand_over(&mut self.out, data, self.stalled).await
                }
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => self.stderr(data).await,
                Some(ChannelMsg::Eof) => {
                    self.out = None;
                    if let Stderr::Read(sender) = &mut self.err {
                        *sender = None;
                    }
                    Ok(())
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    self.code = Some(i32::try_from(exit_status).unwrap_or(i32::MAX));
                    Ok(())
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.code = Some(128 + number_of(&signal_name));
                    Ok(())
                }
                Some(ChannelMsg::Failure) => return End::Refused,
                Some(ChannelMsg::Close) => return self.ended().unwrap_or(End::Closed),
                Some(_) => Ok(()),
                None => return self.ended().unwrap_or(End::Cut),
            };
            if let Err(Stalled) = kept {
                return End::Stalled;
            }
        }
    }

    async fn stderr(&mut self, data: Bytes) -> Result<(), Stalled> {
        match &mut self.err {
            Stderr::Read(sender) => hand_over(sender, data, self.stalled).await,
            Stderr::Kept(kept) => {
                kept.extend_from_slice(&data);
                let beyond = kept.len().saturating_sub(KEPT);
                kept.drain(..beyond);
                Ok(())
            }
        }
    }

    fn ended(&mut self) -> Option<End> {
        let code = self.code?;
        let stderr = match &self.err {
            Stderr::Kept(kept) => String::from_utf8_lossy(kept).trim().to_owned(),
            Stderr::Read(_) => String::new(),
        };
        Some(End::Exited { code, stderr })
    }
}

struct Stalled;

/// Gives data to a reader. One that is gone reads no more, and the channel goes on without it.
async fn hand_over(
    to: &mut Option<mpsc::Sender<Bytes>>,
    data: Bytes,
    stalled: Duration,
) -> Result<(), Stalled> {
    let Some(sender) = to else { return Ok(()) };
    match sender.send_timeout(data, stalled).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => {
            *to = None;
            Ok(())
        }
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Stalled),
    }
}

fn number_of(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 0,
    }
}
