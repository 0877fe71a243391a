//! The helper's protocol as calls.

use crate::connection::{ConnectError, Connection, HelperProcess};
use crate::follow::Follow;
use serde::de::DeserializeOwned;
use springtide_helper::{
    Answer, Ending, Fault, FaultKind, Hello, PROTOCOL, Work, WorkEnd, WorkSignal,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest answer taken, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The helper's protocol over a connection.
#[derive(Clone, Debug)]
pub struct HelperClient {
    connection: Arc<dyn Connection>,
}

/// Why a call to the helper gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// The machine was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke or the helper was killed in the middle of a call; it may be repeated.
    #[error("the connection to the helper broke while it was asked to {call}: {why}")]
    Broken {
        /// Which call.
        call: String,
        /// What happened.
        why: String,
    },
    /// There is no work of that id on the machine.
    #[error("{why}")]
    NoWork {
        /// What the helper said.
        why: String,
    },
    /// The work's program could not be started: it is missing or may not be run.
    #[error("{why}")]
    NotStarted {
        /// What the helper said.
        why: String,
    },
    /// The machine does not take work yet, or no more.
    #[error("{why}")]
    NotReady {
        /// What the helper said.
        why: String,
    },
    /// The helper speaks another version of the protocol.
    #[error(
        "the helper on the machine speaks protocol {theirs}, and this is {PROTOCOL}: put springtide-helper of this version on it"
    )]
    Version {
        /// The helper's.
        theirs: u32,
    },
    /// The helper could not do it, or was called wrongly.
    #[error("{why}")]
    Failed {
        /// What the helper said.
        why: String,
    },
}

impl HelperError {
    /// Whether the same call may work if it is repeated.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            HelperError::Connect(ConnectError::Unreachable { .. })
                | HelperError::Broken { .. }
                | HelperError::NotReady { .. }
        )
    }

    pub(crate) fn of(fault: Fault) -> Self {
        let why = fault.message;
        match fault.kind {
            FaultKind::NotFound => HelperError::NoWork { why },
            FaultKind::NoMachine => HelperError::Connect(ConnectError::Gone {
                machine: "the machine".into(),
                why,
            }),
            FaultKind::NotStarted => HelperError::NotStarted { why },
            FaultKind::NotReady => HelperError::NotReady { why },
            FaultKind::BadCall | FaultKind::Capacity | FaultKind::Failed => {
                HelperError::Failed { why }
            }
        }
    }

    pub(crate) fn broken(call: &str, why: impl ToString) -> Self {
        HelperError::Broken {
            call: call.to_owned(),
            why: why.to_string(),
        }
    }
}

impl HelperClient {
    /// A client over a connection.
    #[must_use]
    pub fn new(connection: Arc<dyn Connection>) -> Self {
        Self { connection }
    }

    /// Asks the helper who it is: the probe that tells that a machine can take work.
    ///
    /// # Errors
    /// [`HelperError::NotReady`] while the machine boots, [`HelperError::Version`] where the two do
    /// not fit.
    pub async fn hello(&self) -> Result<Hello, HelperError> {
        let hello: Hello = self.call(&["hello"], &[]).await?;
        if hello.protocol == PROTOCOL {
            Ok(hello)
        } else {
            Err(HelperError::Version {
                theirs: hello.protocol,
            })
        }
    }

    /// Starts a piece of work, detached. Starting the same id again is a success that starts
    /// nothing.
    ///
    /// # Errors
    /// [`HelperError::NotStarted`] where the program is missing or may not be run; said again by
    /// each later start of that id.
    pub async fn start(&self, work: &Work) -> Result<(), HelperError> {
        let input = serde_json::to_vec(work).map_err(|error| HelperError::Failed {
            why: format!("writing work {} as JSON: {error}", work.id),
        })?;
        self.call(&["start"], &input).await
    }

    /// Follows the output from an offset, in bytes, to the end. Reconnects are the caller's: call
    /// again with the next offset.
    ///
    /// # Errors
    /// [`HelperError::NoWork`] where there is no work of that id, [`HelperError::Failed`] where the
    /// offset is beyond what was put out.
    pub async fn follow(&self, id: &str, from: u64) -> Result<Follow, HelperError> {
        let from = from.to_string();
        let arguments = ["follow", id, "--from", &from];
        let process = self.connection.helper(&arguments).await?;
        Follow::begin(process).await
    }

    /// Sends a signal to all processes of a piece of work. One that has ended is passed over.
    ///
    /// # Errors
    /// [`HelperError::NoWork`] where there is no work of that id.
    pub async fn signal(&self, id: &str, signal: WorkSignal) -> Result<(), HelperError> {
        self.call(&["signal", id, signal.name()], &[]).await
    }

    /// How a piece of work ended; nothing while it runs.
    ///
    /// # Errors
    /// [`HelperError::NoWork`] where there is no work of that id.
    pub async fn result(&self, id: &str) -> Result<Option<WorkEnd>, HelperError> {
        let ending: Option<Ending> = self.call(&["result", id], &[]).await?;
        Ok(ending.map(|ending| ending.end))
    }

    /// Kills what is left of a piece of work and deletes its spool; a success if there is none.
    ///
    /// # Errors
    /// Where a process or a file would not go.
    pub async fn remove(&self, id: &str) -> Result<(), HelperError> {
        self.call(&["remove", id], &[]).await
    }

    /// The ids of all work on the machine, ended or not, sorted.
    ///
    /// # Errors
    /// Where the machine can't be asked.
    pub async fn list(&self) -> Result<Vec<String>, HelperError> {
        self.call(&["list"], &[]).await
    }

    /// Whether a container's entry point has come to `hold` with this word.
    ///
    /// # Errors
    /// [`HelperError::NotReady`] while it has not.
    pub async fn held(&self, word: &str) -> Result<(), HelperError> {
        self.call(&["held", word], &[]).await
    }

    /// How many processes of a container the kernel has killed for want of memory.
    ///
    /// # Errors
    /// Where the container can't be asked.
    pub async fn memory_kills(&self) -> Result<u64, HelperError> {
        self.call(&["memory-kills"], &[]).await
    }

    /// Waits until one of these places, `HOST:PORT` each, takes a connection.
    ///
    /// # Errors
    /// [`HelperError::Failed`] where none did in that time, with what each said.
    pub async fn wait_for(&self, places: &[String], limit: Duration) -> Result<(), HelperError> {
        let limit = limit.as_secs().to_string();
        let mut words = vec!["wait", "--timeout", &limit];
        words.extend(places.iter().map(String::as_str));
        self.call(&words, &[]).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<T, HelperError> {
        let name = arguments.first().copied().unwrap_or_default();
        let mut process = self.connection.helper(arguments).await?;
        let said = exchange(&mut process, input)
            .await
            .map_err(|error| HelperError::broken(name, error))?;
        let exit = process.wait().await?;
        match serde_json::from_slice(&said) {
            Ok(Answer::Ok(answer)) => Ok(answer),
            Ok(Answer::Error(fault)) => Err(HelperError::of(fault)),
            Err(_) if said.is_empty() => Err(HelperError::broken(
                name,
                format!(
                    "it ended with {} and said nothing. {}",
                    exit.code, exit.stderr
                ),
            )),
            Err(error) => Err(HelperError::broken(
                name,
                format!("its answer can't be read: {error}. {}", exit.stderr),
            )),
        }
    }
}

async fn exchange(process: &mut HelperProcess, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let HelperProcess { stdin, stdout, .. } = process;
    // Taken, for a pipe is closed when it is dropped and not when it is shut down.
    let mut stdin = std::mem::replace(stdin, Box::pin(tokio::io::sink()));
    let write = async move {
        // A helper that refuses early reads no further; what it says then counts.
        match stdin.write_all(input).await {
            Ok(()) => stdin.shutdown().await,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error),
        }
    };
    let read = async {
        let mut said = Vec::new();
        stdout.take(ANSWER_LIMIT).read_to_end(&mut said).await?;
        Ok(said)
    };
    let ((), said) = tokio::try_join!(write, read)?;
    Ok(said)
}
