//! Files as packed pieces in their order, packed on all processors.
//!
//! A file is cut into pieces of half a MiB, each packed by itself, so that a large file keeps every
//! processor busy too; laid end to end they are one stream of deflate, or frames of Zstandard. What
//! waits is bounded: a few pieces for each processor.

use super::project::Project;
use super::records::{DEFLATED, STORED, ZSTD};
use super::select::Selection;
use super::{Line, PackError, Say, shown};
use flate2::{Compress, Compression, FlushCompress, Status};
use rustix::fs::FileType;
use springtide_helper::Level;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a piece before it is packed.
const PIECE: u64 = 512 << 10;
/// Processors used at most: more of them would take more memory.
const MOST_WORKERS: usize = 4;

/// What becomes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// It stays as it is.
    Plain,
    /// deflate, where it is shorter.
    Deflate(Level),
    /// Zstandard, where it is shorter.
    Zstd(Level),
}

/// What a file, directory or link is.
pub(crate) struct Head {
    /// A directory's ends with a slash.
    pub(crate) name: Vec<u8>,
    /// With the bits of its sort.
    pub(crate) mode: u32,
    /// Seconds since the epoch.
    pub(crate) changed: i64,
    /// User and group.
    pub(crate) owner: (u32, u32),
    /// Bytes it had when it was looked at.
    pub(crate) size: u64,
}

/// A piece of a file, packed.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) method: u16,
    /// Of what is unpacked.
    pub(crate) crc: crc32fast::Hasher,
    /// How much is unpacked.
    pub(crate) raw: u64,
}

/// A place in the order. Its piece comes when a worker has packed it; nothing, where the file is
/// gone.
struct Slot {
    head: Option<Head>,
    last: bool,
    piece: Receiver<Result<Option<Piece>, PackError>>,
}

struct Job {
    source: Source,
    reply: Sender<Result<Option<Piece>, PackError>>,
}

enum Source {
    Whole(Vec<u8>),
    Part {
        name: Vec<u8>,
        file: Arc<File>,
        offset: u64,
        last: bool,
    },
}

/// Hands on each piece of each file in order: what it is with its first piece, and whether it is the
/// last one.
pub(crate) fn pieces(
    project: &Project,
    selection: &Selection,
    packing: Packing,
    say: Say<'_>,
    mut each: impl FnMut(Option<Head>, Piece, bool) -> Result<(), PackError>,
) -> Result<(), PackError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.min(MOST_WORKERS);
    let (slots, ordered) = sync_channel::<Slot>(2 * workers + 2);
    let (jobs, queue) = sync_channel::<Job>(workers);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(project, &queue, packing));
        }
        scope.spawn(move || {
            // A send fails when nobody takes any more; why is what `each` said.
            let plan = Plan {
                project,
                say,
                slots,
                jobs,
            };
            for name in selection.names() {
                if plan.file(name).is_none() {
                    return;
                }
            }
        });
        take(ordered, say, &mut each)
    })
}

fn take(
    ordered: Receiver<Slot>,
    say: Say<'_>,
    each: &mut impl FnMut(Option<Head>, Piece, bool) -> Result<(), PackError>,
) -> Result<(), PackError> {
    for slot in ordered {
        let gone = || PackError::Out(io::Error::other("a worker ended without a word"));
        match slot.piece.recv().map_err(|_| gone())?? {
            Some(piece) => each(slot.head, piece, slot.last)?,
            None => {
                if let Some(head) = slot.head {
                    vanished(say, &head.name);
                }
            }
        }
    }
    Ok(())
}

fn vanished(say: Say<'_>, name: &[u8]) {
    say(Line::Warning(format!(
        "{}: it is gone since it was found, and is left out",
        shown(name)
    )));
}

struct Plan<'a> {
    project: &'a Project,
    say: Say<'a>,
    slots: SyncSender<Slot>,
    jobs: SyncSender<Job>,
}

impl Plan<'_> {
    /// Plans one name; nothing, when nobody takes any more.
    fn file(&self, name: &[u8]) -> Option<()> {
        let failed = |error| PackError::File {
            path: shown(name),
            error,
        };
        let stat = match self.project.stat(name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                vanished(self.say, name);
                return Some(());
            }
            Err(error) => return self.at_once(None, Err(failed(error))),
        };
        let mut head = Head {
            name: name.to_vec(),
            mode: stat.st_mode,
            changed: stat.st_mtime,
            owner: (stat.st_uid, stat.st_gid),
            size: u64::try_from(stat.st_size).unwrap_or(0),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                head.name.push(b'/');
                self.at_once(Some(head), Ok(stored(Vec::new())))
            }
            FileType::Symlink => {
                let target = self.project.link(name).map(stored).map_err(failed);
                self.at_once(Some(head), target)
            }
            _ if head.size <= PIECE => self.job(Some(head), true, Source::Whole(name.to_vec())),
            _ => match self.project.open(name) {
                Ok(file) => self.parts(head, name, &Arc::new(file)),
                Err(error) => self.at_once(None, Err(failed(error))),
            },
        }
    }

    fn parts(&self, head: Head, name: &[u8], file: &Arc<File>) -> Option<()> {
        let size = head.size;
        let mut head = Some(head);
        for offset in (0..size).step_by(PIECE as usize) {
            let last = size - offset <= PIECE;
            let source = Source::Part {
                name: name.to_vec(),
                file: Arc::clone(file),
                offset,
                last,
            };
            self.job(head.take(), last, source)?;
        }
        Some(())
    }

    fn job(&self, head: Option<Head>, last: bool, source: Source) -> Option<()> {
        let (reply, piece) = channel();
        self.slots.send(Slot { head, last, piece }).ok()?;
        self.jobs.send(Job { source, reply }).ok()
    }

    fn at_once(&self, head: Option<Head>, piece: Result<Piece, PackError>) -> Option<()> {
        let (reply, receiver) = channel();
        reply.send(piece.map(Some)).ok()?;
        let slot = Slot {
            head,
            last: true,
            piece: receiver,
        };
        self.slots.send(slot).ok()
    }
}

/// What one worker packs with.
enum Packer {
    Plain,
    Deflate { stream: Compress, stores: bool },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn of(packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::Plain => Packer::Plain,
            Packing::Deflate(level) => Packer::Deflate {
                stream: Compress::new(Compression::new(number(level)), false),
                stores: level == Level::Fastest,
            },
            Packing::Zstd(level) => Packer::Zstd(zstd::bulk::Compressor::new(zstd_level(level))?),
        })
    }

    /// Bytes and how they are packed: of a whole file, or of a part of one, the last or not. All parts
    /// of a file are packed the same way.
    fn pack(&mut self, raw: &[u8], whole: bool, last: bool) -> io::Result<(u16, Vec<u8>)> {
        let (method, packed) = match self {
            Packer::Plain => return Ok((STORED, raw.to_vec())),
            Packer::Deflate { stores: true, .. } if whole => return Ok((STORED, raw.to_vec())),
            _ if whole && raw.is_empty() => return Ok((STORED, Vec::new())),
            Packer::Deflate { stream, .. } => (DEFLATED, deflate(stream, raw, last)?),
            Packer::Zstd(packer) => (ZSTD, packer.compress(raw)?),
        };
        if whole && packed.len() >= raw.len() {
            return Ok((STORED, raw.to_vec()));
        }
        Ok((method, packed))
    }
}

fn work(project: &Project, queue: &Mutex<Receiver<Job>>, packing: Packing) {
    let mut packer = Packer::of(packing);
    let mut raw = Vec::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { source, reply }) = job else {
            return;
        };
        let piece = match &mut packer {
            Ok(packer) => piece(project, &source, packer, &mut raw),
            Err(error) => Err(PackError::Format(format!("packing the files: {error}"))),
        };
        // Nobody waits for it where the archive has failed already.
        if reply.send(piece).is_err() {
            raw = Vec::new();
        }
    }
}

fn piece(
    project: &Project,
    source: &Source,
    packer: &mut Packer,
    raw: &mut Vec<u8>,
) -> Result<Option<Piece>, PackError> {
    raw.clear();
    let (name, read) = match source {
        Source::Whole(name) => {
            let read = project
                .open(name)
                .and_then(|file| file.take(PIECE).read_to_end(raw));
            match read {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                read => (name, read.map(drop)),
            }
        }
        Source::Part {
            name, file, offset, ..
        } => (name, read_at(file, *offset, raw)),
    };
    read.map_err(|error| PackError::File {
        path: shown(name),
        error,
    })?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(raw);
    let (whole, last) = match source {
        Source::Whole(_) => (true, true),
        Source::Part { last, .. } => (false, *last),
    };
    let length = raw.len() as u64;
    let (method, bytes) = packer.pack(raw, whole, last)?;
    Ok(Some(Piece {
        bytes,
        method,
        crc,
        raw: length,
    }))
}

fn read_at(file: &File, offset: u64, to: &mut Vec<u8>) -> io::Result<()> {
    to.resize(PIECE as usize, 0);
    let mut length = 0;
    while length < to.len() {
        match file.read_at(&mut to[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.truncate(length);
    Ok(())
}

/// Packs bytes by themselves. All but the last piece end on a whole byte, with no end of the stream.
fn deflate(deflate: &mut Compress, raw: &[u8], last: bool) -> io::Result<Vec<u8>> {
    deflate.reset();
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut packed = Vec::with_capacity(raw.len() + raw.len() / 1000 + 64);
    let mut done = 0;
    loop {
        let status = deflate.compress_vec(&raw[done..], &mut packed, flush)?;
        done = usize::try_from(deflate.total_in()).unwrap_or(raw.len());
        let over = match last {
            true => status == Status::StreamEnd,
            false => done == raw.len() && packed.len() < packed.capacity(),
        };
        if over {
            break;
        }
        packed.reserve(64 << 10);
    }
    packed.shrink_to_fit();
    Ok(packed)
}

fn stored(bytes: Vec<u8>) -> Piece {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes);
    Piece {
        method: STORED,
        crc,
        raw: bytes.len() as u64,
        bytes,
    }
}

/// GitLab Runner's levels.
pub(crate) fn number(level: Level) -> u32 {
    match level {
        Level::Fastest => 0,
        Level::Fast => 1,
        Level::Default => 6,
        Level::Slow => 7,
        Level::Slowest => 9,
    }
}

/// Those of Zstandard that GitLab Runner's library takes for them.
pub(super) fn zstd_level(level: Level) -> i32 {
    match level {
        Level::Fastest => 1,
        Level::Fast => 2,
        Level::Default => 3,
        Level::Slow => 7,
        Level::Slowest => 11,
    }
}
