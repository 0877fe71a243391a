//! Making an instance: one request that carries all of it, tried where capacity may be.

use crate::ec2::{Ec2, items};
use crate::fault::{Fault, Told};
use crate::images::{self, Image};
use crate::instances::{self, Instance};
use crate::network::{self, Groups, Subnet, missing};
use crate::query::Query;
use crate::settings::{Settings, wrong};
use crate::tags::{self, Tags};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use springtide_sdk::{Creation, Level, Machine, PluginError, log};

/// Bytes of user data that EC2 takes.
const USER_DATA: usize = 16_384;

/// All that a launch consists of, and that carries the machine's tags.
const TAGGED: [&str; 3] = ["instance", "volume", "network-interface"];

/// One try: a type, a place and a market.
#[derive(Clone, Copy, Debug)]
struct Try<'a> {
    /// Which of all tries it is: each has a token of its own.
    number: usize,
    instance_type: &'a str,
    subnet: &'a Subnet,
    spot: bool,
}

/// Makes the machine of a token, or finds the one it made before.
pub(crate) fn create(
    ec2: &Ec2,
    settings: &Settings,
    creation: &Creation,
) -> Result<Machine, PluginError> {
    let tags = tags::of_machine(settings, creation)?;
    let user_data = user_data(creation)?;
    let types = settings.instance_types();
    // Where several tries may be made, the one that succeeded while its answer was lost need not be
    // the first one now. With a single one, EC2 knows the token.
    let is_single = types.len() == 1
        && settings.zones().len() == 1
        && (settings.spot_only || !settings.request_spot_instance);
    if !is_single && let Some(found) = instances::by_token(ec2, &creation.owner, &creation.token)? {
        return Ok(found.machine(settings, false));
    }
    let subnets = network::subnets(ec2, settings)?;
    let Some(first) = subnets.first() else {
        return Err(wrong("there is no subnet: set amazonec2-subnet-id"));
    };
    let groups = network::groups(ec2, settings, creation, first)?;
    let images = images::of_types(ec2, settings, &types)?;

    let mut short = Vec::new();
    let mut spot_is_over = false;
    for one in tries(settings, &types, &subnets) {
        if one.spot && spot_is_over {
            continue;
        }
        let Some(image) = images.get(one.instance_type) else {
            continue;
        };
        let query = run(settings, creation, one, image, &groups, &tags, &user_data);
        let fault = match ec2.ask(&query, |root| {
            let made = items(root, &["instancesSet"]);
            let made = made.into_iter().next().ok_or("it holds no instance")?;
            Instance::read(made)
        }) {
            Ok(made) => return begun(&made, settings),
            Err(fault) => fault,
        };
        let told = fault.told();
        if told.is_some_and(|told| told.is_short() || (one.spot && told.is_spot_quota())) {
            spot_is_over |= told.is_some_and(|told| one.spot && told.is_spot_quota());
            log(
                Level::Info,
                &format!("{}: {}", one.describe(), fault.text()),
            );
            short.push((one.describe(), fault));
            continue;
        }
        return refused(ec2, settings, creation, &groups, fault);
    }
    Err(nowhere(short))
}

impl Try<'_> {
    fn describe(&self) -> String {
        let market = if self.spot { "spot" } else { "on-demand" };
        let place = match self.subnet.zone.as_str() {
            "" => &self.subnet.id,
            zone => zone,
        };
        format!("{} in {place}, {market}", self.instance_type)
    }
}

/// All tries, in order: every type in every zone by spot first, where that is wanted.
fn tries<'a>(settings: &Settings, types: &'a [String], subnets: &'a [Subnet]) -> Vec<Try<'a>> {
    let markets: &[bool] = match (settings.request_spot_instance, settings.spot_only) {
        (true, true) => &[true],
        (true, false) => &[true, false],
        (false, _) => &[false],
    };
    let places = types
        .iter()
        .flat_map(|one| subnets.iter().map(move |subnet| (one, subnet)));
    let places: Vec<_> = places.collect();
    let all = markets
        .iter()
        .flat_map(|spot| places.iter().map(move |place| (*spot, *place)));
    all.enumerate()
        .map(|(number, (spot, (instance_type, subnet)))| Try {
            number,
            instance_type,
            subnet,
            spot,
        })
        .collect()
}

/// User data as EC2 takes it.
fn user_data(creation: &Creation) -> Result<Option<String>, PluginError> {
    // The host writes the key into the user data; where it has none, the key alone is it.
    let key = creation.ssh_key.as_ref().map(|key| {
        let key = serde_json::Value::from(key.trim());
        format!("#cloud-config\nssh_authorized_keys:\n  - {key}\n")
    });
    let Some(text) = creation.user_data.clone().or(key) else {
        return Ok(None);
    };
    if text.len() > USER_DATA {
        return Err(wrong(&format!(
            "the user data has {} bytes, and EC2 takes {USER_DATA}: shorten first_boot or amazonec2-userdata, or have them fetch the rest",
            text.len()
        )));
    }
    Ok(Some(STANDARD.encode(text)))
}

/// The one request.
fn run(
    settings: &Settings,
    creation: &Creation,
    one: Try,
    image: &Image,
    groups: &Groups,
    tags: &Tags,
    user_data: &Option<String>,
) -> Query {
    let yes = |is: bool| is.then_some("true");
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let profile = match settings.iam_instance_profile.starts_with("arn:") {
        true => "IamInstanceProfile.Arn",
        false => "IamInstanceProfile.Name",
    };
    let hops = settings.metadata_hop_limit;
    let interface = "NetworkInterface.1";
    let disk = "BlockDeviceMapping.1";
    let query = Query::new("RunInstances")
        .with("ClientToken", format!("{}-{}", creation.token, one.number))
        .with("MinCount", "1")
        .with("MaxCount", "1")
        .with("ImageId", &image.id)
        .with("InstanceType", one.instance_type)
        // A machine that powers itself off is gone, with its disk: nobody else has to be alive.
        .with("InstanceInitiatedShutdownBehavior", "terminate")
        .with_some("KeyName", set(&settings.keypair_name))
        .with_some("UserData", user_data.as_ref())
        .with_some("Monitoring.Enabled", yes(settings.monitoring))
        .with_some("EbsOptimized", yes(settings.ebs_optimized))
        .with_some(profile, set(&settings.iam_instance_profile))
        .with_some("MetadataOptions.HttpTokens", set(&settings.metadata_token))
        .with_some(
            "MetadataOptions.HttpPutResponseHopLimit",
            (hops > 0).then(|| hops.to_string()),
        )
        .with(format!("{interface}.DeviceIndex"), "0")
        .with(format!("{interface}.SubnetId"), &one.subnet.id)
        .with(
            format!("{interface}.AssociatePublicIpAddress"),
            (!settings.private_address_only).to_string(),
        )
        .with(format!("{interface}.DeleteOnTermination"), "true")
        .with_all(&format!("{interface}.SecurityGroupId"), &groups.ids)
        .with(format!("{disk}.DeviceName"), &image.device)
        .with(
            format!("{disk}.Ebs.VolumeSize"),
            settings.root_size.to_string(),
        )
        .with(format!("{disk}.Ebs.VolumeType"), &settings.volume_type)
        .with(format!("{disk}.Ebs.DeleteOnTermination"), "true")
        .with_some(
            &format!("{disk}.Ebs.Encrypted"),
            yes(settings.volume_encrypted),
        )
        .with_some(
            &format!("{disk}.Ebs.KmsKeyId"),
            set(&settings.volume_kms_key),
        );
    if !one.spot {
        return tags::with(query, &TAGGED, tags);
    }
    let market = "InstanceMarketOptions";
    let query = query
        .with(format!("{market}.MarketType"), "spot")
        // A request for one instance ends with it: there is nothing to cancel.
        .with(format!("{market}.SpotOptions.SpotInstanceType"), "one-time")
        .with(
            format!("{market}.SpotOptions.InstanceInterruptionBehavior"),
            "terminate",
        )
        .with_some(
            &format!("{market}.SpotOptions.MaxPrice"),
            set(&settings.spot_price),
        );
    let [instance, volume, interface] = TAGGED;
    tags::with(
        query,
        &[instance, volume, interface, "spot-instances-request"],
        tags,
    )
}

/// The machine that was made; one that a repeated call finds over already is a failure.
fn begun(made: &Instance, settings: &Settings) -> Result<Machine, PluginError> {
    if !made.is_ending() {
        return Ok(made.machine(settings, false));
    }
    let code = made
        .reason_code
        .split_once('.')
        .map_or("Ended", |(_, code)| code);
    let ended = Told {
        action: "RunInstances",
        status: 400,
        code: code.to_owned(),
        message: format!(
            "{} was made for this machine and is {}: {}",
            made.id, made.state, made.reason
        ),
        retry_after: None,
    };
    Err(Fault::Told(ended).into())
}

/// What a refusal means. One of them is none: the token's machine is there, asked for in other words,
/// for its lease or the newest image have changed since.
fn refused(
    ec2: &Ec2,
    settings: &Settings,
    creation: &Creation,
    groups: &Groups,
    fault: Fault,
) -> Result<Machine, PluginError> {
    if fault.has_code("IdempotentParameterMismatch") {
        let found = instances::by_token(ec2, &creation.owner, &creation.token)?;
        return found.map(|found| found.machine(settings, false)).ok_or_else(|| {
            PluginError::Transient(format!(
                "RunInstances was answered before for the token {}, and EC2 does not show that machine yet",
                creation.token
            ))
        });
    }
    if groups.fresh && fault.has_code("InvalidGroup.NotFound") {
        return Err(PluginError::Transient(
            "RunInstances: the security group was made just now, and EC2 does not know it everywhere yet".into(),
        ));
    }
    Err(missing(fault, "what the options name"))
}

/// All tries were short of capacity. The account's spot quota alone is a quota.
fn nowhere(short: Vec<(String, Fault)>) -> PluginError {
    let count = short.len();
    let is_capacity = short
        .iter()
        .any(|(_, fault)| fault.told().is_some_and(Told::is_short));
    let Some((last, fault)) = short.into_iter().next_back() else {
        return wrong("there is no instance type to try: set amazonec2-instance-type");
    };
    let error = PluginError::from(fault);
    let text = match &error {
        PluginError::Capacity(text) | PluginError::Quota(text) => text,
        _ => return error,
    };
    let text = match count {
        1 => format!("{last}: {text}"),
        _ => format!(
            "none of {count} types, zones and markets has capacity; the last was {last}: {text}"
        ),
    };
    match is_capacity {
        true => PluginError::Capacity(text),
        false => PluginError::Quota(text),
    }
}
