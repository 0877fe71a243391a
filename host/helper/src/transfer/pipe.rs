//! What one thread writes and another reads, a few buffers apart. A reader learns whether the writer
//! came to its end.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const BUFFER: usize = 128 << 10;
const BUFFERS: usize = 8;

/// The two ends.
pub(super) fn pipe() -> (Writer, Reader) {
    let (to, from) = sync_channel(BUFFERS);
    let writer = Writer {
        to,
        buffer: Vec::with_capacity(BUFFER),
    };
    let reader = Reader {
        from,
        buffer: Vec::new(),
        at: 0,
        over: false,
    };
    (writer, reader)
}

/// Takes bytes.
pub(super) struct Writer {
    to: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Writer {
    /// Says that all is written. Dropped without it, the reader fails.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.pass(Vec::new())
    }

    fn pass(&self, buffer: Vec<u8>) -> io::Result<()> {
        let gone = |_| io::Error::new(ErrorKind::BrokenPipe, "nobody takes it");
        self.to.send(buffer).map_err(gone)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        self.pass(full)
    }
}

/// Gives them.
pub(super) struct Reader {
    from: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    over: bool,
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() && !self.over {
            self.buffer = self
                .from
                .recv()
                .map_err(|_| io::Error::other("the archive was not written to its end"))?;
            self.at = 0;
            self.over = self.buffer.is_empty();
        }
        let length = bytes.len().min(self.buffer.len() - self.at);
        bytes[..length].copy_from_slice(&self.buffer[self.at..][..length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_an_end_without_a_word_is_an_error() {
        let all: Vec<u8> = (0..3 << 20).map(|at| at as u8).collect();
        let (mut writer, mut reader) = pipe();
        let mut read = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&all).unwrap();
                writer.finish().unwrap();
            });
            reader.read_to_end(&mut read).unwrap();
        });
        assert!(read == all);
        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        let (mut writer, reader) = pipe();
        drop(reader);
        assert!(writer.write_all(&all).is_err());
    }
}
