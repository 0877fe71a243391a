//! A Debian with an SSH server, Docker and cloud-init, as the disk a virtual machine is made from, and
//! QEMU beside VBoxManage in its tree, which runs one where VirtualBox can't.

use super::{once, tree, vbox};
use crate::packages;
use crate::run::run;
use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd-sysv,systemd-resolved,dbus,udev,openssh-server,cloud-init,docker.io,apparmor,iptables,linux-image-cloud-amd64,ca-certificates,git,iproute2,netbase,sudo";
const SIZE: u64 = 4 << 30;

/// What makes a tree a machine: its root, its network, and first boots that do not look for a cloud.
const FILES: [(&str, &str); 5] = [
    ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
    (
        "etc/systemd/network/80-all.network",
        "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
    ),
    (
        "etc/cloud/cloud.cfg.d/90-seed.cfg",
        "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\nlocale: false\n",
    ),
    ("etc/hostname", "base\n"),
    // Empty: each machine makes its own.
    ("etc/machine-id", ""),
];

/// Units a machine starts.
const UNITS: [&str; 4] = ["systemd-networkd", "systemd-resolved", "ssh", "docker"];

/// The disk as `vm/disk.vdi`, its kernel as `vm/vmlinuz` and `vm/initrd.img`, and QEMU in the tree of
/// VirtualBox.
pub(super) fn set_up(peers: &Path) -> Result<()> {
    let host = vbox::root(peers);
    if !host.join("usr/bin/qemu-system-x86_64").exists() {
        in_tree(&host, "apt-get", &["-q", "-y", "update"])?;
        let install = [
            "-q",
            "-y",
            "--no-install-recommends",
            "install",
            "qemu-system-x86",
        ];
        in_tree(&host, "apt-get", &install)?;
    }
    let recipe = format!("{SUITE} {PACKAGES} {SIZE} {FILES:?} {UNITS:?}");
    once(&peers.join("vm"), &recipe, |directory| {
        packages::need("mmdebstrap", "mmdebstrap")?;
        let root = directory.join("root");
        tree::make(&root, SUITE, "main", PACKAGES)?;
        for (file, text) in FILES {
            let file = root.join(file);
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        in_tree(
            &root,
            "systemctl",
            &["--quiet", "enable"]
                .into_iter()
                .chain(UNITS)
                .collect::<Vec<_>>(),
        )?;
        for name in ["vmlinuz", "initrd.img"] {
            std::fs::copy(root.join(name), directory.join(name))
                .with_context(|| format!("the kernel's {name} in {}", root.display()))?;
        }
        let raw = directory.join("disk.raw");
        run(Command::new("mkfs.ext4")
            .args(["-q", "-L", "root", "-d"])
            .arg(&root)
            .arg(&raw)
            .arg(format!("{}k", SIZE >> 10)))?;
        // VBoxManage sees its own tree alone: the disk goes in by a pipe and comes out by a move.
        let inside = host.join("springtide-base.vdi");
        let convert = [
            "convertfromraw",
            "stdin",
            "/springtide-base.vdi",
            &SIZE.to_string(),
        ];
        if inside.exists() {
            std::fs::remove_file(&inside).context("removing what a set-up before left")?;
        }
        run(tree::inside(&host, "VBoxManage")
            .args(convert)
            .stdin(File::open(&raw).context("opening the raw disk")?)
            .stdout(Stdio::null()))?;
        std::fs::rename(&inside, directory.join("disk.vdi")).context("keeping the disk")?;
        std::fs::remove_file(&raw).context("removing the raw disk")?;
        tree::remove(&root)
    })
}

fn in_tree(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    run(tree::inside(root, program)
        .args(arguments)
        .stdout(Stdio::null()))
}
