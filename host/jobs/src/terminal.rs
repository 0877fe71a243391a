//! A terminal in a job that runs: the door a person comes through, from GitLab's page of the job.
//!
//! The job opens its door when its scripts may begin, and shuts it before anything of it is removed. One
//! person is in at a time. A job that is over waits for who is in, as long as it may.

use async_trait::async_trait;
use springtide_machines::ByteStream;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Starts a shell where a job runs.
#[async_trait]
pub(crate) trait Terminal: Send + Sync {
    async fn start(&self) -> Result<ByteStream, String>;
}

/// The door of one job. Clones are the same door.
#[derive(Clone)]
pub struct Door(Arc<watch::Sender<State>>);

#[derive(Clone)]
enum State {
    /// The job is not so far.
    NotYet,
    Open {
        terminal: Arc<dyn Terminal>,
        visited: bool,
    },
    /// The job is over.
    Shut,
}

/// Why nobody comes in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEntry {
    /// The job is not so far, or over.
    #[error("the job has no terminal now")]
    NotOpen,
    /// Somebody is in.
    #[error("somebody has the job's terminal")]
    Taken,
    /// The shell could not be started.
    #[error("{0}")]
    Failed(String),
}

/// Somebody is in. Dropped, he is out.
#[derive(Debug)]
pub struct Visit {
    door: Door,
}

impl Default for Door {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::NotYet)))
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0.borrow() {
            State::NotYet => "Door(not yet)",
            State::Open { visited: false, .. } => "Door(open)",
            State::Open { .. } => "Door(visited)",
            State::Shut => "Door(shut)",
        })
    }
}

impl Door {
    /// Starts a shell in the job, once it is so far; that is waited for this long.
    ///
    /// # Errors
    /// Where the job has no terminal, or somebody has it.
    pub async fn enter(&self, patience: Duration) -> Result<(Visit, ByteStream), NoEntry> {
        let mut state = self.0.subscribe();
        let is_known = |state: &State| !matches!(state, State::NotYet);
        let known = tokio::time::timeout(patience, state.wait_for(is_known)).await;
        drop(known.map_err(|_| NoEntry::NotOpen)?);
        let mut found = Err(NoEntry::NotOpen);
        self.0.send_if_modified(|state| match state {
            State::NotYet | State::Shut => false,
            State::Open { visited: true, .. } => {
                found = Err(NoEntry::Taken);
                false
            }
            State::Open { terminal, visited } => {
                found = Ok(Arc::clone(terminal));
                *visited = true;
                true
            }
        });
        let terminal = found?;
        let visit = Visit { door: self.clone() };
        let stream = terminal.start().await.map_err(NoEntry::Failed)?;
        Ok((visit, stream))
    }

    pub(crate) fn open(&self, terminal: Arc<dyn Terminal>) {
        self.0.send_if_modified(|state| {
            let is_first = matches!(state, State::NotYet);
            if is_first {
                *state = State::Open {
                    terminal,
                    visited: false,
                };
            }
            is_first
        });
    }

    /// Shuts it for good; who is in is put out.
    pub fn shut(&self) {
        self.0.send_replace(State::Shut);
    }

    pub(crate) fn is_visited(&self) -> bool {
        matches!(&*self.0.borrow(), State::Open { visited: true, .. })
    }

    /// Waits until nobody is in.
    pub(crate) async fn left(&self) {
        let mut state = self.0.subscribe();
        let is_left = |state: &State| !matches!(state, State::Open { visited: true, .. });
        // Its sender is in this door.
        drop(state.wait_for(is_left).await);
    }
}

impl Visit {
    /// Waits until the door is shut.
    pub async fn shut(&self) {
        let mut state = self.door.0.subscribe();
        drop(state.wait_for(|state| matches!(state, State::Shut)).await);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.door.0.send_if_modified(|state| match state {
            State::Open { visited, .. } => std::mem::take(visited),
            State::NotYet | State::Shut => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    #[async_trait]
    impl Terminal for Echo {
        async fn start(&self) -> Result<ByteStream, String> {
            Ok(Box::new(tokio::io::duplex(8).0))
        }
    }

    struct Broken;

    #[async_trait]
    impl Terminal for Broken {
        async fn start(&self) -> Result<ByteStream, String> {
            Err("no shell".into())
        }
    }

    const NOW: Duration = Duration::ZERO;

    async fn why(door: &Door) -> NoEntry {
        door.enter(NOW).await.map(drop).expect_err("no entry")
    }

    #[tokio::test]
    async fn one_is_in_at_a_time_between_its_opening_and_its_end() {
        let door = Door::default();
        assert_eq!(why(&door).await, NoEntry::NotOpen);
        let later = door.clone();
        let first = tokio::spawn(async move { later.enter(Duration::from_secs(60)).await });
        door.open(Arc::new(Echo));
        let (visit, _) = first.await.expect("no panic").expect("it is open");
        assert!(door.is_visited());
        assert_eq!(why(&door).await, NoEntry::Taken);
        let left = door.clone();
        let left = tokio::spawn(async move { left.left().await });
        drop(visit);
        left.await.expect("no panic");
        let (visit, _) = door.enter(NOW).await.expect("it is free again");
        door.shut();
        visit.shut().await;
        door.left().await;
        drop(visit);
        assert_eq!(why(&door).await, NoEntry::NotOpen);
        door.open(Arc::new(Echo));
        assert_eq!(why(&door).await, NoEntry::NotOpen);
    }

    #[tokio::test]
    async fn a_shell_that_can_not_be_started_holds_no_place() {
        let door = Door::default();
        door.open(Arc::new(Broken));
        assert_eq!(why(&door).await, NoEntry::Failed("no shell".into()));
        assert!(!door.is_visited());
    }
}
