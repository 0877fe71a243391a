//! How the host gets to a machine, from what its driver said: one SSH connection a machine, or
//! processes of this host.
//!
//! What is known of the ways is in a directory of the state: the manager's key, and the host key of
//! each machine, pinned at first contact and forgotten with the machine.

mod look;

pub use look::{NotReady, NotWound};

use super::scope::Scope;
use serde::{Deserialize, Serialize};
use springtide_control::MachineRecord;
use springtide_machines::{
    Connection, HostKeys, KeyError, ProcessConnection, SshConnection, SshKey, SshOptions, SshTarget,
};
use springtide_plugins::contract::Reach;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// Why a machine can't be reached.
#[derive(Debug, Error)]
pub enum NoWay {
    /// Its driver has not said how yet.
    #[error("its driver has not said how it is reached")]
    Unknown,
    /// The state holds something that is no address.
    #[error("the address in the state can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Its runner's own key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is kept of it can't be read or written.
    #[error("what the state keeps of the way to it: {0}")]
    Files(#[from] io::Error),
    /// It has not been logged in to, so that its host key is not known.
    #[error("its host key is not known yet: nobody has logged in to it so far")]
    NotPinned,
}

/// The text a record keeps.
///
/// # Errors
/// Never in practice: an address is always JSON.
pub fn text(reach: &Reach) -> Result<String, serde_json::Error> {
    serde_json::to_string(reach)
}

/// The door to a machine, for a person who goes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Door {
    /// With an SSH client.
    #[serde(rename_all = "kebab-case")]
    Ssh {
        /// A name or an IP address.
        host: String,
        /// The port.
        port: u16,
        /// The user to log in as.
        user: String,
        /// The private key's file.
        key: PathBuf,
        /// A file in the form of `known_hosts` with the machine's pinned key, under its name.
        known_hosts: PathBuf,
    },
    /// It is a directory of this host.
    Process {
        /// The directory.
        directory: PathBuf,
    },
}

impl Door {
    /// The address as Docker's client takes it; none where there is no engine of its own.
    #[must_use]
    pub fn docker_host(&self) -> Option<String> {
        match self {
            Door::Ssh {
                host, port, user, ..
            } => {
                let host = match host.contains(':') {
                    true => format!("[{host}]"),
                    false => host.clone(),
                };
                Some(format!("ssh://{user}@{host}:{port}"))
            }
            Door::Process { .. } => None,
        }
    }
}

/// What may be chosen of the ways.
#[derive(Clone, Debug)]
pub struct WaysOptions {
    /// What connections over SSH go by.
    pub ssh: SshOptions,
    /// The file on a machine whose number is the end of its lease.
    pub lease: String,
    /// Before a machine that refused a login is asked again: some servers lock out who asks often.
    pub refused: Duration,
    /// Before one that answers and is not ready is asked again.
    pub again: Duration,
}

impl Default for WaysOptions {
    fn default() -> WaysOptions {
        WaysOptions {
            ssh: SshOptions::default(),
            lease: super::first_boot::LEASE.into(),
            refused: Duration::from_secs(10),
            again: Duration::from_secs(1),
        }
    }
}

/// Makes connections to machines.
#[derive(Clone)]
pub struct Ways(Arc<Inner>);

struct Inner {
    helper: PathBuf,
    key_file: PathBuf,
    key: SshKey,
    host_keys: HostKeys,
    options: WaysOptions,
    connections: Mutex<HashMap<String, Arc<SshConnection>>>,
    waiting: Mutex<HashMap<String, Waiting>>,
}

/// A machine that is not ready yet.
#[derive(Clone, Debug)]
struct Waiting {
    /// Why, for people.
    why: String,
    /// It is not asked again before.
    until: Instant,
}

/// A way to a machine.
#[derive(Clone, Debug)]
pub enum Way {
    /// By SSH.
    Ssh(Arc<SshConnection>),
    /// By processes of this host.
    Process(ProcessConnection, PathBuf),
}

impl Way {
    /// It as what starts the helper there.
    #[must_use]
    pub fn connection(self) -> Arc<dyn Connection> {
        match self {
            Way::Ssh(connection) => connection,
            Way::Process(connection, _) => Arc::new(connection),
        }
    }
}

impl Ways {
    /// Ways for machines on which this helper is used. The manager's key is in this directory, and
    /// made where it is not. It blocks on the file system.
    ///
    /// # Errors
    /// Where the key can't be read or made.
    pub fn new(helper: &Path, directory: &Path) -> Result<Ways, KeyError> {
        Ways::with_options(helper, directory, WaysOptions::default())
    }

    /// As [`new`](Self::new), with other options.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(
        helper: &Path,
        directory: &Path,
        options: WaysOptions,
    ) -> Result<Ways, KeyError> {
        let key_file = directory.join("id_ed25519");
        make_private(directory).map_err(|source| KeyError::File {
            doing: "making the directory of",
            path: key_file.clone(),
            source,
        })?;
        Ok(Ways(Arc::new(Inner {
            helper: helper.to_path_buf(),
            key: SshKey::load_or_make(&key_file)?,
            key_file,
            host_keys: HostKeys::new(directory.join("host-keys")),
            options,
            connections: Mutex::default(),
            waiting: Mutex::default(),
        })))
    }

    /// The public key that machines of this scope let in, in OpenSSH's format.
    ///
    /// # Errors
    /// Where the runner has a key of its own that can't be used.
    pub async fn public_key(&self, scope: &str) -> Result<String, NoWay> {
        Ok(self.key(scope).await?.1.public())
    }

    /// The way to a machine.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn to(&self, record: &MachineRecord) -> Result<Way, NoWay> {
        let target = match reach(record)? {
            Reach::Process(directory) => {
                let connection = ProcessConnection::new(&self.0.helper, &directory);
                return Ok(Way::Process(connection, directory.into()));
            }
            Reach::Ssh(at) => SshTarget {
                machine: record.name.clone(),
                host: at.host,
                port: at.port,
                user: at.user,
            },
        };
        if let Some(known) = self.connections().get(&record.name)
            && *known.target() == target
        {
            return Ok(Way::Ssh(Arc::clone(known)));
        }
        let (_, key) = self.key(&record.scope).await?;
        let inner = &self.0;
        let (host_keys, helper) = (inner.host_keys.clone(), inner.helper.clone());
        let ssh = inner.options.ssh.clone();
        let make = move || SshConnection::with_options(target, key, host_keys, helper, ssh);
        let made = blocking(move || Ok(make())).await?;
        let mut connections = self.connections();
        let known = connections.entry(record.name.clone());
        // Another caller may have been first; one that leads elsewhere gives way.
        let known = known.and_modify(|known| {
            if known.target() != made.target() {
                *known = Arc::clone(&made);
            }
        });
        Ok(Way::Ssh(Arc::clone(known.or_insert(made))))
    }

    /// The door to a machine, for a person. It writes the file of known hosts that a client needs.
    ///
    /// # Errors
    /// Where there is no way, or nobody has logged in to it yet.
    pub async fn door(&self, record: &MachineRecord) -> Result<Door, NoWay> {
        let at = match reach(record)? {
            Reach::Process(directory) => {
                let directory = directory.into();
                return Ok(Door::Process { directory });
            }
            Reach::Ssh(at) => at,
        };
        let (key, _) = self.key(&record.scope).await?;
        let pinned = self.0.host_keys.key_file(&record.name);
        let known_hosts = known_hosts(&pinned);
        let (name, file) = (record.name.clone(), known_hosts.clone());
        blocking(move || {
            let line = match std::fs::read_to_string(&pinned) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(NoWay::NotPinned);
                }
                line => line?,
            };
            Ok(std::fs::write(&file, format!("{name} {}\n", line.trim()))?)
        })
        .await?;
        Ok(Door::Ssh {
            host: at.host,
            port: at.port,
            user: at.user,
            key,
            known_hosts,
        })
    }

    /// Why a machine was not ready the last time somebody looked, if it was not.
    #[must_use]
    pub fn waits_for(&self, machine: &str) -> Option<String> {
        self.waiting().get(machine).map(|at| at.why.clone())
    }

    /// Takes note of whether a machine's provider says that it is off: then nobody tries on to reach it.
    pub fn set_off(&self, machine: &str, off: bool) {
        if let Some(known) = self.connections().get(machine) {
            known.set_off(off);
        }
    }

    /// Forgets a machine that is gone: another may get its address.
    pub async fn forget(&self, machine: &str) {
        let known = self.connections().remove(machine);
        self.waiting().remove(machine);
        if let Some(known) = known {
            known.close().await;
        }
        let (keys, name) = (self.0.host_keys.clone(), machine.to_owned());
        let forgotten = blocking(move || {
            let known_hosts = known_hosts(&keys.key_file(&name));
            keys.forget(&name)?;
            match std::fs::remove_file(known_hosts) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(machine, %error, "the pinned host key of a machine that is gone stays");
        }
    }

    /// The key machines of a scope are logged in to with, and its file.
    async fn key(&self, scope: &str) -> Result<(PathBuf, SshKey), NoWay> {
        let own = Scope::read(scope).ok().and_then(|scope| scope.ssh_key);
        match own {
            None => Ok((self.0.key_file.clone(), self.0.key.clone())),
            Some(file) => {
                let read = file.clone();
                let key = blocking(move || Ok(SshKey::load(&read)?)).await?;
                Ok((file, key))
            }
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<String, Arc<SshConnection>>> {
        let connections = self.0.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ways")
    }
}

fn reach(record: &MachineRecord) -> Result<Reach, NoWay> {
    let reach = record.reach.as_deref().ok_or(NoWay::Unknown)?;
    Ok(serde_json::from_str(reach)?)
}

/// Beside the pinned key, the same for SSH clients.
fn known_hosts(pinned: &Path) -> PathBuf {
    pinned.with_extension("known")
}

fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)
}

/// Work on files, off the threads that must not wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NoWay> + Send + 'static,
) -> Result<T, NoWay> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NoWay::Files(io::Error::other(error))))
}
