//! Which runner an entry of the file is, kept from one start to the next.
//!
//! A pool's machines carry an owner that must not change with the name of an entry, its token or the
//! host of the manager. GitLab's number of the runner is such a thing, and only GitLab can tell it;
//! once told it is kept here, so that a manager that starts while GitLab is down still knows its
//! machines.

use super::own_file::put;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A runner as GitLab knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// GitLab's address.
    pub url: String,
    /// GitLab's number of the runner.
    pub runner: u64,
}

impl Identity {
    /// The pool's key in the state and on machines: letters, digits and dashes, at most 40.
    #[must_use]
    pub fn key(&self) -> String {
        format!("r{}-{}", self.runner, &digest(&normal(&self.url))[..8])
    }

    /// Whose machines these are, where the file does not say.
    #[must_use]
    pub fn owner(&self) -> String {
        format!("springtide-{}", self.key())
    }
}

/// What is kept of a pool, so that its machines are not forgotten with its entry in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// The runner's name.
    pub name: String,
    /// Its GitLab.
    pub url: String,
    /// The owner of its machines.
    pub owner: String,
}

/// Identities by the digest of address and token, in a file of the state's directory.
#[derive(Clone, Debug)]
pub struct Identities {
    path: PathBuf,
    pools: PathBuf,
}

impl Identities {
    /// The identities of a state directory.
    #[must_use]
    pub fn of(state: &Path) -> Identities {
        Identities {
            path: state.join("runners.json"),
            pools: state.join("pools.json"),
        }
    }

    /// The identity that GitLab told for this address and token, if it ever did.
    ///
    /// # Errors
    /// Where the file is there and can't be read.
    pub fn get(&self, url: &str, token: &str) -> io::Result<Option<Identity>> {
        Ok(read(&self.path)?.remove(&name(url, token)))
    }

    /// Keeps what GitLab told. The token itself is not written.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn put(&self, token: &str, identity: &Identity) -> io::Result<()> {
        let _one = PUTTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, Identity> = read(&self.path)?;
        all.insert(name(&identity.url, token), identity.clone());
        put(&self.path, &serde_json::to_vec_pretty(&all)?)
    }

    /// The pools this state has had, by key.
    ///
    /// # Errors
    /// Where the file is there and can't be read.
    pub fn pools(&self) -> io::Result<BTreeMap<String, Kept>> {
        read(&self.pools)
    }

    /// Keeps what a pool is.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn keep(&self, key: &str, kept: &Kept) -> io::Result<()> {
        let _one = PUTTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, Kept> = read(&self.pools)?;
        if all.get(key) == Some(kept) {
            return Ok(());
        }
        all.insert(key.to_owned(), kept.clone());
        put(&self.pools, &serde_json::to_vec_pretty(&all)?)
    }
}

/// Pools start side by side, and each writes the whole file.
static PUTTING: Mutex<()> = Mutex::new(());

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<BTreeMap<String, T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn name(url: &str, token: &str) -> String {
    digest(&format!("{}\n{token}", normal(url)))
}

/// An address as two spellings of it should compare.
fn normal(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/ci").unwrap_or(url).to_ascii_lowercase()
}

fn digest(text: &str) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_known_again_without_gitlab_and_its_key_does_not_hang_on_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let identities = Identities::of(folder.path());
        let url = "https://gitlab.example.com";
        assert_eq!(identities.get(url, "glrt-a").unwrap(), None);
        let identity = Identity {
            url: format!("{url}/"),
            runner: 12,
        };
        identities.put("glrt-a", &identity).unwrap();
        identities.put("glrt-b", &identity).unwrap();
        let again = Identities::of(folder.path());
        assert_eq!(again.get(url, "glrt-b").unwrap(), Some(identity.clone()));
        let other = Identity {
            url: url.to_uppercase(),
            ..identity.clone()
        };
        assert_eq!(other.key(), identity.key());
        let written = fs::read_to_string(folder.path().join("runners.json")).unwrap();
        assert!(!written.contains("glrt"), "{written}");
        assert!(identity.key().starts_with("r12-"));
    }
}
