//! A stand-in for a virtual machine that takes no time: an SSH server with processes, a home and a
//! `/var/lib` of its own, which lets in whoever the machine's seed names.

use super::process::Process;
use super::qemu::Hardware;
use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SSHD: &str = "/usr/sbin/sshd";

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is written to is the machine's own.
const ENTER: &str = r#"set -e
mkdir -p "$0/home" "$0/lib" /run/sshd
mount --bind "$0/home" /root
mount --bind "$0/lib" /var/lib
exec /usr/sbin/sshd -D -e -f "$0/sshd_config""#;

/// A machine's part of the state's directory.
pub struct Sshd {
    folder: PathBuf,
    process: Process,
}

impl Sshd {
    /// That of a machine.
    #[must_use]
    pub fn of(state: &Path, name: &str) -> Sshd {
        let folder = state.join("sshd").join(name);
        Sshd {
            process: Process {
                file: folder.join("pid"),
            },
            folder,
        }
    }

    /// Switches it on; it listens when this returns, and goes on by itself.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&self, hardware: &Hardware) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let seed = std::fs::read(&hardware.seed).context("reading the seed")?;
        std::fs::write(self.folder.join("authorized"), key(&seed)?)?;
        let host_key = self.folder.join("host.key");
        if !host_key.exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&host_key)
                .status()
                .context("running ssh-keygen")?;
            if !made.success() {
                bail!("ssh-keygen made no host key");
            }
        }
        let config = self.folder.join("sshd_config");
        std::fs::write(&config, self.config(&hardware.port))?;
        let port: u16 = hardware.port.parse().context("the forwarded port")?;
        let log = std::fs::File::create(self.folder.join("log"))?;
        let machine = Command::new("setsid")
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "/bin/sh", "-c", ENTER])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("running setsid")?;
        std::fs::write(&self.process.file, machine.id().to_string())?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if begun.elapsed() > PATIENCE || self.is_off() {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("{SSHD} does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn config(&self, port: &str) -> String {
        let at = self.folder.display();
        format!(
            "ListenAddress 127.0.0.1\n\
             Port {port}\n\
             HostKey {at}/host.key\n\
             AuthorizedKeysFile {at}/authorized\n\
             AuthenticationMethods publickey\n\
             StrictModes no\n\
             UsePAM no\n\
             PidFile none\n\
             Subsystem sftp internal-sftp\n"
        )
    }

    /// Whether it is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.process.is_off()
    }

    /// Pulls the plug: all its processes are gone with it.
    ///
    /// # Errors
    /// Where it stays on.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }
}

/// The key in a seed's user data.
fn key(seed: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(seed);
    let (_, rest) = text
        .split_once("ssh-ed25519 ")
        .context("there is no key in the seed")?;
    let key: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))
        .collect();
    Ok(format!("ssh-ed25519 {key}\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_is_found_in_a_seed() {
        let seed =
            b"\0\xffCD001\n    ssh_authorized_keys:\n      - \"ssh-ed25519 AAAA+/= manager\"\n";
        assert_eq!(super::key(seed).unwrap(), "ssh-ed25519 AAAA+/=\n");
        assert!(super::key(b"").is_err());
    }
}
