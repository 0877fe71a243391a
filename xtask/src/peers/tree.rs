//! Debian trees made by mmdebstrap from the mirror this machine's apt uses.

use crate::run::{output, run};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const ENTER: &str = r#"set -e
for at in proc sys dev; do mount --rbind "/$at" "$0/$at"; done
exec chroot "$0" "$@""#;

/// Makes a tree of a suite with these packages.
///
/// # Errors
/// Where mmdebstrap fails; it says why.
pub(super) fn make(root: &Path, suite: &str, components: &str, packages: &str) -> Result<()> {
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--components={components}"))
        // A mirror that is a snapshot is past its date.
        .args(["--aptopt", r#"Acquire::Check-Valid-Until "false""#])
        .args(["--aptopt", r#"APT::Install-Recommends "false""#])
        .arg(format!("--include={packages}"))
        .arg(suite)
        .arg(root)
        .arg(mirror()?))
    .context("it needs root and a Debian mirror; try `apt-get update`")
}

/// The Debian mirror of this machine's apt.
fn mirror() -> Result<String> {
    let all = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    of_debian(&all)
        .map(str::to_owned)
        .context("no source of apt's is a Debian mirror")
}

/// The first address of a whole Debian archive: its path ends in `debian`, or names a day of one.
fn of_debian(addresses: &str) -> Option<&str> {
    addresses.lines().find(|address| {
        let mut parts = address.trim_end_matches('/').split('/').skip(3);
        parts.any(|part| part == "debian")
    })
}

/// A program in a tree, which sees this machine's kernel for as long as it runs: nothing stays mounted
/// where somebody may remove the tree.
pub(super) fn inside(root: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            ENTER,
        ])
        .args([root, Path::new(program)])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Removes a tree, or a directory with trees in it.
///
/// # Errors
/// Where it can't be removed.
pub(super) fn remove(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    run(Command::new("rm")
        .args(["--recursive", "--force", "--one-file-system", "--"])
        .arg(directory))
}

#[cfg(test)]
mod tests {
    use super::of_debian;

    #[test]
    fn the_mirror_is_the_one_that_has_all_of_debian() {
        for (all, wanted) in [
            (
                "https://deb.example.com/debian/\n",
                Some("https://deb.example.com/debian/"),
            ),
            (
                "https://packages.example.com/apt/\nhttp://mirror.example.com/pub/debian\n",
                Some("http://mirror.example.com/pub/debian"),
            ),
            (
                "http://mirror.example.com/debian-security/\nhttp://s.example.com/archive/debian/20250101T000000Z/",
                Some("http://s.example.com/archive/debian/20250101T000000Z/"),
            ),
            ("http://debian/ubuntu/", None),
        ] {
            assert_eq!(of_debian(all), wanted);
        }
    }
}
