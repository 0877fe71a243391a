//! A shell with a terminal in the build's container, for a person.

use super::engine::{Engine, EngineError};
use super::{HELPER, Pod};
use crate::terminal::Terminal;
use async_trait::async_trait;
use bollard::exec::CreateExecOptions;
use futures_util::StreamExt;
use springtide_machines::ByteStream;
use std::io;
use std::sync::Arc;
use tokio_util::io::StreamReader;

struct ContainerTerminal {
    engine: Engine,
    container: String,
    directory: String,
}

impl Pod {
    /// A terminal in the build's container, in this directory.
    pub(crate) fn terminal(&self, directory: &str) -> Arc<dyn Terminal> {
        Arc::new(ContainerTerminal {
            engine: self.engine().clone(),
            container: self.build(),
            directory: directory.to_owned(),
        })
    }
}

#[async_trait]
impl Terminal for ContainerTerminal {
    async fn start(&self) -> Result<ByteStream, String> {
        self.shell().await.map_err(|error| error.to_string())
    }
}

impl ContainerTerminal {
    async fn shell(&self) -> Result<ByteStream, EngineError> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            env: Some(vec!["TERM=xterm-256color".to_owned()]),
            working_dir: Some(self.directory.clone()),
            cmd: Some([HELPER, "shell", "any"].map(str::to_owned).to_vec()),
            ..CreateExecOptions::default()
        };
        let call = format!("start a terminal in the container {}", self.container);
        let (_, output, input) = self.engine.exec(&call, &self.container, options).await?;
        let output =
            output.map(|part| part.map(|part| part.into_bytes()).map_err(io::Error::other));
        Ok(Box::new(tokio::io::join(StreamReader::new(output), input)))
    }
}
