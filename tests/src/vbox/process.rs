//! The process that a stand-in for a virtual machine is, known by the file its id is in.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::path::PathBuf;

/// A process that outlives the call that started it.
pub(super) struct Process {
    /// The file with its id.
    pub(super) file: PathBuf,
}

impl Process {
    fn id(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Whether it is over.
    pub(super) fn is_off(&self) -> bool {
        self.id().is_none_or(|id| test_kill_process(id).is_err())
    }

    /// Ends it at once, and forgets it.
    ///
    /// # Errors
    /// Where it stays.
    pub(super) fn kill(&self) -> Result<()> {
        if let Some(id) = self.id()
            && let Err(error) = kill_process(id, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            return Err(error).context("switching the machine off");
        }
        if self.file.exists() {
            std::fs::remove_file(&self.file)?;
        }
        Ok(())
    }
}
