//! Writes a zip to where it goes, without a copy on the disk.

use super::pieces::{Head, Packing, Piece, pieces};
use super::project::Project;
use super::records::{self, Entry, NARROW};
use super::select::Selection;
use super::spill::Spill;
use super::{PackError, Say};
use std::io::{self, Write};

/// Writes the files of a selection as a zip. Returns its length in bytes.
///
/// # Errors
/// Where a file can't be read or the archive not be written. A file that is gone by then is a
/// warning.
pub(crate) fn write_zip(
    project: &Project,
    selection: &Selection,
    packing: Packing,
    say: Say<'_>,
    to: &mut dyn Write,
) -> Result<u64, PackError> {
    let mut zip = Zip {
        to,
        offset: 0,
        directory: Spill::default(),
        entries: 0,
        open: None,
        scratch: Vec::new(),
    };
    pieces(project, selection, packing, say, |head, piece, last| {
        Ok(zip.piece(head, piece, last)?)
    })?;
    Ok(zip.finish()?)
}

struct Zip<'a> {
    to: &'a mut dyn Write,
    offset: u64,
    directory: Spill,
    entries: u64,
    /// The entry whose pieces come, and its checksum so far.
    open: Option<(Entry, crc32fast::Hasher)>,
    scratch: Vec<u8>,
}

impl Zip<'_> {
    fn piece(&mut self, head: Option<Head>, piece: Piece, last: bool) -> io::Result<()> {
        if let Some(head) = head {
            self.begin(head, &piece, last)?;
        }
        let Some((mut entry, mut crc)) = self.open.take() else {
            return Err(io::Error::other("a piece of no file"));
        };
        self.write(&piece.bytes)?;
        entry.packed += piece.bytes.len() as u64;
        entry.raw += piece.raw;
        crc.combine(&piece.crc);
        if !last {
            self.open = Some((entry, crc));
            return Ok(());
        }
        entry.crc = crc.finalize();
        let mut record = std::mem::take(&mut self.scratch);
        record.clear();
        if entry.later {
            entry.descriptor(&mut record);
            self.write(&record)?;
            record.clear();
        }
        entry.central(&mut record);
        self.directory.push(&record)?;
        self.entries += 1;
        self.scratch = record;
        Ok(())
    }

    fn begin(&mut self, head: Head, piece: &Piece, last: bool) -> io::Result<()> {
        let mut entry = Entry {
            name: head.name,
            mode: head.mode,
            changed: head.changed,
            owner: head.owner,
            method: piece.method,
            wide: head.size >= NARROW,
            later: !last,
            crc: 0,
            packed: 0,
            raw: 0,
            offset: self.offset,
        };
        if last {
            // All of it is here, and is told before it comes.
            entry.crc = piece.crc.clone().finalize();
            entry.packed = piece.bytes.len() as u64;
            entry.raw = piece.raw;
        }
        let mut record = std::mem::take(&mut self.scratch);
        record.clear();
        entry.local(&mut record);
        self.write(&record)?;
        self.scratch = record;
        (entry.packed, entry.raw) = (0, 0);
        self.open = Some((entry, crc32fast::Hasher::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<u64> {
        let (size, offset) = (self.directory.len(), self.offset);
        std::mem::take(&mut self.directory).drain(self.to)?;
        let end = records::end(self.entries, size, offset);
        self.to.write_all(&end)?;
        self.to.flush()?;
        Ok(offset + size + end.len() as u64)
    }
}
