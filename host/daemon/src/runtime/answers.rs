//! What the daemon answers over its socket.

mod machines;

pub use machines::{Diary, MachineDoor, Portrait};

use super::policies::Heard;
use super::pools::{PoolHandle, Pools};
use super::reach::Ways;
use super::socket::Ask;
use crate::snapshot::Snapshot;
use crate::view::{MachineRow, Said, Totals};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use springtide_pool::{Counts, Limits, MachineId, Source, Targets};
use std::path::PathBuf;
use std::sync::Arc;

/// How a daemon stands, whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// Its pools.
    pub pools: Vec<PoolStatus>,
    /// Its plugins.
    pub plugins: Vec<PluginStatus>,
}

/// How one pool stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PoolStatus {
    /// The runner's name.
    pub runner: String,
    /// Its key in the state.
    pub key: String,
    /// What keeps it from working as configured.
    pub trouble: Option<String>,
    /// Machines by phase.
    pub counts: Counts,
    /// What the policies want.
    pub targets: Targets,
    /// What the operator allows.
    pub limits: Limits,
    /// What is known of waiting jobs.
    pub queue: Source,
    /// Jobs that run.
    pub running: usize,
    /// Jobs taken that wait for a machine.
    pub held: usize,
    /// Machines whose removal has been tried for ten minutes.
    pub stuck: u32,
    /// Sums since the daemon started.
    pub totals: Totals,
    /// What its policies said last.
    pub policies: Vec<Heard>,
    /// Its machines.
    pub machines: Vec<MachineRow>,
    /// The latest decisions, newest last.
    pub decisions: Vec<Said>,
}

/// A plugin that is loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PluginStatus {
    /// Its id.
    pub id: String,
    /// `driver` or `policy`.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// The digest of its file.
    pub digest: String,
    /// Why its newest file is not in use, if it isn't.
    pub trouble: Option<String>,
}

/// What answers what the pools alone can't.
#[async_trait::async_trait]
pub trait Plugins: Send + Sync {
    /// All plugins.
    fn all(&self) -> Vec<PluginStatus>;
    /// Loads one again.
    async fn reload(&self, id: &str) -> Result<PluginStatus>;
}

/// What answers are made from.
pub struct Behind {
    /// The pools.
    pub pools: Pools,
    /// The plugins.
    pub plugins: Arc<dyn Plugins>,
    /// The state's file.
    pub state: PathBuf,
    /// The ways to machines.
    pub ways: Ways,
}

/// Answers one question.
///
/// # Errors
/// Where what it names is not there; the text is for a person.
pub async fn answer(ask: Ask, behind: &Behind) -> Result<Value> {
    let (pools, plugins) = (&behind.pools, &*behind.plugins);
    match ask {
        Ask::Status => Ok(serde_json::to_value(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pools: pools.all().into_iter().map(status).collect(),
            plugins: plugins.all(),
        })?),
        Ask::Snapshot { runner } => {
            let pool = one(pools, runner.as_deref())?;
            let view = pool.view.borrow();
            Ok(serde_json::to_value(Snapshot {
                now: view.now,
                pool: view.pool.clone(),
                targets: view.targets,
                limits: view.limits,
                names: view
                    .machines
                    .iter()
                    .map(|row| (MachineId(row.number), row.name.clone()))
                    .collect(),
            })?)
        }
        Ask::Machines => {
            let rows: Vec<Value> = pools
                .all()
                .into_iter()
                .flat_map(|(_, pool)| {
                    let rows = pool.view.borrow().machines.clone();
                    rows.into_iter()
                        .map(move |row| json!({ "runner": pool.name, "machine": row }))
                })
                .collect();
            Ok(rows.into())
        }
        Ask::Machine { machine, act } => machines::act_on(pools, &machine, act),
        Ask::Inspect { machine } => machines::inspect(behind, &machine).await,
        Ask::Door { machine } => machines::door(behind, &machine).await,
        Ask::Log { machine } => machines::log(pools, &machine),
        Ask::Make { runner } => machines::make(&one(pools, runner.as_deref())?).await,
        Ask::ReloadPlugin { plugin } => Ok(serde_json::to_value(plugins.reload(&plugin).await?)?),
    }
}

fn status((key, pool): (String, PoolHandle)) -> PoolStatus {
    let view = pool.view.borrow();
    let (running, held) = view.jobs();
    PoolStatus {
        runner: pool.name.clone(),
        key,
        trouble: pool.trouble.borrow().clone(),
        counts: view.counts,
        targets: view.targets,
        limits: view.limits,
        queue: view.pool.source,
        running,
        held,
        stuck: view.stuck(),
        totals: view.totals,
        policies: pool.heard.borrow().clone(),
        machines: view.machines.clone(),
        decisions: view.decisions.iter().cloned().collect(),
    }
}

fn one(pools: &Pools, runner: Option<&str>) -> Result<PoolHandle> {
    let all = pools.all();
    let names = || -> String {
        let names: Vec<&str> = all.iter().map(|(_, pool)| pool.name.as_str()).collect();
        names.join(", ")
    };
    match (runner, all.as_slice()) {
        (None, [(_, pool)]) => Ok(pool.clone()),
        (None, []) => bail!("no runner works; `springtide status` says why"),
        (None, _) => bail!("there are several runners; name one of {}", names()),
        (Some(name), _) => all
            .iter()
            .find(|(key, pool)| pool.name == name || key == name)
            .map(|(_, pool)| pool.clone())
            .with_context(|| format!("no runner is called {name}; there are {}", names())),
    }
}
