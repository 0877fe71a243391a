//! What is remembered of each machine from one login to the next: its host key, pinned at the first,
//! and where its home is.
//!
//! A directory with two small files a machine; both are gone once the machine is forgotten.

use super::key::write_new;
use russh::keys::PublicKey;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The pinned host keys, in a directory of the state.
#[derive(Clone, Debug)]
pub struct HostKeys {
    directory: PathBuf,
}

impl HostKeys {
    /// By the directory, which is made when the first key is pinned.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Forgets a machine: for one that is gone, since another may get its name or its address. It
    /// blocks on the file system.
    ///
    /// # Errors
    /// Where a file would not go.
    pub fn forget(&self, machine: &str) -> io::Result<()> {
        for path in [self.key_file(machine), self.home_file(machine)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let what = format!("removing {}: {error}", path.display());
                    return Err(io::Error::new(error.kind(), what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The machines with a pinned key, sorted. It blocks on the file system.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn machines(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut machines = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".pub")) {
                machines.push(machine_of(stem));
            }
        }
        machines.sort_unstable();
        Ok(machines)
    }

    /// The file with a machine's pinned key: removed, the next login pins anew.
    #[must_use]
    pub fn key_file(&self, machine: &str) -> PathBuf {
        self.directory.join(format!("{}.pub", stem_of(machine)))
    }

    fn home_file(&self, machine: &str) -> PathBuf {
        self.directory.join(format!("{}.home", stem_of(machine)))
    }

    /// The pinned key of a machine, if one is. It blocks on the file system.
    pub(super) fn pinned(&self, machine: &str) -> io::Result<Option<PublicKey>> {
        let path = self.key_file(machine);
        let Some(line) = read(&path)? else {
            return Ok(None);
        };
        PublicKey::from_openssh(line.trim()).map(Some).map_err(|error| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!(
                    "{} holds no public key ({error}): if the machine is to be trusted as it is now, remove the file",
                    path.display()
                ),
            )
        })
    }

    /// Pins a machine's key, and tells which is pinned: another login may have been first. It
    /// blocks on the file system.
    pub(super) fn pin(&self, machine: &str, key: &PublicKey) -> io::Result<PublicKey> {
        let line = key.to_openssh().map_err(io::Error::other)?;
        let path = self.key_file(machine);
        match write_new(&path, format!("{line}\n").as_bytes(), 0o600) {
            Ok(()) => Ok(key.clone()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.pinned(machine)?.unwrap_or_else(|| key.clone()))
            }
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("writing {}: {error}", path.display()),
            )),
        }
    }

    /// The home of a machine, if it is known. It blocks on the file system.
    pub(super) fn home(&self, machine: &str) -> Option<String> {
        read(&self.home_file(machine)).ok().flatten()
    }

    /// Remembers a machine's home. It blocks on the file system.
    pub(super) fn keep_home(&self, machine: &str, home: &str) -> io::Result<()> {
        match write_new(&self.home_file(machine), home.as_bytes(), 0o600) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("reading {}: {error}", path.display()),
        )),
    }
}

/// A machine's name as a file name: other bytes than letters, digits, `-` and `_` as `%xx`.
fn stem_of(machine: &str) -> String {
    let mut stem = String::with_capacity(machine.len());
    for byte in machine.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => stem.push(char::from(byte)),
            _ => stem.push_str(&format!("%{byte:02x}")),
        }
    }
    stem
}

fn machine_of(stem: &str) -> String {
    let mut parts = stem.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(byte, 16) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(byte.as_bytes()),
        }
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use russh::keys::{Algorithm, PrivateKey};

    fn key() -> PublicKey {
        let mut random = russh::keys::key::safe_rng();
        let private = PrivateKey::random(&mut random, Algorithm::Ed25519).unwrap();
        private.public_key().clone()
    }

    #[test]
    fn the_first_key_stays_pinned_until_its_machine_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let keys = HostKeys::new(folder.path().join("host-keys"));
        let (first, second) = (key(), key());
        assert_eq!(keys.pinned("m").unwrap(), None);
        assert_eq!(keys.pin("m", &first).unwrap(), first);
        assert_eq!(keys.pin("m", &second).unwrap(), first);
        keys.keep_home("m", "/home/ci/springtide").unwrap();
        assert_eq!(keys.home("m").as_deref(), Some("/home/ci/springtide"));
        assert_eq!(keys.machines().unwrap(), ["m"]);
        keys.forget("m").unwrap();
        keys.forget("m").unwrap();
        assert_eq!(keys.pinned("m").unwrap(), None);
        assert_eq!(keys.home("m"), None);
    }

    #[test]
    fn a_broken_pin_is_an_error_and_not_a_first_contact() {
        let folder = tempfile::tempdir().unwrap();
        let keys = HostKeys::new(folder.path());
        fs::write(keys.key_file("m"), "junk").unwrap();
        let error = keys.pinned("m").unwrap_err();
        assert!(error.to_string().contains("remove the file"), "{error}");
    }

    proptest! {
        #[test]
        fn every_name_is_one_file_in_the_directory(name in ".{1,40}") {
            let keys = HostKeys::new("/keys");
            let path = keys.key_file(&name);
            prop_assert_eq!(path.parent(), Some(Path::new("/keys")));
            prop_assert_eq!(machine_of(&stem_of(&name)), name);
        }
    }
}
