//! Where the workspace is and where its builds go.

use crate::run::{cargo, output};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;

/// The directories every task needs.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// The directory of the workspace's Cargo.toml.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Where cargo builds.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// Where cargo can't be run or does not answer as expected.
    pub fn find() -> Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // Started outside the workspace, the task is still about the one it was built from.
        command.args(["--manifest-path", manifest]);
        serde_json::from_str(&output(&mut command)?).context("reading what `cargo metadata` wrote")
    }

    /// Where the shipped plugins are put.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }
}
