//! What is written down of a machine, and what it says at a moment.

use crate::files;
use crate::store::failed;
use serde::{Deserialize, Serialize};
use springtide_helper::{Fault, FaultKind};
use std::collections::BTreeMap;
use std::path::Path;

/// The file in a machine's directory that tells about it.
pub(super) const RECORD: &str = "machine.json";

/// The file its anchor holds locked: who holds it is the machine's being on.
pub(super) const ANCHOR: &str = "anchor.lock";

/// A machine, as its directory tells. Instants are milliseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) token: String,
    pub(super) owner: String,
    pub(super) pool: String,
    pub(super) manager: String,
    /// Seconds since 1970; 0 where it has no lease.
    pub(super) lease_until: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: u64,
    /// When the provider is done with it.
    pub(super) runs: u64,
    /// When it can take work; never, where there is none.
    pub(super) booted: Option<u64>,
    /// When it switches itself off; never, where there is none.
    pub(super) vanishes: Option<u64>,
    /// When it is gone, once it was destroyed.
    pub(super) gone: Option<u64>,
    /// The process that stands for its being on, once there is one.
    pub(super) anchor: Option<i32>,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Creating,
    Running,
    Stopped,
    Removing,
}

/// A machine as it is told to the driver.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    id: String,
    name: String,
    token: String,
    owner: String,
    pool: String,
    manager: String,
    lease_until: u32,
    /// Seconds since 1970.
    created_at: u32,
    state: State,
    directory: String,
    booted: bool,
}

impl Record {
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, Fault> {
        let path = directory.join(RECORD);
        files::read_json(&path)
            .map_err(|error| failed(format!("reading {}", path.display()), error))
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), Fault> {
        let path = directory.join(RECORD);
        files::write_json(&path, self)
            .map_err(|error| failed(format!("writing {}", path.display()), error))
    }

    /// Its state, knowing whether its anchor lives.
    fn state(&self, is_on: bool, now: u64) -> State {
        match self {
            Record { gone: Some(_), .. } => State::Removing,
            Record { anchor: None, .. } => State::Creating,
            _ if !is_on => State::Stopped,
            Record { runs, .. } if now < *runs => State::Creating,
            _ => State::Running,
        }
    }

    fn has_booted(&self, now: u64) -> bool {
        self.booted.is_some_and(|booted| now >= booted)
    }

    /// Tells the driver about it.
    pub(super) fn machine(&self, directory: &Path, now: u64) -> Result<Machine, Fault> {
        let state = self.state(is_on(directory)?, now);
        Ok(Machine {
            id: self.name.clone(),
            name: self.name.clone(),
            token: self.token.clone(),
            owner: self.owner.clone(),
            pool: self.pool.clone(),
            manager: self.manager.clone(),
            lease_until: self.lease_until,
            created_at: u32::try_from(self.created / 1000).unwrap_or(u32::MAX),
            state,
            directory: directory.to_string_lossy().into_owned(),
            booted: state == State::Running && self.has_booted(now),
        })
    }

    /// Whether it takes work, and why not.
    pub(super) fn check_ready(&self, directory: &Path, now: u64) -> Result<(), Fault> {
        let why = match self.state(is_on(directory)?, now) {
            State::Running if self.has_booted(now) => return Ok(()),
            State::Running | State::Creating => "it boots",
            State::Stopped => "it is off",
            State::Removing => "it is being removed",
        };
        Err(Fault::new(
            FaultKind::NotReady,
            format!("machine {} takes no work: {why}", self.name),
        ))
    }
}

pub(super) fn is_on(directory: &Path) -> Result<bool, Fault> {
    let path = directory.join(ANCHOR);
    files::is_locked(&path)
        .map_err(|error| failed(format!("asking after {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            name: "m".into(),
            token: "t".into(),
            owner: "o".into(),
            pool: "p".into(),
            manager: String::new(),
            lease_until: 0,
            labels: BTreeMap::new(),
            created: 1000,
            runs: 2000,
            booted: Some(3000),
            vanishes: None,
            gone: None,
            anchor: Some(1),
        }
    }

    #[test]
    fn a_machine_is_created_then_runs_then_has_booted() {
        let cases = [
            (1999, true, State::Creating, false),
            (2000, true, State::Running, false),
            (3000, true, State::Running, true),
            (3000, false, State::Stopped, true),
        ];
        for (now, is_on, state, booted) in cases {
            assert_eq!(record().state(is_on, now), state, "at {now}");
            assert_eq!(record().has_booted(now), booted, "at {now}");
        }
    }

    #[test]
    fn a_machine_without_an_anchor_is_half_made_and_a_destroyed_one_is_going() {
        let half = Record {
            anchor: None,
            ..record()
        };
        assert_eq!(half.state(false, 9000), State::Creating);
        let going = Record {
            gone: Some(1),
            ..record()
        };
        assert_eq!(going.state(true, 9000), State::Removing);
    }

    #[test]
    fn a_boot_that_never_ends_is_never_over() {
        let stuck = Record {
            booted: None,
            ..record()
        };
        assert!(!stuck.has_booted(u64::MAX));
    }
}
