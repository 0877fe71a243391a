//! moto, which speaks EC2's API on this machine, and botocore, whose model says what a request may be.

use super::once;
use crate::packages;
use crate::run::run;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};

const MOTO: &str = "moto[server]==5.2.5";

/// A Python environment with moto's server in `moto/venv`.
pub(super) fn set_up(peers: &Path) -> Result<()> {
    once(&peers.join("moto"), MOTO, |directory| {
        let modules = Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .stderr(Stdio::null())
            .status();
        if !modules.is_ok_and(|status| status.success()) {
            packages::install(&["python3-venv"])?;
        }
        let venv = directory.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", MOTO])
            .stdout(Stdio::null()))
        .with_context(|| format!("installing {MOTO} needs PyPI, or an index that pip is told of"))
    })
}
