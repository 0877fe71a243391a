//! A machine that is a directory on this host.

use crate::connection::{ByteStream, ConnectError, Connection, Exit, HelperExit, HelperProcess};
use async_trait::async_trait;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

/// What is kept of a helper's standard error, in bytes.
const STDERR_KEPT: u64 = 4096;

/// The variables of this process that a helper on this host is given.
const KEPT: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR",
];

/// A machine of the driver `local`: a directory on this host, and the helper run for it.
#[derive(Clone, Debug)]
pub struct ProcessConnection {
    helper: PathBuf,
    machine: PathBuf,
    home: String,
}

impl ProcessConnection {
    /// A machine by its directory, and the helper binary that serves it; both absolute.
    #[must_use]
    pub fn new(helper: impl Into<PathBuf>, machine: impl Into<PathBuf>) -> Self {
        let machine = machine.into();
        let home = machine.to_string_lossy().into_owned();
        Self {
            helper: helper.into(),
            machine,
            home,
        }
    }

    fn name(&self) -> String {
        let name = self.machine.file_name().unwrap_or_default();
        format!("machine {}", Path::new(name).display())
    }
}

#[async_trait]
impl Connection for ProcessConnection {
    async fn helper(&self, arguments: &[&str]) -> Result<HelperProcess, ConnectError> {
        match tokio::fs::metadata(&self.machine).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ConnectError::Gone {
                    machine: self.name(),
                    why: format!("there is no {}", self.machine.display()),
                });
            }
            // Whatever else is the matter, the helper says it better.
            _ => {}
        }
        let mut command = Command::new(&self.helper);
        command
            .arg("--root")
            .arg(&self.machine)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for key in KEPT {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        let broken = |why: String| ConnectError::Unreachable {
            machine: self.name(),
            why,
        };
        let mut child = command
            .spawn()
            .map_err(|error| broken(format!("starting {}: {error}", self.helper.display())))?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(HelperProcess::new(
                Box::pin(stdin),
                Box::pin(stdout),
                Box::new(LocalExit {
                    machine: self.name(),
                    child,
                    stderr,
                }),
            )),
            _ => Err(broken("the helper was started without its pipes".into())),
        }
    }

    fn home(&self) -> &str {
        &self.home
    }

    async fn socket(&self, path: &str) -> Result<ByteStream, ConnectError> {
        match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(ConnectError::Unreachable {
                machine: self.name(),
                why: format!("connecting to {path}: {error}"),
            }),
        }
    }

    async fn helper_path(&self) -> Result<String, ConnectError> {
        Ok(self.helper.to_string_lossy().into_owned())
    }

    fn shares_engine(&self) -> bool {
        true
    }
}

struct LocalExit {
    machine: String,
    child: Child,
    stderr: ChildStderr,
}

#[async_trait]
impl Exit for LocalExit {
    async fn wait(&mut self) -> Result<HelperExit, ConnectError> {
        let mut said = Vec::new();
        let read = (&mut self.stderr)
            .take(STDERR_KEPT)
            .read_to_end(&mut said)
            .await;
        let status = match read {
            Ok(_) => self.child.wait().await,
            Err(error) => Err(error),
        };
        match status {
            Ok(status) => Ok(HelperExit {
                code: exit_code(status),
                stderr: String::from_utf8_lossy(&said).trim().to_owned(),
            }),
            Err(error) => Err(ConnectError::Unreachable {
                machine: self.machine.clone(),
                why: format!("waiting for the helper: {error}"),
            }),
        }
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
