//! A Debian sid tree with VirtualBox, whose VBoxManage does all of its work there but run a machine.
//! Who runs it mounts /proc, /sys and /dev there for itself alone.

use super::{once, tree};
use crate::packages;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

const SUITE: &str = "sid";
const PACKAGES: &str = "virtualbox,virtualbox-source";

/// The tree's own root.
pub(super) fn root(peers: &Path) -> PathBuf {
    peers.join("vbox/root")
}

/// The tree.
pub(super) fn set_up(peers: &Path) -> Result<()> {
    let recipe = format!("{SUITE} {PACKAGES}");
    let root = root(peers);
    once(&peers.join("vbox"), &recipe, |_| {
        packages::need("mmdebstrap", "mmdebstrap")?;
        tree::make(&root, SUITE, "main,contrib", PACKAGES)
    })?;
    let program = root.join("usr/bin/VBoxManage");
    if std::fs::symlink_metadata(&program).is_err() {
        bail!(
            "{} is missing; remove {} and try again",
            program.display(),
            peers.join("vbox").display()
        );
    }
    Ok(())
}
