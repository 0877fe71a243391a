//! A machine for a person.

use super::Row;
use crate::commands::asking::Daemon;
use crate::runtime::answers::Portrait;
use crate::runtime::socket::Ask;
use crate::table::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks whether it is ready.
const AGAIN: Duration = Duration::from_millis(500);

/// Of which runner.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// The runner it is made for; may be left out where there is one.
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// Do not wait until it is ready.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait until it is ready; it is made all the same.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Has it made, and waits until it is ready.
///
/// # Errors
/// Where no daemon answers, the runner's limit is reached, or the machine does not get ready.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let daemon = &arguments.daemon;
    let runner = arguments.runner.clone();
    let mut row: Row = read(daemon.ask(&Ask::Make { runner }).await?)?;
    let name = row.machine.name.clone();
    if !arguments.no_wait {
        if !arguments.json {
            eprintln!("{name} is being made");
        }
        let limit = Duration::from_secs(arguments.timeout);
        row = ready(daemon, &name, limit).await?;
    }
    if arguments.json {
        return Ok(say(&(serde_json::to_string(&row)? + "\n"))?);
    }
    let done = match arguments.no_wait {
        true => format!("{name} is being made, and is kept for you once it is ready\n"),
        false => format!(
            "{name} is ready and kept for you. `springtide machine ssh {name}` goes there; `springtide machine rm {name}` ends it.\n"
        ),
    };
    Ok(say(&done)?)
}

async fn ready(daemon: &Daemon, name: &str, limit: Duration) -> Result<Row> {
    let begun = Instant::now();
    loop {
        let rows: Vec<Row> = read(daemon.ask(&Ask::Machines).await?)?;
        let Some(row) = rows.into_iter().find(|row| row.machine.name == name) else {
            bail!("{name} is gone before it was ready; `springtide machine logs {name}` says why");
        };
        match row.machine.phase.as_str() {
            "held" => return Ok(row),
            "retiring" | "missing" => bail!(
                "{name} did not get ready and goes; `springtide machine logs {name}` says why"
            ),
            _ if begun.elapsed() > limit => bail!(
                "{name} is not ready after {} s{}",
                limit.as_secs(),
                waits_for(daemon, name).await
            ),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// What it waits for, as the end of a sentence.
async fn waits_for(daemon: &Daemon, name: &str) -> String {
    let machine = name.to_owned();
    let answer = daemon.ask(&Ask::Inspect { machine }).await;
    let portrait = answer.and_then(read::<Portrait>);
    let why = portrait.ok().and_then(|portrait| portrait.waits_for);
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(answer: serde_json::Value) -> Result<T> {
    serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")
}
