//! Looking whether a machine can take a job, and winding its lease.

use super::{NoWay, Waiting, Way, Ways};
use crate::pool_loop::Passing;
use crate::runtime::first_boot::WARNINGS;
use springtide_control::{MachineRecord, Stage};
use springtide_jobs::quoted as word;
use springtide_machines::{
    CommandOutput, ConnectError, HelperClient, HelperError, SshConnection, probe_tcp,
};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout};

/// How long a machine's port may take to take a connection.
const TCP: Duration = Duration::from_secs(5);
/// How long a short command may take there.
const COMMAND: Duration = Duration::from_secs(30);
/// How long the helper may take to be put there.
const INSTALL: Duration = Duration::from_secs(300);
/// How long the operator's `ready_command` may take.
const READY_COMMAND: Duration = Duration::from_secs(60);
/// The exit code that says that a machine has no timer.
const NO_TIMER: i32 = 3;

/// Cloud-init, where there is one, is done with the first boot.
const FIRST_BOOT: &str = "test ! -d /run/cloud-init || test -e /run/cloud-init/result.json || test -e /run/cloud-init/disabled";

/// Why a machine can't take a job yet.
#[derive(Debug, Error)]
pub enum NotReady {
    /// There is no way to it.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// It does not answer, or not as it should.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its helper does not answer.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// Cloud-init is at work there.
    #[error("its first boot is under way")]
    FirstBoot,
    /// The operator's command says that it is not.
    #[error("ready_command ended with exit code {code}: {said}")]
    Command {
        /// Its exit code.
        code: i32,
        /// The end of what it put out.
        said: String,
    },
    /// The operator's command can't be run.
    #[error("ready_command could not be run: {0}")]
    NotRun(#[from] std::io::Error),
    /// Something took too long.
    #[error("{what} took longer than {seconds} s")]
    Slow {
        /// What did.
        what: &'static str,
        /// How long it may take.
        seconds: u64,
    },
}

/// Why a machine's lease was not wound.
#[derive(Debug, Error)]
pub enum NotWound {
    /// Its image has no timer, or its first boot did not set one.
    #[error(
        "it has no timer that would power it off if every manager died: its image runs no cloud-init"
    )]
    NoTimer,
    /// The command failed there.
    #[error("winding its lease ended with exit code {code}: {said}")]
    Failed {
        /// The exit code.
        code: i32,
        /// What it said.
        said: String,
    },
    /// It was not reached.
    #[error(transparent)]
    NotReached(#[from] NotReady),
}

impl Ways {
    /// Whether a machine can take a job: each stage that it passes is told as it passes it. A stage
    /// its record has already is not looked at again.
    pub async fn ready(
        &self,
        record: &MachineRecord,
        ready_command: Option<&str>,
        passing: &Passing,
    ) -> bool {
        let until = self.waiting().get(&record.name).map(|at| at.until);
        if until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        match self.look(record, ready_command, passing).await {
            Ok(()) => {
                self.waiting().remove(&record.name);
                true
            }
            Err(error) => {
                tracing::debug!(machine = record.name, %error, "not ready");
                let waiting = Waiting {
                    why: error.to_string(),
                    until: Instant::now() + self.pause(record, &error),
                };
                self.waiting().insert(record.name.clone(), waiting);
                false
            }
        }
    }

    /// How long a machine is left alone after this.
    fn pause(&self, record: &MachineRecord, error: &NotReady) -> Duration {
        match error {
            NotReady::Connect(error) | NotReady::Helper(HelperError::Connect(error))
                if matches!(error, ConnectError::Refused { .. }) =>
            {
                self.0.options.refused
            }
            NotReady::FirstBoot | NotReady::Command { .. } => self.0.options.again,
            // Its port answers, and what is behind it does not yet.
            NotReady::Connect(_) if record.boot.at(Stage::Tcp).is_some() => self.0.options.again,
            _ => Duration::ZERO,
        }
    }

    async fn look(
        &self,
        record: &MachineRecord,
        ready_command: Option<&str>,
        passing: &Passing,
    ) -> Result<(), NotReady> {
        let way = self.to(record).await?;
        let passed = |stage| record.boot.at(stage).is_some();
        if let Way::Ssh(connection) = &way {
            if !passed(Stage::Tcp) {
                probe_tcp(connection.target(), TCP).await?;
                passing.stage(Stage::Tcp);
            }
            // Made once, it is there for the rest.
            connection.connect().await?;
            if !passed(Stage::Ssh) {
                passing.stage(Stage::Ssh);
            }
            if !passed(Stage::FirstBoot) {
                first_boot(&record.name, connection).await?;
                passing.stage(Stage::FirstBoot);
            }
        }
        let helper = HelperClient::new(way.clone().connection());
        within(INSTALL, "putting the helper there", helper.hello()).await??;
        match (ready_command, &way) {
            (None, _) => Ok(()),
            (Some(command), Way::Ssh(connection)) => {
                let output = run(connection, command, READY_COMMAND, "ready_command").await?;
                judged(output.code, &output.stdout, &output.stderr)
            }
            (Some(command), Way::Process(_, directory)) => {
                let run = here(command, directory);
                let output = within(READY_COMMAND, "ready_command", run).await??;
                judged(exit_code(output.status), &output.stdout, &output.stderr)
            }
        }
    }

    /// Winds a machine's lease: it powers itself off unless it is wound again within `seconds`.
    ///
    /// # Errors
    /// [`NotWound::NoTimer`] where it has none.
    pub async fn wind(&self, record: &MachineRecord, seconds: u64) -> Result<(), NotWound> {
        let Way::Ssh(connection) = self.to(record).await.map_err(NotReady::from)? else {
            // The lease of a directory of this host is its driver's alone.
            return Ok(());
        };
        let lease = word(&self.0.options.lease);
        let wind = format!(
            "echo $(($(cut -d. -f1 /proc/uptime) + {seconds})) > {lease}.new && mv -f {lease}.new {lease}"
        );
        let command = format!(
            "test -e {lease} || exit {NO_TIMER}; if test \"$(id -u)\" = 0; then sh -c {wind}; else sudo -n sh -c {wind}; fi",
            wind = word(&wind),
        );
        let output = run(&connection, &command, COMMAND, "winding its lease").await?;
        match output.code {
            0 => Ok(()),
            NO_TIMER => Err(NotWound::NoTimer),
            code => Err(NotWound::Failed {
                code,
                said: end_of(&output.stderr),
            }),
        }
    }
}

/// Waits for no boot: says whether it is over, and what it warned of.
async fn first_boot(machine: &str, connection: &Arc<SshConnection>) -> Result<(), NotReady> {
    let output = run(connection, FIRST_BOOT, COMMAND, "looking at its first boot").await?;
    if output.code != 0 {
        return Err(NotReady::FirstBoot);
    }
    let read = format!("test ! -e {WARNINGS} || head -c 16384 {WARNINGS}");
    let warnings = run(connection, &read, COMMAND, "reading its warnings").await?;
    for warning in String::from_utf8_lossy(&warnings.stdout).lines() {
        tracing::warn!(machine, "first boot: {warning}");
    }
    Ok(())
}

/// Runs a command of a shell there, whatever the user's login shell is.
async fn run(
    connection: &Arc<SshConnection>,
    command: &str,
    limit: Duration,
    what: &'static str,
) -> Result<CommandOutput, NotReady> {
    let command = format!("sh -c {}", word(command));
    Ok(within(limit, what, connection.output(&command, &[])).await??)
}

/// Runs the operator's command in a machine that is a directory of this host.
async fn here(command: &str, directory: &Path) -> std::io::Result<std::process::Output> {
    tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, NotReady> {
    let seconds = limit.as_secs();
    let done = timeout(limit, work).await;
    done.map_err(|_| NotReady::Slow { what, seconds })
}

fn judged(code: i32, stdout: &[u8], stderr: &[u8]) -> Result<(), NotReady> {
    if code == 0 {
        return Ok(());
    }
    let said = match stderr.is_empty() {
        true => end_of(stdout),
        false => end_of(stderr),
    };
    Err(NotReady::Command { code, said })
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(-1)
}

/// The last line of what a command said, shortened.
fn end_of(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let last = text.trim().lines().last().unwrap_or_default();
    last.chars().take(200).collect()
}
