//! What an operator can set, as `MachineOptions`: the flags of docker-machine's driver, and those for
//! sources it did not know.

use serde::Deserialize;
use springtide_sdk::PluginError;

/// The settings. What docker-machine took and has no meaning here is in the schema, marked, and read
/// into nothing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    #[serde(rename = "virtualbox-base-vm")]
    base_vm: String,
    #[serde(rename = "virtualbox-base-snapshot")]
    base_snapshot: String,
    #[serde(rename = "virtualbox-ova")]
    ova: String,
    #[serde(rename = "virtualbox-disk-image")]
    disk_image: String,
    #[serde(rename = "virtualbox-boot2docker-url")]
    boot2docker: String,
    #[serde(rename = "virtualbox-memory")]
    pub(crate) memory: u32,
    #[serde(rename = "virtualbox-cpu-count")]
    pub(crate) cpu_count: i32,
    #[serde(rename = "virtualbox-disk-size")]
    pub(crate) disk_size: u32,
    #[serde(rename = "virtualbox-os-type")]
    pub(crate) os_type: String,
    #[serde(rename = "virtualbox-ssh-user")]
    ssh_user: String,
    #[serde(rename = "virtualbox-ssh-ports")]
    ssh_ports: String,
    #[serde(rename = "virtualbox-host-dns-resolver")]
    pub(crate) host_dns_resolver: bool,
    #[serde(rename = "virtualbox-no-dns-proxy")]
    pub(crate) no_dns_proxy: bool,
    #[serde(rename = "virtualbox-nat-nictype")]
    pub(crate) nat_nictype: String,
    #[serde(rename = "virtualbox-hostonly-cidr")]
    hostonly_cidr: String,
    #[serde(rename = "virtualbox-hostonly-nictype")]
    pub(crate) hostonly_nictype: String,
    #[serde(rename = "virtualbox-hostonly-nicpromisc")]
    pub(crate) hostonly_nicpromisc: String,
    #[serde(rename = "virtualbox-hostonly-no-dhcp")]
    pub(crate) hostonly_no_dhcp: bool,
    #[serde(rename = "virtualbox-address")]
    pub(crate) address: Address,
    #[serde(rename = "virtualbox-ui-type")]
    pub(crate) ui_type: String,
    #[serde(rename = "virtualbox-share-folder")]
    share_folder: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            base_vm: String::new(),
            base_snapshot: String::new(),
            ova: String::new(),
            disk_image: String::new(),
            boot2docker: String::new(),
            memory: 1024,
            cpu_count: 1,
            disk_size: 20_000,
            os_type: "Linux_64".into(),
            ssh_user: "docker".into(),
            ssh_ports: "20000-39999".into(),
            host_dns_resolver: false,
            no_dns_proxy: false,
            nat_nictype: "82540EM".into(),
            hostonly_cidr: String::new(),
            hostonly_nictype: "82540EM".into(),
            hostonly_nicpromisc: "deny".into(),
            hostonly_no_dhcp: false,
            address: Address::ForwardedPort,
            ui_type: "headless".into(),
            share_folder: String::new(),
        }
    }
}

pub(crate) const SCHEMA: &str = include_str!("settings.json");

/// What machines are made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A linked clone of a machine's snapshot; without a name, of its current one.
    Clone {
        vm: String,
        snapshot: Option<String>,
    },
    /// An appliance, imported.
    Ova(String),
    /// A disk, copied.
    DiskImage(String),
    /// boot2docker's ISO, with a disk of its own.
    Boot2docker(String),
}

/// Where machines are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Address {
    /// At a port of this host that is forwarded to them.
    ForwardedPort,
    /// At their own address in the host-only network, which their guest additions tell.
    HostOnly,
}

/// A host-only network: the host's address in it, and how many bits of it are the network's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HostOnly {
    pub(crate) address: u32,
    pub(crate) bits: u32,
}

impl HostOnly {
    pub(crate) fn mask(self) -> u32 {
        u32::MAX << (32 - self.bits)
    }
}

impl Settings {
    /// Reads and checks them.
    pub(crate) fn read(text: &str) -> Result<Settings, PluginError> {
        // A list would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(invalid("the settings are no JSON object".into()));
        }
        let settings: Settings = serde_json::from_str(text)
            .map_err(|error| invalid(format!("the settings do not fit: {error}")))?;
        for (name, value) in [
            ("virtualbox-base-vm", &settings.base_vm),
            ("virtualbox-base-snapshot", &settings.base_snapshot),
            ("virtualbox-os-type", &settings.os_type),
            ("virtualbox-ssh-user", &settings.ssh_user),
        ] {
            if value.starts_with('-') || value.contains(char::is_control) || value.len() > 255 {
                return Err(invalid(format!(
                    "{name} is {:?}: write at most 255 bytes that do not begin with a dash and have no control characters",
                    shown(value)
                )));
            }
        }
        if !is_user(&settings.ssh_user) {
            return Err(invalid(format!(
                "virtualbox-ssh-user is {:?}: write a user's name, of letters, digits, `.`, `_` and `-`",
                shown(&settings.ssh_user)
            )));
        }
        if settings.hostonly()?.is_none() && settings.address == Address::HostOnly {
            return Err(invalid(
                "virtualbox-address is host-only, and there is no such network: set virtualbox-hostonly-cidr, such as 192.168.56.1/24".into(),
            ));
        }
        settings.ports()?;
        settings.share()?;
        Ok(settings)
    }

    /// What machines are made of.
    pub(crate) fn source(&self) -> Result<Source, PluginError> {
        let set: Vec<&str> = [
            ("virtualbox-base-vm", &self.base_vm),
            ("virtualbox-ova", &self.ova),
            ("virtualbox-disk-image", &self.disk_image),
            ("virtualbox-boot2docker-url", &self.boot2docker),
        ]
        .into_iter()
        .filter_map(|(name, value)| (!value.is_empty()).then_some(name))
        .collect();
        match set[..] {
            [] => Err(invalid(
                "there is nothing to make machines of: set virtualbox-base-vm to a machine with a snapshot, or virtualbox-ova, virtualbox-disk-image, or virtualbox-boot2docker-url to a file of this host (docker-machine's own copy is ~/.docker/machine/cache/boot2docker.iso)".into(),
            )),
            ["virtualbox-base-vm"] => Ok(Source::Clone {
                vm: self.base_vm.clone(),
                snapshot: (!self.base_snapshot.is_empty()).then(|| self.base_snapshot.clone()),
            }),
            ["virtualbox-ova"] => file("virtualbox-ova", &self.ova).map(Source::Ova),
            ["virtualbox-disk-image"] => {
                file("virtualbox-disk-image", &self.disk_image).map(Source::DiskImage)
            }
            ["virtualbox-boot2docker-url"] => {
                file("virtualbox-boot2docker-url", &self.boot2docker).map(Source::Boot2docker)
            }
            _ => Err(invalid(format!(
                "machines are made of one thing, and these are set: {}; leave one",
                set.join(", ")
            ))),
        }
    }

    /// Whom to log in as.
    pub(crate) fn ssh_user(&self) -> &str {
        &self.ssh_user
    }

    /// The ports of this host that may lead to machines, first and last.
    pub(crate) fn ports(&self) -> Result<(u16, u16), PluginError> {
        let read = || {
            let (first, last) = self.ssh_ports.split_once('-')?;
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (1024 <= first && first <= last).then_some((first, last))
        };
        read().ok_or_else(|| {
            invalid(format!(
                "virtualbox-ssh-ports is {:?}: write FIRST-LAST, both from 1024 to 65535",
                shown(&self.ssh_ports)
            ))
        })
    }

    /// The host-only network, where one is asked for.
    pub(crate) fn hostonly(&self) -> Result<Option<HostOnly>, PluginError> {
        let text = self.hostonly_cidr.as_str();
        if text.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (address, bits) = text.split_once('/')?;
            let address: std::net::Ipv4Addr = address.parse().ok()?;
            let network = HostOnly {
                address: address.into(),
                bits: bits.parse().ok()?,
            };
            let fits = (8..=29).contains(&network.bits);
            // The address is the host's: neither the network's own nor its broadcast.
            let host = fits.then(|| network.address & !network.mask())?;
            (host != 0 && host != !network.mask()).then_some(network)
        };
        read().map(Some).ok_or_else(|| {
            invalid(format!(
                "virtualbox-hostonly-cidr is {:?}: write the host's own address in the network and its bits, such as 192.168.56.1/24",
                shown(text)
            ))
        })
    }

    /// The directory to share and its name, where one is.
    pub(crate) fn share(&self) -> Result<Option<(&str, &str)>, PluginError> {
        let text = self.share_folder.as_str();
        if text.is_empty() {
            return Ok(None);
        }
        text.rsplit_once(':')
            .filter(|(path, name)| {
                path.starts_with('/') && !name.is_empty() && !name.starts_with('-')
            })
            .map(Some)
            .ok_or_else(|| {
                invalid(format!(
                    "virtualbox-share-folder is {:?}: write /DIRECTORY:NAME",
                    shown(text)
                ))
            })
    }
}

/// A file of this host, by its path or as `file://`.
fn file(name: &str, text: &str) -> Result<String, PluginError> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    if path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(path.to_owned());
    }
    Err(invalid(format!(
        "{name} is {:?}: write the absolute path of a file on this host; nothing is downloaded",
        shown(text)
    )))
}

/// Whether this can be a user's name: it is a word of a machine's address.
fn is_user(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=32).contains(&name.len()) && !name.starts_with(['-', '.']) && name.chars().all(plain)
}

fn invalid(why: String) -> PluginError {
    PluginError::InvalidConfig(why)
}

/// So much of a value as fits a line.
fn shown(value: &str) -> String {
    value.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_schema_names_each_setting_with_its_default() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        let obeyed = properties
            .iter()
            .filter(|(_, property)| property.get("instead").is_none());
        let defaults: serde_json::Map<_, _> = obeyed
            .map(|(name, property)| (name.clone(), property["default"].clone()))
            .collect();
        assert_eq!(defaults.len(), 21);
        let text = Value::Object(defaults).to_string();
        assert_eq!(Settings::read(&text).unwrap(), Settings::default());
        assert_eq!(Settings::read("{}").unwrap(), Settings::default());
    }

    #[test]
    fn every_flag_of_docker_machine_is_known() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        for flag in [
            "memory",
            "cpu-count",
            "disk-size",
            "boot2docker-url",
            "import-boot2docker-vm",
            "host-dns-resolver",
            "nat-nictype",
            "hostonly-cidr",
            "hostonly-nictype",
            "hostonly-nicpromisc",
            "ui-type",
            "hostonly-no-dhcp",
            "no-share",
            "no-dns-proxy",
            "no-vtx-check",
            "share-folder",
        ] {
            let property = &schema["properties"][format!("virtualbox-{flag}")];
            assert!(property["description"].is_string(), "{flag}");
        }
    }

    #[test]
    fn machines_are_made_of_one_thing() {
        let source = |text: &str| Settings::read(text).unwrap().source();
        for (text, wanted) in [
            (
                r#"{"virtualbox-base-vm":"a b"}"#,
                Source::Clone {
                    vm: "a b".into(),
                    snapshot: None,
                },
            ),
            (
                r#"{"virtualbox-base-vm":"a","virtualbox-base-snapshot":"s"}"#,
                Source::Clone {
                    vm: "a".into(),
                    snapshot: Some("s".into()),
                },
            ),
            (
                r#"{"virtualbox-ova":"/a.ova"}"#,
                Source::Ova("/a.ova".into()),
            ),
            (
                r#"{"virtualbox-boot2docker-url":"file:///b.iso"}"#,
                Source::Boot2docker("/b.iso".into()),
            ),
        ] {
            assert_eq!(source(text), Ok(wanted));
        }
        for (text, said) in [
            ("{}", "nothing to make machines of"),
            (
                r#"{"virtualbox-ova":"/a","virtualbox-disk-image":"/b"}"#,
                "leave one",
            ),
            (
                r#"{"virtualbox-boot2docker-url":"https://e.x/b.iso"}"#,
                "nothing is downloaded",
            ),
        ] {
            let Err(PluginError::InvalidConfig(why)) = source(text) else {
                panic!("{text} was taken");
            };
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn what_can_not_work_is_refused() {
        for (text, said) in [
            ("[]", "no JSON object"),
            (r#"{"virtualbox-memory":"1"}"#, "invalid type"),
            (r#"{"virtualbox-ssh-user":" ci "}"#, "a user's name"),
            (r#"{"virtualbox-ssh-user":""}"#, "a user's name"),
            (r#"{"virtualbox-base-vm":"-rf"}"#, "begin with a dash"),
            (r#"{"virtualbox-base-vm":"a\nb"}"#, "control characters"),
            (r#"{"virtualbox-ssh-ports":"22-80"}"#, "from 1024"),
            (r#"{"virtualbox-ssh-ports":"3000-2000"}"#, "FIRST-LAST"),
            (
                r#"{"virtualbox-hostonly-cidr":"192.168.99.0/24"}"#,
                "own address",
            ),
            (
                r#"{"virtualbox-hostonly-cidr":"192.168.99.255/24"}"#,
                "own address",
            ),
            (
                r#"{"virtualbox-hostonly-cidr":"1.2.3.4/31"}"#,
                "own address",
            ),
            (r#"{"virtualbox-share-folder":"home"}"#, "/DIRECTORY:NAME"),
            (
                r#"{"virtualbox-address":"host-only"}"#,
                "set virtualbox-hostonly-cidr",
            ),
        ] {
            let Err(PluginError::InvalidConfig(why)) = Settings::read(text) else {
                panic!("{text} was taken");
            };
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
