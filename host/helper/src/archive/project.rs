//! The directory files are taken from. A name is looked up from it, and nothing outside it is opened:
//! a link in the middle of a name may lead elsewhere in the directory and no further.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory whose files are archived.
pub(crate) struct Project {
    path: PathBuf,
    real: PathBuf,
    root: OwnedFd,
}

impl Project {
    /// The directory at a path.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            real: std::fs::canonicalize(path)?,
            root: rustix::fs::openat(CWD, path, flags, Mode::empty())?,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of a name; a link is not followed.
    pub(crate) fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(rustix::fs::statat(
            &self.root,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Where a link leads.
    pub(crate) fn link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.root, name, Vec::new())?.into_bytes())
    }

    /// Opens a file to read. It is a regular file; a pipe would never end.
    pub(crate) fn open(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.root, name, flags, Mode::empty(), resolve);
        let file = match opened {
            // An old kernel, or a container that allows no new calls. The name was resolved when it
            // was selected.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&self.root, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        let file = File::from(file);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("it is no regular file"))
        }
    }

    /// The names in a directory, sorted; the directory itself is the empty name.
    pub(crate) fn list(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let name = if directory.is_empty() {
            &b"."[..]
        } else {
            directory
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::new(rustix::fs::openat(&self.root, name, flags, Mode::empty())?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a link leads to a directory, and whether that one is inside.
    pub(crate) fn directory_behind(&self, link: &[u8]) -> Behind {
        let Ok(behind) = rustix::fs::statat(&self.root, link, AtFlags::empty()) else {
            return Behind::NoDirectory;
        };
        if FileType::from_raw_mode(behind.st_mode) != FileType::Directory {
            return Behind::NoDirectory;
        }
        match std::fs::canonicalize(self.path.join(OsStr::from_bytes(link))) {
            Ok(real) if real.starts_with(&self.real) => Behind::Inside,
            _ => Behind::Outside,
        }
    }
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Nothing, or something else.
    NoDirectory,
    /// A directory of the project.
    Inside,
    /// A directory elsewhere.
    Outside,
}
