//! What the shipped plugins get without being granted it: what an old configuration needs to work as
//! it is, and no more.

use super::paths;
use super::scope::Scope;
use serde_json::Value;
use springtide_config::{Config, Machine};
use springtide_plugins::{Grants, HttpGrant, Origin, ToolGrant};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The name the driver `local` calls the helper by.
const LOCAL_TOOL: &str = "springtide-local";
/// The name the driver `virtualbox` calls VirtualBox's own program by.
const VBOX_TOOL: &str = "VBoxManage";
/// The driver of Amazon EC2.
const EC2: &str = "amazonec2";
/// The region of an entry that names none, as of old.
const REGION: &str = "us-east-1";

/// What `VBoxManage` may be asked to do.
const VBOX_ALLOW: [&[&str]; 24] = [
    &["--version"],
    &["clonemedium", "disk"],
    &["clonevm"],
    &["closemedium", "disk"],
    &["closemedium", "dvd"],
    &["controlvm"],
    &["convertfromraw", "stdin"],
    &["createvm", "--name"],
    &["dhcpserver", "add"],
    &["dhcpserver", "remove"],
    &["discardstate"],
    &["getextradata"],
    &["guestproperty", "get"],
    &["hostonlyif"],
    &["import"],
    &["list"],
    &["modifymedium", "disk"],
    &["modifyvm"],
    &["setextradata"],
    &["sharedfolder"],
    &["showmediuminfo", "disk"],
    &["showvminfo"],
    &["startvm"],
    &["unregistervm"],
];

/// What it may be asked of storage, one machine's.
const VBOX_STORAGE: [&[&str]; 2] = [&["storageattach"], &["storagectl"]];

/// Which arguments have to name what is the owner's.
const VBOX_OWNED: [&str; 17] = [
    "clonemedium disk:3/",
    "clonevm:3",
    "closemedium disk:2/",
    "controlvm:1",
    "convertfromraw:2/",
    "createvm:2",
    "discardstate:1",
    "import:5",
    "modifymedium disk:2/",
    "modifyvm:1",
    "setextradata:1",
    "sharedfolder add:2",
    "sharedfolder remove:2",
    "startvm:1",
    "storageattach:1",
    "storagectl:1",
    "unregistervm:1",
];

/// What the driver of Amazon EC2 may ask for, as the policy in `examples/iam-policy.json` allows it:
/// the list is the driver's own.
const EC2_ACTIONS: &str = include_str!("../../../../plugins/drivers/amazonec2/actions.txt");

/// What the shipped plugins need of this host and this configuration.
#[derive(Clone, Debug, Default)]
pub struct Shipped {
    helper: PathBuf,
    local_root: PathBuf,
    vbox: PathBuf,
    /// Where machines are or were made.
    ec2: BTreeSet<String>,
}

impl Shipped {
    /// What they need.
    #[must_use]
    pub fn of(config: &Config, state: &Path) -> Shipped {
        let springtide = &config.springtide;
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Shipped {
            helper: match &springtide.helper {
                Some(helper) => absolute(helper),
                None => paths::shipped("springtide-helper"),
            },
            local_root: match &springtide.local_root {
                Some(root) => absolute(root),
                None => state.join("machines"),
            },
            vbox: on_path(VBOX_TOOL),
            ec2: configured(config),
        }
    }

    /// Takes the regions of a configuration to those of before: machines made there are still there.
    pub fn reconfigure(&mut self, config: &Config) {
        self.ec2.extend(configured(config));
    }

    /// Takes the region of machines that there are; whether it is one more.
    pub fn note(&mut self, scope: &Scope) -> bool {
        if scope.driver != EC2 {
            return false;
        }
        let text = |flag: &str| scope.settings.get(flag).and_then(Value::as_str);
        let insecure =
            scope.settings.get("amazonec2-insecure-transport") == Some(&Value::Bool(true));
        let origin = endpoint(
            text("amazonec2-region"),
            text("amazonec2-endpoint"),
            insecure,
        );
        origin.is_some_and(|origin| self.ec2.insert(origin))
    }

    /// What a shipped plugin of this name gets without being granted it.
    #[must_use]
    pub fn grants(&self, id: &str) -> Option<Grants> {
        match id {
            "local" => {
                let root = self.local_root.to_string_lossy().into_owned();
                let tool = ToolGrant {
                    path: self.helper.clone(),
                    // Jobs on the machine find their programs as the daemon does.
                    env: environment(&["PATH", "HOME"], &[("SPRINGTIDE_LOCAL_ROOT", root)]),
                    allow: Some(vec![vec!["local".to_owned()]]),
                    owned: Vec::new(),
                    concurrency: None,
                };
                Some(Grants {
                    tools: BTreeMap::from([(LOCAL_TOOL.to_owned(), tool)]),
                    ..Grants::default()
                })
            }
            "virtualbox" => {
                let allowed = VBOX_ALLOW.iter().chain(&VBOX_STORAGE);
                let words = |rule: &&[&str]| rule.iter().map(|&word| word.to_owned()).collect();
                let tool = ToolGrant {
                    path: self.vbox.clone(),
                    // Which machines there are is a matter of whose they are.
                    env: environment(&["PATH", "HOME", "VBOX_USER_HOME"], &[]),
                    allow: Some(allowed.map(words).collect()),
                    owned: VBOX_OWNED
                        .iter()
                        .filter_map(|rule| rule.parse().ok())
                        .collect(),
                    // VBoxSVC, which answers all of them, deadlocks when calls meet: see
                    // docs/drivers/virtualbox.md.
                    concurrency: Some(1),
                };
                Some(Grants {
                    files: true,
                    tools: BTreeMap::from([(VBOX_TOOL.to_owned(), tool)]),
                    ..Grants::default()
                })
            }
            EC2 => Some(Grants {
                http: Some(HttpGrant {
                    origins: self.ec2.iter().cloned().collect(),
                    // A VPC's own endpoint has EC2's name and a private address.
                    allow_private: true,
                    credentials: vec!["aws".to_owned()],
                    actions: Some(EC2_ACTIONS.lines().map(str::to_owned).collect()),
                }),
                ..Grants::default()
            }),
            _ => None,
        }
    }
}

/// The variables of the daemon's that there are, and these.
fn environment(names: &[&str], more: &[(&str, String)]) -> BTreeMap<String, String> {
    let given = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    given.chain(more).collect()
}

/// A program of the daemon's PATH, or where it would be installed.
fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_absolute() && file.is_file())
        .unwrap_or_else(|| Path::new("/usr/bin").join(name))
}

/// Where EC2 answers for the runners of a configuration.
fn configured(config: &Config) -> BTreeSet<String> {
    let usable = config
        .runners
        .iter()
        .filter_map(|runner| runner.machine.as_ref());
    let others = config
        .unusable
        .iter()
        .filter_map(|entry| entry.machine.as_ref());
    usable
        .chain(others)
        .filter(|machine| machine.machine_driver == EC2)
        .filter_map(of_machine)
        .collect()
}

fn of_machine(machine: &Machine) -> Option<String> {
    let last = |flag: &str| {
        let mut options = machine.machine_options.iter().rev();
        options.find(|option| option.flag == flag)
    };
    let text = |flag: &str| last(flag).and_then(|option| option.value.as_deref());
    let insecure = last("amazonec2-insecure-transport").is_some_and(|option| {
        !matches!(
            option.value.as_deref(),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False")
        )
    });
    endpoint(
        text("amazonec2-region"),
        text("amazonec2-endpoint"),
        insecure,
    )
}

/// The origin EC2 answers at, by the driver's options; none where they can't be.
fn endpoint(region: Option<&str>, given: Option<&str>, insecure: bool) -> Option<String> {
    let region = region.filter(|region| !region.is_empty()).unwrap_or(REGION);
    let given = given.unwrap_or_default().trim_end_matches('/');
    let url = match given {
        "" if region.starts_with("cn-") => format!("https://ec2.{region}.amazonaws.com.cn"),
        "" => format!("https://ec2.{region}.amazonaws.com"),
        _ if given.contains("://") => given.to_owned(),
        _ if insecure => format!("http://{given}"),
        _ => format!("https://{given}"),
    };
    let origin: Origin = url.parse().ok()?;
    Some(origin.to_string())
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
