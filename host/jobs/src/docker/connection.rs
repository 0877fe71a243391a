//! A container as a machine: the helper is started in it by the engine.

use super::engine::{Engine, EngineError, QUICK};
use super::{HELPER, ROOT};
use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::CreateExecOptions;
use futures_util::StreamExt;
use springtide_machines::{ByteStream, ConnectError, Connection, Exit, HelperExit, HelperProcess};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::io::StreamReader;

/// What is kept of a helper's standard error, in bytes.
const STDERR_KEPT: usize = 4096;

/// One container of a job.
#[derive(Clone, Debug)]
pub(super) struct ContainerConnection {
    engine: Engine,
    container: String,
}

impl ContainerConnection {
    pub(super) fn new(engine: Engine, container: &str) -> Self {
        Self {
            engine,
            container: container.to_owned(),
        }
    }

    fn unreached(&self, error: EngineError) -> ConnectError {
        let machine = format!("the container {}", self.container);
        let why = error.to_string();
        match error {
            EngineError::Unreachable { .. }
            | EngineError::Hung { .. }
            | EngineError::Failed { .. } => ConnectError::Unreachable { machine, why },
            // A container that is not there, or that ended: the engine says so of an exec.
            EngineError::Missing { .. } | EngineError::Refused { .. } => {
                ConnectError::Gone { machine, why }
            }
        }
    }
}

#[async_trait]
impl Connection for ContainerConnection {
    async fn helper(&self, arguments: &[&str]) -> Result<HelperProcess, ConnectError> {
        let mut command = vec![HELPER, "--root", ROOT];
        command.extend(arguments);
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.into_iter().map(str::to_owned).collect()),
            ..CreateExecOptions::default()
        };
        let call = format!("run a command in the container {}", self.container);
        let started = self.engine.exec(&call, &self.container, options).await;
        let (id, output, input) = started.map_err(|error| self.unreached(error))?;
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&stderr);
        let stdout = output.filter_map(move |part| {
            let part = match part {
                Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
                Ok(LogOutput::StdErr { message } | LogOutput::Console { message }) => {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = STDERR_KEPT.saturating_sub(said.len()).min(message.len());
                    said.extend_from_slice(&message[..room]);
                    None
                }
                Ok(LogOutput::StdIn { .. }) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            };
            std::future::ready(part)
        });
        let exit = ExecExit {
            connection: self.clone(),
            id,
            stderr,
        };
        Ok(HelperProcess::new(
            input,
            Box::pin(StreamReader::new(stdout)),
            Box::new(exit),
        ))
    }

    fn home(&self) -> &str {
        "/"
    }

    async fn socket(&self, path: &str) -> Result<ByteStream, ConnectError> {
        Err(ConnectError::Refused {
            machine: format!("the container {}", self.container),
            why: format!("its sockets, {path} among them, are not led anywhere"),
        })
    }

    async fn helper_path(&self) -> Result<String, ConnectError> {
        Ok(HELPER.to_owned())
    }

    fn shares_engine(&self) -> bool {
        true
    }
}

struct ExecExit {
    connection: ContainerConnection,
    id: String,
    stderr: Arc<Mutex<Vec<u8>>>,
}

#[async_trait]
impl Exit for ExecExit {
    async fn wait(&mut self) -> Result<HelperExit, ConnectError> {
        // Its streams end a moment before the engine has its end.
        let mut pause = Duration::from_millis(5);
        let code = loop {
            let id = self.id.clone();
            let found = self
                .connection
                .engine
                .call("tell how a command ended", QUICK, |docker| async move {
                    docker.inspect_exec(&id).await
                })
                .await
                .map_err(|error| self.connection.unreached(error))?;
            if let (Some(false) | None, Some(code)) = (found.running, found.exit_code) {
                break code;
            }
            if pause > Duration::from_secs(5) {
                return Err(self.connection.unreached(EngineError::Hung {
                    call: "tell how a command ended".into(),
                    limit: pause,
                }));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        };
        let said = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(HelperExit {
            code: i32::try_from(code).unwrap_or(-1),
            stderr: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }
}
