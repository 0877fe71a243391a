//! Making, listing and removing machines under one root.

use super::anchor;
use super::now;
use super::record::{Machine, RECORD, Record};
use crate::files;
use crate::processes;
use crate::store::{Store, failed};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use springtide_helper::{Fault, FaultKind};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A machine that is being made has this before its name.
const NEW: &str = ".new-";
/// A machine that is being removed has this before its name.
const TRASH: &str = ".trash-";
/// How long an anchor may take to go that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to make. Delays are milliseconds.
#[derive(Deserialize)]
pub(super) struct CreateCall {
    token: String,
    name: String,
    owner: String,
    pool: String,
    #[serde(default)]
    manager: String,
    #[serde(default)]
    lease_until: u32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// From the call until it runs.
    #[serde(default)]
    create_delay: u64,
    /// From running until it takes work; null: it never does.
    boot_delay: Option<u64>,
    /// From running until it switches itself off; null: it does not.
    #[serde(default)]
    vanish_after: Option<u64>,
}

/// Which machine to remove.
#[derive(Deserialize)]
pub(super) struct DestroyCall {
    id: String,
    /// Milliseconds that it is listed as `removing`.
    #[serde(default)]
    delay: u64,
}

/// Whose leases end when.
#[derive(Deserialize)]
pub(super) struct RenewCall {
    ids: Vec<String>,
    until: u32,
}

/// Which leftover to remove.
#[derive(Deserialize)]
pub(super) struct LeftoverCall {
    id: String,
}

/// What a machine left behind.
#[derive(Debug, Serialize)]
pub(super) struct Leftover {
    id: String,
    sort: &'static str,
    owner: String,
    created_at: u32,
}

/// The machines under one root.
pub(super) struct Provider {
    root: PathBuf,
}

impl Provider {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Waits for the other calls of this root, and keeps them out while the lock lives.
    fn lock(&self) -> Result<File, Fault> {
        let locking = |error| failed(format!("locking {}", self.root.display()), error);
        files::make_dirs(&self.root).map_err(locking)?;
        let lock = files::open_lock(&self.root.join(".lock")).map_err(locking)?;
        lock.lock().map_err(locking)?;
        Ok(lock)
    }

    /// The directories whose names satisfy a rule, sorted.
    fn directories(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>, Fault> {
        let listing = |error| failed(format!("listing {}", self.root.display()), error);
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(listing(error)),
        };
        for entry in entries {
            let entry = entry.map_err(listing)?;
            if let Ok(name) = entry.file_name().into_string()
                && wanted(&name)
                && entry.file_type().map_err(listing)?.is_dir()
            {
                found.push((name, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn records(&self) -> Result<Vec<(PathBuf, Record)>, Fault> {
        let mut records = Vec::new();
        for (_, path) in self.directories(is_name)? {
            // One that is destroyed meanwhile has no record any more.
            if let Some(record) = Record::read(&path)? {
                records.push((path, record));
            }
        }
        Ok(records)
    }

    /// Makes a machine, or finds the one made with that token before and switches it on where a
    /// call before was cut short.
    pub(super) fn create(&self, call: &CreateCall) -> Result<Machine, Fault> {
        if !is_name(&call.name) || call.token.is_empty() || call.owner.is_empty() {
            return Err(Fault::new(
                FaultKind::BadCall,
                format!(
                    "\"{}\" can't be made: a machine needs a name of at most 63 of a-z, 0-9 and -, a token and an owner",
                    call.name
                ),
            ));
        }
        let _lock = self.lock()?;
        let records = self.records()?;
        let known = records
            .into_iter()
            .find(|(_, record)| record.token == call.token);
        let (path, mut record) = match known {
            Some(known) => known,
            None => self.make(call)?,
        };
        if record.anchor.is_none() && record.gone.is_none() {
            let on = |error| failed(format!("switching machine {} on", record.name), error);
            let anchor = match anchor::lock(&path).map_err(on)? {
                Some(lock) => anchor::start(&path, &record.name, lock),
                // The call before was cut short when it had started it.
                None => anchor::living(&path),
            };
            record.anchor = Some(anchor.map_err(on)?);
            record.write(&path)?;
        }
        record.machine(&path, now())
    }

    fn make(&self, call: &CreateCall) -> Result<(PathBuf, Record), Fault> {
        let path = self.root.join(&call.name);
        let making = |error| failed(format!("making machine {}", call.name), error);
        if path.try_exists().map_err(making)? {
            return Err(Fault::new(
                FaultKind::BadCall,
                format!(
                    "there is a machine {} already, made with another token",
                    call.name
                ),
            ));
        }
        let created = now();
        let runs = created.saturating_add(call.create_delay);
        let record = Record {
            name: call.name.clone(),
            token: call.token.clone(),
            owner: call.owner.clone(),
            pool: call.pool.clone(),
            manager: call.manager.clone(),
            lease_until: call.lease_until,
            labels: call.labels.clone(),
            created,
            runs,
            booted: call.boot_delay.map(|delay| runs.saturating_add(delay)),
            vanishes: call.vanish_after.map(|after| runs.saturating_add(after)),
            gone: None,
            anchor: None,
        };
        let new = self.root.join(format!("{NEW}{}", call.name));
        files::remove_tree(&new).map_err(making)?;
        files::make_dirs(&new).map_err(making)?;
        record.write(&new)?;
        std::fs::rename(&new, &path).map_err(making)?;
        Ok((path, record))
    }

    /// All machines, of every owner.
    pub(super) fn list(&self) -> Result<Vec<Machine>, Fault> {
        let now = now();
        self.records()?
            .iter()
            .map(|(path, record)| record.machine(path, now))
            .collect()
    }

    /// Removes a machine with all its work; a success if it is gone.
    pub(super) fn destroy(&self, call: &DestroyCall) -> Result<(), Fault> {
        let Some(path) = self.path(&call.id) else {
            return Ok(());
        };
        let trash = {
            let _lock = self.lock()?;
            let Some(mut record) = Record::read(&path)? else {
                return Ok(());
            };
            let now = now();
            let gone = match record.gone {
                Some(gone) => gone,
                None => {
                    let gone = now.saturating_add(call.delay);
                    record.gone = Some(gone);
                    record.write(&path)?;
                    gone
                }
            };
            if now < gone {
                return Ok(());
            }
            let trash = self
                .root
                .join(format!("{TRASH}{}-{}", call.id, std::process::id()));
            std::fs::rename(&path, &trash)
                .map_err(|error| failed(format!("removing machine {}", call.id), error))?;
            trash
        };
        empty(&trash)
    }

    /// Sets the end of leases. Machines that are gone are passed over.
    pub(super) fn renew(&self, call: &RenewCall) -> Result<(), Fault> {
        let _lock = self.lock()?;
        for path in call.ids.iter().filter_map(|id| self.path(id)) {
            if let Some(mut record) = Record::read(&path)? {
                record.lease_until = call.until;
                record.write(&path)?;
            }
        }
        Ok(())
    }

    /// What calls that were cut short left.
    pub(super) fn leftovers(&self) -> Result<Vec<Leftover>, Fault> {
        let _lock = self.lock()?;
        let mut leftovers = Vec::new();
        for (id, path) in self.directories(is_leftover)? {
            let record = Record::read(&path)?;
            if record.is_none() && id.starts_with(NEW) {
                // A call that died before it wrote down whose it was: nothing is in it.
                files::remove_tree(&path)
                    .map_err(|error| failed(format!("removing {}", path.display()), error))?;
                continue;
            }
            leftovers.push(Leftover {
                sort: if id.starts_with(NEW) {
                    "half-made-machine"
                } else {
                    "half-removed-machine"
                },
                created_at: record.as_ref().map_or(0, |record| {
                    u32::try_from(record.created / 1000).unwrap_or(u32::MAX)
                }),
                owner: record.map(|record| record.owner).unwrap_or_default(),
                id,
            });
        }
        Ok(leftovers)
    }

    /// Removes a leftover; a success if it is gone.
    pub(super) fn destroy_leftover(&self, call: &LeftoverCall) -> Result<(), Fault> {
        if !is_leftover(&call.id) {
            return Err(Fault::new(
                FaultKind::BadCall,
                format!("\"{}\" is no leftover", call.id),
            ));
        }
        let _lock = self.lock()?;
        empty(&self.root.join(&call.id))
    }

    /// Where a machine of that id is, if one could have it.
    fn path(&self, id: &str) -> Option<PathBuf> {
        is_name(id).then(|| self.root.join(id))
    }
}

/// Ends all that runs in a machine's directory and deletes it, the record last: what is left after
/// a crash still says whose it was. Nothing of it starts again, for its name is not a machine's.
fn empty(path: &Path) -> Result<(), Fault> {
    let removing = |error| failed(format!("removing {}", path.display()), error);
    if !path.try_exists().map_err(removing)? {
        return Ok(());
    }
    Store::new(path.to_owned()).remove_all()?;
    if let Some(anchor) = Record::read(path)?.and_then(|record| record.anchor) {
        stop(path, anchor)?;
    }
    for entry in std::fs::read_dir(path).map_err(removing)? {
        let entry = entry.map_err(removing)?;
        if entry.file_name() == RECORD {
            continue;
        }
        if entry.file_type().map_err(removing)?.is_dir() {
            files::remove_tree(&entry.path()).map_err(removing)?;
        } else {
            std::fs::remove_file(entry.path()).map_err(removing)?;
        }
    }
    files::remove_tree(path).map_err(removing)
}

/// Kills a machine's anchor and waits until it is gone.
fn stop(path: &Path, anchor: i32) -> Result<(), Fault> {
    let stopping = |error| failed(format!("stopping the machine in {}", path.display()), error);
    let until = Instant::now() + PATIENCE;
    while anchor::lock(path).map_err(stopping)?.is_none() {
        // Someone may only be looking whether it lives, and its number be another's by now.
        if processes::is_in(anchor, path) {
            processes::kill(anchor, Signal::KILL).map_err(stopping)?;
        }
        if Instant::now() > until {
            return Err(failed(
                format!("stopping the machine in {}", path.display()),
                "its process does not end",
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_leftover(name: &str) -> bool {
    (name.starts_with(NEW) || name.starts_with(TRASH)) && !name.contains('/')
}
