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
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // Not as it was when this was built: two checkouts that share a target directory share this
        // program.
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command.arg("--manifest-path");
            command.arg(PathBuf::from(package).join("../Cargo.toml"));
        }
        serde_json::from_str(&output(&mut command)?).context("reading what `cargo metadata` wrote")
    }

    /// Where the shipped plugins are put.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }
}
