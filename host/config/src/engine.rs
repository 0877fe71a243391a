//! Options of the Docker engine on machines: `engine-*` of `MachineOptions`, whatever the driver.

use crate::Machine;
use url::Url;

/// What the host writes into the engine's configuration at a machine's first boot. Texts are as they
/// stand in the file, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// `engine-registry-mirror`: addresses with their scheme.
    pub registry_mirror: Vec<String>,
    /// `engine-insecure-registry`: `host[:port]` or a network such as `10.0.0.0/8`.
    pub insecure_registry: Vec<String>,
    /// `engine-opt`: flags of dockerd without dashes, `flag=value` or `flag` for true.
    pub opt: Vec<String>,
    /// `engine-label`: `key=value`.
    pub label: Vec<String>,
    /// `engine-env`: `KEY=value`.
    pub env: Vec<String>,
    /// `engine-storage-driver`; `None` is Docker's own choice.
    pub storage_driver: Option<String>,
    /// `engine-install`: whether first boot installs Docker where an image has none. Missing: true.
    pub install: bool,
    /// `engine-install-url`: a script that installs it; `None` is the distribution's own package.
    pub install_url: Option<String>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            registry_mirror: Vec::new(),
            insecure_registry: Vec::new(),
            opt: Vec::new(),
            label: Vec::new(),
            env: Vec::new(),
            storage_driver: None,
            install: true,
            install_url: None,
        }
    }
}

impl std::fmt::Debug for EngineOptions {
    // A variable may hold a proxy's password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("registry_mirror", &self.registry_mirror.len())
            .field("insecure_registry", &self.insecure_registry)
            .field("opt", &self.opt.len())
            .field("label", &self.label)
            .field("env", &self.env.len())
            .field("storage_driver", &self.storage_driver)
            .field("install", &self.install)
            .finish_non_exhaustive()
    }
}

/// The options there are.
pub(crate) const ENGINE: [&str; 8] = [
    "engine-install",
    "engine-install-url",
    "engine-opt",
    "engine-insecure-registry",
    "engine-registry-mirror",
    "engine-label",
    "engine-storage-driver",
    "engine-env",
];

impl EngineOptions {
    /// Those of a machine of this name.
    #[must_use]
    pub fn of(machine: &Machine, name: &str) -> EngineOptions {
        let mut options = EngineOptions::default();
        let plain = machine.machine_options.iter();
        let plain = plain.map(|option| (option, option.value.clone()));
        let named = machine.machine_options_with_name.iter().map(|option| {
            let value = option.value.as_ref();
            (option, value.map(|value| value.replace("%s", name)))
        });
        for (option, value) in plain.chain(named) {
            // One that can't be was told when the file was read, and its runner is not run.
            let taken = options.take(&option.flag, value.as_deref());
            debug_assert!(taken.is_ok(), "{} was checked", option.flag);
        }
        options
    }

    /// Takes an option, if it is one of the engine's.
    pub(crate) fn take(&mut self, flag: &str, value: Option<&str>) -> Result<(), Wrong> {
        let wrong = |what, example| Err(Wrong { what, example });
        let text = value.unwrap_or_default();
        match flag {
            "engine-registry-mirror" => match web(text) {
                true => self.registry_mirror.push(text.to_owned()),
                false => return wrong("an address", "https://mirror.example.com"),
            },
            "engine-insecure-registry" => {
                if text.contains("://") || !word(text) {
                    return wrong(
                        "a host, with its port if it needs one, or a network",
                        "registry.internal:5000",
                    );
                }
                self.insecure_registry.push(text.to_owned());
            }
            "engine-opt" => {
                let flag = text.split('=').next().unwrap_or_default();
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if flag.is_empty() || flag.starts_with('-') || !flag.chars().all(plain) {
                    return wrong(
                        "a flag of dockerd without its dashes",
                        "log-driver=journald",
                    );
                }
                self.opt.push(text.to_owned());
            }
            "engine-label" | "engine-env" => {
                let key = text.split_once('=').map_or("", |(key, _)| key);
                if !word(key) || text.contains(['\n', '\r', '\0']) {
                    return wrong("a key, = and a value in one line", "KEY=value");
                }
                match flag {
                    "engine-env" => self.env.push(text.to_owned()),
                    _ => self.label.push(text.to_owned()),
                }
            }
            "engine-storage-driver" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if text.is_empty() || !text.chars().all(plain) {
                    return wrong("the name of a storage driver", "overlay2");
                }
                self.storage_driver = Some(text.to_owned());
            }
            // As Go reads a flag.
            "engine-install" => match value {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => self.install = true,
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => self.install = false,
                Some(_) => return wrong("true or false", "false"),
            },
            "engine-install-url" => match web(text) {
                true => self.install_url = Some(text.to_owned()),
                false => return wrong("an address", "https://get.docker.com"),
            },
            _ => {}
        }
        Ok(())
    }
}

/// An option whose value can't be: what it has to be, and one that could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) what: &'static str,
    pub(crate) example: &'static str,
}

/// Whether it is an address that can be asked over HTTP.
fn web(text: &str) -> bool {
    let url = Url::parse(text);
    word(text) && url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether there is something, without blanks and control characters.
fn word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_can_not_be_are_refused() {
        for (flag, value, good) in [
            (
                "engine-registry-mirror",
                Some("http://192.168.1.10:6000"),
                true,
            ),
            ("engine-registry-mirror", Some("192.168.1.10:6000"), false),
            ("engine-registry-mirror", None, false),
            ("engine-insecure-registry", Some("10.0.0.0/8"), true),
            ("engine-insecure-registry", Some("http://registry"), false),
            ("engine-opt", Some("log-driver=journald"), true),
            ("engine-opt", Some("live-restore"), true),
            ("engine-opt", Some("--live-restore"), false),
            ("engine-label", Some("zone=a b"), true),
            ("engine-label", Some("zone"), false),
            ("engine-env", Some("HTTP_PROXY=http://proxy:3128"), true),
            ("engine-env", Some("A=b\nC=d"), false),
            ("engine-storage-driver", Some("overlay2"), true),
            ("engine-storage-driver", Some(""), false),
            ("engine-install", None, true),
            ("engine-install", Some("false"), true),
            ("engine-install", Some("no"), false),
            ("engine-install-url", Some("https://get.docker.com"), true),
            ("engine-install-url", Some("get.docker.com"), false),
        ] {
            let taken = EngineOptions::default().take(flag, value);
            assert_eq!(taken.is_ok(), good, "{flag}={value:?}");
        }
    }
}
