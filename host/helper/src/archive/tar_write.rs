//! Writes a tar packed by Zstandard to where it goes, without a copy on the disk: `tarzstd`, which GitLab
//! Runner writes caches as where `CACHE_COMPRESSION_FORMAT` says so.

use super::pieces::{Head, Packing, Piece, pieces, zstd_level};
use super::project::Project;
use super::select::Selection;
use super::{PackError, Say, shown};
use rustix::fs::FileType;
use springtide_helper::Level;
use std::io::{self, Write};
use tar::{EntryType, Header};
use zstd::stream::write::Encoder;

/// Bytes of a record; everything is filled up to it.
const BLOCK: usize = 512;
/// Bytes of a name that a header has room for.
const ROOM: usize = 100;

/// Writes the files of a selection as a packed tar. Returns its length in bytes.
///
/// # Errors
/// Where a file can't be read, becomes shorter meanwhile, or the archive not be written. A file that is
/// gone by then is a warning.
pub(crate) fn write_tar(
    project: &Project,
    selection: &Selection,
    level: Level,
    say: Say<'_>,
    to: &mut dyn Write,
) -> Result<u64, PackError> {
    let counted = Counted { to, bytes: 0 };
    let mut encoder = Encoder::new(counted, zstd_level(level))?;
    // A tar has no checksums of what is in it.
    encoder.include_checksum(true)?;
    let mut tar = Tar {
        to: encoder,
        name: Vec::new(),
        size: 0,
        left: 0,
    };
    pieces(
        project,
        selection,
        Packing::Plain,
        say,
        |head, piece, last| tar.piece(head, &piece, last),
    )?;
    tar.to.write_all(&[0; 2 * BLOCK])?;
    let mut counted = tar.to.finish()?;
    counted.flush()?;
    Ok(counted.bytes)
}

struct Counted<'a> {
    to: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

struct Tar<'a> {
    to: Encoder<'static, Counted<'a>>,
    /// The file whose pieces come: its name, its bytes, and how many are to come.
    name: Vec<u8>,
    size: u64,
    left: u64,
}

impl Tar<'_> {
    fn piece(&mut self, head: Option<Head>, piece: &Piece, last: bool) -> Result<(), PackError> {
        if let Some(head) = head {
            let target = match FileType::from_raw_mode(head.mode) {
                FileType::Symlink => Some(&piece.bytes[..]),
                _ => None,
            };
            // A header tells what comes, and a whole file is here.
            let size = if last { piece.raw } else { head.size };
            self.head(&head, target, size)?;
            (self.name, self.size) = (head.name, size);
            self.left = size;
            if target.is_some() {
                self.left = 0;
                return Ok(());
            }
        }
        let rest = self.left.checked_sub(piece.raw);
        match rest {
            Some(rest) if rest == 0 || !last => self.left = rest,
            _ => {
                return Err(PackError::File {
                    path: shown(&self.name),
                    error: io::Error::other("it became shorter or longer while it was read"),
                });
            }
        }
        self.to.write_all(&piece.bytes)?;
        if last {
            self.fill(self.size)?;
        }
        Ok(())
    }

    fn head(&mut self, head: &Head, target: Option<&[u8]>, size: u64) -> io::Result<()> {
        self.long(EntryType::GNULongName, &head.name)?;
        self.long(EntryType::GNULongLink, target.unwrap_or_default())?;
        let mut header = Header::new_gnu();
        let kind = match FileType::from_raw_mode(head.mode) {
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            _ => EntryType::Regular,
        };
        header.set_entry_type(kind);
        header.set_size(if target.is_some() { 0 } else { size });
        header.set_mode(head.mode & 0o7777);
        header.set_uid(head.owner.0.into());
        header.set_gid(head.owner.1.into());
        // Before 1970 is told as 1970.
        header.set_mtime(u64::try_from(head.changed).unwrap_or(0));
        if let Some(header) = header.as_gnu_mut() {
            put(&mut header.name, &head.name);
            put(&mut header.linkname, target.unwrap_or_default());
        }
        header.set_cksum();
        self.to.write_all(header.as_bytes())
    }

    /// A name that the header has no room for, before it.
    fn long(&mut self, kind: EntryType, name: &[u8]) -> io::Result<()> {
        if name.len() <= ROOM {
            return Ok(());
        }
        let size = name.len() as u64 + 1;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        if let Some(header) = header.as_gnu_mut() {
            put(&mut header.name, b"././@LongLink");
        }
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(name)?;
        self.to.write_all(&[0])?;
        self.fill(size)
    }

    /// What is missing to a whole record after so many bytes.
    fn fill(&mut self, bytes: u64) -> io::Result<()> {
        let over = (bytes % BLOCK as u64) as usize;
        if over > 0 {
            self.to.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
    }
}

/// As much of a name as there is room for.
fn put(field: &mut [u8; ROOM], name: &[u8]) {
    let length = name.len().min(ROOM);
    field[..length].copy_from_slice(&name[..length]);
}
