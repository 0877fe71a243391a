//! Where a taken job is kept until GitLab has its final state: its payload with its token (mode
//! 0600), where it came from, its trace, how far its output was read, how it ended.
//!
//! A job's directory appears whole or not at all, and it is on disk before anything is done with it.

use super::own_file::{put, sync, write};
use serde::{Deserialize, Serialize};
use springtide_pool::JobId;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a job came from: what is needed to go on with it when the configuration has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// The GitLab it was given by.
    pub url: String,
    /// Milliseconds since the epoch when it came.
    pub taken: u64,
}

/// The directory of one pool's jobs.
#[derive(Clone, Debug)]
pub struct JobDirs {
    root: PathBuf,
}

/// One job's directory.
#[derive(Clone, Debug)]
pub struct JobDir {
    path: PathBuf,
}

impl JobDirs {
    /// Opens the directory, making it if need be; half-written jobs in it are removed.
    ///
    /// # Errors
    /// Where it can't be made or read.
    pub fn open(root: PathBuf) -> io::Result<JobDirs> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(JobDirs { root })
    }

    /// Writes a job down; it is on disk when this returns. One that is there already stays.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn create(&self, job: JobId, origin: &Origin, payload: &[u8]) -> io::Result<JobDir> {
        let dir = self.dir(job);
        if dir.path.exists() {
            return Ok(dir);
        }
        let new = self.root.join(format!(".{}", job.0));
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        write(&new.join("payload.json"), payload)?;
        write(&new.join("origin.json"), &serde_json::to_vec(origin)?)?;
        sync(&new)?;
        fs::rename(&new, &dir.path)?;
        sync(&self.root)?;
        Ok(dir)
    }

    /// A job's directory, whether it exists or not.
    #[must_use]
    pub fn dir(&self, job: JobId) -> JobDir {
        JobDir {
            path: self.root.join(job.0.to_string()),
        }
    }

    /// All jobs that are kept, by number.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn all(&self) -> io::Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            jobs.extend(name.to_str().and_then(|name| name.parse().ok()).map(JobId));
        }
        jobs.sort_unstable();
        Ok(jobs)
    }
}

impl JobDir {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The payload as GitLab gave it. It holds secrets.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn payload(&self) -> io::Result<Vec<u8>> {
        fs::read(self.path.join("payload.json"))
    }

    /// Where the job came from.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn origin(&self) -> io::Result<Origin> {
        Ok(serde_json::from_slice(&fs::read(
            self.path.join("origin.json"),
        )?)?)
    }

    /// Writes down a value under a name, whole or not at all.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn put<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        put(&self.path.join(name), &serde_json::to_vec(value)?)
    }

    /// What was written under a name, if anything was.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn get<T: for<'a> Deserialize<'a>>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes it with all that is in it; success if it is gone already.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_job_is_there_whole_until_it_is_removed_and_others_can_not_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pool/jobs");
        let jobs = JobDirs::open(root.clone()).unwrap();
        let origin = Origin {
            url: "https://gitlab.example.com".into(),
            taken: 7,
        };
        let job = jobs.create(JobId(12), &origin, b"{\"id\":12}").unwrap();
        jobs.create(JobId(12), &origin, b"{}").unwrap();
        jobs.create(JobId(3), &origin, b"{}").unwrap();
        // A job the daemon died over.
        fs::create_dir(root.join(".99")).unwrap();

        let jobs = JobDirs::open(root.clone()).unwrap();
        assert_eq!(jobs.all().unwrap(), [JobId(3), JobId(12)]);
        assert!(!root.join(".99").exists());
        assert_eq!(job.payload().unwrap(), b"{\"id\":12}");
        assert_eq!(job.origin().unwrap(), origin);
        assert_eq!(job.get::<u32>("outcome.json").unwrap(), None);
        job.put("outcome.json", &5).unwrap();
        assert_eq!(job.get::<u32>("outcome.json").unwrap(), Some(5));
        for (path, mode) in [
            ("", 0o700),
            ("payload.json", 0o600),
            ("outcome.json", 0o600),
        ] {
            let found = fs::metadata(job.path().join(path)).unwrap().permissions();
            assert_eq!(found.mode() & 0o777, mode, "{path}");
        }
        job.remove().unwrap();
        job.remove().unwrap();
        assert_eq!(jobs.all().unwrap(), [JobId(3)]);
    }
}
