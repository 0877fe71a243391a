//! The peers' Docker engine, and how an engine is asked.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The socket of the peers' engine.
///
/// # Errors
/// Where the peers were not set up.
pub fn socket() -> Result<PathBuf> {
    Ok(crate::peers()?.join("docker/engine/docker.sock"))
}

/// What `docker` says of the engine at a socket.
///
/// # Errors
/// With what it said, where it fails.
pub fn docker(socket: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new("docker")
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .args(words)
        .output()
        .context("starting docker, which `cargo xtask peers` installs")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("docker {words:?}: {said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
