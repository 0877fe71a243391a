//! Where a machine is on the network: its subnet and its security groups.

use crate::ec2::{Ec2, items, needed, text};
use crate::fault::Fault;
use crate::instances::read_tags;
use crate::query::Query;
use crate::settings::{Port, Settings, wrong};
use crate::tags::{self, Tags};
use roxmltree::Node;
use springtide_sdk::{Creation, Level, PluginError, log};

/// How long a security group that we made is kept after the last machine that was made with it, in
/// seconds: a week.
const KEPT: u32 = 7 * 24 * 3600;
/// How old a group's mark may get before it is written anew.
const RENEWED: u32 = 24 * 3600;

/// Where one try is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    /// Empty where nobody asked.
    pub(crate) zone: String,
    vpc: String,
    is_default: bool,
}

impl Subnet {
    fn read(node: Node) -> Result<Subnet, String> {
        Ok(Subnet {
            id: needed(node, "subnetId")?.to_owned(),
            zone: text(node, "availabilityZone")
                .unwrap_or_default()
                .to_owned(),
            vpc: text(node, "vpcId").unwrap_or_default().to_owned(),
            is_default: text(node, "defaultForAz") == Some("true"),
        })
    }
}

/// The security groups of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) ids: Vec<String>,
    /// Whether one was made just now, so that not all of EC2 knows it yet.
    pub(crate) fresh: bool,
}

/// The subnets to try, in the order of the zones.
pub(crate) fn subnets(ec2: &Ec2, settings: &Settings) -> Result<Vec<Subnet>, PluginError> {
    if !settings.subnet_id.is_empty() {
        let named = settings.security_groups.iter().any(|group| !is_id(group));
        if !named {
            return Ok(vec![Subnet {
                id: settings.subnet_id.clone(),
                zone: String::new(),
                vpc: settings.vpc_id.clone(),
                is_default: false,
            }]);
        }
        let query = Query::new("DescribeSubnets").with("SubnetId.1", &settings.subnet_id);
        let found = ec2.ask(&query, read_subnets);
        let found = found.map_err(|fault| missing(fault, "amazonec2-subnet-id"))?;
        let other = |subnet: &&Subnet| !settings.vpc_id.is_empty() && subnet.vpc != settings.vpc_id;
        if found.iter().any(|subnet| other(&subnet)) {
            return Err(wrong(&format!(
                "amazonec2-subnet-id {} is not in amazonec2-vpc-id {}: set the one or the other",
                settings.subnet_id, settings.vpc_id
            )));
        }
        return Ok(found);
    }
    let zones = settings.zones();
    let query = Query::new("DescribeSubnets").filter("availability-zone", &zones);
    let query = match settings.vpc_id.as_str() {
        "" => query.filter("default-for-az", ["true"]),
        vpc => query.filter("vpc-id", [vpc]),
    };
    let found = ec2.all(&query, &["subnetSet"], Subnet::read)?;
    let of_zone = |zone: &String| {
        let mut there: Vec<&Subnet> = found.iter().filter(|one| one.zone == *zone).collect();
        there.sort_by_key(|one| !one.is_default);
        there.first().map(|one| (*one).clone())
    };
    let subnets: Vec<Subnet> = zones.iter().filter_map(of_zone).collect();
    if subnets.is_empty() {
        let place = match settings.vpc_id.as_str() {
            "" => "the account's default VPC".to_owned(),
            vpc => format!("the VPC {vpc}"),
        };
        return Err(wrong(&format!(
            "{place} has no subnet in {}: set amazonec2-subnet-id, or amazonec2-vpc-id and amazonec2-zone to where there is one",
            zones.join(", ")
        )));
    }
    Ok(subnets)
}

fn read_subnets(root: Node) -> Result<Vec<Subnet>, String> {
    let all = items(root, &["subnetSet"]);
    all.into_iter().map(Subnet::read).collect()
}

/// What a setting names is not there: the setting is wrong, and no machine is missing.
pub(crate) fn missing(fault: Fault, setting: &str) -> PluginError {
    let gone = fault.is_gone();
    match PluginError::from(fault) {
        PluginError::NotFound(text) if gone => wrong(&format!("{text}; look at {setting}")),
        error => error,
    }
}

/// Whether a text is the id of a security group, and no name.
fn is_id(group: &str) -> bool {
    let hex = |c: char| c.is_ascii_hexdigit();
    group
        .strip_prefix("sg-")
        .is_some_and(|rest| rest.len() >= 8 && rest.chars().all(hex))
}

/// A security group that is there.
#[derive(Clone, Debug)]
struct Group {
    id: String,
    name: String,
    /// Protocol, from and to; protocol `-1` is any.
    rules: Vec<(String, u16, u16)>,
    tags: Tags,
}

impl Group {
    fn read(node: Node) -> Result<Group, String> {
        let rule = |node| {
            let port =
                |name, other| text(node, name).map_or(other, |text| text.parse().unwrap_or(other));
            let protocol = text(node, "ipProtocol").unwrap_or_default().to_owned();
            (protocol, port("fromPort", 0), port("toPort", u16::MAX))
        };
        Ok(Group {
            id: needed(node, "groupId")?.to_owned(),
            name: text(node, "groupName").unwrap_or_default().to_owned(),
            rules: items(node, &["ipPermissions"])
                .into_iter()
                .map(rule)
                .collect(),
            tags: read_tags(node),
        })
    }

    fn lets_in(&self, port: &Port) -> bool {
        self.rules.iter().any(|(protocol, from, to)| {
            protocol == "-1" || (protocol == port.protocol && (*from..=*to).contains(&port.number))
        })
    }
}

/// The security groups of the settings, with those made that are missing and the ports let in.
pub(crate) fn groups(
    ec2: &Ec2,
    settings: &Settings,
    creation: &Creation,
    subnet: &Subnet,
) -> Result<Groups, PluginError> {
    let names: Vec<&String> = settings.security_groups.iter().collect();
    let wanted: Vec<&String> = names.iter().copied().filter(|name| !is_id(name)).collect();
    let ids = names.iter().copied().filter(|name| is_id(name)).cloned();
    let mut groups = Groups {
        ids: ids.collect(),
        fresh: false,
    };
    if wanted.is_empty() {
        return Ok(groups);
    }
    let mut found = look(ec2, &wanted, &subnet.vpc)?;
    for name in &wanted {
        if found.iter().any(|group| group.name == **name) {
            continue;
        }
        if settings.security_group_readonly {
            return Err(wrong(&format!(
                "there is no security group {name:?} in {}: make it, or unset amazonec2-security-group-readonly",
                subnet.vpc
            )));
        }
        groups.fresh = true;
        found.push(make(ec2, name, creation, &subnet.vpc)?);
    }
    if !settings.security_group_readonly {
        let ports = settings.ports()?;
        let closed: Vec<&Port> = ports
            .iter()
            .filter(|port| !found.iter().any(|group| group.lets_in(port)))
            .collect();
        let first = found.iter().find(|group| group.name == *wanted[0]);
        if let (Some(group), false) = (first, closed.is_empty()) {
            let_in(ec2, &group.id, &closed)?;
        }
    }
    for group in &found {
        keep(ec2, group, creation);
    }
    groups.ids.extend(found.into_iter().map(|group| group.id));
    Ok(groups)
}

fn look(ec2: &Ec2, names: &[&String], vpc: &str) -> Result<Vec<Group>, Fault> {
    let query = Query::new("DescribeSecurityGroups")
        .filter("group-name", names.iter().map(|name| name.as_str()))
        .filter("vpc-id", [vpc]);
    let mut found = ec2.all(&query, &["securityGroupInfo"], Group::read)?;
    // A name may hold what a filter takes for a wildcard.
    found.retain(|group| names.iter().any(|name| **name == group.name));
    Ok(found)
}

/// Makes a group, or finds the one that another call made at the same time.
fn make(ec2: &Ec2, name: &str, creation: &Creation, vpc: &str) -> Result<Group, PluginError> {
    let tags = Tags::from([
        (tags::OWNER.into(), creation.owner.clone()),
        (tags::MANAGER.into(), creation.manager.clone()),
        (tags::LEASE_UNTIL.into(), kept_until(creation).to_string()),
    ]);
    let query = Query::new("CreateSecurityGroup")
        .with("GroupName", name)
        .with("GroupDescription", "Machines for CI jobs")
        .with("VpcId", vpc);
    let query = tags::with(query, &["security-group"], &tags);
    let made = ec2.ask(&query, |root| needed(root, "groupId").map(str::to_owned));
    match made {
        Ok(id) => Ok(Group {
            id,
            name: name.into(),
            rules: Vec::new(),
            tags,
        }),
        Err(fault) if fault.has_code("InvalidGroup.Duplicate") => {
            let found = look(ec2, &[&name.to_owned()], vpc)?;
            found.into_iter().next().ok_or_else(|| {
                PluginError::Transient(format!(
                    "the security group {name:?} was made by another call just now, and EC2 does not show it yet"
                ))
            })
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Lets ports in from everywhere, as docker-machine does.
fn let_in(ec2: &Ec2, group: &str, ports: &[&Port]) -> Result<(), PluginError> {
    let query = Query::new("AuthorizeSecurityGroupIngress").with("GroupId", group);
    let query = ports.iter().enumerate().fold(query, |query, (at, port)| {
        let rule = format!("IpPermissions.{}", at + 1);
        let number = port.number.to_string();
        query
            .with(format!("{rule}.IpProtocol"), port.protocol)
            .with(format!("{rule}.FromPort"), &number)
            .with(format!("{rule}.ToPort"), &number)
            .with(format!("{rule}.IpRanges.1.CidrIp"), "0.0.0.0/0")
    });
    match ec2.ask(&query, |_| Ok(())) {
        Err(fault) if fault.has_code("InvalidPermission.Duplicate") => Ok(()),
        Err(fault) if fault.is_gone() => Err(PluginError::Transient(format!(
            "the security group {group} was made just now, and EC2 does not know it everywhere yet"
        ))),
        done => done.map_err(PluginError::from),
    }
}

fn kept_until(creation: &Creation) -> u32 {
    creation.lease_until.saturating_add(KEPT)
}

/// Writes on a group of our making that it was used, once a day.
fn keep(ec2: &Ec2, group: &Group, creation: &Creation) {
    let Some(until) = group.tags.get(tags::LEASE_UNTIL) else {
        return;
    };
    let until: u32 = until.parse().unwrap_or(0);
    if until.saturating_add(RENEWED) > kept_until(creation) {
        return;
    }
    let query = tags::put(
        std::slice::from_ref(&group.id),
        tags::LEASE_UNTIL,
        &kept_until(creation).to_string(),
    );
    if let Err(fault) = ec2.ask(&query, |_| Ok(())) {
        log(
            Level::Warn,
            &format!(
                "security group {} may be swept too early: {}",
                group.id,
                fault.text()
            ),
        );
    }
}
