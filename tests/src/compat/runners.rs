//! The runners of the suite, `tests/compat/runners.toml`: one daemon has them all, and a case names
//! the one whose settings it is about.

use super::case::Executor;
use super::repositories::APP;
use crate::Site;
use anyhow::{Context, Result};
use serde::Deserialize;
use springtide_sandbox::RunnerSeed;
use std::path::Path;
use toml::{Table, Value};

/// The name of the file with the runners, without `.toml`.
pub const FILE: &str = "runners";

/// The runner of jobs that name none.
pub const PLAIN: &str = "plain";

/// Stands in the settings for where the bucket is, without a scheme.
const BUCKET: &str = "{bucket}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runner: Vec<Runner>,
}

/// A runner's entry in the daemon's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Its name, and the tag of the jobs it takes.
    pub name: String,
    /// Most machines it may have.
    #[serde(default = "one")]
    pub machines: u32,
    /// What it has besides: keys of `[[runners]]`.
    #[serde(default)]
    settings: Table,
}

fn one() -> u32 {
    1
}

/// Reads the runners.
///
/// # Errors
/// What is wrong with the file.
pub fn load(directory: &Path) -> Result<Vec<Runner>> {
    let path = directory.join(FILE).with_extension("toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(file.runner)
}

impl Runner {
    fn token(&self) -> String {
        format!("glrt-{}-token-of-the-suite", self.name)
    }

    /// The runner as GitLab has it.
    #[must_use]
    pub fn seed(&self) -> RunnerSeed {
        RunnerSeed {
            run_untagged: self.name == PLAIN,
            ..RunnerSeed::new(self.token(), [self.name.clone()])
        }
    }
}

/// Lays a table over another; tables within are laid over as well.
fn merge(onto: &mut Table, over: &Table, bucket: &str) {
    for (key, value) in over {
        match (onto.get_mut(key), value) {
            (Some(Value::Table(onto)), Value::Table(over)) => merge(onto, over, bucket),
            (_, Value::Table(over)) => {
                let mut new = Table::new();
                merge(&mut new, over, bucket);
                onto.insert(key.clone(), new.into());
            }
            (_, Value::String(text)) => {
                onto.insert(key.clone(), text.replace(BUCKET, bucket).into());
            }
            (_, value) => {
                onto.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Writes the daemon's configuration with these runners on this executor.
///
/// # Errors
/// Where it can't be written.
pub fn configure(site: &Site, runners: &[Runner], executor: Executor, bucket: &str) -> Result<()> {
    let mut entries = Vec::new();
    for runner in runners {
        let text = site.runner(&runner.name, "");
        let base: Table = toml::from_str(&text)?;
        let base = base.get("runners").and_then(|list| list.get(0));
        let mut entry = base
            .and_then(Value::as_table)
            .context("a site's runner is no table")?
            .clone();
        let tagged = runner.name != PLAIN;
        let own = toml::toml! {
            request_concurrency = 2
            [machine]
            // Machines are kept for the next case: they are not what is measured.
            IdleTime = 30
            MachineOptions = ["local-boot-delay=0"]
        };
        merge(&mut entry, &own, bucket);
        let queue = Table::from_iter([
            ("projects".to_owned(), vec![APP].into()),
            ("run_untagged".to_owned(), (!tagged).into()),
            ("tags".to_owned(), vec![runner.name.as_str()].into()),
        ]);
        merge(
            &mut entry,
            &Table::from_iter([
                ("token".to_owned(), runner.token().into()),
                ("limit".to_owned(), i64::from(runner.machines).into()),
                ("queue".to_owned(), queue.into()),
            ]),
            bucket,
        );
        merge(&mut entry, &of_executor(executor)?, bucket);
        merge(&mut entry, &runner.settings, bucket);
        entries.push(Value::Table(entry));
    }
    let file = Table::from_iter([("runners".to_owned(), Value::Array(entries))]);
    site.configure_with("concurrent = 16", &toml::to_string(&file)?)
}

/// What an executor needs in a runner's entry.
fn of_executor(executor: Executor) -> Result<Table> {
    Ok(match executor {
        Executor::Shell => toml::toml! {
            executor = "shell+machine"
        },
        Executor::Docker => docker()?,
    })
}

/// Containers of the peers' engine.
fn docker() -> Result<Table> {
    let mut table = toml::toml! {
        executor = "docker+machine"
        [docker]
        image = "springtide/base:1"
        helper_image = "springtide/base:1"
        pull_policy = "never"
        allowed_pull_policies = ["always", "if-not-present", "never"]
        volumes = ["/cache"]
    };
    let host = format!("unix://{}", crate::engine::socket()?.display());
    if let Some(Value::Table(docker)) = table.get_mut("docker") {
        docker.insert("host".to_owned(), host.into());
    }
    Ok(table)
}
