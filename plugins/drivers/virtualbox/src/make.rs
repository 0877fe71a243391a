//! The steps of a machine's making. Each looks at what VirtualBox has, does what is missing, and may
//! be done again wherever the one before it was cut short.

use crate::network;
use crate::parse;
use crate::seed;
use crate::settings::{Settings, Source};
use crate::storage;
use crate::tool::VBox;
use crate::vm::{Id, Step, Vm};
use springtide_sdk::{Creation, PluginError};
use std::collections::BTreeMap;

/// Most processors of a machine, as docker-machine has it.
const CPUS: i32 = 32;

/// Takes a machine one step further, from nothing on, and returns it.
pub(crate) fn further(
    vbox: VBox,
    settings: &Settings,
    creation: &Creation,
) -> Result<Vm, PluginError> {
    let id = Id::of(creation)?;
    let name = id.name();
    let Some(vm) = Vm::find(vbox, &name)? else {
        register(vbox, settings, &id)?;
        let vm = found(vbox, &name)?;
        vm.write_marks(vbox, creation, settings)?;
        return found(vbox, &name);
    };
    match vm.step() {
        Step::Registered => vm.write_marks(vbox, creation, settings)?,
        Step::Marked => {
            configure(vbox, settings, creation, &vm)?;
            vm.write_step(vbox, Step::Configured)?;
        }
        Step::Configured => {
            if !vm.is_on() {
                connect(vbox, settings, &vm)?;
                network::forward(vbox, settings, &vm)?;
                vbox.run(&["startvm", &name, "--type", &settings.ui_type])?;
            }
            vm.write_step(vbox, Step::Started)?;
        }
        Step::Started => return Ok(vm),
    }
    found(vbox, &name)
}

fn found(vbox: VBox, name: &str) -> Result<Vm, PluginError> {
    Vm::find(vbox, name)?.ok_or_else(|| {
        PluginError::Transient(format!(
            "the machine {name} is not where it was made; another of its name, or somebody removed it"
        ))
    })
}

/// Makes the machine known to VirtualBox, in the directory that says whose it is.
fn register(vbox: VBox, settings: &Settings, id: &Id) -> Result<(), PluginError> {
    let (name, group) = (id.name(), id.group());
    let made = match settings.source()? {
        Source::Clone { vm, snapshot } => {
            let snapshot = snapshot_of(vbox, &vm, snapshot.as_deref())?;
            vbox.run(&[
                "clonevm",
                &vm,
                "--name",
                &name,
                "--groups",
                &group,
                "--snapshot",
                &snapshot,
                "--options",
                "link",
                "--register",
            ])
        }
        Source::Ova(file) => vbox.run(&[
            "import", &file, "--vsys", "0", "--vmname", &name, "--group", &group, "--eula",
            "accept",
        ]),
        Source::DiskImage(_) | Source::Boot2docker(_) => vbox.run(&[
            "createvm",
            "--name",
            &name,
            "--groups",
            &group,
            "--ostype",
            &settings.os_type,
            "--register",
        ]),
    };
    match made {
        Err(failed) if failed.says("VERR_FILE_NOT_FOUND") || failed.says("VERR_PATH_NOT_FOUND") => {
            Err(PluginError::InvalidConfig(text(failed.error)))
        }
        // By another call with this token, or what a call that was cut short still does.
        Err(failed) if failed.says("already exists") => {
            Err(PluginError::Transient(text(failed.error)))
        }
        made => Ok(made.map(drop)?),
    }
}

/// The id of the snapshot to clone.
fn snapshot_of(vbox: VBox, base: &str, wanted: Option<&str>) -> Result<String, PluginError> {
    let Some(text) = vbox.find(&["showvminfo", base, "--machinereadable"])? else {
        return Err(PluginError::InvalidConfig(format!(
            "virtualbox-base-vm is {base:?}, and VirtualBox has no such machine: `VBoxManage list vms`, as the daemon's user, shows those it has"
        )));
    };
    let fields = parse::fields(&text);
    let field = |name: &str| fields.get(name).map(String::as_str);
    let Some(wanted) = wanted else {
        return field("CurrentSnapshotUUID").map(str::to_owned).ok_or_else(|| {
            let first = match field("VMState") {
                Some("poweroff" | "aborted") | None => "",
                Some(_) => " is running and",
            };
            PluginError::InvalidConfig(format!(
                "virtualbox-base-vm is {base:?}, which{first} has no snapshot to clone: switch it off and take one with `VBoxManage snapshot {base:?} take ready`"
            ))
        });
    };
    // SnapshotName, SnapshotName-1, SnapshotName-1-1, ... and SnapshotUUID with the same ends.
    let named = fields.iter().find_map(|(key, value)| {
        let end = key.strip_prefix("SnapshotName")?;
        (value == wanted).then(|| fields.get(&format!("SnapshotUUID{end}")))?
    });
    named.cloned().ok_or_else(|| {
        PluginError::InvalidConfig(format!(
            "virtualbox-base-snapshot is {wanted:?}, and {base:?} has no such snapshot: `VBoxManage snapshot {base:?} list` shows those it has"
        ))
    })
}

/// Gives the machine what the settings say: memory, cards, disk, seed.
fn configure(
    vbox: VBox,
    settings: &Settings,
    creation: &Creation,
    vm: &Vm,
) -> Result<(), PluginError> {
    let name = vm.name();
    let source = settings.source()?;
    if vm.field("VMState") == "saved" {
        // A snapshot taken while the base ran: its memory is another machine's.
        vbox.run(&["discardstate", &name])?;
    }
    let on = |yes: bool| if yes { "on" } else { "off" };
    let (memory, cpus) = (
        settings.memory.to_string(),
        cpus(vbox, settings)?.to_string(),
    );
    let mut words = vec![
        "modifyvm",
        &name,
        "--memory",
        &memory,
        "--cpus",
        &cpus,
        "--description",
        &creation.name,
        "--nic1",
        "nat",
        "--nictype1",
        &settings.nat_nictype,
        "--cableconnected1",
        "on",
        "--natdnshostresolver1",
        on(settings.host_dns_resolver),
        "--natdnsproxy1",
        on(!settings.no_dns_proxy),
    ];
    let made = matches!(source, Source::DiskImage(_) | Source::Boot2docker(_));
    if made {
        let first = if matches!(source, Source::DiskImage(_)) {
            "disk"
        } else {
            "dvd"
        };
        words.extend(["--acpi", "on", "--ioapic", "on", "--rtcuseutc", "on"]);
        words.extend([
            "--boot1", first, "--boot2", "none", "--boot3", "none", "--boot4", "none",
        ]);
    }
    let network = settings.hostonly()?;
    let interface = network
        .map(|network| network::interface(vbox, settings, network, vm))
        .transpose()?;
    if let Some(interface) = &interface {
        words.extend([
            "--nic2",
            "hostonly",
            "--hostonlyadapter2",
            interface,
            "--nictype2",
            &settings.hostonly_nictype,
            "--nicpromisc2",
            &settings.hostonly_nicpromisc,
            "--cableconnected2",
            "on",
        ]);
    }
    vbox.run(&words).map_err(|failed| match failed.error {
        PluginError::InvalidConfig(why) | PluginError::Permanent(why) => {
            PluginError::InvalidConfig(why)
        }
        error => error,
    })?;
    share(vbox, settings, vm)?;
    match &source {
        Source::DiskImage(image) => storage::copy_disk(vbox, vm, image, settings.disk_size)?,
        Source::Boot2docker(iso) => {
            storage::format_disk(vbox, vm, &seed::boot2docker(creation)?, settings.disk_size)?;
            let vm = found(vbox, &name)?;
            return storage::insert(vbox, &vm, iso);
        }
        Source::Clone { .. } | Source::Ova(_) => {}
    }
    let vm = found(vbox, &name)?;
    let mut cards = vec![("nat", vm.field("macaddress1"))];
    if interface.is_some() {
        cards.push(("hostonly", vm.field("macaddress2")));
    }
    let image = seed::image(creation, settings.ssh_user(), &cards);
    let path = vbox
        .host
        .files
        .put(&seed::name(&vm.id), &image)
        .map_err(not_put)?;
    storage::insert(vbox, &vm, &path)
}

/// Puts the second card into the host-only network again, should its interface be another now.
fn connect(vbox: VBox, settings: &Settings, vm: &Vm) -> Result<(), PluginError> {
    if let Some(network) = settings.hostonly()? {
        let interface = network::interface(vbox, settings, network, vm)?;
        if vm.field("hostonlyadapter2") != interface {
            vbox.run(&["modifyvm", &vm.name(), "--hostonlyadapter2", &interface])?;
        }
    }
    Ok(())
}

fn not_put(why: String) -> PluginError {
    if why.contains("not granted") {
        PluginError::Denied(why)
    } else if why.contains("all files together") {
        PluginError::Quota(why)
    } else {
        PluginError::Transient(why)
    }
}

fn cpus(vbox: VBox, settings: &Settings) -> Result<i32, PluginError> {
    if settings.cpu_count >= 1 {
        return Ok(settings.cpu_count.min(CPUS));
    }
    let text = vbox.run(&["list", "hostinfo"])?;
    let count = text.lines().find_map(|line| {
        line.strip_prefix("Processor online count:")?
            .trim()
            .parse()
            .ok()
    });
    Ok(count.unwrap_or(1).clamp(1, CPUS))
}

/// Shares the directory that is to be shared, and none that the base shared.
fn share(vbox: VBox, settings: &Settings, vm: &Vm) -> Result<(), PluginError> {
    let name = vm.name();
    let shared: BTreeMap<&String, &String> = vm
        .fields
        .iter()
        .filter(|(key, _)| key.starts_with("SharedFolderNameMachineMapping"))
        .collect();
    for folder in shared.values() {
        vbox.run(&["sharedfolder", "remove", &name, "--name", folder])?;
    }
    if let Some((path, folder)) = settings.share()? {
        vbox.run(&[
            "sharedfolder",
            "add",
            &name,
            "--name",
            folder,
            "--hostpath",
            path,
            "--automount",
        ])?;
    }
    Ok(())
}

fn text(error: PluginError) -> String {
    match error {
        PluginError::NotFound(text)
        | PluginError::Quota(text)
        | PluginError::Capacity(text)
        | PluginError::Denied(text)
        | PluginError::InvalidConfig(text)
        | PluginError::Transient(text)
        | PluginError::Permanent(text)
        | PluginError::Other(text) => text,
        PluginError::Throttled(_) => String::new(),
    }
}
