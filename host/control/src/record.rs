//! What the state holds: a record for each machine and job, and the changes to them.
//!
//! A record of a machine is written before the machine is asked for and dropped only when its
//! provider is certain that it is gone. A record of a job is written before its work begins and
//! dropped only when GitLab has its final state.

use serde::{Deserialize, Serialize};
use springtide_pool::{JobId, JobPhase, Machine, MachineId, Millis, Time};
use std::collections::BTreeMap;

/// A machine as the state knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineRecord {
    /// The machine as the pool sees it.
    pub machine: Machine,
    /// The name it was asked for with.
    pub name: String,
    /// The token that makes its creation safe to repeat; never used for another machine.
    pub token: String,
    /// The provider's id, once known.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// The driver, settings and account it was made with, as the daemon wrote them: what removes it
    /// when the configuration has long changed.
    pub scope: String,
    /// How to reach it, as the driver said; opaque here.
    #[serde(default)]
    pub reach: Option<String>,
    /// When its lease runs out.
    #[serde(default)]
    pub lease_until: Time,
    /// Whether the provider has accepted its removal.
    #[serde(default)]
    pub removal_accepted: bool,
    /// When it passed each stage of its boot.
    #[serde(default)]
    pub boot: Boot,
    /// Whether a person asked for it: once it is ready it is held for them.
    #[serde(default)]
    pub keep: bool,
}

/// What a machine passes on its way from asked for to ready, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its provider says that it runs.
    Exists,
    /// Its SSH port takes a connection.
    Tcp,
    /// A login over SSH succeeds.
    Ssh,
    /// Its first boot has done what the user data says.
    FirstBoot,
    /// Its helper and the operator's `ready_command` say that it can take a job.
    Ready,
}

impl Stage {
    /// All of them, first to last.
    pub const ALL: [Stage; 5] = [
        Stage::Exists,
        Stage::Tcp,
        Stage::Ssh,
        Stage::FirstBoot,
        Stage::Ready,
    ];

    /// Its name in logs, metrics and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Exists => "exists",
            Stage::Tcp => "tcp",
            Stage::Ssh => "ssh",
            Stage::FirstBoot => "first-boot",
            Stage::Ready => "ready",
        }
    }
}

/// When a machine passed each stage of its boot, for the first time. A machine that is a process of
/// this host has no stages of SSH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(BTreeMap<Stage, Time>);

impl Boot {
    /// When it passed a stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Option<Time> {
        self.0.get(&stage).copied()
    }

    /// Notes that it passed a stage; the first time counts. Answers whether this is the first.
    pub fn pass(&mut self, stage: Stage, now: Time) -> bool {
        let first = !self.0.contains_key(&stage);
        if first {
            self.0.insert(stage, now);
        }
        first
    }

    /// The stages it passed, each with how long it took since the one before, the first since
    /// `asked`.
    pub fn lengths(&self, asked: Time) -> impl Iterator<Item = (Stage, Millis)> {
        let mut before = asked;
        self.0.iter().map(move |(stage, at)| {
            let length = at.since(before);
            before = before.max(*at);
            (*stage, length)
        })
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its work ended by itself and the job's directory says how.
    Ran,
    /// It was cancelled at GitLab before its work began.
    Canceled,
    /// It could not be run; not its script's fault.
    SystemFailure,
}

/// A job as the state knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobRecord {
    /// GitLab's number.
    pub id: JobId,
    /// Held or running.
    pub phase: JobPhase,
    /// When it was taken.
    pub taken: Time,
    /// Machines that failed under it before its first script byte.
    #[serde(default)]
    pub tries: u32,
    /// Whether its script has begun: then it is never run a second time.
    #[serde(default)]
    pub started: bool,
    /// How it ended; kept until GitLab has been told.
    #[serde(default)]
    pub ending: Option<Ending>,
}

/// Everything one pool's state holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Machines, in the order they were made.
    pub machines: Vec<MachineRecord>,
    /// Jobs, in the order they were taken.
    pub jobs: Vec<JobRecord>,
    /// The next machine's number; numbers are never used again.
    pub next_machine: u64,
}

/// One change to the state. All changes of one commit are kept, or none.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A machine's record is new or different.
    PutMachine(MachineRecord),
    /// A machine is gone for certain.
    DropMachine(MachineId),
    /// A job's record is new or different.
    PutJob(JobRecord),
    /// GitLab has the job's final state.
    DropJob(JobId),
    /// The next machine's number.
    NextMachine(u64),
}

/// The state could not be read or written. The daemon stops: going on without it could leak.
#[derive(Debug, thiserror::Error)]
#[error(
    "{attempt} the state {location}: {why}; free the disk or correct the path, then start again"
)]
pub struct StoreError {
    /// `reading` or `writing`.
    pub attempt: &'static str,
    /// Where the state is.
    pub location: String,
    /// What went wrong.
    pub why: String,
}

/// Where a pool's state is kept.
pub trait Store {
    /// Reads everything.
    ///
    /// # Errors
    /// Where the state can't be read or is of a version this one does not know.
    fn load(&mut self) -> Result<State, StoreError>;

    /// Writes all of `changes` or none, and returns only when they would survive a crash.
    ///
    /// # Errors
    /// Where they could not be written; the state is then as it was.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

impl State {
    /// Applies changes in memory.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::PutMachine(record) => {
                    let id = record.machine.id;
                    match self.machines.iter_mut().find(|at| at.machine.id == id) {
                        Some(at) => *at = record.clone(),
                        None => self.machines.push(record.clone()),
                    }
                }
                Change::DropMachine(id) => self.machines.retain(|at| at.machine.id != *id),
                Change::PutJob(record) => {
                    match self.jobs.iter_mut().find(|at| at.id == record.id) {
                        Some(at) => *at = *record,
                        None => self.jobs.push(*record),
                    }
                }
                Change::DropJob(id) => self.jobs.retain(|at| at.id != *id),
                Change::NextMachine(next) => self.next_machine = *next,
            }
        }
    }
}

/// State in memory, for the simulation and for tests: it outlives the controller that uses it, as a
/// disk would.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// What was committed.
    pub state: State,
    /// Commits so far.
    pub commits: u64,
    /// Fails every commit once this many were made: a manager that dies between two writes.
    pub die_at: Option<u64>,
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<State, StoreError> {
        Ok(self.state.clone())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.die_at.is_some_and(|at| self.commits >= at) {
            return Err(StoreError {
                attempt: "writing",
                location: "in memory".into(),
                why: "the manager died".into(),
            });
        }
        self.commits += 1;
        self.state.apply(changes);
        Ok(())
    }
}
