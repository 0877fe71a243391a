//! A machine as VirtualBox has it, and the marks on it.
//!
//! The owner and the pool are in the directory a machine is made in, `springtide/OWNER/POOL/NAME`
//! below VirtualBox's own, from the call that makes it: a machine whose maker died at once can be
//! told. All marks are extradata, `springtide/...`, written right after. Nothing is remembered
//! anywhere else.

use crate::guest;
use crate::parse;
use crate::settings::{Address, Settings};
use crate::tool::VBox;
use springtide_sdk::{
    Billing, Creation, KeyValue, Machine, MachineState, PluginError, Reach, SshAddress,
};
use std::collections::BTreeMap;

/// The rule that forwards a port of the host to a machine's SSH server.
pub(crate) const RULE: &str = "springtide-ssh";
/// The directory, below VirtualBox's own, that all machines of ours are made in.
const FOLDER: &str = "springtide";
/// Where the keys of our marks begin.
const MARK: &str = "springtide/";
/// The mark of a machine that is reached at its address in the host-only network.
const HOST_ONLY: &str = "host-only";
/// The port of SSH.
const SSH: u16 = 22;
/// The longest name of a machine, bytes: that of its seed, which is no longer than a file of the
/// host may be named, holds it.
const NAME: usize = 80;

/// Whose machine, and what it is called: `<owner>-<token>`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Id {
    pub(crate) owner: String,
    pub(crate) pool: String,
    pub(crate) token: String,
}

impl Id {
    pub(crate) fn of(creation: &Creation) -> Result<Id, PluginError> {
        for (what, text) in [("owner", &creation.owner), ("token", &creation.token)] {
            if !is_plain(text) {
                return Err(PluginError::InvalidConfig(format!(
                    "a machine of VirtualBox's can't be named after the {what} {text:?}: write letters, digits, `.` and `-`, beginning with a letter or a digit"
                )));
            }
        }
        let id = Id {
            owner: creation.owner.clone(),
            pool: creation.pool.replace(|c: char| !plain(c), "_"),
            token: creation.token.clone(),
        };
        if id.name().len() > NAME {
            return Err(PluginError::InvalidConfig(format!(
                "a machine of VirtualBox's would be named {}, which is longer than {NAME} bytes: shorten the owner",
                id.name()
            )));
        }
        Ok(id)
    }

    /// The machine's name at VirtualBox, and its id.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.owner, self.token)
    }

    /// The group it is made in, which its directory is named by.
    pub(crate) fn group(&self) -> String {
        let pool = if self.pool.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            &self.pool
        } else {
            "_"
        };
        format!("/{FOLDER}/{}/{pool}", self.owner)
    }

    /// What the path of a file in a machine's directory says.
    pub(crate) fn of_path(path: &str) -> Option<Id> {
        let mark = format!("/{FOLDER}/");
        let (_, below) = path.rsplit_once(&mark)?;
        let mut parts = below.split('/');
        let (owner, pool, name) = (parts.next()?, parts.next()?, parts.next()?);
        // A file lies in the machine's directory.
        parts.next()?;
        let token = name.strip_prefix(owner)?.strip_prefix('-')?;
        (is_plain(owner) && is_plain(token)).then(|| Id {
            owner: owner.into(),
            pool: pool.into(),
            token: token.into(),
        })
    }
}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '.'
}

pub(crate) fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

/// How far a machine has come; what is written down here is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It is registered; its marks are not all written.
    Registered,
    /// Its marks are written.
    Marked,
    /// It has its memory, its cards, its disk and its seed.
    Configured,
    /// It ran.
    Started,
}

impl Step {
    const ALL: [(Step, &str); 3] = [
        (Step::Marked, "marked"),
        (Step::Configured, "configured"),
        (Step::Started, "started"),
    ];
}

/// A machine of ours.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub(crate) id: Id,
    pub(crate) fields: BTreeMap<String, String>,
    marks: BTreeMap<String, String>,
    /// Its address in the host-only network, where it is reached there and has said.
    address: Option<String>,
}

impl Vm {
    /// The machine of this name, if there is one and it is ours.
    pub(crate) fn find(vbox: VBox, name: &str) -> Result<Option<Vm>, PluginError> {
        let Some(text) = vbox.find(&["showvminfo", name, "--machinereadable"])? else {
            return Ok(None);
        };
        let fields = parse::fields(&text);
        let path = fields.get("CfgFile").map_or("", String::as_str);
        let Some(mut id) = Id::of_path(path).filter(|id| id.name() == name) else {
            return Ok(None);
        };
        let Some(text) = vbox.find(&["getextradata", name, "enumerate"])? else {
            return Ok(None);
        };
        let mut marks: BTreeMap<String, String> = parse::extra(&text)
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(MARK)?.to_owned(), plainly(&value))))
            .collect();
        // A clone carries what its base carried.
        if marks.get("token") != Some(&id.token) || marks.get("owner") != Some(&id.owner) {
            marks.clear();
        }
        if let Some(pool) = marks.get("pool") {
            id.pool.clone_from(pool);
        }
        let mut vm = Vm {
            id,
            fields,
            marks,
            address: None,
        };
        if vm.is_host_only() && vm.state() == MachineState::Running {
            vm.address = guest::address(vbox, name, vm.field("macaddress2"))?;
        }
        Ok(Some(vm))
    }

    /// All machines of ours, of every owner.
    pub(crate) fn all(vbox: VBox) -> Result<Vec<Vm>, PluginError> {
        let mut all = Vec::new();
        for name in parse::names(&vbox.run(&["list", "vms"])?) {
            // Others' machines are not asked about where their names tell.
            if is_plain(&name)
                && name.contains('-')
                && let Some(vm) = Vm::find(vbox, &name)?
            {
                all.push(vm);
            }
        }
        Ok(all)
    }

    pub(crate) fn name(&self) -> String {
        self.id.name()
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn mark(&self, name: &str) -> &str {
        self.marks.get(name).map_or("", String::as_str)
    }

    fn is_host_only(&self) -> bool {
        self.mark("address") == HOST_ONLY
    }

    /// Where it is reached, once that is known.
    fn reach(&self) -> Option<Reach> {
        let (host, port) = if self.is_host_only() {
            (self.address.clone()?, SSH)
        } else {
            ("127.0.0.1".into(), self.port()?)
        };
        Some(Reach::Ssh(SshAddress {
            host,
            port,
            user: self.mark("user").into(),
        }))
    }

    pub(crate) fn step(&self) -> Step {
        let mark = self.mark("step");
        Step::ALL
            .into_iter()
            .find(|(_, text)| *text == mark)
            .map_or(Step::Registered, |(step, _)| step)
    }

    /// The directory it is in.
    pub(crate) fn directory(&self) -> &str {
        let path = self.field("CfgFile");
        path.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// The rules that forward ports of the host to it: names and ports.
    pub(crate) fn rules(&self) -> Vec<(String, u16)> {
        self.fields
            .iter()
            .filter(|(key, _)| key.starts_with("Forwarding("))
            .filter_map(|(_, rule)| {
                // A name may hold commas; what follows it does not.
                let mut parts = rule.rsplitn(6, ',');
                let port = parts.nth(2)?.parse().ok()?;
                Some((parts.nth(2)?.to_owned(), port))
            })
            .collect()
    }

    /// The port of the host that leads to its SSH server.
    pub(crate) fn port(&self) -> Option<u16> {
        let rules = self.rules();
        rules
            .iter()
            .find(|(name, _)| name == RULE)
            .map(|rule| rule.1)
    }

    /// Its state as VirtualBox has it.
    pub(crate) fn is_on(&self) -> bool {
        matches!(
            self.field("VMState"),
            "running"
                | "paused"
                | "starting"
                | "restoring"
                | "gurumeditation"
                | "stuck"
                | "livesnapshotting"
        )
    }

    pub(crate) fn state(&self) -> MachineState {
        match self.field("VMState") {
            "running" | "livesnapshotting" | "onlinesnapshotting" => MachineState::Running,
            "stopping" | "saving" => MachineState::Removing,
            "paused" | "poweroff" | "aborted" | "aborted-saved" | "saved" | "gurumeditation"
            | "stuck"
                if self.step() == Step::Started =>
            {
                MachineState::Stopped
            }
            "poweroff" | "aborted" | "saved" | "starting" | "restoring" | "settingup"
            | "paused" => MachineState::Creating,
            _ => MachineState::Unknown,
        }
    }

    /// The machine as the contract has it.
    pub(crate) fn machine(&self) -> Machine {
        let state = self.state();
        let reach = (state == MachineState::Running)
            .then(|| self.reach())
            .flatten();
        let number = |name: &str| self.mark(name).parse().unwrap_or(0);
        let name = match self.mark("name") {
            "" => self.name(),
            name => name.to_owned(),
        };
        let details = [
            ("uuid", self.field("UUID")),
            ("memory", self.field("memory")),
            ("cpus", self.field("cpus")),
            ("manager", self.mark("manager")),
            ("state", self.field("VMState")),
        ];
        Machine {
            id: self.name(),
            name,
            token: self.id.token.clone(),
            owner: self.id.owner.clone(),
            pool: self.id.pool.clone(),
            lease_until: number("lease-until"),
            created_at: match number("created-at") {
                0 => epoch(self.field("VMStateChangeTime")),
                at => at,
            },
            state,
            reach,
            billing: Billing::Free,
            details: details
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| KeyValue {
                    key: key.into(),
                    value: value.into(),
                })
                .collect(),
        }
    }

    /// Writes those of its marks that are not there yet; `step` is the last of them.
    pub(crate) fn write_marks(
        &self,
        vbox: VBox,
        creation: &Creation,
        settings: &Settings,
    ) -> Result<(), PluginError> {
        let name = self.name();
        let address = match settings.address {
            Address::ForwardedPort => "",
            Address::HostOnly => HOST_ONLY,
        };
        if self.marks.is_empty() {
            // How far its base came is not how far a clone has come.
            set(vbox, &name, "step", "")?;
        }
        let created = epoch(self.field("VMStateChangeTime")).to_string();
        for (key, value) in [
            ("owner", creation.owner.as_str()),
            ("token", &creation.token),
            ("pool", &creation.pool),
            ("name", &creation.name),
            ("manager", &creation.manager),
            ("lease-until", &creation.lease_until.to_string()),
            ("created-at", &created),
            ("user", settings.ssh_user()),
            ("address", address),
        ] {
            if self.mark(key) != plainly(&on_one_line(value)) {
                set(vbox, &name, key, value)?;
            }
        }
        for label in &creation.labels {
            set(vbox, &name, &format!("label/{}", label.key), &label.value)?;
        }
        self.write_step(vbox, Step::Marked)
    }

    pub(crate) fn write_step(&self, vbox: VBox, step: Step) -> Result<(), PluginError> {
        let text = Step::ALL.into_iter().find(|one| one.0 == step);
        set(vbox, &self.name(), "step", text.map_or("", |one| one.1))
    }

    /// Writes the end of a lease; one that is gone has none.
    pub(crate) fn write_lease(vbox: VBox, name: &str, until: u32) -> Result<(), PluginError> {
        match set(vbox, name, "lease-until", &until.to_string()) {
            Err(PluginError::NotFound(_)) => Ok(()),
            done => done,
        }
    }
}

fn set(vbox: VBox, name: &str, key: &str, value: &str) -> Result<(), PluginError> {
    let key = format!("{MARK}{}", on_one_line(key));
    vbox.run(&["setextradata", name, &key, &on_one_line(value)])?;
    Ok(())
}

/// A value that does not look like another line of extradata when it is read again.
fn on_one_line(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, c| {
        match c {
            '%' => line.push_str("%25"),
            c if c.is_control() => line.push_str(&format!("%{:02X}", u32::from(c))),
            c => line.push(c),
        }
        line
    })
}

/// The value again. Control characters are not taken back: nobody wants to see them.
fn plainly(text: &str) -> String {
    text.replace("%0A", " ").replace("%25", "%")
}

/// Seconds since 1970 of `2026-11-25T01:39:09.005000000`, in UTC; 0 where it is none.
pub(crate) fn epoch(text: &str) -> u32 {
    let read = || {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        // Days of the civil calendar, in years that begin with March.
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
        u32::try_from((days - 719_469) * 86_400 + hour * 3600 + minute * 60 + second).ok()
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(state: &str, step: &str) -> Vm {
        let fields = [
            ("CfgFile", "/vms/springtide/own/pool/own-t1/own-t1.vbox"),
            ("VMState", state),
            ("Forwarding(0)", "a,b,tcp,,8080,,80"),
            ("Forwarding(1)", "springtide-ssh,tcp,127.0.0.1,20022,,22"),
        ];
        let marks = [
            ("step", step),
            ("name", "ci-1"),
            ("user", "docker"),
            ("lease-until", "9"),
        ];
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        Vm {
            id: Id {
                owner: "own".into(),
                pool: "pool".into(),
                token: "t1".into(),
            },
            fields: map(&fields),
            marks: map(&marks),
            address: None,
        }
    }

    #[test]
    fn a_machine_is_told_by_the_directory_it_is_in() {
        for (path, wanted) in [
            (
                "/vms/springtide/own/pool/own-t1/own-t1.vbox",
                Some(("own", "pool", "t1")),
            ),
            (
                "/springtide/x/springtide/o-1/p/o-1-0123/disk.vdi",
                Some(("o-1", "p", "0123")),
            ),
            ("/vms/springtide/own/pool/other-t1/x.vbox", None),
            ("/vms/springtide/own/pool/own-t1", None),
            ("/vms/own-t1/own-t1.vbox", None),
            ("", None),
        ] {
            let id = Id::of_path(path);
            let found = id.as_ref().map(|id| (&*id.owner, &*id.pool, &*id.token));
            assert_eq!(found, wanted, "{path}");
        }
    }

    #[test]
    fn the_state_is_virtualboxs_and_the_step_says_whether_it_ran() {
        for (state, step, wanted) in [
            ("poweroff", "", MachineState::Creating),
            ("poweroff", "configured", MachineState::Creating),
            ("poweroff", "started", MachineState::Stopped),
            ("aborted", "started", MachineState::Stopped),
            ("running", "configured", MachineState::Running),
            ("stopping", "started", MachineState::Removing),
            ("something-new", "started", MachineState::Unknown),
            ("", "started", MachineState::Unknown),
        ] {
            assert_eq!(vm(state, step).state(), wanted, "{state} {step}");
        }
    }

    #[test]
    fn a_running_machine_is_reached_through_its_rule() {
        let machine = vm("running", "started").machine();
        let Some(Reach::Ssh(address)) = machine.reach else {
            panic!("no way to it");
        };
        assert_eq!((address.port, address.user.as_str()), (20022, "docker"));
        assert_eq!((machine.name.as_str(), machine.lease_until), ("ci-1", 9));
        assert_eq!(vm("poweroff", "started").machine().reach, None);
        let rules = vm("running", "started").rules();
        assert_eq!(rules[0], ("a,b".to_owned(), 8080), "names may hold commas");
    }

    #[test]
    fn times_are_read_as_seconds() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00.000000000", 0),
            ("2026-11-25T01:39:09.005000000", 1_795_570_749),
            ("2024-02-29T23:59:59", 1_709_251_199),
            ("never", 0),
            ("", 0),
        ] {
            assert_eq!(epoch(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_mark_is_one_line() {
        let hostile = "a\nKey: springtide/owner, Value: x%0A";
        let line = on_one_line(hostile);
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(plainly(&on_one_line("100 %")), "100 %");
    }
}
