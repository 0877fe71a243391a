//! `springtide pool step`: replays one decision of the pool from its whole input.

use crate::snapshot::{Snapshot, width, words};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use springtide_pool::{Decision, MachineId, step};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Commands about the pool's rules.
#[derive(Subcommand)]
pub enum Command {
    /// Run one step on a snapshot and print what it does and why.
    ///
    /// A snapshot is one JSON object with `now` (milliseconds since 1970), `pool`, `targets` and
    /// `limits`; what is left out is zero, empty or the default. The rules read nothing else: the
    /// same snapshot gives the same decisions, today and on another machine. `names` says what the
    /// machines are called; one without a name goes by its number.
    #[command(after_help = "Example:\n  springtide pool step --json < snapshot.json")]
    Step(StepArgs),
}

/// How to run a step.
#[derive(Args)]
pub struct StepArgs {
    /// The snapshot; standard input if left out.
    snapshot: Option<PathBuf>,
    /// One JSON object a decision.
    #[arg(long)]
    json: bool,
}

/// Runs a command.
///
/// # Errors
/// Where the snapshot can't be read or is not one.
pub fn run(command: &Command) -> Result<()> {
    let Command::Step(arguments) = command;
    let (text, from) = match &arguments.snapshot {
        Some(path) => (
            std::fs::read_to_string(path)
                .with_context(|| format!("reading the snapshot {}", path.display()))?,
            path.display().to_string(),
        ),
        None => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("reading the snapshot from standard input")?;
            (text, "standard input".to_owned())
        }
    };
    let snapshot = read(&text).with_context(|| {
        format!("{from} is no snapshot of a pool; `springtide pool step --help` says what one is")
    })?;
    let decisions = step(
        &snapshot.pool,
        &snapshot.targets,
        &snapshot.limits,
        snapshot.now,
    );
    print(&decisions, &snapshot.names, arguments.json).or_else(|error| {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(error).context("writing the decisions")
        }
    })
}

fn read(text: &str) -> Result<Snapshot> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    Ok(serde_json::from_value(object.into())?)
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    reason: String,
}

fn print(
    decisions: &[Decision],
    names: &BTreeMap<MachineId, String>,
    json: bool,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let called = |machine| names.get(&machine).cloned();
    let actions: Vec<String> = decisions.iter().map(|one| words(one, called)).collect();
    let width = width(actions.iter().map(String::as_str));
    for (decision, action) in decisions.iter().zip(&actions) {
        if json {
            let row = Row {
                decision,
                reason: decision.reason.to_string(),
            };
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
        } else {
            writeln!(out, "{action:<width$} {}", decision.reason)?;
        }
    }
    Ok(())
}
