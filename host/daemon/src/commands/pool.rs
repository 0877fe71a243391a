//! `springtide pool step`: replays one decision of the pool from its whole input.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use springtide_pool::{Action, Decision, Limits, Pool, Targets, Time, step};
use std::io::{Read, Write};
use std::path::PathBuf;

/// What one step looks at, whole: the daemon's snapshot.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Snapshot {
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
    pub now: Time,
    /// Machines, jobs, requests and what is known of the queue.
    pub pool: Pool,
    /// What the policies want.
    pub targets: Targets,
    /// What the operator allows.
    pub limits: Limits,
}

/// Commands about the pool's rules.
#[derive(Subcommand)]
pub enum Command {
    /// Run one step on a snapshot and print what it does and why.
    ///
    /// A snapshot is one JSON object with `now` (milliseconds since 1970), `pool`, `targets` and
    /// `limits`; what is left out is zero, empty or the default. The rules read nothing else: the
    /// same snapshot gives the same decisions, today and on another machine.
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
    print(&decisions, arguments.json).or_else(|error| {
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

fn print(decisions: &[Decision], json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for decision in decisions {
        if json {
            let row = Row {
                decision,
                reason: decision.reason.to_string(),
            };
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
        } else {
            let action = decision
                .action
                .as_ref()
                .map_or_else(|| "hold".into(), words);
            writeln!(out, "{action:<28} {}", decision.reason)?;
        }
    }
    Ok(())
}

/// An action in words.
#[must_use]
pub fn words(action: &Action) -> String {
    match action {
        Action::Create => "create a machine".into(),
        Action::RequestJob {
            machine: Some(machine),
        } => {
            format!("request a job for {}", machine.0)
        }
        Action::RequestJob { machine: None } => "request a job".into(),
        Action::CancelRequest { request } => format!("cancel request {}", request.0),
        Action::Assign { job, machine } => format!("assign job {} to {}", job.0, machine.0),
        Action::Drain { machine, .. } => format!("drain {}", machine.0),
        Action::Retire { machine, .. } => format!("retire {}", machine.0),
        Action::Forget { machine } => format!("forget {}", machine.0),
        Action::FailJob { job } => format!("fail job {}", job.0),
    }
}
