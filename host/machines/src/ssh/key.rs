//! The key the manager logs in with.

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A private key, and the public half that machines are given.
#[derive(Clone)]
pub struct SshKey {
    private: Arc<PrivateKey>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("{doing} the SSH key {}: {source}", path.display())]
    File {
        /// Reading or writing.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the file.
    #[error(
        "the SSH key {} can be read by others than its owner (mode {mode:04o}): chmod 600 {}", path.display(), path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is locked with a passphrase, and nobody is there to type it.
    #[error(
        "the SSH key {origin} has a passphrase: take it off with `ssh-keygen -p -N '' -f` on a copy for Springtide"
    )]
    Passphrase {
        /// Where it is from.
        origin: String,
    },
    /// It is no private key, or of a kind that is not known.
    #[error(
        "{origin} is no private SSH key (OpenSSH, PKCS#1 or PKCS#8; ed25519, ECDSA or RSA): {why}"
    )]
    NotAKey {
        /// Where it is from.
        origin: String,
        /// What is the matter.
        why: String,
    },
}

impl SshKey {
    /// The key in a file; where there is no file, a new ed25519 key is put there at mode 0600. It
    /// blocks on the file system.
    ///
    /// # Errors
    /// As [`load`](Self::load); and where the new file can't be written.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Self::make(path)
            }
            loaded => loaded,
        }
    }

    /// The key in a file. It blocks on the file system.
    ///
    /// # Errors
    /// Where the file is missing, can be read by others, or is no private key without a passphrase.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            doing: "reading",
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeyError::Open { path, mode });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text.into(), &path.display().to_string())
    }

    /// A key from its text. `origin` says in errors where the text is from.
    ///
    /// # Errors
    /// Where it is no private key without a passphrase.
    pub fn parse(text: &SecretString, origin: &str) -> Result<Self, KeyError> {
        let origin = origin.to_owned();
        match decode_secret_key(text.expose_secret(), None) {
            Ok(private) if private.is_encrypted() => Err(KeyError::Passphrase { origin }),
            Ok(private) => Ok(Self {
                private: Arc::new(private),
            }),
            Err(russh::keys::Error::KeyIsEncrypted) => Err(KeyError::Passphrase { origin }),
            Err(error) => Err(KeyError::NotAKey {
                origin,
                why: error.to_string(),
            }),
        }
    }

    /// The public half as a line of `authorized_keys`, without a line end.
    #[must_use]
    pub fn public(&self) -> String {
        let public = self.private.public_key();
        // What was read or made as a key can be written as one.
        public.to_openssh().unwrap_or_default()
    }

    /// The fingerprint of the public half, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.private.fingerprint(HashAlg::Sha256).to_string()
    }

    pub(super) fn private(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.private)
    }

    fn make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            doing: "writing",
            path: path.to_owned(),
            source,
        };
        let unmade = |error: russh::keys::ssh_key::Error| failed(io::Error::other(error));
        let mut random = russh::keys::key::safe_rng();
        let mut private = PrivateKey::random(&mut random, Algorithm::Ed25519).map_err(unmade)?;
        private.set_comment("springtide");
        let text = private.to_openssh(LineEnding::LF).map_err(unmade)?;
        match write_new(path, text.as_bytes(), 0o600) {
            // Another process was faster: its key is the key.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Self::load(path),
            written => written.map_err(failed)?,
        }
        Ok(Self {
            private: Arc::new(private),
        })
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshKey({})", self.fingerprint())
    }
}

/// Puts a whole file where there is none; a reader never sees half of it.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let beside = folder.join(name);
    let linked = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::hard_link(&beside, path));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => linked.and(Err(error)),
        _ => linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/ssh.key");
        let made = SshKey::load_or_make(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        let again = SshKey::load_or_make(&path).unwrap();
        assert_eq!(made.public(), again.public());
        assert!(
            made.public().starts_with("ssh-ed25519 "),
            "{}",
            made.public()
        );
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "a file was left beside it");
    }

    #[test]
    fn neither_its_debug_form_nor_an_error_shows_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SshKey::load_or_make(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let secret = text.lines().nth(2).unwrap();
        assert!(!format!("{key:?}").contains(secret));
        let cut: SecretString = text[..text.len() / 2].to_owned().into();
        let error = SshKey::parse(&cut, "a cut file").unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret));
    }

    #[test]
    fn what_is_no_usable_key_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SshKey::load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = SshKey::load(&path).unwrap_err();
        assert!(open.to_string().contains("chmod 600"), "{open}");
        let junk = SshKey::parse(&"junk".to_owned().into(), "the file").unwrap_err();
        assert!(matches!(junk, KeyError::NotAKey { .. }), "{junk}");
        let missing = SshKey::load(&folder.path().join("none")).unwrap_err();
        assert!(matches!(missing, KeyError::File { .. }), "{missing}");
    }
}
