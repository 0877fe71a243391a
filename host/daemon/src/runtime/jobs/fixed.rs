//! A trace that is whole from the start: of a job that never came so far as to have one.

use springtide_gitlab::TraceSource;
use tokio::sync::watch;

/// A trace that is whole from the start.
pub(super) struct Fixed {
    text: bytes::Bytes,
    length: watch::Sender<u64>,
}

impl Fixed {
    pub(super) fn new(text: String) -> Fixed {
        let length = watch::Sender::new(text.len() as u64);
        Fixed {
            text: text.into(),
            length,
        }
    }
}

impl TraceSource for Fixed {
    fn len(&self) -> u64 {
        self.text.len() as u64
    }

    fn read(&self, from: u64, max: usize) -> std::io::Result<bytes::Bytes> {
        let from = usize::try_from(from).map_or(self.text.len(), |at| at.min(self.text.len()));
        let to = from.saturating_add(max).min(self.text.len());
        Ok(self.text.slice(from..to))
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.text)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }
}
