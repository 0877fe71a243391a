//! Unpacks an archive beneath a directory: here a zip, and a packed tar by [`tar_read`](super::tar_read).
//!
//! The archive's directory is read piece by piece, and more than once: first to see that every name
//! and size may be, so that of an archive that must not be unpacked nothing is; then for the files,
//! on all processors; then for links, which nothing can be written through any more; last for what
//! directories look like.

use super::beneath::{Beneath, Last, Look, Refused, path_of};
use super::entry::{Task, kind, task};
use super::inflate::{Buffers, content};
use super::{shown, tar_read};
use rawzip::{CompressionMethod, FileReader, ZipArchive, ZipFileHeaderRecord};
use rustix::fs::FileType;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Workers at most.
const MOST_WORKERS: usize = 4;
/// The longest link that can be made, in bytes.
pub(super) const LONGEST_LINK: u64 = 4096;
/// How many directories that may not be entered get their rights; more stay open to their owner.
const CLOSED: usize = 10_000;

/// Why an archive is not unpacked, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is not a zip, or not a whole one.
    #[error("the archive is broken: {0}")]
    Broken(String),
    /// It holds something that is not written anywhere.
    #[error("{name:?} in the archive is refused: {why}")]
    Refused { name: String, why: Refused },
    /// It would fill the disk.
    #[error(
        "the archive unpacks to {bytes} bytes in {files} files, and the limit is {limit} bytes and \
         {most} files"
    )]
    TooLarge {
        bytes: u64,
        files: u64,
        limit: u64,
        most: u64,
    },
    /// The machine can't read or write.
    #[error("{doing}: {error}")]
    Machine { doing: String, error: io::Error },
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files, directories and links.
    pub(crate) entries: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
}

/// Unpacks an archive beneath a directory. `limit` is the most it may unpack to, in bytes; the room on
/// the disk where nothing is said.
///
/// # Errors
/// Nothing is written of an archive with a name that leads out, or that is too large by its own word.
pub(crate) fn unpack(
    archive: File,
    into: &Beneath,
    limit: Option<u64>,
) -> Result<Unpacked, UnpackError> {
    let mut magic = [0; 4];
    if archive.read_at(&mut magic, 0).is_ok_and(|read| read == 4) && magic == tar_read::MAGIC {
        return tar_read::unpack(&archive, into, limit);
    }
    let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::from_file(archive, &mut buffer).map_err(broken)?;
    let owner = rustix::process::geteuid().is_root();
    let total = check(&archive, &mut buffer, into, limit)?;
    files(&archive, &mut buffer, into, owner)?;
    let mut last = Last::default();
    let mut buffers = Buffers::default();
    each(&archive, &mut buffer, |record| {
        if kind(record) == FileType::Symlink {
            let task = task(record, owner)?;
            link(&archive, &task, into, &mut last, &mut buffers)?;
        }
        Ok(())
    })?;
    let mut directories = Directories::of(into);
    each(&archive, &mut buffer, |record| {
        if kind(record) != FileType::Directory {
            return Ok(());
        }
        let Task { path, look, .. } = task(record, owner)?;
        directories.dress(path, look)
    })?;
    directories.finish()?;
    Ok(total)
}

/// What directories look like, in the end.
pub(super) struct Directories<'b> {
    into: &'b Beneath,
    /// A directory that may not be entered would close the way to those in it.
    closed: Vec<(Vec<u8>, Look)>,
}

impl<'b> Directories<'b> {
    pub(super) fn of(into: &'b Beneath) -> Self {
        Self {
            into,
            closed: Vec::new(),
        }
    }

    pub(super) fn dress(&mut self, path: Vec<u8>, look: Look) -> Result<(), UnpackError> {
        if path.is_empty() {
            return Ok(());
        }
        if look.mode & 0o100 == 0 {
            if self.closed.len() < CLOSED {
                self.closed.push((path, look));
            }
            return Ok(());
        }
        self.now(&path, look)
    }

    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        self.closed.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        let closed = std::mem::take(&mut self.closed);
        closed
            .into_iter()
            .try_for_each(|(path, look)| self.now(&path, look))
    }

    fn now(&self, path: &[u8], look: Look) -> Result<(), UnpackError> {
        self.into
            .dress_directory(path, look)
            .map_err(|why| refused(path, why))
    }
}

/// Looks at every entry before anything is written.
fn check(
    archive: &ZipArchive<FileReader>,
    buffer: &mut [u8],
    into: &Beneath,
    limit: Option<u64>,
) -> Result<Unpacked, UnpackError> {
    let mut total = Unpacked::default();
    each(archive, buffer, |record| {
        let name = record.file_path();
        path_of(name.as_bytes()).map_err(|why| refused(name.as_bytes(), why))?;
        let odd = |what| UnpackError::Broken(format!("{} {what}", shown(name.as_bytes())));
        match kind(record) {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink if record.uncompressed_size_hint() < LONGEST_LINK => {}
            FileType::Symlink => return Err(odd("is a link longer than any")),
            _ => return Err(odd("is a device, a pipe or a socket")),
        }
        if record.flags().is_encrypted() {
            return Err(odd("is encrypted"));
        }
        let method = record.compression_method();
        let known = [
            CompressionMethod::STORE,
            CompressionMethod::DEFLATE,
            CompressionMethod::ZSTD,
        ];
        if !known.contains(&method) {
            return Err(odd("is packed in a way that is not deflate or Zstandard"));
        }
        total.entries += 1;
        total.bytes = total.bytes.saturating_add(record.uncompressed_size_hint());
        Ok(())
    })?;
    // An archive with more than 65,535 entries may tell the rest of a division.
    let told = archive.entries_hint();
    if total.entries != told && total.entries & 0xffff != told {
        return Err(UnpackError::Broken(format!(
            "it tells of {told} entries and has {}",
            total.entries
        )));
    }
    Bounds::of(into, limit)?.hold(total)?;
    Ok(total)
}

/// The most that may be unpacked: bytes, and files, directories and links.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    bytes: u64,
    entries: u64,
}

impl Bounds {
    /// What there is room for, or so many bytes.
    pub(super) fn of(into: &Beneath, limit: Option<u64>) -> Result<Self, UnpackError> {
        let (room, entries) = into.room().map_err(|error| UnpackError::Machine {
            doing: "asking how much room there is".to_owned(),
            error,
        })?;
        let bytes = limit.unwrap_or(room);
        Ok(Self { bytes, entries })
    }

    /// Whether it is no more than that.
    pub(super) fn hold(self, total: Unpacked) -> Result<(), UnpackError> {
        if total.bytes <= self.bytes && total.entries <= self.entries {
            return Ok(());
        }
        Err(UnpackError::TooLarge {
            bytes: total.bytes,
            files: total.entries,
            limit: self.bytes,
            most: self.entries,
        })
    }
}

/// Unpacks files on all processors, and makes directories.
fn files(
    archive: &ZipArchive<FileReader>,
    buffer: &mut [u8],
    into: &Beneath,
    owner: bool,
) -> Result<(), UnpackError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.min(MOST_WORKERS);
    let (tasks, queue) = sync_channel::<Task>(4 * workers);
    let queue = Mutex::new(queue);
    let failed = Mutex::new(None);
    let give_up = AtomicBool::new(false);
    let planned = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                if let Err(error) = work(archive, &queue, into, &give_up) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            });
        }
        // Moved in, so that it is closed when all is planned.
        let tasks = tasks;
        each(archive, buffer, |record| {
            if give_up.load(Ordering::Relaxed) {
                return Err(UnpackError::Broken("it was given up".to_owned()));
            }
            match kind(record) {
                FileType::Directory => {
                    let task = task(record, owner)?;
                    into.directory(&task.path)
                        .map(drop)
                        .map_err(|why| refused(&task.path, why))
                }
                FileType::RegularFile => {
                    let ended = |_| UnpackError::Broken("nobody unpacks it".to_owned());
                    tasks.send(task(record, owner)?).map_err(ended)
                }
                _ => Ok(()),
            }
        })
    });
    // What a worker says is why the rest was given up.
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => planned,
    }
}

fn work(
    archive: &ZipArchive<FileReader>,
    queue: &Mutex<Receiver<Task>>,
    into: &Beneath,
    give_up: &AtomicBool,
) -> Result<(), UnpackError> {
    let mut last = Last::default();
    let mut buffers = Buffers::default();
    let mut outcome = Ok(());
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return outcome };
        // After a failure the queue is emptied, so that its other end goes on and sees it.
        if outcome.is_ok() && !give_up.load(Ordering::Relaxed) {
            outcome = file(archive, &task, into, &mut last, &mut buffers);
            if outcome.is_err() {
                give_up.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn file(
    archive: &ZipArchive<FileReader>,
    task: &Task,
    into: &Beneath,
    last: &mut Last,
    buffers: &mut Buffers,
) -> Result<(), UnpackError> {
    write_file(into, &task.path, task.look, last, |to| {
        unpacked(archive, task, buffers, to)
    })
}

/// Takes the bytes of a file.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), UnpackError>;

/// Makes a file of what `content` hands on.
pub(super) fn write_file(
    into: &Beneath,
    path: &[u8],
    look: Look,
    last: &mut Last,
    content: impl FnOnce(Sink<'_>) -> Result<(), UnpackError>,
) -> Result<(), UnpackError> {
    let no = |why| refused(path, why);
    let (directory, name) = into.parent(path, last).map_err(no)?;
    let mut file = Beneath::file(&directory, name).map_err(no)?;
    let writing = |error| UnpackError::Machine {
        doing: format!("writing {}", shown(path)),
        error,
    };
    let written = content(&mut |bytes| file.write_all(bytes).map_err(writing));
    if let Err(error) = written {
        // What is not whole must not look as if it were.
        Beneath::remove(&directory, name).map_err(writing)?;
        return Err(error);
    }
    Beneath::dress(&file, look).map_err(writing)
}

fn link(
    archive: &ZipArchive<FileReader>,
    task: &Task,
    into: &Beneath,
    last: &mut Last,
    buffers: &mut Buffers,
) -> Result<(), UnpackError> {
    let mut target = Vec::new();
    unpacked(archive, task, buffers, &mut |bytes| {
        target.extend_from_slice(bytes);
        Ok(())
    })?;
    write_link(into, &task.path, &target, task.look, last)
}

/// Makes a link.
pub(super) fn write_link(
    into: &Beneath,
    path: &[u8],
    target: &[u8],
    look: Look,
    last: &mut Last,
) -> Result<(), UnpackError> {
    let no = |why| refused(path, why);
    if target.is_empty() || target.contains(&0) {
        return Err(no(Refused::Name("it is a link to nothing")));
    }
    let (directory, name) = into.parent(path, last).map_err(no)?;
    Beneath::link(&directory, name, target).map_err(no)?;
    Beneath::dress_link(&directory, name, look).map_err(|error| UnpackError::Machine {
        doing: format!("writing {}", shown(path)),
        error,
    })
}

/// Unpacks the bytes of an entry, and sees that they are those that were packed.
fn unpacked(
    archive: &ZipArchive<FileReader>,
    task: &Task,
    buffers: &mut Buffers,
    to: Sink<'_>,
) -> Result<(), UnpackError> {
    let entry = archive.get_entry(task.at).map_err(broken)?;
    let size = task.at.uncompressed_size_hint();
    let mut reader = entry.reader();
    let crc =
        content(&mut reader, task.method, size, buffers, to).map_err(|error| match error {
            UnpackError::Broken(why) => {
                UnpackError::Broken(format!("{}: {why}", shown(&task.path)))
            }
            other => other,
        })?;
    if crc == task.crc {
        Ok(())
    } else {
        Err(UnpackError::Broken(format!(
            "{}: its checksum is wrong",
            shown(&task.path)
        )))
    }
}

/// Calls for each entry of the archive's directory.
fn each(
    archive: &ZipArchive<FileReader>,
    buffer: &mut [u8],
    mut call: impl FnMut(&ZipFileHeaderRecord<'_>) -> Result<(), UnpackError>,
) -> Result<(), UnpackError> {
    let mut entries = archive.entries(buffer);
    while let Some(record) = entries.next_entry().map_err(broken)? {
        call(&record)?;
    }
    Ok(())
}

pub(super) fn refused(name: &[u8], why: Refused) -> UnpackError {
    let name = shown(name);
    match why {
        Refused::Machine(error) => UnpackError::Machine {
            doing: format!("writing {name}"),
            error,
        },
        why => UnpackError::Refused { name, why },
    }
}

fn broken(error: rawzip::Error) -> UnpackError {
    UnpackError::Broken(error.to_string())
}
