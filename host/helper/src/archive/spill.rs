//! Bytes that are written and then read once: a few in memory, the rest in a file without a name.

use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

/// What is kept in memory.
const MEMORY: usize = 4 << 20;

/// Bytes that are written once and then read once.
#[derive(Default)]
pub(crate) struct Spill {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Spill {
    /// Appends.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.memory.len() + bytes.len() > MEMORY {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(unnamed(&std::env::temp_dir())?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        self.memory.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// How much it is, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Hands all of it on.
    pub(crate) fn drain(mut self, to: &mut dyn Write) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
            io::copy(file, to)?;
        }
        to.write_all(&self.memory)
    }
}

/// A file without a name in a directory, which is gone when it is closed.
///
/// # Errors
/// With what to do, for a directory that takes none.
pub(crate) fn unnamed(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        return Ok(File::from(file));
    }
    // A file system that knows no files without a name.
    let mut noise = [0; 8];
    getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
    let path = directory.join(format!("springtide-{:016x}", u64::from_le_bytes(noise)));
    let file = rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode)
        .map_err(|error| {
            let at = directory.display();
            io::Error::other(format!("making a file in {at} (TMPDIR): {error}"))
        })?;
    std::fs::remove_file(&path)?;
    Ok(File::from(file))
}
