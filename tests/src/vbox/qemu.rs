//! A virtual machine of the tests' VirtualBox that really runs: QEMU boots the disk VirtualBox has for it,
//! with its seed and its forwarded port.

use super::process::Process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The kernel of the base disk, and how it finds its root.
const KERNEL: [&str; 2] = ["vmlinuz", "initrd.img"];
const APPEND: &str = "root=LABEL=root rw console=ttyS0";

/// What a machine is to be booted with, as `showvminfo --machinereadable` says.
#[derive(Debug, Default, PartialEq)]
pub struct Hardware {
    /// The file of its disk.
    pub disk: String,
    /// The file of its seed.
    pub seed: String,
    /// Megabytes of memory.
    pub memory: String,
    /// Processors.
    pub processors: String,
    /// The port of this host that is forwarded to its SSH server.
    pub port: String,
}

impl Hardware {
    /// Reads it.
    ///
    /// # Errors
    /// Where a part is missing.
    pub fn read(info: &str) -> Result<Hardware> {
        let mut found = Hardware::default();
        for line in info.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let (key, value) = (key.trim_matches('"'), value.trim_matches('"'));
            let forward: Vec<&str> = value.split(',').collect();
            match (key, &forward[..]) {
                ("memory", _) => value.clone_into(&mut found.memory),
                ("cpus", _) => value.clone_into(&mut found.processors),
                (_, [_, "tcp", _, port, _, "22"]) if key.starts_with("Forwarding(") => {
                    (*port).clone_into(&mut found.port);
                }
                _ if value.ends_with(".vdi") && found.disk.is_empty() => {
                    value.clone_into(&mut found.disk);
                }
                _ if value.ends_with(".iso") => value.clone_into(&mut found.seed),
                _ => {}
            }
        }
        for (what, value) in [
            ("disk", &found.disk),
            ("seed", &found.seed),
            ("memory", &found.memory),
            ("forwarded port", &found.port),
        ] {
            if value.is_empty() {
                bail!("the machine has no {what}: {info}");
            }
        }
        Ok(found)
    }
}

/// A machine's part of the state's directory.
pub struct Qemu {
    /// Its disk, whole, as QEMU takes it.
    pub raw: PathBuf,
    process: Process,
    serial: PathBuf,
    kernel: PathBuf,
}

impl Qemu {
    /// That of a machine.
    #[must_use]
    pub fn of(state: &Path, name: &str) -> Qemu {
        let file = |extension: &str| state.join("qemu").join(format!("{name}.{extension}"));
        Qemu {
            raw: file("raw"),
            process: Process { file: file("pid") },
            serial: file("serial"),
            kernel: state.join("qemu"),
        }
    }

    /// Puts the kernel where QEMU sees it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn begin(&self, vm: &Path) -> Result<()> {
        std::fs::create_dir_all(&self.kernel)?;
        for name in KERNEL {
            let (from, to) = (vm.join(name), self.kernel.join(name));
            if !to.exists() {
                std::fs::copy(&from, to).with_context(|| {
                    format!(
                        "there is no {}: run `cargo xtask test --vm`, which makes it",
                        from.display()
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The arguments QEMU boots it with; it returns when the machine is on, and goes on by itself.
    #[must_use]
    pub fn arguments(&self, hardware: &Hardware) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let kernel = |name: &str| text(&self.kernel.join(name));
        // A comma in a path would begin another option.
        let file = |path: &str| format!("file={}", path.replace(',', ",,"));
        let raw = file(&text(&self.raw)) + ",format=raw,if=virtio";
        let seed = file(&hardware.seed) + ",format=raw,if=virtio,media=cdrom,readonly=on";
        let network = format!(
            "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{}-:22",
            hardware.port
        );
        let serial = format!("file:{}", text(&self.serial));
        let (pid, vmlinuz, initrd) = (
            text(&self.process.file),
            kernel(KERNEL[0]),
            kernel(KERNEL[1]),
        );
        let words = [
            ["-accel", "tcg,thread=multi"],
            ["-m", &hardware.memory],
            ["-smp", &hardware.processors],
            ["-display", "none"],
            ["-serial", &serial],
            ["-kernel", &vmlinuz],
            ["-initrd", &initrd],
            ["-append", APPEND],
            ["-drive", &raw],
            ["-drive", &seed],
            ["-nic", &network],
            ["-pidfile", &pid],
        ];
        let mut all: Vec<String> = words.concat().into_iter().map(str::to_owned).collect();
        all.push("-daemonize".into());
        all
    }

    /// Whether it has switched itself off, or was.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.process.is_off()
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// Where it stays on.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()?;
        if self.raw.exists() {
            std::fs::remove_file(&self.raw)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_is_booted_with_is_read() {
        let info = "name=\"a\"\nmemory=1024\ncpus=2\n\"SATA-0-0\"=\"/m/a/{u}.vdi\"\n\"SATA-ImageUUID-0-0\"=\"u\"\n\"SATA-1-0\"=\"/s/a.iso\"\nForwarding(0)=\"springtide-ssh,tcp,127.0.0.1,20022,,22\"\n";
        let hardware = Hardware::read(info).unwrap();
        assert_eq!(
            hardware,
            Hardware {
                disk: "/m/a/{u}.vdi".into(),
                seed: "/s/a.iso".into(),
                memory: "1024".into(),
                processors: "2".into(),
                port: "20022".into(),
            }
        );
        assert!(Hardware::read("memory=1024").is_err());
    }
}
