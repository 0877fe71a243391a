//! A directory that is unpacked into. Every name is looked up from it, through no link and above no
//! `..`, by the kernel itself where it can (openat2, Linux 5.6), else name by name.

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest name of a file, in bytes; so it is on Linux.
const LONGEST: usize = 255;

/// Why something is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The name is one no archive of a project has.
    #[error("{0}")]
    Name(&'static str),
    /// A link or a file stands where the name goes through.
    #[error("it goes through a link or a file that is there")]
    Through,
    /// A directory stands where a file or a link should be, or a file where a directory should.
    #[error("something of another sort stands there")]
    InTheWay,
    /// The machine says no.
    #[error(transparent)]
    Machine(#[from] io::Error),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => Refused::Through,
            error => Refused::Machine(error.into()),
        }
    }
}

/// The rights, owner and time of what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Permission bits.
    pub(crate) mode: u32,
    /// Seconds since the epoch.
    pub(crate) changed: i64,
    /// User and group, for one who may set them.
    pub(crate) owner: Option<(u32, u32)>,
}

/// A directory that is unpacked into.
pub(crate) struct Beneath {
    root: OwnedFd,
    by_kernel: AtomicBool,
}

/// A directory below it that is open: the last one used, for files come directory by directory.
#[derive(Default)]
pub(crate) struct Last {
    path: Vec<u8>,
    directory: Option<Arc<OwnedFd>>,
}

impl Beneath {
    /// The directory at a path.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::openat(CWD, path, flags, Mode::empty())?,
            by_kernel: AtomicBool::new(true),
        })
    }

    /// As on a kernel without openat2.
    #[cfg(test)]
    pub(crate) fn name_by_name(path: &Path) -> io::Result<Self> {
        let beneath = Self::at(path)?;
        beneath.by_kernel.store(false, Ordering::Relaxed);
        Ok(beneath)
    }

    /// Bytes and files there is room for. A file system that counts no files has no bound on them.
    pub(crate) fn room(&self) -> io::Result<(u64, u64)> {
        let of = rustix::fs::fstatvfs(&self.root)?;
        let files = if of.f_files == 0 {
            u64::MAX
        } else {
            of.f_favail
        };
        Ok((of.f_bavail.saturating_mul(of.f_frsize), files))
    }

    /// Opens the directory a name is in, made where it is missing. Returns it with the last part.
    pub(crate) fn parent<'n>(
        &self,
        name: &'n [u8],
        last: &mut Last,
    ) -> Result<(Arc<OwnedFd>, &'n [u8]), Refused> {
        let (path, file) = match name.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&name[..at], &name[at + 1..]),
            None => (&b""[..], name),
        };
        if let Some(directory) = last.directory.as_ref().filter(|_| last.path == path) {
            return Ok((Arc::clone(directory), file));
        }
        let directory = Arc::new(self.open(path, true)?);
        *last = Last {
            path: path.to_vec(),
            directory: Some(Arc::clone(&directory)),
        };
        Ok((directory, file))
    }

    /// Makes a directory with all above it.
    pub(crate) fn directory(&self, name: &[u8]) -> Result<OwnedFd, Refused> {
        self.open(name, true)
    }

    fn open(&self, path: &[u8], make: bool) -> Result<OwnedFd, Refused> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_empty() {
            return Ok(rustix::fs::openat(&self.root, ".", flags, Mode::empty())?);
        }
        if self.by_kernel.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Ok(directory) => return Ok(directory),
                Err(Errno::NOENT) if make => {}
                Err(Errno::NOSYS | Errno::PERM) => self.by_kernel.store(false, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        let mut directory = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        for part in path.split(|byte| *byte == b'/') {
            let mut opened = rustix::fs::openat(&directory, part, flags, Mode::empty());
            if make && opened.as_ref().err() == Some(&Errno::NOENT) {
                match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                opened = rustix::fs::openat(&directory, part, flags, Mode::empty());
            }
            directory = opened?;
        }
        Ok(directory)
    }

    /// Makes a file anew, for this user alone until it has its look.
    pub(crate) fn file(directory: &OwnedFd, name: &[u8]) -> Result<File, Refused> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        anew(directory, name, || {
            rustix::fs::openat(directory, name, flags, mode).map(File::from)
        })
    }

    /// Makes a link anew. Nobody follows it here.
    pub(crate) fn link(directory: &OwnedFd, name: &[u8], target: &[u8]) -> Result<(), Refused> {
        anew(directory, name, || {
            rustix::fs::symlinkat(target, directory, name)
        })
    }

    /// Removes what was not written to its end.
    pub(crate) fn remove(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
    }

    /// Gives a file its look. The bits that lend rights are never set.
    pub(crate) fn dress(file: &File, look: Look) -> io::Result<()> {
        if let Some((user, group)) = look.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            tolerated(rustix::fs::fchown(file, Some(user), Some(group)))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(look.mode & 0o777))?;
        Ok(rustix::fs::futimens(file, &times(look.changed))?)
    }

    /// Gives a link its owner and time.
    pub(crate) fn dress_link(directory: &OwnedFd, name: &[u8], look: Look) -> io::Result<()> {
        if let Some((user, group)) = look.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            tolerated(rustix::fs::chownat(
                directory,
                name,
                Some(user),
                Some(group),
                flags,
            ))?;
        }
        let times = times(look.changed);
        Ok(rustix::fs::utimensat(
            directory,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Gives a directory its look.
    pub(crate) fn dress_directory(&self, name: &[u8], look: Look) -> Result<(), Refused> {
        let directory = self.open(name, false)?;
        // It is open by its path alone; this name is itself, whatever became of the path.
        if let Some((user, group)) = look.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            let own =
                rustix::fs::chownat(&directory, ".", Some(user), Some(group), AtFlags::empty());
            tolerated(own)?;
        }
        let mode = Mode::from_raw_mode(look.mode & 0o777);
        // The time first: a directory that may not be entered has no `.` any more.
        rustix::fs::utimensat(&directory, ".", &times(look.changed), AtFlags::empty())?;
        Ok(rustix::fs::chmodat(
            &directory,
            ".",
            mode,
            AtFlags::empty(),
        )?)
    }
}

/// Makes something at a name, in place of a file or link that is there.
fn anew<T>(
    directory: &OwnedFd,
    name: &[u8],
    make: impl Fn() -> rustix::io::Result<T>,
) -> Result<T, Refused> {
    // Twice the same name in an archive can meet here.
    for _ in 0..16 {
        match make() {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                let there = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                return Err(match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => Refused::InTheWay,
                    _ => error.into(),
                });
            }
        }
    }
    Err(Refused::InTheWay)
}

/// A root that may not give files away, as in many a container, keeps them.
fn tolerated(own: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match own {
        Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        own => own,
    }
}

fn times(changed: i64) -> Timestamps {
    let at = rustix::fs::Timespec {
        tv_sec: changed,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

/// A name of an archive as a path below a directory: no `.`, no slash at the end.
///
/// # Errors
/// Where it is not one: absolute, with `..`, with a zero byte, empty, or one that is so where a
/// backslash is taken for a slash.
pub(crate) fn path_of(name: &[u8]) -> Result<Vec<u8>, Refused> {
    if name.contains(&0) {
        return Err(Refused::Name("the name holds a zero byte"));
    }
    let separators: [&[u8]; 2] = [b"/", b"/\\"];
    for separators in separators {
        if name.first().is_some_and(|first| separators.contains(first)) {
            return Err(Refused::Name("the name is absolute"));
        }
        let mut parts = name.split(|byte| separators.contains(byte));
        if parts.any(|part| part == b"..") {
            return Err(Refused::Name("the name leads upwards"));
        }
    }
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        if part.is_empty() || part == b"." {
            continue;
        }
        if part.len() > LONGEST {
            return Err(Refused::Name("the name has a part of more than 255 bytes"));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.is_empty() && name != b"./" && name != b"." {
        return Err(Refused::Name("the name is empty"));
    }
    Ok(path)
}
