//! `VBoxManage` for tests: the real one, in the Debian tree of the peers, and a stand-in for what
//! needs a virtual machine that runs or a kernel module: `startvm`, `controlvm`, the state in
//! `showvminfo`, `guestproperty` and `hostonlyif`.
//!
//! `SPRINGTIDE_PEERS` is where the tree is (`vbox/root`), `SPRINGTIDE_VBOX_STATE` a directory for all
//! that this VirtualBox knows. Files beside that directory have the same paths in the tree. What is to
//! go wrong is in `faults.json` there: see [`Faults`].

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use springtide_tests::vbox::Faults;
use springtide_tests::vbox::qemu::{Hardware, Qemu};
use springtide_tests::vbox::sshd::Sshd;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

/// In the tree as a chroot, with the devices it looks at and the test's own files.
const ENTER: &str = r#"set -e
root=$0 beside=$1; shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
case "$beside/" in /tmp/*) beside=/tmp;; esac
mkdir -p "$root$beside"
mount --bind "$beside" "$root$beside"
exec chroot "$root" "$@""#;

struct Manage {
    root: PathBuf,
    state: PathBuf,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let run = || {
        let directory = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).with_context(|| {
                format!("{name} is not set: run `cargo xtask test`, which sets it")
            })
        };
        let manage = Manage {
            root: directory("SPRINGTIDE_PEERS")?.join("vbox/root"),
            state: directory("SPRINGTIDE_VBOX_STATE")?,
            words: std::env::args().skip(1).collect(),
        };
        manage.begin()?;
        manage.faulty()
    };
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("VBoxManage: error: the tests' VBoxManage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Manage {
    /// The state's directory, and machines in it.
    fn begin(&self) -> Result<()> {
        let ready = self.state.join("ready");
        if ready.exists() {
            return Ok(());
        }
        if !self.root.join("usr/lib/virtualbox/VBoxManage").exists() {
            bail!(
                "there is no VirtualBox in {}: run `cargo xtask test`, which makes that tree",
                self.root.display()
            );
        }
        std::fs::create_dir_all(self.state.join("running"))?;
        let _one = self.lock()?;
        if !ready.exists() {
            let machines = self.state.join("machines").display().to_string();
            let set = self.real(&["setproperty", "machinefolder", &machines])?;
            if !set.status.success() {
                bail!(
                    "VirtualBox does not start: {}",
                    String::from_utf8_lossy(&set.stderr)
                );
            }
            std::fs::write(ready, "")?;
        }
        Ok(())
    }

    /// One process at a time; until the file is dropped.
    fn lock(&self) -> Result<File> {
        let file = File::create(self.state.join("lock")).context("making a lock")?;
        file.lock().context("waiting for a lock")?;
        Ok(file)
    }

    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The call, with what is to go wrong with it.
    fn faulty(&self) -> Result<ExitCode> {
        let faults = Faults::read(&self.state)?;
        if let Some(warning) = &faults.warning {
            println!("{warning}");
            eprintln!("{warning}");
        }
        if let ["--version"] = self.words()[..]
            && let Some(version) = &faults.version
        {
            println!("{version}");
            return Ok(ExitCode::SUCCESS);
        }
        for fault in &faults.faults {
            let first = self.words.first().map_or("", String::as_str);
            if fault.subcommand != "*" && fault.subcommand != first {
                continue;
            }
            let count = {
                let _one = self.lock()?;
                let file = self.state.join(format!("count-{}", fault.key()));
                let count = std::fs::read_to_string(&file).unwrap_or_default();
                let count = count.parse().unwrap_or(0_u32) + 1;
                std::fs::write(file, count.to_string())?;
                count
            };
            if !count.is_multiple_of(fault.every) {
                continue;
            }
            match fault.how.as_str() {
                "hang" => loop {
                    std::thread::park();
                },
                "fail-after" => drop(self.answer()?),
                _ => {}
            }
            eprintln!("VBoxManage: error: {}", fault.text);
            return Ok(ExitCode::FAILURE);
        }
        self.answer()
    }

    fn answer(&self) -> Result<ExitCode> {
        match self.words()[..] {
            ["startvm", name, ..] => self.start(name),
            ["controlvm", name, "poweroff"] => self.power_off(name),
            ["controlvm", _, command, ..] => bail!("controlvm {command} is not stood in for"),
            ["showvminfo", name, ..] => self.info(name),
            ["guestproperty", "get", name, key] => {
                let file = self
                    .state
                    .join("guest")
                    .join(name)
                    .join(key.replace('/', "_"));
                match std::fs::read_to_string(file) {
                    Ok(value) => println!("Value: {value}"),
                    Err(_) => println!("No value set!"),
                }
                Ok(ExitCode::SUCCESS)
            }
            ["hostonlyif", ..] | ["list", "hostonlyifs"] => self.interfaces(),
            [
                "modifyvm" | "unregistervm" | "discardstate" | "storagectl" | "storageattach",
                name,
                ..,
            ] if self.running(name).exists() => {
                eprintln!(
                    "VBoxManage: error: The machine '{name}' is already locked for a session (or being unlocked)"
                );
                Ok(ExitCode::FAILURE)
            }
            _ => self.pass(),
        }
    }

    /// Where a machine's state is, if it is on.
    fn running(&self, name: &str) -> PathBuf {
        self.state.join("running").join(name)
    }

    fn start(&self, name: &str) -> Result<ExitCode> {
        let known = self.real(&["showvminfo", name, "--machinereadable"])?;
        if !known.status.success() {
            return said(&known);
        }
        let _one = self.lock()?;
        if self.running(name).exists() {
            eprintln!(
                "VBoxManage: error: The machine '{name}' is already locked by a session (or being locked or unlocked)"
            );
            return Ok(ExitCode::FAILURE);
        }
        if let Some(vm) = std::env::var_os("SPRINGTIDE_VBOX_VM") {
            self.boot(
                name,
                Path::new(&vm),
                &String::from_utf8_lossy(&known.stdout),
            )?;
        }
        if std::env::var_os("SPRINGTIDE_VBOX_SSHD").is_some() {
            let hardware = Hardware::read(&String::from_utf8_lossy(&known.stdout))?;
            self.sshd(name)?.start(&hardware)?;
        }
        std::fs::write(self.running(name), "running")?;
        println!("Waiting for VM \"{name}\" to power on...");
        println!("VM \"{name}\" has been successfully started.");
        Ok(ExitCode::SUCCESS)
    }

    /// Boots a machine for real: QEMU takes its disk as one file, without the chain it is a link of.
    fn boot(&self, name: &str, vm: &Path, info: &str) -> Result<()> {
        let hardware = Hardware::read(info)?;
        let qemu = Qemu::of(&std::path::absolute(&self.state)?, name);
        qemu.begin(vm)?;
        let raw = qemu.raw.display().to_string();
        let clone = [
            "clonemedium",
            "disk",
            &hardware.disk,
            &raw,
            "--format",
            "RAW",
        ];
        for words in [&clone[..], &["closemedium", "disk", &raw]] {
            let done = self.real(words)?;
            if !done.status.success() {
                bail!("{words:?}: {}", String::from_utf8_lossy(&done.stderr));
            }
        }
        let arguments = qemu.arguments(&hardware);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let started = self.inside("/usr/bin/qemu-system-x86_64", &words)?.output();
        let started = started.context("running unshare")?;
        if !started.status.success() {
            bail!("QEMU: {}", String::from_utf8_lossy(&started.stderr));
        }
        Ok(())
    }

    fn sshd(&self, name: &str) -> Result<Sshd> {
        Ok(Sshd::of(&std::path::absolute(&self.state)?, name))
    }

    fn power_off(&self, name: &str) -> Result<ExitCode> {
        Qemu::of(&self.state, name).kill()?;
        self.sshd(name)?.kill()?;
        if std::fs::remove_file(self.running(name)).is_err() {
            eprintln!("VBoxManage: error: Machine '{name}' is not currently running.");
            return Ok(ExitCode::FAILURE);
        }
        println!("0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%");
        Ok(ExitCode::SUCCESS)
    }

    /// What the real one says, but for the state.
    fn info(&self, name: &str) -> Result<ExitCode> {
        let mut output = self.real(&self.words())?;
        let boots = std::env::var_os("SPRINGTIDE_VBOX_VM").is_some();
        if boots && self.running(name).exists() && Qemu::of(&self.state, name).is_off() {
            // It has switched itself off.
            std::fs::remove_file(self.running(name)).context("taking note of it")?;
        }
        if let Ok(state) = std::fs::read_to_string(self.running(name)) {
            let text = String::from_utf8_lossy(&output.stdout);
            let state = format!("VMState=\"{state}\"");
            // A call that was killed leaves it as aborted: the real one knows of no machine that runs.
            let off = ["VMState=\"poweroff\"", "VMState=\"aborted\""];
            let told = off
                .iter()
                .fold(text.into_owned(), |text, off| text.replace(off, &state));
            output.stdout = told.into_bytes();
        }
        said(&output)
    }

    /// Host-only interfaces: names with an address and a mask each.
    fn interfaces(&self) -> Result<ExitCode> {
        let _one = self.lock()?;
        let file = self.state.join("hostonly.json");
        let mut known: Map<String, Value> = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).context("reading the interfaces")?,
            Err(_) => Map::new(),
        };
        match self.words()[..] {
            ["hostonlyif", "create"] => {
                let name = (0..)
                    .map(|number| format!("vboxnet{number}"))
                    .find(|name| !known.contains_key(name))
                    .unwrap_or_default();
                println!("0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%");
                println!("Interface '{name}' was successfully created");
                known.insert(name, json!({"address": "", "mask": ""}));
            }
            [
                "hostonlyif",
                "ipconfig",
                name,
                "--ip",
                address,
                "--netmask",
                mask,
            ] if known.contains_key(name) => {
                known.insert(name.to_owned(), json!({"address": address, "mask": mask}));
            }
            ["hostonlyif", "remove", name] if known.contains_key(name) => {
                known.remove(name);
            }
            ["list", "hostonlyifs"] => {
                for (name, at) in &known {
                    let text = |key: &str| at[key].as_str().unwrap_or_default();
                    println!("Name:            {name}");
                    println!("DHCP:            Disabled");
                    println!("IPAddress:       {}", text("address"));
                    println!("NetworkMask:     {}", text("mask"));
                    println!("Status:          Up");
                    println!("VBoxNetworkName: HostInterfaceNetworking-{name}\n");
                }
            }
            ["hostonlyif", _, name, ..] => {
                eprintln!(
                    "VBoxManage: error: The host network interface named '{name}' could not be found"
                );
                return Ok(ExitCode::FAILURE);
            }
            _ => bail!("this call of hostonlyif is not stood in for"),
        }
        std::fs::write(file, Value::Object(known).to_string())?;
        Ok(ExitCode::SUCCESS)
    }

    fn pass(&self) -> Result<ExitCode> {
        let status = self
            .command(&self.words())?
            .status()
            .context("running unshare")?;
        Ok(code(status.code()))
    }

    fn real(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?.output().context("running unshare")
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        self.inside("/usr/lib/virtualbox/VBoxManage", words)
    }

    /// A program of the tree.
    fn inside(&self, program: &str, words: &[&str]) -> Result<Command> {
        let state = std::path::absolute(&self.state)?;
        let beside = state.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            ENTER,
        ]);
        command.arg(&self.root).arg(beside).arg(program).args(words);
        command.env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8");
        command.env("LOGNAME", "root");
        command.env("HOME", state.join("home"));
        command.env("VBOX_USER_HOME", state.join("config"));
        // A server of its own: that of another state has other machines.
        command.env("VBOX_IPC_SOCKETID", socket(&state));
        Ok(command)
    }
}

/// A name for the state's sockets, which a path is too long for.
fn socket(state: &Path) -> String {
    let bytes = state.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("t{hash:016x}")
}

/// Passes on what another wrote.
fn said(output: &Output) -> Result<ExitCode> {
    use std::io::Write;
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stderr().write_all(&output.stderr)?;
    Ok(code(output.status.code()))
}

fn code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
