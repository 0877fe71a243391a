//! What is kept of each piece of work, in `work/ID` under the root: its lock, its spool, and files
//! that tell how far it has come.
//!
//! `lock` is held from the call that starts a work until its supervisor ends. `begun` is written
//! before the program is started, so that a work is never run twice; `processes.json` after it,
//! `end.json` when it has ended. A work that has begun, has no end and whose lock is free is lost.

use crate::files;
use crate::processes;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use springtide_helper::{Ending, Fault, FaultKind, WorkEnd, WorkSignal, is_work_id};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const LOCK: &str = "lock";
pub(crate) const SPOOL: &str = "spool";
pub(crate) const STDIN: &str = "stdin";
pub(crate) const ORDER: &str = "order.json";
pub(crate) const BEGUN: &str = "begun";
pub(crate) const PROCESSES: &str = "processes.json";
pub(crate) const END: &str = "end.json";
/// Room on the disk that is given back when the end is written.
pub(crate) const RESERVE: &str = "reserve";

/// How long processes may take to go that were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the supervisor is to run; deleted when it runs, for the environment is secret.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) program: Vec<String>,
    pub(crate) directory: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) spool_limit: u64,
}

/// Who belongs to a piece of work.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub(crate) supervisor: i32,
    /// The program's process, whose group and session have the same number.
    pub(crate) leader: i32,
}

/// How a piece of work came to an end.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Closed {
    Ended(Ending),
    NotStarted(String),
}

impl Closed {
    /// The ending; the code is what a shell gives where it can't start a program.
    pub(crate) fn ending(&self) -> Ending {
        match self {
            Closed::Ended(ending) => *ending,
            Closed::NotStarted(_) => Ending {
                end: WorkEnd::Exited { code: 127 },
                kept: 0,
                discarded: 0,
            },
        }
    }
}

/// The works under one root.
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn works(&self) -> PathBuf {
        self.root.join("work")
    }

    /// A work that may or may not be there.
    pub(crate) fn at(&self, id: &str) -> Result<Entry, Fault> {
        if !is_work_id(id) {
            return Err(Fault::new(
                FaultKind::BadCall,
                format!("\"{id}\" can't name a work: 1 to 80 of a-z, 0-9 and -"),
            ));
        }
        Ok(Entry {
            id: id.to_owned(),
            path: self.works().join(id),
        })
    }

    /// A work that is there.
    pub(crate) fn find(&self, id: &str) -> Result<Entry, Fault> {
        let entry = self.at(id)?;
        match entry.path.join(LOCK).try_exists() {
            Ok(true) => Ok(entry),
            Ok(false) => Err(Fault::new(
                FaultKind::NotFound,
                format!("there is no work {id} on this machine"),
            )),
            Err(error) => Err(failed(format!("looking for work {id}"), error)),
        }
    }

    /// All ids, sorted.
    pub(crate) fn list(&self) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::new();
        let entries = match std::fs::read_dir(self.works()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(ids),
            Err(error) => return Err(failed("listing the works", error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed("listing the works", error))?;
            if let Ok(name) = entry.file_name().into_string()
                && is_work_id(&name)
            {
                ids.push(name);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Ends and deletes a work; a success if there is none.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Fault> {
        let entry = self.at(id)?;
        let removing = |error| failed(format!("removing work {id}"), error);
        if !entry.path.join(LOCK).try_exists().map_err(removing)? {
            return files::remove_tree(&entry.path).map_err(removing);
        }
        let lock = entry.end_all().map_err(removing)?;
        // A name no work can have: whoever starts this id again gets a directory of its own.
        let trash = self
            .works()
            .join(format!(".removed-{id}-{}", std::process::id()));
        std::fs::rename(&entry.path, &trash).map_err(removing)?;
        drop(lock);
        files::remove_tree(&trash).map_err(removing)?;
        self.empty_trash().map_err(removing)
    }

    /// Deletes what removals that were cut short left.
    fn empty_trash(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.works())? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".removed-") {
                files::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Ends and deletes every work.
    pub(crate) fn remove_all(&self) -> Result<(), Fault> {
        for id in self.list()? {
            self.remove(&id)?;
        }
        Ok(())
    }

    /// Ends every work and keeps what it put out.
    pub(crate) fn end_all(&self) -> Result<(), Fault> {
        for id in self.list()? {
            let entry = self.at(&id)?;
            entry
                .end_all()
                .map_err(|error| failed(format!("ending work {id}"), error))?;
        }
        Ok(())
    }
}

/// One work.
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
}

impl Entry {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether a supervisor, or a call that is about to start one, is there.
    pub(crate) fn is_alive(&self) -> Result<bool, Fault> {
        files::is_locked(&self.file(LOCK)).map_err(|error| self.failed("asking after", error))
    }

    /// How it ended; nothing while it runs.
    pub(crate) fn closed(&self) -> Result<Option<Closed>, Fault> {
        // Whether it lives is asked first: it writes its end before it dies.
        let alive = self.is_alive()?;
        let closed = files::read_json(&self.file(END))
            .map_err(|error| self.failed("reading the end of", error))?;
        if closed.is_some() || alive {
            return Ok(closed);
        }
        if !self.file(BEGUN).exists() {
            return Err(Fault::new(
                FaultKind::NotFound,
                format!("work {} was not started on this machine", self.id),
            ));
        }
        let kept = std::fs::metadata(self.file(SPOOL)).map_or(0, |spool| spool.len());
        Ok(Some(Closed::Ended(Ending {
            end: WorkEnd::Lost,
            kept,
            discarded: 0,
        })))
    }

    pub(crate) fn processes(&self) -> Result<Option<Processes>, Fault> {
        files::read_json(&self.file(PROCESSES))
            .map_err(|error| self.failed("reading the processes of", error))
    }

    /// Sends a signal; a work that has ended is passed over, but for what is left of it at `kill`.
    pub(crate) fn signal(&self, signal: WorkSignal) -> Result<(), Fault> {
        let sending = |error| self.failed("sending a signal to", error);
        let mark = self.mark();
        if !self.is_alive()? {
            return match signal {
                WorkSignal::Kill => {
                    processes::kill_all(&self.id, || processes::marked(&mark), PATIENCE)
                        .map_err(sending)
                }
                WorkSignal::Interrupt | WorkSignal::Terminate => Ok(()),
            };
        }
        let Some(of) = self.processes()? else {
            return Ok(());
        };
        let number = match signal {
            WorkSignal::Interrupt => Signal::INT,
            WorkSignal::Terminate => Signal::TERM,
            WorkSignal::Kill => {
                let list = || processes::descendants(of.supervisor);
                return processes::kill_all(&self.id, list, PATIENCE).map_err(sending);
            }
        };
        processes::kill_group(of.leader, number).map_err(sending)
    }

    /// What its processes bear in their environment.
    pub(crate) fn mark(&self) -> String {
        let born = std::fs::read_to_string(self.file(BEGUN)).unwrap_or_default();
        format!("{}.{}", self.id, born.trim())
    }

    /// Kills all of it and returns its lock, so that nothing of it can start again.
    fn end_all(&self) -> std::io::Result<std::fs::File> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = files::try_lock(&self.file(LOCK))? {
                let mark = self.mark();
                processes::kill_all(&self.id, || processes::marked(&mark), PATIENCE)?;
                return Ok(lock);
            }
            if let Some(of) = files::read_json::<Processes>(&self.file(PROCESSES))? {
                processes::kill_all(&self.id, || processes::descendants(of.supervisor), PATIENCE)?;
            }
            if Instant::now() > until {
                return Err(std::io::Error::other(
                    "its supervisor does not end; look for `springtide-helper supervise` on the machine",
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> Fault {
        failed(format!("{doing} work {}", self.id), error)
    }
}

/// Something on the machine failed.
pub(crate) fn failed(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Failed, format!("{doing}: {error}"))
}
