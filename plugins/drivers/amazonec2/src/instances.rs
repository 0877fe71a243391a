//! An instance as EC2 tells it, and as a machine of the contract.

use crate::ec2::{Ec2, child, instant, items, needed, text};
use crate::fault::Fault;
use crate::query::Query;
use crate::settings::Settings;
use crate::tags::{self, Tags};
use roxmltree::Node;
use springtide_sdk::{Billing, KeyValue, Machine, MachineState, Reach, SshAddress};
use std::collections::{BTreeMap, BTreeSet};

/// States in which an instance is there.
const ALIVE: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

/// What a spot request says when its instance will be taken back within minutes.
const MARKED: [&str; 2] = ["marked-for-termination", "marked-for-stop"];

/// The least EC2 bills of a Linux instance, in seconds.
const LEAST_BILLED: u32 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) reason_code: String,
    launched: u32,
    private: Option<String>,
    public: Option<String>,
    instance_type: String,
    zone: String,
    image: String,
    spot_request: Option<String>,
    spot: bool,
    tags: Tags,
}

impl Instance {
    pub(crate) fn read(node: Node) -> Result<Instance, String> {
        let below = |name, inner| child(node, name).and_then(|node| text(node, inner));
        let some = |name| text(node, name).filter(|text| !text.is_empty());
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Ok(Instance {
            id: needed(node, "instanceId")?.to_owned(),
            state: below("instanceState", "name")
                .ok_or("an instance has no state")?
                .to_owned(),
            reason: owned(below("stateReason", "message")),
            reason_code: owned(below("stateReason", "code")),
            launched: instant(text(node, "launchTime").unwrap_or_default()),
            private: some("privateIpAddress").map(str::to_owned),
            public: some("ipAddress").map(str::to_owned),
            instance_type: owned(text(node, "instanceType")),
            zone: owned(below("placement", "availabilityZone")),
            image: owned(text(node, "imageId")),
            spot_request: some("spotInstanceRequestId").map(str::to_owned),
            spot: text(node, "instanceLifecycle") == Some("spot"),
            tags: read_tags(node),
        })
    }

    /// Whether it is over, though EC2 still shows it.
    pub(crate) fn is_over(&self) -> bool {
        self.state == "terminated"
    }

    /// Whether it takes no more work, though it may still be there.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state.as_str(), "shutting-down" | "terminated")
    }

    fn tag(&self, key: &str) -> String {
        let value = self.tags.get(key).map_or("", String::as_str);
        value.replace(char::is_control, " ")
    }

    fn machine_state(&self, marked: bool) -> MachineState {
        match self.state.as_str() {
            "pending" | "running" if marked => MachineState::Interrupted,
            // It exists, and nothing has to be done for it to go on.
            "pending" | "running" => MachineState::Running,
            "stopping" | "stopped" => MachineState::Stopped,
            "shutting-down" if self.reason_code.starts_with("Server.Spot") => {
                MachineState::Interrupted
            }
            "shutting-down" => MachineState::Removing,
            _ => MachineState::Unknown,
        }
    }

    /// As the contract has it. `marked`: EC2 has said that it will take it back.
    pub(crate) fn machine(&self, settings: &Settings, marked: bool) -> Machine {
        let address = match settings.is_private() {
            true => self.private.as_ref(),
            false => self.public.as_ref(),
        };
        let name = match self.tag(tags::NAME) {
            name if name.is_empty() => self.id.clone(),
            name => name,
        };
        let mut details = vec![
            ("type", self.instance_type.clone()),
            ("zone", self.zone.clone()),
            ("image", self.image.clone()),
            ("ec2-state", self.state.clone()),
        ];
        if self.spot {
            details.push(("market", "spot".into()));
        }
        for (key, value) in [
            ("manager", self.tag(tags::MANAGER)),
            ("private-address", self.private.clone().unwrap_or_default()),
            ("reason", self.reason.clone()),
        ] {
            if !value.is_empty() {
                details.push((key, value));
            }
        }
        Machine {
            id: self.id.clone(),
            name,
            token: self.tag(tags::TOKEN),
            owner: self.tag(tags::OWNER),
            pool: self.tag(tags::POOL),
            lease_until: self.tag(tags::LEASE_UNTIL).parse().unwrap_or(0),
            created_at: self.launched,
            state: self.machine_state(marked),
            reach: address.map(|host| {
                Reach::Ssh(SshAddress {
                    host: host.clone(),
                    port: settings.ssh_port,
                    user: settings.ssh_user().to_owned(),
                })
            }),
            billing: Billing::PerSecond(LEAST_BILLED),
            details: details
                .into_iter()
                .map(|(key, value)| KeyValue {
                    key: key.into(),
                    value,
                })
                .collect(),
        }
    }
}

/// The tags of an element.
pub(crate) fn read_tags(node: Node) -> Tags {
    let tag = |item| {
        let key = text(item, "key")?;
        let value = child(item, "value").and_then(|node| node.text());
        Some((key.to_owned(), value.unwrap_or_default().to_owned()))
    };
    let all = items(node, &["tagSet"]);
    all.into_iter().filter_map(tag).collect()
}

/// All machines that carry an owner mark. One request a page, and one more where there are spot
/// instances.
pub(crate) fn list(ec2: &Ec2, settings: &Settings) -> Result<Vec<Machine>, Fault> {
    let query = Query::new("DescribeInstances")
        .filter("tag-key", [tags::OWNER])
        .filter("instance-state-name", ALIVE);
    let instances = alive(ec2, &query)?;
    let marked = match instances.values().any(|one| one.spot && !one.is_ending()) {
        true => marked(ec2)?,
        false => BTreeSet::new(),
    };
    let mut machines: Vec<Machine> = instances
        .values()
        .map(|one| {
            let request = one.spot_request.as_ref();
            let is_marked = request.is_some_and(|id| marked.contains(id));
            one.machine(settings, is_marked)
        })
        .collect();
    disown_twins(&mut machines);
    Ok(machines)
}

/// A token that was tried with several types or zones may, where an answer was lost, have made two
/// machines. The later ones lose the token here, so that the host takes them for strangers that
/// carry its mark, and removes them.
fn disown_twins(machines: &mut [Machine]) {
    machines.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let mut seen = BTreeSet::new();
    for machine in machines {
        let is_alive = machine.state != MachineState::Removing;
        let token = (machine.owner.clone(), machine.token.clone());
        if is_alive && !machine.token.is_empty() && !seen.insert(token) {
            machine.token.clear();
        }
    }
}

/// The instances of a list that are not over, each once.
fn alive(ec2: &Ec2, query: &Query) -> Result<BTreeMap<String, Instance>, Fault> {
    let found = ec2.all(query, &["reservationSet", "instancesSet"], Instance::read)?;
    let found = found.into_iter().filter(|one| !one.is_over());
    Ok(found.map(|one| (one.id.clone(), one)).collect())
}

/// The spot requests whose instances will be taken back.
fn marked(ec2: &Ec2) -> Result<BTreeSet<String>, Fault> {
    let query = Query::new("DescribeSpotInstanceRequests")
        .filter("tag-key", [tags::OWNER])
        .filter("status-code", MARKED);
    let read = |node: Node| needed(node, "spotInstanceRequestId").map(str::to_owned);
    let found = ec2.all(&query, &["spotInstanceRequestSet"], read)?;
    Ok(found.into_iter().collect())
}

/// The machine a token made, if EC2 shows it yet.
pub(crate) fn by_token(ec2: &Ec2, owner: &str, token: &str) -> Result<Option<Instance>, Fault> {
    let query = Query::new("DescribeInstances")
        .filter(&format!("tag:{}", tags::TOKEN), [token])
        .filter(&format!("tag:{}", tags::OWNER), [owner])
        .filter("instance-state-name", ["pending", "running"]);
    let found = alive(ec2, &query)?;
    Ok(found.into_values().min_by_key(|one| one.launched))
}

/// One instance by its id; nothing where it is over.
pub(crate) fn by_id(ec2: &Ec2, id: &str) -> Result<Option<Instance>, Fault> {
    let query = Query::new("DescribeInstances").with("InstanceId.1", id);
    let found = ec2.ask(&query, |root| {
        let found = items(root, &["reservationSet", "instancesSet"]);
        found
            .into_iter()
            .map(Instance::read)
            .collect::<Result<Vec<_>, _>>()
    });
    match found {
        Ok(found) => Ok(found.into_iter().find(|one| !one.is_over())),
        Err(fault) if fault.is_gone() => Ok(None),
        Err(fault) => Err(fault),
    }
}
