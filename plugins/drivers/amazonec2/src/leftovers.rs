//! What machines left behind: volumes and network interfaces nothing uses, spot requests that are
//! still open, security groups of our making that no machine was made with for a week.

use crate::ec2::{Ec2, instant, needed, text};
use crate::fault::Fault;
use crate::instances::read_tags;
use crate::query::Query;
use crate::tags::{self, Tags};
use roxmltree::Node;
use springtide_sdk::{Leftover, PluginError};
use std::collections::BTreeSet;

fn leftover(id: &str, sort: &str, tags: &Tags, created: Option<&str>) -> Leftover {
    let owner = tags.get(tags::OWNER).map_or("", String::as_str);
    Leftover {
        id: id.to_owned(),
        sort: sort.into(),
        owner: owner.replace(char::is_control, " "),
        created_at: created.map_or(0, instant),
    }
}

/// All of it, of every owner.
pub(crate) fn list(ec2: &Ec2) -> Result<Vec<Leftover>, Fault> {
    let mut found = Vec::new();
    let marked = |action| Query::new(action).filter("tag-key", [tags::OWNER]);

    let query = marked("DescribeVolumes").filter("status", ["available", "error"]);
    found.extend(ec2.all(&query, &["volumeSet"], |node| {
        let id = needed(node, "volumeId")?;
        let created = text(node, "createTime");
        Ok(leftover(id, "volume", &read_tags(node), created))
    })?);

    let query = marked("DescribeNetworkInterfaces").filter("status", ["available"]);
    found.extend(ec2.all(&query, &["networkInterfaceSet"], |node| {
        let id = needed(node, "networkInterfaceId")?;
        Ok(leftover(id, "interface", &read_tags(node), None))
    })?);

    let query = marked("DescribeSpotInstanceRequests").filter("state", ["open"]);
    found.extend(ec2.all(&query, &["spotInstanceRequestSet"], |node| {
        let id = needed(node, "spotInstanceRequestId")?;
        let created = text(node, "createTime");
        Ok(leftover(id, "spot-request", &read_tags(node), created))
    })?);

    found.extend(groups(ec2)?);
    Ok(found)
}

/// Groups of our making whose last use is long ago by EC2's own clock, and that no interface has.
fn groups(ec2: &Ec2) -> Result<Vec<Leftover>, Fault> {
    let query = Query::new("DescribeSecurityGroups").filter("tag-key", [tags::OWNER]);
    let (all, now) = ec2.all_at(&query, &["securityGroupInfo"], |node| {
        Ok((needed(node, "groupId")?.to_owned(), read_tags(node)))
    })?;
    let Some(now) = now else {
        return Ok(Vec::new());
    };
    let is_past = |tags: &Tags| {
        let until = tags
            .get(tags::LEASE_UNTIL)
            .and_then(|text| text.parse().ok());
        until.is_some_and(|until: u32| until < now)
    };
    let old: Vec<_> = all.into_iter().filter(|(_, tags)| is_past(tags)).collect();
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let query = Query::new("DescribeNetworkInterfaces")
        .filter("group-id", old.iter().map(|(id, _)| id.as_str()));
    let used = ec2.all(&query, &["networkInterfaceSet"], |node| Ok(groups_of(node)))?;
    let used: BTreeSet<String> = used.into_iter().flatten().collect();
    let old = old.iter().filter(|(id, _)| !used.contains(id));
    Ok(old
        .map(|(id, tags)| leftover(id, "security-group", tags, None))
        .collect())
}

fn groups_of(interface: Node) -> Vec<String> {
    let groups = crate::ec2::items(interface, &["groupSet"]);
    let ids = groups
        .into_iter()
        .filter_map(|group| text(group, "groupId"));
    ids.map(str::to_owned).collect()
}

/// Removes one; what is gone already is.
pub(crate) fn destroy(ec2: &Ec2, id: &str) -> Result<(), PluginError> {
    let sort = id.split_once('-').map_or("", |(sort, _)| sort);
    let query = match sort {
        "vol" => Query::new("DeleteVolume").with("VolumeId", id),
        "eni" => Query::new("DeleteNetworkInterface").with("NetworkInterfaceId", id),
        "sg" => Query::new("DeleteSecurityGroup").with("GroupId", id),
        "sir" => Query::new("CancelSpotInstanceRequests").with("SpotInstanceRequestId.1", id),
        // EC2 gives no such id, so it has no such thing.
        _ => return Ok(()),
    };
    match ec2.ask(&query, |_| Ok(())) {
        Err(fault) if fault.is_gone() => Ok(()),
        done => done.map_err(PluginError::from),
    }
}
