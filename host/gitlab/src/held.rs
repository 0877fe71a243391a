//! A job that was received while its machine is not ready yet.
//!
//! Where GitLab offers jobs in two phases, the job stays pending there, its clock stands, and
//! [`HeldJob::keep`] winds the offer; elsewhere it runs from the start, and the same call shows
//! GitLab that somebody has it. Which of the two holds is learned from the first answer.

use crate::Remote;
use crate::error::GitlabError;
use crate::job::{Heard, JobLine, Said};

/// A job that waits for its machine.
#[derive(Debug)]
pub struct HeldJob {
    line: JobLine,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unknown,
    Offered,
    Running,
}

/// What GitLab says of a held job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is this manager's and pending: its clock stands.
    Offered,
    /// It is this manager's and runs at GitLab.
    Running,
    /// It was cancelled: nothing of it need run; its end is to be told.
    Canceling,
    /// It is over there, or was given to another: drop it and say no more.
    Gone {
        /// What it is there (`canceled`), where that was said.
        status: Option<String>,
    },
}

impl HeldJob {
    /// A job that was just received, or that was held before a restart.
    #[must_use]
    pub fn new(line: JobLine) -> Self {
        Self {
            line,
            mode: Mode::Unknown,
        }
    }

    /// The job's line.
    #[must_use]
    pub fn line(&self) -> &JobLine {
        &self.line
    }

    /// Whether the job is pending at GitLab; `None` before the first answer.
    #[must_use]
    pub fn is_offered(&self) -> Option<bool> {
        match self.mode {
            Mode::Unknown => None,
            Mode::Offered => Some(true),
            Mode::Running => Some(false),
        }
    }

    /// Shows GitLab that the job is still held. To be called at once, and then every 20 seconds
    /// or so.
    ///
    /// # Errors
    /// GitLab did not answer, or made no sense: the job is still held, and it is asked again.
    pub async fn keep(&mut self) -> Result<Held, GitlabError> {
        if self.mode == Mode::Running {
            return self.accept().await;
        }
        let Heard { said, .. } = self.line.pending().await;
        match (said, self.mode) {
            (Said::Yes(Remote::Canceling), _) => Ok(Held::Canceling),
            (Said::Yes(_), _) => {
                self.mode = Mode::Offered;
                Ok(Held::Offered)
            }
            (Said::Over { status }, _) => Ok(Held::Gone { status }),
            (Said::Conflict, Mode::Offered) => Ok(Held::Gone { status: None }),
            // A GitLab without two phases does not know the word, or says that the job runs.
            (Said::Conflict | Said::Failed(GitlabError::Refused { status: 400, .. }), _) => {
                self.accept().await
            }
            (said, _) => Err(self.odd(said)),
        }
    }

    /// Tells GitLab that the job runs from now on: its machine is ready.
    ///
    /// # Errors
    /// GitLab did not answer, or made no sense: whether it runs there is not known, so the job
    /// must not be started; it is asked again.
    pub async fn accept(&mut self) -> Result<Held, GitlabError> {
        let Heard { said, .. } = self.line.running(None).await;
        match said {
            Said::Yes(remote) => {
                self.mode = Mode::Running;
                Ok(match remote {
                    Remote::Canceling => Held::Canceling,
                    _ => Held::Running,
                })
            }
            Said::Over { status } => Ok(Held::Gone { status }),
            Said::Conflict | Said::Failed(GitlabError::Refused { status: 400, .. }) => {
                Ok(Held::Gone { status: None })
            }
            said => Err(self.odd(said)),
        }
    }

    fn odd(&self, said: Said) -> GitlabError {
        match said {
            Said::Failed(error) => error,
            other => self.line.makes_no_sense(&other),
        }
    }
}
