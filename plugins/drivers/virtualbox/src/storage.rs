//! A machine's disk and the image in its drive.

use crate::parse;
use crate::tool::VBox;
use crate::vm::Vm;
use springtide_sdk::PluginError;

/// The controller of machines that are made from nothing, and of those that have none.
const CONTROLLER: &str = "springtide";

/// The disk of a machine that is made from nothing.
pub(crate) fn disk_of(vm: &Vm) -> String {
    format!("{}/disk.vdi", vm.directory())
}

/// Copies a disk image into the machine, at least so many MB large.
pub(crate) fn copy_disk(vbox: VBox, vm: &Vm, image: &str, size: u32) -> Result<(), PluginError> {
    let disk = disk_of(vm);
    if holds(vm, &disk) {
        return Ok(());
    }
    // VirtualBox knows a copy when it is whole; one it does not know is what a crash left.
    let whole = media(vbox, "hdds")?.contains(&disk);
    if !whole {
        discard(vbox, &disk)?;
        match vbox.run(&["clonemedium", "disk", image, &disk, "--format", "VDI"]) {
            Err(failed) if failed.says("VERR_FILE_NOT_FOUND") => {
                return Err(PluginError::InvalidConfig(format!(
                    "virtualbox-disk-image is {image:?}, and there is no such file"
                )));
            }
            copied => copied?,
        };
    }
    let text = vbox.run(&["showmediuminfo", "disk", &disk])?;
    let capacity = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("Capacity:")?
                .trim()
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0_u32);
    if capacity < size {
        vbox.run(&["modifymedium", "disk", &disk, "--resize", &size.to_string()])?;
    }
    attach_disk(vbox, vm, &disk)
}

/// Makes a disk of so many MB that begins with these bytes.
pub(crate) fn format_disk(vbox: VBox, vm: &Vm, begin: &[u8], size: u32) -> Result<(), PluginError> {
    let disk = disk_of(vm);
    if holds(vm, &disk) {
        return Ok(());
    }
    discard(vbox, &disk)?;
    let bytes = (u64::from(size) << 20).to_string();
    vbox.run_with(
        &["convertfromraw", "stdin", &disk, &bytes, "--format", "VDI"],
        begin,
    )?;
    attach_disk(vbox, vm, &disk)
}

fn attach_disk(vbox: VBox, vm: &Vm, disk: &str) -> Result<(), PluginError> {
    let name = vm.name();
    let controller = match controllers(vm).into_iter().find(|one| one.is_sata()) {
        Some(found) => found.name,
        None => add_controller(vbox, &name)?,
    };
    vbox.run(&[
        "storageattach",
        &name,
        "--storagectl",
        &controller,
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

/// Removes a disk nobody has, if there is one.
pub(crate) fn discard(vbox: VBox, disk: &str) -> Result<(), PluginError> {
    match vbox.run(&["closemedium", "disk", disk, "--delete"]) {
        Ok(_) => Ok(()),
        Err(failed) if is_gone(&failed) => Ok(()),
        // It is known and not there any more.
        Err(failed) => match vbox.run(&["closemedium", "disk", disk]) {
            Ok(_) => Ok(()),
            Err(again) if is_gone(&again) => Ok(()),
            Err(_) => Err(failed.error),
        },
    }
}

/// Takes an image out of the books; its file is not VirtualBox's.
pub(crate) fn forget(vbox: VBox, image: &str) -> Result<(), PluginError> {
    match vbox.run(&["closemedium", "dvd", image]) {
        Err(failed) if !is_gone(&failed) => Err(failed.error),
        _ => Ok(()),
    }
}

fn is_gone(failed: &crate::tool::Failed) -> bool {
    failed.is_missing() || failed.says("VERR_FILE_NOT_FOUND") || failed.says("VERR_PATH_NOT_FOUND")
}

/// The paths of the media VirtualBox knows: `hdds` or `dvds`.
pub(crate) fn media(vbox: VBox, sort: &str) -> Result<Vec<String>, PluginError> {
    let text = vbox.run(&["list", sort])?;
    Ok(parse::blocks(&text, "UUID")
        .into_iter()
        .filter_map(|mut block| block.remove("Location"))
        .collect())
}

fn holds(vm: &Vm, path: &str) -> bool {
    vm.fields.values().any(|value| value == path)
}

/// Whether a disk is attached to the machine.
pub(crate) fn has_disk(vm: &Vm) -> bool {
    let ends = [".vdi", ".vmdk", ".vhd"];
    let places = controllers(vm).into_iter().flat_map(|one| one.places(vm));
    places.filter_map(|(_, _, medium)| medium).any(|medium| {
        ends.iter()
            .any(|end| medium.to_ascii_lowercase().ends_with(end))
    })
}

/// Inserts an image into a drive of the machine's: the one that holds an image already, as a clone of
/// a machine with a seed does, else a free place, else a new controller's.
pub(crate) fn insert(vbox: VBox, vm: &Vm, image: &str) -> Result<(), PluginError> {
    if holds(vm, image) {
        return Ok(());
    }
    let name = vm.name();
    let all = controllers(vm);
    let drives: Vec<(String, u32, u32)> = all
        .iter()
        .flat_map(|one| {
            one.places(vm)
                .into_iter()
                .filter_map(|(port, device, medium)| {
                    let medium = medium?;
                    let is_drive =
                        medium == "emptydrive" || medium.to_ascii_lowercase().ends_with(".iso");
                    is_drive.then(|| (one.name.clone(), port, device))
                })
        })
        .collect();
    let mut drives = drives.into_iter();
    let (controller, port, device) = match drives.next() {
        Some(drive) => drive,
        None => free_place(vbox, &name, vm, &all)?,
    };
    for (controller, port, device) in drives {
        put(vbox, &name, (&controller, port, device), "emptydrive")?;
    }
    put(vbox, &name, (&controller, port, device), image)
}

fn put(
    vbox: VBox,
    name: &str,
    (controller, port, device): (&str, u32, u32),
    medium: &str,
) -> Result<(), PluginError> {
    let (port, device) = (port.to_string(), device.to_string());
    let words = [
        "storageattach",
        name,
        "--storagectl",
        controller,
        "--port",
        &port,
        "--device",
        &device,
        "--type",
        "dvddrive",
        "--medium",
        medium,
    ];
    vbox.run(&words)?;
    Ok(())
}

fn free_place(
    vbox: VBox,
    name: &str,
    vm: &Vm,
    all: &[Controller],
) -> Result<(String, u32, u32), PluginError> {
    for one in all.iter().filter(|one| one.is_sata() || one.is_ide()) {
        let free = one
            .places(vm)
            .into_iter()
            .find(|(_, _, medium)| medium.is_none());
        if let Some((port, device, _)) = free {
            return Ok((one.name.clone(), port, device));
        }
        if one.is_sata() && one.ports < one.most {
            let ports = (one.ports + 1).to_string();
            vbox.run(&[
                "storagectl",
                name,
                "--name",
                &one.name,
                "--portcount",
                &ports,
            ])?;
            return Ok((one.name.clone(), one.ports, 0));
        }
    }
    Ok((add_controller(vbox, name)?, 1, 0))
}

fn add_controller(vbox: VBox, name: &str) -> Result<String, PluginError> {
    let words = [
        "storagectl",
        name,
        "--name",
        CONTROLLER,
        "--add",
        "sata",
        "--portcount",
        "4",
    ];
    match vbox.run(&words) {
        Err(failed) if !failed.says("already exists") => Err(failed.error),
        _ => Ok(CONTROLLER.to_owned()),
    }
}

struct Controller {
    name: String,
    sort: String,
    ports: u32,
    most: u32,
}

impl Controller {
    fn is_sata(&self) -> bool {
        self.sort == "IntelAhci"
    }

    fn is_ide(&self) -> bool {
        self.sort.starts_with("PIIX") || self.sort == "ICH6"
    }

    /// Ports, devices, and what is in them.
    fn places<'v>(&self, vm: &'v Vm) -> Vec<(u32, u32, Option<&'v str>)> {
        let devices = if self.is_ide() { 2 } else { 1 };
        (0..self.ports)
            .flat_map(|port| (0..devices).map(move |device| (port, device)))
            .map(|(port, device)| {
                let medium = vm.field(&format!("{}-{port}-{device}", self.name));
                (
                    port,
                    device,
                    (!matches!(medium, "" | "none")).then_some(medium),
                )
            })
            .collect()
    }
}

fn controllers(vm: &Vm) -> Vec<Controller> {
    (0..)
        .map_while(|number| {
            let field = |name: &str| vm.fields.get(&format!("storagecontroller{name}{number}"));
            let count = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
            Some(Controller {
                name: field("name")?.clone(),
                sort: field("type").cloned().unwrap_or_default(),
                ports: count("portcount"),
                most: count("maxportcount"),
            })
        })
        .collect()
}
