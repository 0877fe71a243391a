//! Docker on a machine: installed where it is not, and its daemon told what the `engine-*` options
//! say.

use super::put;
use serde_json::{Map, Value};
use springtide_config::{EngineOptions, Machine};
use springtide_jobs::quoted as word;

const INSTALL: &str = include_str!("install-docker.sh");
const INSTALL_FROM: &str = include_str!("install-docker-from.sh");
const INSTALLED: &str = include_str!("docker.sh");
const ABSENT: &str = include_str!("docker-absent.sh");
const CONFIGURE: &str = include_str!("docker-config.sh");
const START: &str = include_str!("docker-start.sh");

/// What Docker's daemon on a machine is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// `engine-registry-mirror`.
    pub registry_mirrors: Vec<String>,
    /// `engine-insecure-registry`.
    pub insecure_registries: Vec<String>,
    /// `engine-opt`: `flag=value`, or `flag` for true, as dockerd takes them.
    pub options: Vec<String>,
    /// `engine-label`: `key=value`.
    pub labels: Vec<String>,
    /// `engine-env`: `NAME=value`.
    pub env: Vec<String>,
    /// `engine-storage-driver`.
    pub storage_driver: Option<String>,
    /// What is done where the image has no Docker.
    pub install: Install,
}

/// What is done where the image has no Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Install {
    /// The distribution's own package.
    #[default]
    Distribution,
    /// The script at this address: `engine-install-url`.
    From(String),
    /// Nothing: `engine-install=false`.
    Off,
}

/// Flags of dockerd that may be given several times, with their keys in its file.
const LISTS: [(&str, &str); 15] = [
    ("add-host", "add-hosts"),
    (
        "allow-nondistributable-artifacts",
        "allow-nondistributable-artifacts",
    ),
    ("authorization-plugin", "authorization-plugins"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("cluster-store-opt", "cluster-store-opts"),
    ("default-address-pool", "default-address-pools"),
    ("dns", "dns"),
    ("dns-opt", "dns-opts"),
    ("dns-option", "dns-opts"),
    ("dns-search", "dns-search"),
    ("exec-opt", "exec-opts"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];

/// Flags whose value is a table of `key=value`, with their keys in its file.
const TABLES: [(&str, &str); 3] = [
    ("log-opt", "log-opts"),
    ("feature", "features"),
    ("default-network-opt", "default-network-opts"),
];

/// Flags whose value is a text though it may look like a number.
const TEXTS: [&str; 4] = ["group", "userns-remap", "default-shm-size", "fixed-cidr"];

impl Engine {
    /// What a runner's options say of a machine of this name.
    #[must_use]
    pub fn of(machine: &Machine, name: &str) -> Engine {
        let options = EngineOptions::of(machine, name);
        Engine {
            registry_mirrors: options.registry_mirror,
            insecure_registries: options.insecure_registry,
            options: options.opt,
            labels: options.label,
            env: options.env,
            storage_driver: options.storage_driver,
            install: match options.install_url {
                _ if !options.install => Install::Off,
                Some(url) => Install::From(url),
                None => Install::Distribution,
            },
        }
    }

    /// Files on the machine, with their texts.
    pub(super) fn files(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        let settings = self.settings();
        if !settings.is_empty() {
            // Made of texts, it can be written as JSON.
            let text = serde_json::to_string_pretty(&settings).unwrap_or_default();
            files.push(("/etc/springtide/daemon.json", text + "\n"));
        }
        if !self.env.is_empty() {
            let mut text = String::from("[Service]\n");
            for one in &self.env {
                put(&mut text, format_args!("Environment={}\n", systemd(one)));
            }
            let path = "/etc/systemd/system/docker.service.d/springtide.conf";
            files.push((path, text));
        }
        files
    }

    /// The part of the first boot's script that is about Docker.
    pub(super) fn script(&self, has_user: bool) -> String {
        let mut text = String::from("\n");
        match &self.install {
            Install::Distribution => text.extend([INSTALL, INSTALLED]),
            Install::From(url) => {
                put(&mut text, format_args!("install_url={}\n", word(url)));
                text.extend([INSTALL_FROM, INSTALLED]);
            }
            Install::Off => text.push_str(ABSENT),
        }
        text.push_str("restart=no\n");
        if !self.settings().is_empty() {
            text.push_str(CONFIGURE);
        } else if !self.env.is_empty() {
            text.push_str("restart=yes\n");
        }
        text.push_str(START);
        if has_user {
            // The way to Docker's socket goes through this user.
            text.push_str(
                "usermod -aG docker \"$user\" 2>/dev/null || addgroup \"$user\" docker\n",
            );
        }
        text
    }

    /// `daemon.json`.
    fn settings(&self) -> Map<String, Value> {
        let mut settings = Map::new();
        for option in &self.options {
            let (flag, value) = match option.split_once('=') {
                Some((flag, value)) => (flag.trim_start_matches('-'), value),
                None => (option.trim_start_matches('-'), "true"),
            };
            // A port of its own would be open to whoever finds it; the way to Docker is SSH.
            if !matches!(flag, "host" | "hosts" | "H") {
                set(&mut settings, flag, value);
            }
        }
        for (flag, values) in [
            ("registry-mirror", &self.registry_mirrors),
            ("insecure-registry", &self.insecure_registries),
            ("label", &self.labels),
        ] {
            for value in values {
                set(&mut settings, flag, value);
            }
        }
        if let Some(driver) = &self.storage_driver {
            settings.insert("storage-driver".into(), driver.as_str().into());
        }
        settings
    }
}

/// A flag of dockerd as a key of its file, in the type that it has there.
fn set(settings: &mut Map<String, Value>, flag: &str, value: &str) {
    let key_in = |known: &[(&str, &'static str)]| {
        let found = known
            .iter()
            .find(|(name, key)| *name == flag || *key == flag);
        found.map(|(_, key)| *key)
    };
    if let Some(key) = key_in(&LISTS) {
        let list = settings
            .entry(key)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value.into());
        }
        return;
    }
    if let Some(key) = key_in(&TABLES) {
        let table = settings
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
        let (name, value) = value.split_once('=').unwrap_or((value, "true"));
        if let Value::Object(table) = table {
            // Features are the one table of truths.
            let value = if key == "features" {
                typed(value)
            } else {
                value.into()
            };
            table.insert(name.into(), value);
        }
        return;
    }
    let value = if TEXTS.contains(&flag) {
        value.into()
    } else {
        typed(value)
    };
    settings.insert(flag.into(), value);
}

fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .map_or_else(|_| text.into(), Value::from),
    }
}

/// A text as one word of a systemd unit.
fn systemd(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_dockerd_have_the_keys_and_types_of_its_file() {
        let engine = Engine {
            registry_mirrors: vec!["http://192.168.1.10:6000".into()],
            insecure_registries: vec!["registry.internal:5000".into()],
            options: [
                "log-driver=json-file",
                "log-opt=max-size=10m",
                "--log-opt=max-file=3",
                "mtu=1400",
                "live-restore",
                "userland-proxy=false",
                "dns=10.0.0.2",
                "dns=10.0.0.3",
                "registry-mirror=http://mirror",
                "feature=containerd-snapshotter=true",
                "group=1000",
                "exec-opt=native.cgroupdriver=systemd",
            ]
            .map(String::from)
            .into(),
            labels: vec!["team=a".into()],
            storage_driver: Some("overlay2".into()),
            ..Engine::default()
        };
        insta::assert_snapshot!(engine.files()[0].1, @r#"
        {
          "dns": [
            "10.0.0.2",
            "10.0.0.3"
          ],
          "exec-opts": [
            "native.cgroupdriver=systemd"
          ],
          "features": {
            "containerd-snapshotter": true
          },
          "group": "1000",
          "insecure-registries": [
            "registry.internal:5000"
          ],
          "labels": [
            "team=a"
          ],
          "live-restore": true,
          "log-driver": "json-file",
          "log-opts": {
            "max-file": "3",
            "max-size": "10m"
          },
          "mtu": 1400,
          "registry-mirrors": [
            "http://mirror",
            "http://192.168.1.10:6000"
          ],
          "storage-driver": "overlay2",
          "userland-proxy": false
        }
        "#);
    }

    #[test]
    fn variables_are_words_that_systemd_reads_back() {
        for (text, expected) in [
            (
                "HTTP_PROXY=http://proxy:3128",
                r#""HTTP_PROXY=http://proxy:3128""#,
            ),
            ("A=100%", r#""A=100%%""#),
            ("B=a \"b\" \\c", r#""B=a \"b\" \\c""#),
            ("C=1\n[Service]", r#""C=1\n[Service]""#),
        ] {
            assert_eq!(systemd(text), expected);
        }
    }

    #[test]
    fn where_nothing_is_said_nothing_is_written_and_docker_is_only_started() {
        let engine = Engine::default();
        assert!(engine.files().is_empty());
        assert!(!engine.script(false).contains("restart=yes"));
    }
}
