//! Which running daemon a command asks.

use crate::runtime::socket::{self, Ask};
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;

/// The daemon to ask: the one with this configuration, or with this state directory.
#[derive(Args, Debug, Clone)]
pub struct Daemon {
    /// The daemon's configuration; where it is left out, the paths `springtide run` looks at.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    config: Option<PathBuf>,
    /// The daemon's state directory, instead of its configuration.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
}

impl Daemon {
    /// Asks it.
    ///
    /// # Errors
    /// Where no daemon answers, or it says why it can't.
    pub async fn ask(&self, ask: &Ask) -> Result<Value> {
        socket::ask(&self.directory()?, ask).await
    }

    fn directory(&self) -> Result<PathBuf> {
        match &self.state {
            Some(directory) => Ok(directory.clone()),
            None => crate::runtime::paths::state_directory(self.config.as_deref()),
        }
    }
}
