//! Compiled components, kept in a directory of the owner's alone.
//!
//! What is in it is run without being checked, as the program itself is, so it is worth as much as
//! the program: the directory and its files must be ours and nobody else's, and each file must still
//! have the digest it was written with. Anything else is compiled again.

use crate::digest::Digest;
use rustix::fs::{Mode, OFlags};
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of a file's end that say what the rest must hash to.
const SEAL: usize = 32;

/// A directory that can't be trusted with compiled code.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It can't be made or looked at.
    #[error("the cache of compiled plugins {}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others may write to it, or read it.
    #[error(
        "the cache of compiled plugins {} is {what}: what is in it is run unchecked, so make it a directory of this user's alone, mode 0700",
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A directory of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in this directory, which is made if it is missing.
    pub(crate) fn open(directory: &Path) -> Result<Cache, CacheError> {
        let failed = |error| CacheError::Directory {
            path: directory.to_owned(),
            error,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let found = std::fs::symlink_metadata(directory).map_err(failed)?;
        let open = |what: &str| CacheError::Open {
            path: directory.to_owned(),
            what: what.to_owned(),
        };
        if !found.is_dir() {
            return Err(open("no directory, or a link to one"));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(open("another user's"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(open(&format!(
                "open to others, mode {:04o}",
                found.mode() & 0o7777
            )));
        }
        Ok(Cache {
            directory: directory.to_owned(),
        })
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        // The engine's hash knows its version, its settings and the processor.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory
            .join(format!("{}-{:016x}.cwasm", digest.hex(), hasher.finish()))
    }

    /// What was compiled from the component with this digest for this engine. Nothing where there is
    /// nothing, or nothing that can be trusted.
    pub(crate) fn get(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.path(engine, digest);
        match read(&path) {
            Ok(bytes) => {
                // SAFETY: the bytes are from a file that only this user could write, in a directory
                // only this user can enter, and hash to what they did when this program wrote them
                // as the output of `Component::serialize`.
                let component = unsafe { Component::deserialize(engine, &bytes) };
                component
                    .inspect_err(|error| distrusted(&path, &error.to_string()))
                    .ok()
            }
            Err(Unread::Missing) => None,
            Err(Unread::Distrusted(why)) => {
                distrusted(&path, &why);
                None
            }
        }
    }

    /// Keeps what was compiled. That it can't be is said in the log, and costs time at the next start.
    pub(crate) fn put(&self, engine: &Engine, digest: &Digest, component: &Component) {
        let path = self.path(engine, digest);
        if let Err(error) = self.write(&path, component) {
            tracing::warn!(path = %path.display(), %error, "a compiled plugin could not be kept");
        }
    }

    fn write(&self, path: &Path, component: &Component) -> anyhow::Result<()> {
        let code = component.serialize()?;
        // Made with mode 0600 under a name nobody can guess, and then moved over what was there.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&code)?;
        file.write_all(Digest::of(&code).bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

enum Unread {
    Missing,
    Distrusted(String),
}

fn distrusted(path: &Path, why: &str) {
    tracing::warn!(
        path = %path.display(), why,
        "a compiled plugin in the cache is not used; it is compiled again"
    );
}

/// The code in a file, if the file is ours and as it was written.
fn read(path: &Path) -> Result<Vec<u8>, Unread> {
    let distrusted = |why: &str| Unread::Distrusted(why.to_owned());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Err(Unread::Missing),
        Err(error) => return Err(Unread::Distrusted(error.to_string())),
    };
    let mut file = File::from(file);
    let found = file
        .metadata()
        .map_err(|error| Unread::Distrusted(error.to_string()))?;
    if !found.is_file() {
        return Err(distrusted("it is no plain file"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(distrusted("it is another user's"));
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(distrusted("others may read or write it"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| Unread::Distrusted(error.to_string()))?;
    let Some(end) = bytes.len().checked_sub(SEAL) else {
        return Err(distrusted("it is cut"));
    };
    if Digest::of(&bytes[..end]).bytes() != &bytes[end..] {
        return Err(distrusted("it is not as it was written"));
    }
    bytes.truncate(end);
    Ok(bytes)
}
