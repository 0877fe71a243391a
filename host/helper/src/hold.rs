//! A container's first process: it writes down the environment that works are to have, takes the
//! ends of processes nobody else waits for, and ends when it is told to.
//!
//! An image's entry point that runs what it is given comes before it, so what that exported is in
//! the environment of every work of the container. Works are started by later calls of the helper,
//! which find the environment in `environment` under the root; `held` has the word this was started
//! with, so that a call can tell this container from one before it on the same directory.

use crate::files;
use crate::store::failed;
use springtide_helper::{Fault, FaultKind};
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const ENVIRONMENT: &str = "environment";
const HELD: &str = "held";

/// Variables of a shell's own, which an entry point that is a script leaves.
const OF_A_SHELL: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

/// How long a root may be closed to this user: another container opens it.
const OPENED: Duration = Duration::from_secs(30);

/// Opens directories to everybody, writes the environment down, and holds until SIGTERM or SIGINT.
pub(crate) fn hold(root: &Path, word: &str, open: &[&str]) -> io::Result<()> {
    let signals = Signals::block()?;
    for directory in open {
        // As a directory that all users share: a job's user is known only in its own container.
        std::fs::set_permissions(directory, Permissions::from_mode(0o777))?;
    }
    let until = Instant::now() + OPENED;
    loop {
        match announce(root, word) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => break done?,
        }
    }
    signals.wait()
}

fn announce(root: &Path, word: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (name, value) in std::env::vars_os() {
        if OF_A_SHELL.iter().any(|one| name == *one) {
            continue;
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    files::write_over(&root.join(ENVIRONMENT), 0o600, &bytes)?;
    files::write_over(&root.join(HELD), 0o600, word.as_bytes())
}

/// Whether the holder that was started with a word holds.
pub(crate) fn held(root: &Path, word: &str) -> Result<(), Fault> {
    match std::fs::read_to_string(root.join(HELD)) {
        Ok(found) if found == word => Ok(()),
        Ok(_) => Err(not_yet()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(not_yet()),
        Err(error) => Err(failed("asking whether the container is ready", error)),
    }
}

fn not_yet() -> Fault {
    Fault::new(
        FaultKind::NotReady,
        "the container's entry point has not come to its end yet",
    )
}

/// The environment that works under a root have; nothing, where none was written down.
pub(crate) fn environment(root: &Path) -> io::Result<Option<Vec<(OsString, OsString)>>> {
    let bytes = match std::fs::read(root.join(ENVIRONMENT)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((owned(&entry[..at]), owned(&entry[at + 1..])))
    });
    Ok(Some(pairs.collect()))
}

/// The signals this waits for. They are blocked, for the first process of a container is not sent
/// what it neither blocks nor handles.
struct Signals(libc::sigset_t);

impl Signals {
    fn block() -> io::Result<Self> {
        // SAFETY: the set is made by `sigemptyset` before it is used, and lives through each call.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
                libc::sigaddset(&raw mut set, signal);
            }
            match libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Takes ends of processes until there is a signal to end.
    fn wait(&self) -> io::Result<()> {
        loop {
            let mut signal = 0;
            // SAFETY: both point to values that live through the call.
            let error = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
            match (error, signal) {
                (0, libc::SIGCHLD) => reap()?,
                (0, _) => return Ok(()),
                (error, _) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

/// Takes the ends that are there.
fn reap() -> io::Result<()> {
    use rustix::io::Errno;
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_exported_is_there_for_works_and_a_holder_is_known_by_its_word() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(environment(root.path()).expect("readable"), None);
        assert!(held(root.path(), "a").is_err());
        announce(root.path(), "a").expect("written");
        assert!(held(root.path(), "a").is_ok());
        assert!(held(root.path(), "b").is_err());
        let found = environment(root.path()).expect("readable").expect("there");
        let path = std::env::var_os("PATH").expect("a PATH");
        assert!(found.contains(&("PATH".into(), path)));
        assert!(found.iter().all(|(name, _)| name != "PWD"));
    }
}
