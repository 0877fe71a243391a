//! Which image a machine boots: the one that is set, or the newest of a publisher's, looked up.

use crate::ec2::{Ec2, child, items, needed, text};
use crate::network::missing;
use crate::query::Query;
use crate::settings::{Publisher, Settings, wrong};
use roxmltree::Node;
use springtide_sdk::PluginError;
use std::collections::BTreeMap;

/// The root device of docker-machine's images.
const ROOT_DEVICE: &str = "/dev/sda1";

/// An image and its root device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) device: String,
}

/// An image of a publisher's.
#[derive(Clone, Debug)]
struct Found {
    id: String,
    name: String,
    device: String,
    created: String,
}

impl Publisher {
    /// The publisher's own account, in all regions that are not China's or a government's.
    fn account(self, region: &str) -> &'static str {
        let (world, china, government) = match self {
            Publisher::Ubuntu => ("099720109477", "837727238323", "513442679011"),
            Publisher::Debian => ("136693071363", "136693071363", "136693071363"),
        };
        match region {
            _ if region.starts_with("cn-") => china,
            _ if region.starts_with("us-gov-") => government,
            _ => world,
        }
    }

    /// What the names of its images look like.
    fn pattern(self, architecture: &str) -> String {
        let theirs = match architecture {
            "x86_64" => "amd64",
            other => other,
        };
        match self {
            Publisher::Ubuntu => {
                format!("ubuntu/images/hvm-ssd*/ubuntu-*-??.04-{theirs}-server-*")
            }
            Publisher::Debian => format!("debian-??-{theirs}-*"),
        }
    }

    /// The release an image is of, if it is one to use: an LTS of Ubuntu's, any of Debian's.
    fn release(self, name: &str) -> Option<u32> {
        let mut parts = name.split('-');
        match self {
            Publisher::Debian => parts.nth(1)?.parse().ok(),
            Publisher::Ubuntu => {
                let year: u32 = parts.find_map(|part| part.strip_suffix(".04")?.parse().ok())?;
                year.is_multiple_of(2).then_some(year)
            }
        }
    }
}

/// The image of each of these instance types.
pub(crate) fn of_types(
    ec2: &Ec2,
    settings: &Settings,
    types: &[String],
) -> Result<BTreeMap<String, Image>, PluginError> {
    if !settings.ami.is_empty() {
        let device = settings.device_name.as_deref().unwrap_or(ROOT_DEVICE);
        let image = Image {
            id: settings.ami.clone(),
            device: device.to_owned(),
        };
        return Ok(types
            .iter()
            .map(|one| (one.clone(), image.clone()))
            .collect());
    }
    let architectures = architectures(ec2, types)?;
    let mut newest: BTreeMap<&str, Image> = BTreeMap::new();
    let mut images = BTreeMap::new();
    for one in types {
        let architecture = architectures.get(one).ok_or_else(|| {
            wrong(&format!(
                "the instance type {one} is for no x86_64 or arm64 images: set amazonec2-ami"
            ))
        })?;
        let image = match newest.get(architecture.as_str()) {
            Some(image) => image.clone(),
            None => {
                let image = look_up(ec2, settings, architecture)?;
                newest.entry(architecture).or_insert(image).clone()
            }
        };
        images.insert(one.clone(), image);
    }
    Ok(images)
}

/// The architecture of each type.
fn architectures(ec2: &Ec2, types: &[String]) -> Result<BTreeMap<String, String>, PluginError> {
    let query = Query::new("DescribeInstanceTypes").with_all("InstanceType", types);
    let read = |node: Node| {
        let name = needed(node, "instanceType")?.to_owned();
        let processor = child(node, "processorInfo").ok_or("a type has no processorInfo")?;
        let all = items(processor, &["supportedArchitectures"]);
        let all: Vec<&str> = all.iter().filter_map(|node| node.text()).collect();
        let fits = ["x86_64", "arm64"]
            .into_iter()
            .find(|one| all.contains(one));
        Ok((name, fits.map(str::to_owned)))
    };
    let found = ec2.ask(&query, |root| {
        let types = items(root, &["instanceTypeSet"]);
        types
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>, String>>()
    });
    let found = found.map_err(|fault| missing(fault, "amazonec2-instance-type"))?;
    let fits = |(name, fits): (String, Option<String>)| Some((name, fits?));
    Ok(found.into_iter().filter_map(fits).collect())
}

fn look_up(ec2: &Ec2, settings: &Settings, architecture: &str) -> Result<Image, PluginError> {
    let publisher = settings.image;
    let account = publisher.account(&settings.region);
    let pattern = publisher.pattern(architecture);
    let query = Query::new("DescribeImages")
        .with("Owner.1", account)
        .filter("name", [&pattern])
        .filter("architecture", [architecture])
        .filter("state", ["available"])
        .filter("root-device-type", ["ebs"])
        .filter("virtualization-type", ["hvm"]);
    let read = |node: Node| {
        Ok(Found {
            id: needed(node, "imageId")?.to_owned(),
            name: text(node, "name").unwrap_or_default().to_owned(),
            device: text(node, "rootDeviceName")
                .unwrap_or(ROOT_DEVICE)
                .to_owned(),
            created: text(node, "creationDate").unwrap_or_default().to_owned(),
        })
    };
    let found = ec2.ask(&query, |root| {
        let images = items(root, &["imagesSet"]);
        images
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>, String>>()
    })?;
    let newest = newest(publisher, found).ok_or_else(|| {
        wrong(&format!(
            "the account {account} has no image {pattern:?} in {}: set amazonec2-ami",
            settings.region
        ))
    })?;
    Ok(Image {
        device: settings.device_name.clone().unwrap_or(newest.device),
        id: newest.id,
    })
}

/// The newest image of the newest release.
fn newest(publisher: Publisher, found: Vec<Found>) -> Option<Found> {
    let of_release = |image: Found| Some((publisher.release(&image.name)?, image));
    let found = found.into_iter().filter_map(of_release);
    let age = |(release, image): &(u32, Found)| (*release, image.created.clone(), image.id.clone());
    found.max_by_key(age).map(|(_, image)| image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(publisher: Publisher, images: &[(&str, &str)]) -> Option<String> {
        let image = |(name, created): &(&str, &str)| Found {
            id: format!("ami of {name}"),
            name: (*name).to_owned(),
            device: ROOT_DEVICE.into(),
            created: (*created).to_owned(),
        };
        newest(publisher, images.iter().map(image).collect()).map(|image| image.name)
    }

    #[test]
    fn the_newest_image_is_of_the_newest_lts_or_release_however_late_an_older_one_was_made() {
        let noble = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260201";
        let older = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260101";
        let jammy = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20260301";
        let interim = "ubuntu/images/hvm-ssd-gp3/ubuntu-plucky-25.04-amd64-server-20260301";
        let images = [
            (older, "2026-01-01T00:00:00.000Z"),
            (noble, "2026-02-01T00:00:00.000Z"),
            (jammy, "2026-03-01T00:00:00.000Z"),
            (interim, "2026-03-01T00:00:00.000Z"),
        ];
        assert_eq!(pick(Publisher::Ubuntu, &images).as_deref(), Some(noble));
        assert_eq!(pick(Publisher::Ubuntu, &images[3..]), None);
        let images = [
            ("debian-13-amd64-20260101-1", "2026-01-01T00:00:00.000Z"),
            ("debian-12-amd64-20260301-1", "2026-03-01T00:00:00.000Z"),
            (
                "debian-sid-amd64-daily-20260301-1",
                "2026-03-01T00:00:00.000Z",
            ),
        ];
        assert_eq!(
            pick(Publisher::Debian, &images).as_deref(),
            Some("debian-13-amd64-20260101-1")
        );
        assert_eq!(pick(Publisher::Debian, &[]), None);
    }
}
