//! Removing machines and what they left behind. Nothing is touched that is not in a directory of ours
//! or does not have a name of ours.

use crate::network;
use crate::parse;
use crate::seed;
use crate::storage;
use crate::tool::VBox;
use crate::vm::{Id, Vm, is_plain};
use springtide_sdk::{Leftover, PluginError};
use std::collections::BTreeSet;

/// Removes a machine in whatever state, with its disks and its seed.
pub(crate) fn machine(vbox: VBox, name: &str) -> Result<(), PluginError> {
    if !is_plain(name) {
        return Ok(());
    }
    let Some(vm) = Vm::find(vbox, name)? else {
        return seed_of(vbox, name);
    };
    if vm.is_on() {
        match vbox.run(&["controlvm", name, "poweroff"]) {
            // It went by itself meanwhile.
            Err(failed) if !failed.says("is not currently running") => return Err(failed.error),
            _ => {}
        }
    }
    // What is in the directory and not in the machine keeps the directory alive.
    if !storage::has_disk(&vm) {
        storage::discard(vbox, &storage::disk_of(&vm))?;
    }
    match vbox.run(&["unregistervm", name, "--delete"]) {
        Err(failed) if !failed.is_missing() => return Err(failed.error),
        _ => {}
    }
    seed_of(vbox, name)
}

/// Removes the seed of a machine that is gone.
fn seed_of(vbox: VBox, name: &str) -> Result<(), PluginError> {
    for path in storage::media(vbox, "dvds")? {
        if let Some(id) = seed::of_path(&path)
            && id.name() == name
        {
            remove_seed(vbox, &path)?;
        }
    }
    // One that no machine ever had: whose it would be is not told by the name of a machine alone.
    for (at, _) in name.match_indices('-') {
        let (owner, token) = (&name[..at], &name[at + 1..]);
        let id = Id {
            owner: owner.into(),
            pool: String::new(),
            token: token.into(),
        };
        remove_file(vbox, &seed::name(&id))?;
    }
    Ok(())
}

fn remove_seed(vbox: VBox, path: &str) -> Result<(), PluginError> {
    storage::forget(vbox, path)?;
    let (_, file) = path.rsplit_once('/').unwrap_or(("", path));
    remove_file(vbox, file)
}

fn remove_file(vbox: VBox, file: &str) -> Result<(), PluginError> {
    vbox.host.files.remove(file).map_err(PluginError::Transient)
}

/// What machines that are no more left: disks, seeds and interfaces.
pub(crate) fn leftovers(vbox: VBox) -> Result<Vec<Leftover>, PluginError> {
    // Media first: a machine that is made meanwhile is in the list of machines then.
    let (disks, images) = (storage::media(vbox, "hdds")?, storage::media(vbox, "dvds")?);
    let machines: BTreeSet<String> = parse::names(&vbox.run(&["list", "vms"])?)
        .into_iter()
        .collect();
    let leftover = |sort: &str, what: &str, owner: String| Leftover {
        id: format!("{sort}:{what}"),
        sort: sort.into(),
        owner,
        created_at: 0,
    };
    let mut found = Vec::new();
    for (sort, paths, whose) in [
        ("disk", disks, Id::of_path as fn(&str) -> Option<Id>),
        ("seed", images, seed::of_path),
    ] {
        for path in paths {
            if let Some(id) = whose(&path)
                && !machines.contains(&id.name())
            {
                found.push(leftover(sort, &path, id.owner));
            }
        }
    }
    for (name, owner) in network::unused(vbox)? {
        found.push(leftover("interface", &name, owner));
    }
    Ok(found)
}

/// Removes a leftover; an id that can't be one of ours names nothing.
pub(crate) fn leftover(vbox: VBox, id: &str) -> Result<(), PluginError> {
    let in_use = |name: &str| {
        PluginError::Transient(format!("{id} is no leftover: the machine {name} is there"))
    };
    match id.split_once(':') {
        Some(("disk", path)) => {
            let Some(owner) = Id::of_path(path) else {
                return Ok(());
            };
            if Vm::find(vbox, &owner.name())?.is_some() {
                return Err(in_use(&owner.name()));
            }
            storage::discard(vbox, path)
        }
        Some(("seed", path)) => {
            let Some(owner) = seed::of_path(path) else {
                return Ok(());
            };
            if Vm::find(vbox, &owner.name())?.is_some() {
                return Err(in_use(&owner.name()));
            }
            remove_seed(vbox, path)
        }
        Some(("interface", name)) => {
            let unused = network::unused(vbox)?;
            if unused.iter().any(|(one, _)| one == name) {
                network::remove_interface(vbox, name)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
