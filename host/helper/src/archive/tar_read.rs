//! Unpacks a tar packed by Zstandard beneath a directory: a cache that GitLab Runner, or this, wrote as
//! `tarzstd`.
//!
//! As with a zip, it is read more than once: first to see that every name and size may be, so that of an
//! archive that must not be unpacked nothing is; then for the files; then for links, which nothing can
//! be written through any more; last for what directories look like. Memory is bounded: what a header
//! says of names is cut off at a size that no name has.

use super::beneath::{Beneath, Last, Look, path_of};
use super::inflate::WINDOW;
use super::read::{
    Bounds, Directories, LONGEST_LINK, Sink, UnpackError, Unpacked, refused, write_file, write_link,
};
use super::shown;
use rustix::fs::FileType;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use tar::{EntryType, Header, PaxExtensions};
use zstd::stream::read::Decoder;

/// What a frame of Zstandard begins with (RFC 8878, section 3.1.1).
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of a record.
const BLOCK: usize = 512;
/// The most that is kept of what stands before a header, in bytes.
const LONGEST: u64 = 1 << 20;

/// Unpacks an archive; see [`unpack`](super::read::unpack).
pub(super) fn unpack(
    archive: &File,
    into: &Beneath,
    limit: Option<u64>,
) -> Result<Unpacked, UnpackError> {
    let owner = rustix::process::geteuid().is_root();
    let (total, links, directories) = check(archive, Bounds::of(into, limit)?)?;
    let mut last = Last::default();
    each(archive, owner, |entry, tar| match entry.kind {
        FileType::Directory => into
            .directory(&entry.path)
            .map(drop)
            .map_err(|why| refused(&entry.path, why)),
        FileType::RegularFile => write_file(into, &entry.path, entry.look, &mut last, |to| {
            tar.content(to)
        }),
        _ => Ok(()),
    })?;
    if links {
        let mut last = Last::default();
        each(archive, owner, |entry, _| match entry.kind {
            FileType::Symlink => {
                write_link(into, &entry.path, &entry.target, entry.look, &mut last)
            }
            _ => Ok(()),
        })?;
    }
    if directories {
        let mut all = Directories::of(into);
        each(archive, owner, |entry, _| match entry.kind {
            FileType::Directory => all.dress(entry.path, entry.look),
            _ => Ok(()),
        })?;
        all.finish()?;
    }
    Ok(total)
}

/// Looks at every entry before anything is written. Returns what there is in all, and whether there are
/// links and directories.
fn check(archive: &File, bounds: Bounds) -> Result<(Unpacked, bool, bool), UnpackError> {
    let mut total = Unpacked::default();
    let (mut links, mut directories) = (false, false);
    each(archive, false, |entry, tar| {
        match entry.kind {
            FileType::Symlink if entry.target.len() as u64 >= LONGEST_LINK => {
                return Err(odd(&entry.path, "is a link longer than any"));
            }
            FileType::Symlink => links = true,
            FileType::Directory => directories = true,
            _ => {}
        }
        total.entries += 1;
        total.bytes = total.bytes.saturating_add(tar.left);
        // Before so much of it is even looked at.
        bounds.hold(total)
    })?;
    Ok((total, links, directories))
}

/// An entry, without its content.
struct Entry {
    path: Vec<u8>,
    kind: FileType,
    /// Of a link.
    target: Vec<u8>,
    look: Look,
}

/// Calls for each entry, from the beginning.
fn each(
    archive: &File,
    owner: bool,
    mut call: impl FnMut(Entry, &mut Tar<'_>) -> Result<(), UnpackError>,
) -> Result<(), UnpackError> {
    let mut from = archive;
    from.seek(SeekFrom::Start(0)).map_err(read_error)?;
    let mut decoder = Decoder::new(archive).map_err(read_error)?;
    decoder.window_log_max(WINDOW).map_err(read_error)?;
    let mut tar = Tar {
        from: decoder,
        left: 0,
        fill: 0,
        buffer: vec![0; 256 << 10],
    };
    while let Some(entry) = tar.next(owner)? {
        call(entry, &mut tar)?;
    }
    Ok(())
}

struct Tar<'a> {
    from: Decoder<'static, BufReader<&'a File>>,
    /// Bytes of the entry's content that are not read yet, and what fills up its last record.
    left: u64,
    fill: u64,
    buffer: Vec<u8>,
}

/// What stands before a header and counts in its place (POSIX's pax, and GNU's longer names).
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    changed: Option<i64>,
    user: Option<u64>,
    group: Option<u64>,
}

impl Tar<'_> {
    fn next(&mut self, owner: bool) -> Result<Option<Entry>, UnpackError> {
        self.content(&mut |_| Ok(()))?;
        let mut before = Before::default();
        // Each takes a name's place, or tells what is not asked for; a hundred of them is nobody's.
        for _ in 0..100 {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(wrong)?;
            match header.entry_type() {
                EntryType::GNULongName => before.path = Some(self.name(size)?),
                EntryType::GNULongLink => before.target = Some(self.name(size)?),
                EntryType::XGlobalHeader => drop(self.short(size)?),
                EntryType::XHeader => {
                    let records = self.short(size)?;
                    before.extended(&records)?;
                }
                kind => return self.entry(&header, kind, size, before, owner).map(Some),
            }
        }
        Err(broken("it has more records before a header than one may"))
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        before: Before,
        owner: bool,
    ) -> Result<Entry, UnpackError> {
        let name = match before.path {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let path = path_of(&name).map_err(|why| refused(&name, why))?;
        let kind = match kind {
            EntryType::Regular if name.ends_with(b"/") => FileType::Directory,
            EntryType::Regular | EntryType::Continuous => FileType::RegularFile,
            EntryType::Directory => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            _ => return Err(odd(&name, "is neither file, directory nor link")),
        };
        let own = || {
            let user = before.user.map_or_else(|| header.uid(), Ok).ok()?;
            let group = before.group.map_or_else(|| header.gid(), Ok).ok()?;
            let own = (u32::try_from(user).ok()?, u32::try_from(group).ok()?);
            // That number is nobody's.
            (own.0 != u32::MAX && own.1 != u32::MAX).then_some(own)
        };
        let changed = match before.changed {
            Some(changed) => changed,
            None => i64::try_from(header.mtime().map_err(wrong)?).unwrap_or(i64::MAX),
        };
        let look = Look {
            mode: header.mode().map_err(wrong)? & 0o777,
            changed,
            owner: if owner { own() } else { None },
        };
        let target = match kind {
            FileType::Symlink => before
                .target
                .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        self.begin(match kind {
            FileType::RegularFile => before.size.unwrap_or(size),
            // Links and directories have no content, whatever they say.
            _ => 0,
        });
        Ok(Entry {
            path,
            kind,
            target,
            look,
        })
    }

    /// The next header; nothing at the end.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match some(&mut self.from, &mut block[filled..])? {
                // Not all who write it end it.
                0 if filled == 0 => return Ok(None),
                0 => return Err(broken("it ends too early")),
                read => filled += read,
            }
        }
        if block == [0; BLOCK] {
            // To the end of the stream, where its checksum is.
            self.rest()?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let told = header.cksum().map_err(wrong)?;
        // Its own place counts as blanks.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        if told != sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]) {
            return Err(broken("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads what fills up the archive.
    fn rest(&mut self) -> Result<(), UnpackError> {
        let mut left = LONGEST;
        loop {
            let read = some(&mut self.from, &mut self.buffer)?;
            if read == 0 {
                return Ok(());
            }
            left = left
                .checked_sub(read as u64)
                .ok_or_else(|| broken("it goes on after its end"))?;
        }
    }

    fn begin(&mut self, size: u64) {
        let over = size % BLOCK as u64;
        self.left = size;
        self.fill = if over == 0 { 0 } else { BLOCK as u64 - over };
    }

    /// Hands on what is left of an entry's content.
    fn content(&mut self, to: Sink<'_>) -> Result<(), UnpackError> {
        while self.left > 0 || self.fill > 0 {
            let content = self.left > 0;
            let wanted = if content { self.left } else { self.fill };
            let wanted = usize::try_from(wanted)
                .map_or(self.buffer.len(), |wanted| wanted.min(self.buffer.len()));
            let read = some(&mut self.from, &mut self.buffer[..wanted])?;
            if read == 0 {
                return Err(broken("it ends too early"));
            }
            if content {
                self.left -= read as u64;
                to(&self.buffer[..read])?;
            } else {
                self.fill -= read as u64;
            }
        }
        Ok(())
    }

    /// What stands before a header.
    fn short(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > LONGEST {
            return Err(broken("it has a name longer than any"));
        }
        let mut bytes = Vec::new();
        self.begin(size);
        self.content(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// A name that ends with a zero byte.
    fn name(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.short(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

impl Before {
    fn extended(&mut self, records: &[u8]) -> Result<(), UnpackError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(wrong)?;
            let value = record.value_bytes();
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = number().ok_or_else(|| broken("a size is no number"))?;
                    self.size = Some(size);
                }
                b"uid" => self.user = number(),
                b"gid" => self.group = number(),
                // Seconds, with a fraction.
                b"mtime" => {
                    let text = std::str::from_utf8(value).unwrap_or_default();
                    let whole = text.split('.').next().unwrap_or_default();
                    self.changed = whole.parse().ok();
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads what comes next; nothing at the end.
fn some(from: &mut impl Read, to: &mut [u8]) -> Result<usize, UnpackError> {
    loop {
        match from.read(to) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(read_error),
        }
    }
}

fn odd(name: &[u8], what: &str) -> UnpackError {
    UnpackError::Broken(format!("{} {what}", shown(name)))
}

fn broken(why: &str) -> UnpackError {
    UnpackError::Broken(why.to_owned())
}

/// What the library says of a header.
fn wrong(error: io::Error) -> UnpackError {
    UnpackError::Broken(error.to_string())
}

/// What the disk says, or the stream.
fn read_error(error: io::Error) -> UnpackError {
    if error.raw_os_error().is_some() {
        return UnpackError::Machine {
            doing: "reading the archive".to_owned(),
            error,
        };
    }
    UnpackError::Broken(error.to_string())
}
