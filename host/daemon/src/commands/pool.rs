//! `springtide pool step`: replays one decision of the pool from its whole input.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use springtide_pool::{Action, Decision, Limits, MachineId, Pool, Targets, Time, step};
use std::collections::BTreeMap;
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
    /// What the machines are called. The rules do not look at it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<MachineId, String>,
}

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

/// What a decision does, in words; `hold` where nothing is done. A machine is named by what it is
/// called, or by its number where nobody knows.
#[must_use]
pub fn words(decision: &Decision, called: impl Fn(MachineId) -> Option<String>) -> String {
    let name =
        |machine: MachineId| called(machine).unwrap_or_else(|| format!("machine {}", machine.0));
    let Some(action) = decision.action else {
        return "hold".into();
    };
    match action {
        Action::Create => "create a machine".into(),
        Action::RequestJob {
            machine: Some(machine),
        } => format!("request a job for {}", name(machine)),
        Action::RequestJob { machine: None } => "request a job".into(),
        Action::CancelRequest { request } => format!("cancel request {}", request.0),
        Action::Assign { job, machine } => format!("assign job {} to {}", job.0, name(machine)),
        Action::Drain { machine, .. } => format!("drain {}", name(machine)),
        Action::Retire { machine, .. } => format!("retire {}", name(machine)),
        Action::Forget { machine } => format!("forget {}", name(machine)),
        Action::FailJob { job } => format!("fail job {}", job.0),
    }
}

/// The column that actions take, in characters, so that their reasons stand below each other.
#[must_use]
pub fn width<'a>(actions: impl Iterator<Item = &'a str>) -> usize {
    let longest = actions.map(|action| action.chars().count()).max();
    longest.unwrap_or_default().max(28)
}

#[cfg(test)]
mod tests {
    use super::words;
    use springtide_pool::{Action, Decision, JobId, MachineId, Reason, RequestId, RetireCause};

    #[test]
    fn a_machine_goes_by_its_name_or_else_by_its_number() {
        let called = |machine| (machine == MachineId(1)).then(|| "ci-1".to_owned());
        let (job, cause) = (JobId(7), RetireCause::IdleTime);
        for (action, expected) in [
            (None, "hold"),
            (Some(Action::Create), "create a machine"),
            (Some(Action::RequestJob { machine: None }), "request a job"),
            (
                Some(Action::RequestJob {
                    machine: Some(MachineId(1)),
                }),
                "request a job for ci-1",
            ),
            (
                Some(Action::CancelRequest {
                    request: RequestId(1),
                }),
                "cancel request 1",
            ),
            (
                Some(Action::Assign {
                    job,
                    machine: MachineId(1),
                }),
                "assign job 7 to ci-1",
            ),
            (
                Some(Action::Drain {
                    machine: MachineId(1),
                    cause,
                }),
                "drain ci-1",
            ),
            (
                Some(Action::Retire {
                    machine: MachineId(2),
                    cause,
                }),
                "retire machine 2",
            ),
            (
                Some(Action::Forget {
                    machine: MachineId(1),
                }),
                "forget ci-1",
            ),
            (Some(Action::FailJob { job }), "fail job 7"),
        ] {
            let decision = Decision {
                action,
                reason: Reason::MachineFree,
            };
            assert_eq!(words(&decision, called), expected);
        }
    }
}
