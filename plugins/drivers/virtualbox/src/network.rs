//! Ports of the host that lead to machines, and the host-only network.

use crate::parse;
use crate::settings::{HostOnly, Settings};
use crate::tool::VBox;
use crate::vm::{RULE, Vm, is_plain};
use springtide_sdk::PluginError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// How often another port is tried, where others chose the same at once.
const TRIES: u32 = 20;
/// How often one looks at most for what another makes meanwhile.
const MOST_LOOKS: u64 = 12;
/// What names the networks of host-only interfaces.
const NETWORK: &str = "HostInterfaceNetworking-";
/// The option of DHCP, of those left to sites, that says who made an interface.
const OPTION: &str = "224";

/// Forwards a port of the host to the machine's SSH server and returns it.
///
/// VirtualBox forwards a port for two machines without a word, and only one is reached. So the rule
/// is written first, and then all rules are read: of two that chose one port at once, one at least
/// sees the other's, and whoever sees it takes another.
pub(crate) fn forward(vbox: VBox, settings: &Settings, vm: &Vm) -> Result<u16, PluginError> {
    let name = vm.name();
    let (first, last) = settings.ports()?;
    let mut taken = ports_of_others(vbox, &name)?;
    let mut mine = vm.port();
    // What a base machine forwards would be its own port again.
    for (rule, _) in vm.rules() {
        if rule != RULE {
            vbox.run(&["modifyvm", &name, "--natpf1", "delete", &rule])?;
        }
    }
    for attempt in 0..TRIES {
        if let Some(port) = mine
            && !taken.contains(&port)
            && (first..=last).contains(&port)
        {
            return Ok(port);
        }
        if mine.is_some() {
            vbox.run(&["modifyvm", &name, "--natpf1", "delete", RULE])?;
        }
        let port =
            free(&name, attempt, (first, last), &taken).ok_or_else(|| no_port(first, last))?;
        let rule = format!("{RULE},tcp,127.0.0.1,{port},,22");
        vbox.run(&["modifyvm", &name, "--natpf1", &rule])?;
        mine = Some(port);
        taken = ports_of_others(vbox, &name)?;
    }
    Err(no_port(first, last))
}

fn no_port(first: u16, last: u16) -> PluginError {
    PluginError::Transient(format!(
        "no port from {first} to {last} is free to forward to a machine: widen virtualbox-ssh-ports"
    ))
}

fn ports_of_others(vbox: VBox, name: &str) -> Result<BTreeSet<u16>, PluginError> {
    let text = vbox.run(&["list", "--long", "vms"])?;
    let others = parse::forwarded(&text).into_iter();
    Ok(others
        .filter(|(vm, _)| vm != name)
        .map(|(_, port)| port)
        .collect())
}

/// A port that is not taken: where to begin looking is the name's and the attempt's.
fn free(name: &str, attempt: u32, range: (u16, u16), taken: &BTreeSet<u16>) -> Option<u16> {
    let (first, last) = (u64::from(range.0), u64::from(range.1));
    let count = last - first + 1;
    let hash = lot(name, attempt);
    (0..count)
        .filter_map(|step| u16::try_from(first + (hash % count + step) % count).ok())
        .find(|port| !taken.contains(port))
}

/// A number that is the name's and the attempt's.
fn lot(name: &str, attempt: u32) -> u64 {
    let text = name.bytes().chain(attempt.to_le_bytes());
    // FNV-1a, then a mix: its low digits alone fall unevenly on names that are much alike.
    let mut hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// An interface of the host in a host-only network.
struct Interface {
    name: String,
    address: String,
}

fn interfaces(vbox: VBox) -> Result<Vec<Interface>, PluginError> {
    let text = vbox.run(&["list", "hostonlyifs"])?;
    let mut found: Vec<Interface> = parse::blocks(&text, "Name")
        .into_iter()
        .filter_map(|mut block| {
            let (name, address) = (block.remove("Name")?, block.remove("IPAddress")?);
            is_plain(&name).then_some(Interface { name, address })
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The host-only interface of this network, made if there is none.
///
/// As with ports: of two that make one at once, one at least sees the other's; whoever sees it
/// removes its own and looks again, as often as is the machine's before it makes another: calls that
/// take turns would meet each time.
pub(crate) fn interface(
    vbox: VBox,
    settings: &Settings,
    network: HostOnly,
    vm: &Vm,
) -> Result<String, PluginError> {
    let (owner, machine) = (&vm.id.owner, vm.name());
    let address = Ipv4Addr::from(network.address).to_string();
    for attempt in 0..TRIES {
        let looks = match attempt {
            0 => 1,
            _ => 1 + lot(&machine, attempt) % MOST_LOOKS,
        };
        for _ in 0..looks {
            if let Some(first) = named(vbox, &address)?.into_iter().next() {
                return Ok(first);
            }
        }
        let name = make_interface(vbox, settings, network, owner)?;
        if named(vbox, &address)? == [name.as_str()] {
            return Ok(name);
        }
        remove_interface(vbox, &name)?;
    }
    Err(PluginError::Transient(format!(
        "others make the host-only network of {address} at once, again and again"
    )))
}

/// The interfaces that have this address, by name.
fn named(vbox: VBox, address: &str) -> Result<Vec<String>, PluginError> {
    let found = interfaces(vbox)?.into_iter();
    Ok(found
        .filter(|one| one.address == address)
        .map(|one| one.name)
        .collect())
}

fn make_interface(
    vbox: VBox,
    settings: &Settings,
    network: HostOnly,
    owner: &str,
) -> Result<String, PluginError> {
    let said = vbox.run(&["hostonlyif", "create"])?;
    // Interface 'vboxnet0' was successfully created
    let name = said
        .split('\'')
        .nth(1)
        .filter(|name| is_plain(name))
        .ok_or_else(|| {
            PluginError::Permanent(format!(
                "VBoxManage hostonlyif create does not name what it made: {}",
                said.trim()
            ))
        })?;
    let address = Ipv4Addr::from(network.address).to_string();
    let mask = Ipv4Addr::from(network.mask()).to_string();
    let words = [
        "hostonlyif",
        "ipconfig",
        name,
        "--ip",
        &address,
        "--netmask",
        &mask,
    ];
    // Marked before it has an address: whoever finds it by its address finds it marked.
    let set = serve(vbox, settings, network, name, owner)
        .and_then(|()| Ok(vbox.run(&words).map(drop)?));
    match set {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => {
            remove_interface(vbox, name)?;
            Err(error)
        }
    }
}

/// Gives an interface its DHCP server, which carries the owner.
fn serve(
    vbox: VBox,
    settings: &Settings,
    network: HostOnly,
    interface: &str,
    owner: &str,
) -> Result<(), PluginError> {
    let base = network.address & network.mask();
    let hosts = !network.mask();
    // As docker-machine has it: from the hundredth address on, where there are so many.
    let lower = if hosts > 200 { 100 } else { hosts / 2 };
    let at = |host: u32| Ipv4Addr::from(base + host).to_string();
    let server = (1..lower)
        .find(|host| base + host != network.address)
        .unwrap_or(1);
    let name = format!("--network={NETWORK}{interface}");
    // One that an interface of this name left behind.
    remove_server(vbox, interface)?;
    vbox.run(&[
        "dhcpserver",
        "add",
        &name,
        &format!("--server-ip={}", at(server)),
        &format!("--netmask={}", Ipv4Addr::from(network.mask())),
        &format!("--lower-ip={}", at(lower)),
        &format!("--upper-ip={}", at(hosts - 1)),
        if settings.hostonly_no_dhcp {
            "--disable"
        } else {
            "--enable"
        },
        "--global",
        &format!("--set-opt-hex={OPTION}"),
        &hex(owner),
    ])?;
    Ok(())
}

/// Removes an interface and its DHCP server, the mark with it, last.
pub(crate) fn remove_interface(vbox: VBox, name: &str) -> Result<(), PluginError> {
    if interfaces(vbox)?.iter().any(|one| one.name == name) {
        vbox.run(&["hostonlyif", "remove", name])?;
    }
    remove_server(vbox, name)
}

fn remove_server(vbox: VBox, interface: &str) -> Result<(), PluginError> {
    let network = format!("--network={NETWORK}{interface}");
    match vbox.run(&["dhcpserver", "remove", &network]) {
        Err(failed) if !failed.is_missing() && !failed.says("Failed to find DHCP server") => {
            Err(failed.error)
        }
        _ => Ok(()),
    }
}

/// The interfaces we made that no machine is in, with their owners.
pub(crate) fn unused(vbox: VBox) -> Result<Vec<(String, String)>, PluginError> {
    let made = makers(&vbox.run(&["list", "dhcpservers"])?);
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let used = parse::attached(&vbox.run(&["list", "--long", "vms"])?);
    Ok(made
        .into_iter()
        .filter(|(name, _)| !used.contains(name))
        .collect())
}

/// The interfaces whose DHCP servers carry an owner, from `list dhcpservers`.
fn makers(text: &str) -> BTreeMap<String, String> {
    let mark = format!("{OPTION}/hex");
    parse::blocks(text, "NetworkName")
        .into_iter()
        .filter_map(|block| {
            let interface = block.get("NetworkName")?.strip_prefix(NETWORK)?;
            Some((interface.to_owned(), unhex(block.get(&mark)?)?))
        })
        .collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The owner again; pairs may be apart by colons or blanks.
fn unhex(text: &str) -> Option<String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    let text = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
    is_plain(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_names_own_and_never_one_that_is_taken() {
        let range = (20_000, 20_009);
        let none = BTreeSet::new();
        let port = free("own-t1", 0, range, &none).unwrap();
        assert_eq!(
            free("own-t1", 0, range, &none),
            Some(port),
            "the same each time"
        );
        let all_but_one: BTreeSet<u16> = (20_000..=20_009).filter(|at| *at != 20_004).collect();
        assert_eq!(free("own-t1", 3, range, &all_but_one), Some(20_004));
        let all: BTreeSet<u16> = (20_000..=20_009).collect();
        assert_eq!(free("own-t1", 0, range, &all), None);
        assert_eq!(free("x", 0, (65_535, 65_535), &none), Some(65_535));
    }

    #[test]
    fn names_that_are_much_alike_choose_ports_far_apart() {
        let ports: BTreeSet<Option<u16>> = (0..50)
            .map(|number| {
                free(
                    &format!("own-{number:032x}"),
                    0,
                    (20_000, 39_999),
                    &BTreeSet::new(),
                )
            })
            .collect();
        assert!(ports.len() > 45, "{}", ports.len());
    }

    #[test]
    fn an_interfaces_maker_is_read_from_its_dhcp_server() {
        let text = concat!(
            "NetworkName:    HostInterfaceNetworking-vboxnet0\nDhcpd IP:       192.168.56.100\n",
            "        1/legacy: 255.255.255.0\nGroups:               None\n\n",
            "NetworkName:    HostInterfaceNetworking-vboxnet1\nDhcpd IP:       192.168.99.2\n",
            "        1/legacy: 255.255.255.0\n      224/hex:    6F776e2D31\nGroups:               None\n",
        );
        let found = makers(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found["vboxnet1"], "own-1");
        assert_eq!(unhex(&hex("own-1")), Some("own-1".into()));
        assert_eq!(unhex("6"), None);
    }
}
