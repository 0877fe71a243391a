//! The helper as it is put on machines: one static file for each architecture that can be built here.
//!
//! A machine's C library may be of any age, or none. glibc is linked in, so nothing of it is needed.

use crate::run::{cargo, output, run};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable that tests find it by.
pub const VARIABLE: &str = "SPRINGTIDE_HELPER";

/// The most it may weigh, in bytes: it goes over every new machine's connection.
const LIMIT: u64 = 10_000_000;
const NAME: &str = "springtide-helper";
const OTHER: &str = "aarch64-unknown-linux-gnu";
const OTHER_LINKER: &str = "aarch64-linux-gnu-gcc";

/// Builds the helper for this machine's architecture and answers where it is,
/// `helper/TARGET/springtide-helper` in the target directory. The one for arm64 is built beside it
/// where the toolchain has that target and there is a linker for it.
///
/// # Errors
/// Where a build fails, or what comes of it is too large.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let version = output(Command::new(rustc()).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    if !host.ends_with("-linux-gnu") {
        bail!("the helper is built static with glibc, and this machine is {host}");
    }
    if host != OTHER && has_target() && has_linker() {
        one(workspace, OTHER)?;
    }
    one(workspace, host)
}

fn one(workspace: &Workspace, target: &str) -> Result<PathBuf> {
    let directory = workspace.target.join("helper");
    let build = directory.join("build");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["build", "--quiet", "--profile", "helper"])
        .args(["--package", NAME, "--bin", NAME, "--target", target])
        .arg("--target-dir")
        .arg(&build)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&workspace.root));
    if target == OTHER {
        command
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                OTHER_LINKER,
            )
            .env("CC_aarch64_unknown_linux_gnu", OTHER_LINKER);
    }
    run(&mut command)?;
    let built = build.join(target).join("helper").join(NAME);
    let size = std::fs::metadata(&built)
        .with_context(|| format!("looking at {}", built.display()))?
        .len();
    if size > LIMIT {
        bail!("the helper for {target} weighs {size} bytes, and {LIMIT} is the most it may");
    }
    let to = directory.join(target);
    std::fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    let to = to.join(NAME);
    // Its time tells others whether it is another one; a copy that is cut short must not look whole.
    if std::fs::read(&to).ok() != Some(read(&built)?) {
        let new = to.with_extension("new");
        std::fs::copy(&built, &new)
            .and_then(|_| std::fs::rename(&new, &to))
            .with_context(|| format!("putting {} in place", to.display()))?;
    }
    eprintln!("helper: {target}, {} KiB", size / 1024);
    Ok(to)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Static, and without this machine's paths in the messages of a panic.
fn flags(root: &Path) -> OsString {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    );
    for (from, to) in [(root, "springtide"), (&*cargo_home, "cargo")] {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

fn has_target() -> bool {
    let mut command = Command::new(rustc());
    command.args(["--print", "target-libdir", "--target", OTHER]);
    output(&mut command).is_ok_and(|text| Path::new(text.trim()).is_dir())
}

fn has_linker() -> bool {
    Command::new(OTHER_LINKER)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"))
}
