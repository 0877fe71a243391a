//! The socket a running daemon is asked over: `springtide.sock` in its state directory, mode 0600.
//! One JSON object a line is asked, one is answered.

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Bytes one question may have.
const LONGEST: u64 = 64 * 1024;
/// How long a question or an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a daemon can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How it stands, whole.
    Status,
    /// One step's complete input.
    Snapshot {
        /// The runner's name; may be left out where there is one runner.
        runner: Option<String>,
    },
    /// All machines.
    Machines,
    /// Something about one machine.
    Machine {
        /// Its name, or its provider's id.
        machine: String,
        /// What to do with it.
        act: Act,
    },
    /// All that is known of one machine.
    Inspect {
        /// Its name, or its provider's id.
        machine: String,
    },
    /// How a person gets to a machine.
    Door {
        /// Its name, or its provider's id.
        machine: String,
    },
    /// What was logged and decided about a machine of late; also one that is gone.
    Log {
        /// Its name.
        machine: String,
    },
    /// Make a machine for a person: it is held once it is ready.
    Make {
        /// The runner's name; may be left out where there is one runner.
        runner: Option<String>,
    },
    /// Load a plugin's file again.
    ReloadPlugin {
        /// Its id.
        plugin: String,
    },
}

/// What a person does with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It goes when its job, if any, is over.
    Remove,
    /// It is kept: no job, no removal.
    Hold,
    /// It goes on.
    Release,
}

/// The socket's path in a state directory.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("springtide.sock")
}

/// Opens the socket. One daemon serves a state directory: a second one is refused.
///
/// # Errors
/// Where another daemon answers there, or the socket can't be made.
pub async fn open(state: &Path) -> Result<UnixListener> {
    let path = path(state);
    if UnixStream::connect(&path).await.is_ok() {
        bail!(
            "another springtide runs with the state in {}; stop it first, or give this one another `state`",
            state.display()
        );
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("removing the old socket {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("opening the socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("closing the socket {} to others", path.display()))?;
    Ok(listener)
}

/// Answers questions for ever.
pub async fn serve<F, A>(listener: UnixListener, answer: F)
where
    F: Fn(Ask) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value>> + Send,
{
    let answer = Arc::new(answer);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let talk = tokio::time::timeout(PATIENCE, talk(stream, &*answer));
                    if let Ok(Err(error)) = talk.await {
                        tracing::debug!(%error, "a question over the socket was not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket refused a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn talk<F, A>(stream: UnixStream, answer: &F) -> Result<()>
where
    F: Fn(Ask) -> A,
    A: Future<Output = Result<Value>>,
{
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST))
        .read_line(&mut line)
        .await?;
    let said = match serde_json::from_str(&line) {
        Ok(ask) => answer(ask).await,
        Err(error) => Err(anyhow!("this daemon does not know the question: {error}")),
    };
    let said = match said {
        Ok(value) => json!({ "answer": value }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    write.write_all(format!("{said}\n").as_bytes()).await?;
    write.shutdown().await?;
    Ok(())
}

/// Asks a running daemon.
///
/// # Errors
/// Where none runs, or it says why it can't answer.
pub async fn ask(state: &Path, ask: &Ask) -> Result<Value> {
    let path = path(state);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "asking the daemon at {}: is `springtide run` running with this configuration, and are you its user?",
            path.display()
        )
    })?;
    let talk = async {
        let (read, mut write) = stream.into_split();
        write
            .write_all(format!("{}\n", serde_json::to_string(ask)?).as_bytes())
            .await?;
        let mut text = String::new();
        BufReader::new(read).read_to_string(&mut text).await?;
        anyhow::Ok(text)
    };
    let text = tokio::time::timeout(PATIENCE, talk)
        .await
        .context("the daemon did not answer in 30 seconds")??;
    let mut said: serde_json::Map<String, Value> =
        serde_json::from_str(&text).context("the daemon's answer is not JSON")?;
    if let Some(error) = said.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    said.remove("answer")
        .context("the daemon's answer has no `answer`: is it another version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_to_its_owner_alone_and_a_second_daemon_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let listener = open(dir.path()).await.unwrap();
        let mode = std::fs::metadata(path(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        tokio::spawn(serve(listener, |asked| async move {
            match asked {
                Ask::Machines => Ok(json!(["one"])),
                other => bail!("not {other:?}"),
            }
        }));
        assert_eq!(
            ask(dir.path(), &Ask::Machines).await.unwrap(),
            json!(["one"])
        );
        let refused = ask(dir.path(), &Ask::Status).await.unwrap_err();
        assert_eq!(refused.to_string(), "not Status");
        let second = open(dir.path()).await.unwrap_err().to_string();
        assert!(second.contains("another springtide"), "{second}");
    }

    #[tokio::test]
    async fn where_no_daemon_runs_the_error_says_so_and_a_dead_ones_socket_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = ask(dir.path(), &Ask::Status).await.unwrap_err().to_string();
        assert!(nobody.contains("is `springtide run` running"), "{nobody}");
        drop(open(dir.path()).await.unwrap());
        assert!(path(dir.path()).exists());
        open(dir.path()).await.unwrap();
    }
}
