//! Going to a machine: a shell or a command over SSH, and Docker's client.

use crate::commands::asking::Daemon;
use crate::runtime::answers::MachineDoor;
use crate::runtime::reach::Door;
use crate::runtime::socket::Ask;
use crate::table::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Which machine, and what to do there.
#[derive(Args, Debug)]
pub struct SshArguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Its name or provider id, as `springtide machine ls` shows it.
    machine: String,
    /// A command of a shell there, after `--`; a shell for you where it is left out.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Which machine.
#[derive(Args, Debug)]
pub struct EnvArguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Its name or provider id, as `springtide machine ls` shows it.
    machine: String,
}

async fn door(daemon: &Daemon, machine: &str) -> Result<MachineDoor> {
    let machine = machine.to_owned();
    let answer = daemon.ask(&Ask::Door { machine }).await?;
    serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")
}

/// Becomes an SSH client that is at the machine.
///
/// # Errors
/// Where there is no way to it, or no SSH client here.
pub async fn ssh(arguments: &SshArguments) -> Result<ExitCode> {
    let MachineDoor { machine, door } = door(&arguments.daemon, &arguments.machine).await?;
    let mut client = match &door {
        Door::Ssh { .. } => {
            let mut client = Command::new("ssh");
            client.args(ssh_arguments(&machine, &door, &arguments.command));
            client
        }
        Door::Process { directory } => {
            let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            let mut client = Command::new(shell);
            client.current_dir(directory);
            if !arguments.command.is_empty() {
                client.args(["-c", &arguments.command.join(" ")]);
            }
            client
        }
    };
    let program = client.get_program().to_string_lossy().into_owned();
    // On success this program is the client from now on, its exit code too.
    let error = client.exec();
    Err(error).with_context(|| {
        format!(
            "starting {program}; `machine ssh` needs the SSH client of the system, openssh-client"
        )
    })
}

/// What the system's SSH client is called with.
fn ssh_arguments(machine: &str, door: &Door, command: &[String]) -> Vec<OsString> {
    let Door::Ssh {
        host,
        port,
        user,
        key,
        known_hosts,
    } = door
    else {
        return Vec::new();
    };
    let mut arguments: Vec<OsString> = vec!["-i".into(), key.into()];
    for option in [
        "IdentitiesOnly=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("HostKeyAlias={machine}"),
        format!("UserKnownHostsFile={}", in_quotes(known_hosts)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "PasswordAuthentication=no".to_owned(),
    ] {
        arguments.extend(["-o".into(), option.into()]);
    }
    arguments.extend(["-p".into(), port.to_string().into()]);
    arguments.extend(["-l".into(), user.into(), "--".into(), host.into()]);
    arguments.extend(command.iter().map(OsString::from));
    arguments
}

/// A path that SSH does not take for several.
fn in_quotes(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Prints what points Docker's client at a machine.
///
/// # Errors
/// Where there is no way to it, or it is no machine with an engine of its own.
pub async fn env(arguments: &EnvArguments) -> Result<()> {
    let MachineDoor { machine, door } = door(&arguments.daemon, &arguments.machine).await?;
    let Some(text) = env_text(&machine, &door) else {
        bail!("{machine} is a directory of this host, and has no Docker of its own");
    };
    say(&text)?;
    Ok(())
}

fn env_text(machine: &str, door: &Door) -> Option<String> {
    let address = door.docker_host()?;
    let Door::Ssh {
        host,
        port,
        user,
        key,
        known_hosts,
    } = door
    else {
        return None;
    };
    let mut text = format!("export DOCKER_HOST={}\n", springtide_jobs::quoted(&address));
    let hint = [
        "Docker's client goes there with ssh, which has to know the machine. In ~/.ssh/config:"
            .to_owned(),
        format!("  Match host {host} exec \"test %p = {port}\""),
        format!("    User {user}"),
        format!("    IdentityFile {}", in_quotes(key)),
        "    IdentitiesOnly yes".to_owned(),
        format!("    HostKeyAlias {machine}"),
        format!("    UserKnownHostsFile {}", in_quotes(known_hosts)),
        format!("Then: eval \"$(springtide machine env {machine})\""),
    ];
    for line in hint {
        // Writing to a string can't fail.
        writeln!(text, "# {line}").ok();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door::Ssh {
            host: "10.0.0.5".into(),
            port: 2222,
            user: "ci".into(),
            key: "/state/ssh/id_ed25519".into(),
            known_hosts: "/state/ssh/host keys/ci-1.known".into(),
        }
    }

    #[test]
    fn the_client_trusts_the_pinned_key_alone_and_is_handed_the_command_as_it_is() {
        let command = ["docker".to_owned(), "ps".to_owned(), "-a".to_owned()];
        let arguments = ssh_arguments("ci-1", &door(), &command);
        let shown: Vec<String> = arguments
            .iter()
            .map(|one| one.to_string_lossy().into_owned())
            .collect();
        insta::assert_snapshot!(shown.join(" "), @r#"-i /state/ssh/id_ed25519 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o HostKeyAlias=ci-1 -o UserKnownHostsFile="/state/ssh/host keys/ci-1.known" -o GlobalKnownHostsFile=/dev/null -o PasswordAuthentication=no -p 2222 -l ci -- 10.0.0.5 docker ps -a"#);
    }

    #[test]
    fn docker_is_pointed_at_the_machine_and_told_how_to_get_there() {
        insta::assert_snapshot!(env_text("ci-1", &door()).unwrap(), @r#"
        export DOCKER_HOST=ssh://ci@10.0.0.5:2222
        # Docker's client goes there with ssh, which has to know the machine. In ~/.ssh/config:
        #   Match host 10.0.0.5 exec "test %p = 2222"
        #     User ci
        #     IdentityFile "/state/ssh/id_ed25519"
        #     IdentitiesOnly yes
        #     HostKeyAlias ci-1
        #     UserKnownHostsFile "/state/ssh/host keys/ci-1.known"
        # Then: eval "$(springtide machine env ci-1)"
        "#);
        let directory = Door::Process {
            directory: "/machines/ci-1".into(),
        };
        assert_eq!(env_text("ci-1", &directory), None);
    }
}
