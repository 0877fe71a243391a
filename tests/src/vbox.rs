//! A VirtualBox of a test's own: the real VBoxManage in a directory that goes with the test.

mod process;
pub mod qemu;
pub mod sshd;

use crate::{plugins, program};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is to go wrong with the tests' VBoxManage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A line written before every output, to both streams.
    pub warning: Option<String>,
    /// What `--version` says.
    pub version: Option<String>,
    /// Calls that fail.
    pub faults: Vec<Fault>,
}

/// Calls that fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The subcommand, or `*` for all.
    pub subcommand: String,
    /// Of so many calls one fails; at least 1.
    pub every: u32,
    /// `fail`: nothing is done. `fail-after`: it is done, and told as failed. `hang`: it never ends.
    pub how: String,
    /// What is said.
    pub text: String,
}

impl Fault {
    /// Of so many calls of a subcommand one fails.
    #[must_use]
    pub fn new(subcommand: &str, every: u32, how: &str) -> Fault {
        Fault {
            subcommand: subcommand.into(),
            every,
            how: how.into(),
            text: "The test has it so".into(),
        }
    }

    /// What its calls are counted by.
    #[must_use]
    pub fn key(&self) -> String {
        let subcommand = self.subcommand.replace('*', "all");
        format!("{subcommand}-{}-{}", self.every, self.how)
    }
}

impl Faults {
    /// Those of a state's directory.
    ///
    /// # Errors
    /// Where the file is none of faults.
    pub fn read(state: &Path) -> Result<Faults> {
        match std::fs::read_to_string(state.join("faults.json")) {
            Ok(text) => serde_json::from_str(&text).context("reading faults.json"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Faults::default()),
            Err(error) => Err(error).context("reading faults.json"),
        }
    }
}

/// A VirtualBox that knows no machine at first.
pub struct VirtualBox {
    folder: tempfile::TempDir,
    peers: PathBuf,
    program: PathBuf,
    start: Start,
}

/// What `startvm` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It says that the machine runs.
    Pretend,
    /// An SSH server stands in for the machine.
    Sshd,
    /// QEMU boots the machine's disk.
    Boot,
}

impl VirtualBox {
    /// One in a directory of its own, which only says that its machines run.
    ///
    /// # Errors
    /// Where the peers or the programs are not there.
    pub fn new() -> Result<VirtualBox> {
        VirtualBox::that(Start::Pretend)
    }

    /// One whose machines start so.
    ///
    /// # Errors
    /// Where the peers or the programs are not there.
    pub fn that(start: Start) -> Result<VirtualBox> {
        let peers = crate::peers()?;
        let folder = tempfile::Builder::new()
            .prefix("springtide-vbox-")
            .tempdir()?;
        Ok(VirtualBox {
            folder,
            peers,
            program: program("vboxmanage")?,
            start,
        })
    }

    /// Makes a machine of the peers' disk, which has a system, with a snapshot.
    ///
    /// # Errors
    /// Where the disk is not there, or VBoxManage fails.
    pub fn base_with_system(&self, name: &str, snapshot: &str) -> Result<()> {
        let from = self.peers.join("vm/disk.vdi");
        let disk = self.path().join("system.vdi");
        std::fs::copy(&from, &disk).with_context(|| {
            format!(
                "copying {}, which `cargo xtask test --vm` makes",
                from.display()
            )
        })?;
        self.with_disk(name, &disk.display().to_string())?;
        self.manage(&["snapshot", name, "take", snapshot])?;
        Ok(())
    }

    /// A directory for whatever VBoxManage is to see.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program to grant as `VBoxManage`.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The environment to grant it.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        let start = match self.start {
            Start::Pretend => None,
            Start::Sshd => Some(("SPRINGTIDE_VBOX_SSHD".to_owned(), "yes".to_owned())),
            Start::Boot => {
                let vm = text(&self.peers.join("vm"));
                Some(("SPRINGTIDE_VBOX_VM".to_owned(), vm))
            }
        };
        let always = [
            ("SPRINGTIDE_PEERS".to_owned(), text(&self.peers)),
            ("SPRINGTIDE_VBOX_STATE".to_owned(), text(&self.state())),
            (
                "PATH".to_owned(),
                "/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ),
        ];
        always.into_iter().chain(start).collect()
    }

    /// The driver's component.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn component() -> Result<PathBuf> {
        let file = plugins()?.join("virtualbox.wasm");
        if !file.exists() {
            bail!("the driver virtualbox is not built; run `cargo xtask plugins`");
        }
        Ok(file)
    }

    fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Sets what is to go wrong from now on.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn fail(&self, faults: &Faults) -> Result<()> {
        std::fs::create_dir_all(self.state())?;
        let text = serde_json::to_string(faults)?;
        // A reader sees one or the other.
        let new = self.state().join("faults.new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, self.state().join("faults.json")).context("writing faults.json")
    }

    /// Runs VBoxManage as a person would.
    ///
    /// # Errors
    /// Where it fails, with what it said.
    pub fn manage(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(words)
            .env_clear()
            .envs(self.env())
            .output()
            .context("running the tests' VBoxManage")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("VBoxManage {words:?} failed: {said}");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A machine with a disk, and with a snapshot if it is named.
    ///
    /// # Errors
    /// Where VBoxManage fails.
    pub fn base(&self, name: &str, snapshot: Option<&str>) -> Result<()> {
        let disk = self.path().join(format!("disk of {}.vdi", name.len()));
        let disk = disk.display().to_string();
        self.manage(&["createmedium", "disk", "--filename", &disk, "--size", "100"])?;
        self.with_disk(name, &disk)?;
        self.manage(&["modifyvm", name, "--natpf1", "web,tcp,127.0.0.1,20080,,80"])?;
        if let Some(snapshot) = snapshot {
            self.manage(&["snapshot", name, "take", snapshot])?;
        }
        Ok(())
    }

    fn with_disk(&self, name: &str, disk: &str) -> Result<()> {
        self.manage(&[
            "createvm",
            "--name",
            name,
            "--ostype",
            "Linux_64",
            "--register",
        ])?;
        self.manage(&[
            "storagectl",
            name,
            "--name",
            "SATA",
            "--add",
            "sata",
            "--portcount",
            "1",
        ])?;
        self.manage(&[
            "storageattach",
            name,
            "--storagectl",
            "SATA",
            "--port",
            "0",
            "--device",
            "0",
            "--type",
            "hdd",
            "--medium",
            disk,
        ])?;
        Ok(())
    }

    /// The names of all its machines.
    ///
    /// # Errors
    /// Where VBoxManage fails.
    pub fn machines(&self) -> Result<Vec<String>> {
        let text = self.manage(&["list", "vms"])?;
        let name = |line: &str| Some(line.strip_prefix('"')?.rsplit_once("\" {")?.0.to_owned());
        let mut names: Vec<String> = text.lines().filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    /// All media it knows.
    ///
    /// # Errors
    /// Where VBoxManage fails.
    pub fn media(&self) -> Result<Vec<String>> {
        let text = self.manage(&["list", "hdds"])? + &self.manage(&["list", "dvds"])?;
        let path = |line: &str| Some(line.strip_prefix("Location:")?.trim().to_owned());
        Ok(text.lines().filter_map(path).collect())
    }

    /// Files of machines of ours, and their seeds, that are there.
    ///
    /// # Errors
    /// Where a directory can't be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in ["state/machines/springtide", "scratch"] {
            walk(&self.path().join(directory), &mut found)?;
        }
        Ok(found)
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}
