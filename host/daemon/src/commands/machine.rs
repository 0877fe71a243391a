//! `springtide machine`: the machines of a running daemon.

mod create;
mod enter;
mod inspect;

use super::asking::Daemon;
use crate::runtime::socket::{Act, Ask};
use crate::table::{Table, duration, say};
use crate::view::MachineRow;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// Commands about machines.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List the machines of a running daemon.
    #[command(after_help = "Example:\n  springtide machine ls --json")]
    Ls {
        /// Which daemon.
        #[command(flatten)]
        daemon: Daemon,
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Make a machine of a runner for yourself: it takes no job and stays until you remove it.
    ///
    ///   springtide machine create --runner elastic
    ///   springtide machine ssh ci-3f6c0a9d41be
    ///   springtide machine rm ci-3f6c0a9d41be
    #[command(verbatim_doc_comment)]
    Create(create::Arguments),
    /// Open a shell on a machine, or run a command there, over SSH with the pinned host key.
    ///
    ///   springtide machine ssh ci-3f6c0a9d41be
    ///   springtide machine ssh ci-3f6c0a9d41be -- docker ps
    ///
    /// It exits with the command's exit code. A job may run there: `springtide machine hold` keeps
    /// others away. A machine of the driver `local` is a directory of this host: the shell begins there.
    #[command(verbatim_doc_comment)]
    Ssh(enter::SshArguments),
    /// Print what points Docker's client at a machine, for a shell to evaluate.
    ///
    ///   springtide machine env ci-3f6c0a9d41be
    ///   eval "$(springtide machine env ci-3f6c0a9d41be)" && docker ps
    #[command(verbatim_doc_comment)]
    Env(enter::EnvArguments),
    /// Show all that the state holds of a machine: its boot in stages, its settings, how it is reached.
    ///
    ///   springtide machine inspect ci-3f6c0a9d41be --json
    #[command(verbatim_doc_comment)]
    Inspect(inspect::Arguments),
    /// Show what was logged and decided about a machine of late; also of one that is gone.
    ///
    ///   springtide machine logs ci-3f6c0a9d41be
    #[command(verbatim_doc_comment)]
    Logs(inspect::Arguments),
    /// Remove machines: each goes when its job, if it has one, is over.
    #[command(after_help = "Example:\n  springtide machine rm ci-1")]
    Rm(Named),
    /// Keep machines for a look at them: they take no job and are not removed.
    #[command(after_help = "Example:\n  springtide machine hold ci-1")]
    Hold(Named),
    /// Let held machines go on.
    #[command(after_help = "Example:\n  springtide machine release ci-1")]
    Release(Named),
}

/// Which machines.
#[derive(Args, Debug)]
pub struct Named {
    #[command(flatten)]
    daemon: Daemon,
    /// Names or provider ids, as `springtide machine ls` shows them.
    #[arg(required = true, value_name = "MACHINE")]
    machines: Vec<String>,
    /// One JSON object a machine.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    runner: String,
    machine: MachineRow,
}

/// Runs a command.
///
/// # Errors
/// Where no daemon answers, or a machine is not there.
pub async fn run(command: Command) -> Result<ExitCode> {
    let (named, act, done) = match command {
        Command::Ls { daemon, json } => {
            list(&daemon, json).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Create(arguments) => {
            create::run(&arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Ssh(arguments) => return enter::ssh(&arguments).await,
        Command::Env(arguments) => {
            enter::env(&arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Inspect(arguments) => {
            inspect::inspect(&arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Logs(arguments) => {
            inspect::logs(&arguments).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Rm(named) => (named, Act::Remove, "goes when no job runs on it"),
        Command::Hold(named) => (named, Act::Hold, "is kept"),
        Command::Release(named) => (named, Act::Release, "goes on"),
    };
    for machine in named.machines {
        let ask = Ask::Machine { machine, act };
        let row: Row = serde_json::from_value(named.daemon.ask(&ask).await?)
            .context("the daemon's answer is of another version of springtide")?;
        if named.json {
            say(&(serde_json::to_string(&row)? + "\n"))?;
        } else {
            say(&format!("{} {done}\n", row.machine.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(daemon: &Daemon, json: bool) -> Result<()> {
    let answer = daemon.ask(&Ask::Machines).await?;
    if json {
        say(&(serde_json::to_string_pretty(&answer)? + "\n"))?;
        return Ok(());
    }
    let rows: Vec<Row> = serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")?;
    say(&text(&rows))?;
    Ok(())
}

fn text(rows: &[Row]) -> String {
    let mut table = Table::new(&["machine", "runner", "phase", "age", "jobs", "job", "id"]);
    for Row { runner, machine } in rows {
        let job = machine.job.map_or("-".to_owned(), |job| job.to_string());
        table.row([
            machine.name.clone(),
            runner.clone(),
            machine.phase.clone(),
            duration(machine.age),
            machine.builds.to_string(),
            job,
            machine.id.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    if table.is_empty() {
        "no machines\n".to_owned()
    } else {
        table.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_listed_with_their_jobs() {
        let row = |name: &str, job: Option<u64>| Row {
            runner: "elastic".into(),
            machine: MachineRow {
                number: 1,
                name: name.into(),
                id: job.map(|_| format!("i-{name}")),
                phase: "busy".into(),
                age: 75,
                builds: 2,
                job,
            },
        };
        insta::assert_snapshot!(text(&[row("ci-1", Some(12)), row("ci-20", None)]), @r"
        machine  runner   phase  age  jobs  job  id
        ci-1     elastic  busy   1m      2   12  i-ci-1
        ci-20    elastic  busy   1m      2    -  -
        ");
        assert_eq!(text(&[]), "no machines\n");
    }
}
