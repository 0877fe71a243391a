//! Debian packages a task needs, installed where that is possible.

use crate::run::{line, run};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Installs packages by apt as root.
///
/// # Errors
/// Where this is not Debian, the user is not root, or apt fails; the text has the command to type.
pub fn install(packages: &[&str]) -> Result<()> {
    let mut install = apt("install");
    install.arg("--no-install-recommends").args(packages);
    let advice = format!(
        "install them: `sudo apt-get install {}`",
        packages.join(" ")
    );
    if !is_root() {
        bail!(
            "{} are missing, and only root can {advice}",
            packages.join(" and ")
        );
    }
    eprintln!("installing {}: {}", packages.join(" and "), line(&install));
    // The lists of a fresh machine are empty or old; then the first try fails.
    if run(&mut install).is_err() {
        run(&mut apt("update")).with_context(|| format!("for {advice}"))?;
        run(&mut install).with_context(|| format!("for {advice}"))?;
    }
    Ok(())
}

/// Sees to it that a program is there, by a package if it is not.
///
/// # Errors
/// Where it is not there and can't be installed.
pub fn need(program: &str, package: &str) -> Result<()> {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if there { Ok(()) } else { install(&[package]) }
}

fn apt(subcommand: &str) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y", subcommand])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    command
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
