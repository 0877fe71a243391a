//! The output of a piece of work, as it comes.

use crate::client::HelperError;
use crate::connection::HelperProcess;
use bytes::Bytes;
use springtide_helper::frame::{FrameKind, HEADER, PULSE_SECONDS, read_header};
use springtide_helper::{Ending, Fault, WorkEnd};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long a connection may say nothing, not even that nothing comes.
const SILENCE: Duration = Duration::from_secs(6 * PULSE_SECONDS);

/// Output from an offset to the end. Dropped, nothing happens to the work.
#[derive(Debug)]
pub struct Follow {
    process: HelperProcess,
    offset: u64,
    ending: Option<Ending>,
    partial: Partial,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Some output.
    Bytes {
        /// Where in the whole output it stands, in bytes.
        offset: u64,
        /// Itself, 1 MiB at most, never empty.
        bytes: Bytes,
    },
    /// The end; nothing comes after it.
    Ended(WorkEnd),
}

/// A frame that has not come whole. It is kept in the follow, so that a `next` that is dropped in
/// the middle loses nothing.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    wanted: Option<(FrameKind, usize)>,
}

impl Follow {
    pub(crate) async fn begin(process: HelperProcess) -> Result<Self, HelperError> {
        let mut follow = Self {
            process,
            offset: 0,
            ending: None,
            partial: Partial::default(),
        };
        match follow.frame().await? {
            (FrameKind::Start, payload) => {
                let offset = payload
                    .try_into()
                    .map_err(|_| HelperError::broken("follow", "its first frame has no offset"))?;
                follow.offset = u64::from_be_bytes(offset);
                Ok(follow)
            }
            (FrameKind::Fault, payload) => Err(fault(&payload)),
            (kind, _) => Err(unexpected(kind)),
        }
    }

    /// What comes next; nothing after the end. It can be dropped and called again.
    ///
    /// # Errors
    /// [`HelperError::Broken`] where the connection ended before the work: follow again from
    /// [`offset`](Self::offset).
    pub async fn next(&mut self) -> Result<Option<Output>, HelperError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        loop {
            match self.frame().await? {
                (FrameKind::Output, payload) if !payload.is_empty() => {
                    let offset = self.offset;
                    self.offset += payload.len() as u64;
                    let bytes = Bytes::from(payload);
                    return Ok(Some(Output::Bytes { offset, bytes }));
                }
                (FrameKind::Output | FrameKind::Pulse, _) => {}
                (FrameKind::End, payload) => {
                    let ending: Ending = serde_json::from_slice(&payload)
                        .map_err(|error| HelperError::broken("follow", error))?;
                    self.ending = Some(ending);
                    return Ok(Some(Output::Ended(ending.end)));
                }
                (FrameKind::Fault, payload) => return Err(fault(&payload)),
                (kind @ FrameKind::Start, _) => return Err(unexpected(kind)),
            }
        }
    }

    /// Where the next output stands, in bytes: from here a follow goes on after a broken
    /// connection.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of output beyond the spool's limit, which are lost; known after the end.
    #[must_use]
    pub fn discarded(&self) -> Option<u64> {
        self.ending.map(|ending| ending.discarded)
    }

    async fn frame(&mut self) -> Result<(FrameKind, Vec<u8>), HelperError> {
        loop {
            let missing = match self.partial.wanted {
                Some((kind, length)) if self.partial.bytes.len() == length => {
                    self.partial.wanted = None;
                    return Ok((kind, std::mem::take(&mut self.partial.bytes)));
                }
                Some((_, length)) => length - self.partial.bytes.len(),
                None => HEADER - self.partial.bytes.len(),
            };
            let mut source = (&mut self.process.stdout).take(missing as u64);
            let read = source.read_buf(&mut self.partial.bytes);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(0)) => return Err(self.broken().await),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(HelperError::broken("follow", error)),
                Err(_) => {
                    let why = format!("nothing came for {} s", SILENCE.as_secs());
                    return Err(HelperError::broken("follow", why));
                }
            }
            if self.partial.wanted.is_none()
                && let Ok(header) = <[u8; HEADER]>::try_from(self.partial.bytes.as_slice())
            {
                let wanted = read_header(header)
                    .ok_or_else(|| HelperError::broken("follow", "what it says is no frame"))?;
                self.partial.bytes.clear();
                self.partial.bytes.reserve_exact(wanted.1);
                self.partial.wanted = Some(wanted);
            }
        }
    }

    async fn broken(&mut self) -> HelperError {
        match self.process.wait().await {
            Ok(exit) => HelperError::broken(
                "follow",
                format!("it ended with {}. {}", exit.code, exit.stderr),
            ),
            Err(error) => error.into(),
        }
    }
}

fn fault(payload: &[u8]) -> HelperError {
    match serde_json::from_slice::<Fault>(payload) {
        Ok(fault) => HelperError::of(fault),
        Err(error) => HelperError::broken("follow", error),
    }
}

fn unexpected(kind: FrameKind) -> HelperError {
    HelperError::broken(
        "follow",
        format!("a frame of {kind:?} came out of its turn"),
    )
}
