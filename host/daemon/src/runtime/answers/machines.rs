//! What is answered about one machine, and what a person does with it.

use super::Behind;
use crate::machine_log::{self, Line};
use crate::runtime::pools::{PoolHandle, Pools};
use crate::runtime::reach::Door;
use crate::runtime::scope::Scope;
use crate::runtime::socket::Act;
use crate::view::{MachineRow, Said};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use springtide_control::{Happening, MachineRecord, SqliteStore, Store};
use springtide_pool::MachineId;
use std::time::Duration;

/// How long a pool has to take up a machine that a person asked for.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// All that is known of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Portrait {
    /// The runner's name.
    pub runner: String,
    /// It as it is listed.
    pub machine: MachineRow,
    /// Its record in the state, the address among it.
    pub record: MachineRecord,
    /// The scope it was made in: its driver and settings. Secrets are not among them.
    pub scope: Option<Scope>,
    /// Why it was not ready the last time it was looked at.
    pub waits_for: Option<String>,
}

/// How a person gets to a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineDoor {
    /// The machine's name.
    pub machine: String,
    /// The door.
    pub door: Door,
}

/// What was logged and decided about a machine, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diary {
    /// Lines of the log.
    pub lines: Vec<Line>,
    /// Decisions that name it.
    pub decisions: Vec<Said>,
}

fn find(pools: &Pools, machine: &str) -> Result<(PoolHandle, MachineRow)> {
    for (_, pool) in pools.all() {
        let is_it = |row: &&MachineRow| row.name == machine || row.id.as_deref() == Some(machine);
        let found = pool.view.borrow().machines.iter().find(is_it).cloned();
        if let Some(row) = found {
            return Ok((pool, row));
        }
    }
    bail!("no machine is called {machine}; `springtide machine ls` lists them")
}

fn tell(pool: &PoolHandle, what: Happening) -> Result<()> {
    pool.tell
        .as_ref()
        .and_then(|tell| tell.send(what).ok())
        .with_context(|| format!("the pool of {} does not work", pool.name))
}

pub(super) fn act_on(pools: &Pools, machine: &str, act: Act) -> Result<Value> {
    let (pool, row) = find(pools, machine)?;
    let id = MachineId(row.number);
    let what = match act {
        Act::Remove => Happening::Remove(id),
        Act::Hold => Happening::Hold(id),
        Act::Release => Happening::LetGo(id),
    };
    tell(&pool, what)?;
    Ok(json!({ "runner": pool.name, "machine": row }))
}

/// What the state holds: the file is read, for the pool's loop has better things to do.
async fn record(behind: &Behind, pool: &PoolHandle, row: &MachineRow) -> Result<MachineRecord> {
    let key = pool.pool.clone().context("its pool is not known yet")?;
    let state = behind.state.clone();
    let load = move || SqliteStore::open(&state, &key).and_then(|mut store| store.load());
    let loaded = tokio::task::spawn_blocking(load).await??;
    let id = MachineId(row.number);
    let record = loaded.machines.into_iter().find(|at| at.machine.id == id);
    record.with_context(|| format!("{} has just gone", row.name))
}

pub(super) async fn inspect(behind: &Behind, machine: &str) -> Result<Value> {
    let (pool, row) = find(&behind.pools, machine)?;
    let record = record(behind, &pool, &row).await?;
    Ok(serde_json::to_value(Portrait {
        runner: pool.name,
        waits_for: behind.ways.waits_for(&row.name),
        scope: Scope::read(&record.scope).ok(),
        machine: row,
        record,
    })?)
}

pub(super) async fn door(behind: &Behind, machine: &str) -> Result<Value> {
    let (pool, row) = find(&behind.pools, machine)?;
    let record = record(behind, &pool, &row).await?;
    let door = behind.ways.door(&record).await;
    let door = door.with_context(|| format!("there is no way to {} yet", row.name))?;
    Ok(serde_json::to_value(MachineDoor {
        machine: row.name,
        door,
    })?)
}

pub(super) fn log(pools: &Pools, machine: &str) -> Result<Value> {
    let name = match find(pools, machine) {
        Ok((_, row)) => row.name,
        Err(_) => machine.to_owned(),
    };
    let mut diary = Diary {
        lines: machine_log::about(&name),
        decisions: Vec::new(),
    };
    for (_, pool) in pools.all() {
        let about = |said: &&Said| names(&said.action, &name) || names(&said.reason, &name);
        let view = pool.view.borrow();
        let decisions = view.decisions.iter().filter(about).cloned();
        diary.decisions.extend(decisions);
    }
    if diary.lines.is_empty() && diary.decisions.is_empty() {
        find(pools, machine)?;
    }
    Ok(serde_json::to_value(diary)?)
}

/// Whether a text has this name in it as a word.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split(|c| !part(c)).any(|word| word == name)
}

/// Has a machine made for a person, and answers once it is in the state.
pub(super) async fn make(pool: &PoolHandle) -> Result<Value> {
    let mut view = pool.view.clone();
    {
        let view = view.borrow();
        let (limit, total) = (view.limits.limit, view.counts.total());
        if limit > 0 && total >= limit {
            bail!(
                "the runner {} has {total} machines and its limit is {limit}: remove one, or raise `limit`",
                pool.name
            );
        }
    }
    if let Some(trouble) = pool.trouble.borrow().as_ref() {
        bail!("the runner {} makes no machines: {trouble}", pool.name);
    }
    let token = getrandom::u64()
        .and_then(|high| Ok((u128::from(high) << 64) | u128::from(getrandom::u64()?)))
        .map_err(|error| anyhow::anyhow!("reading the system's randomness: {error}"))?;
    tell(pool, Happening::Make(token))?;
    let digits = format!("{token:032x}");
    let made = |row: &&MachineRow| row.name.contains(&digits[..12]);
    let taken_up = async {
        loop {
            let row = view.borrow_and_update().machines.iter().find(made).cloned();
            match row {
                Some(row) => return Ok(row),
                None => view.changed().await.context("the pool has ended")?,
            }
        }
    };
    let row = tokio::time::timeout(TAKEN_UP, taken_up).await;
    let row: Result<MachineRow> = row.with_context(|| {
        format!(
            "the pool of {} did not take it up; `springtide status` says how it stands",
            pool.name
        )
    })?;
    Ok(json!({ "runner": pool.name, "machine": row? }))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_decision_is_about_a_machine_if_it_names_it() {
        assert!(names("retire ci-1", "ci-1"));
        assert!(names("ci-1: idle for 3 s", "ci-1"));
        assert!(!names("retire ci-12", "ci-1"));
        assert!(!names("retire x-ci-1", "ci-1"));
    }
}
