//! The real programs that tests talk to, set up once and kept: VirtualBox's VBoxManage, an EC2 on
//! this machine, a Docker engine, an SSH server.
//!
//! They are in the user's cache directory, or where SPRINGTIDE_PEERS says. Each has a stamp beside it
//! with what it was made from: while that is unchanged, setting it up costs nothing.

mod docker;
mod ec2;
mod tree;
mod vbox;
mod vm;

use crate::packages;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The variable that tests find the peers by, and a person can set to keep them elsewhere.
pub const VARIABLE: &str = "SPRINGTIDE_PEERS";

/// Sees to it that all peers are there, and answers the directory they are in.
///
/// # Errors
/// Where one can't be had, with what to do about it.
pub fn set_up() -> Result<PathBuf> {
    let peers = directory()?;
    std::fs::create_dir_all(&peers).with_context(|| format!("making {}", peers.display()))?;
    packages::need("/usr/sbin/sshd", "openssh-server").context("the SSH server of tests")?;
    packages::need("git-lfs", "git-lfs").context("large files of git that tests get")?;
    vbox::set_up(&peers).context("the VirtualBox that tests run")?;
    docker::set_up(&peers).context("the Docker engine that tests run jobs on")?;
    ec2::set_up(&peers).context("the EC2 that tests talk to")?;
    Ok(peers)
}

/// Sees to it that the image of a virtual machine is there, for the test that boots one.
///
/// # Errors
/// Where it can't be made.
pub fn set_up_vm(peers: &Path) -> Result<()> {
    vm::set_up(peers).context("the virtual machine that a test boots")
}

fn directory() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return std::path::absolute(PathBuf::from(named)).context("finding the peers");
    }
    let caches = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let caches = caches
        .with_context(|| format!("there is no home directory to keep them in; set {VARIABLE}"))?;
    Ok(caches.join("springtide/peers"))
}

/// Makes what a directory should hold, unless its stamp says that it was made from this already. The
/// stamp is written last: what was cut short is made anew.
fn once(directory: &Path, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let stamp = directory.join("made-from");
    if std::fs::read_to_string(&stamp).is_ok_and(|old| old == recipe) {
        return Ok(());
    }
    eprintln!("setting up {}, once", directory.display());
    tree::remove(directory)?;
    std::fs::create_dir_all(directory)
        .map(|()| make(directory))
        .with_context(|| format!("making {}", directory.display()))??;
    std::fs::write(&stamp, recipe).with_context(|| format!("writing {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn what_is_there_is_kept_and_what_was_cut_short_or_is_of_another_recipe_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("springtide-once-{}", std::process::id()));
        let directory = folder.join("peer");
        let mut made = 0;
        let cut = once(&directory, "1", |at| {
            std::fs::write(at.join("half"), "")?;
            bail!("no room")
        });
        assert!(cut.is_err());
        for recipe in ["1", "1", "2", "2"] {
            let done = once(&directory, recipe, |at| {
                assert!(!at.join("half").exists() && !at.join("made-from").exists());
                made += 1;
                Ok(())
            });
            done.unwrap();
        }
        assert_eq!(made, 2);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
