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

/// What Docker's daemon on a machine is told, and what is done where the image has no Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine(pub EngineOptions);

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
        Engine(EngineOptions::of(machine, name))
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
        if !self.0.env.is_empty() {
            let mut text = String::from("[Service]\n");
            for one in &self.0.env {
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
        match &self.0.install_url {
            _ if !self.0.install => text.push_str(ABSENT),
            Some(url) => {
                put(&mut text, format_args!("install_url={}\n", word(url)));
                text.extend([INSTALL_FROM, INSTALLED]);
            }
            None => text.extend([INSTALL, INSTALLED]),
        }
        text.push_str("restart=no\n");
        if !self.settings().is_empty() {
            text.push_str(CONFIGURE);
        } else if !self.0.env.is_empty() {
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
        for option in &self.0.opt {
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
            ("registry-mirror", &self.0.registry_mirror),
            ("insecure-registry", &self.0.insecure_registry),
            ("label", &self.0.label),
        ] {
            for value in values {
                set(&mut settings, flag, value);
            }
        }
        if let Some(driver) = &self.0.storage_driver {
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
        let engine = Engine(EngineOptions {
            registry_mirror: vec!["http://192.168.1.10:6000".into()],
            insecure_registry: vec!["registry.internal:5000".into()],
            opt: [
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
            label: vec!["team=a".into()],
            storage_driver: Some("overlay2".into()),
            ..EngineOptions::default()
        });
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
