//! How a machine is made: what is tried in which order, its user data, its security groups, its image.

use super::*;

#[test]
fn types_and_zones_are_tried_in_order_spot_first_each_with_a_token_of_its_own() {
    let text = r#"{"amazonec2-ami": "ami-1", "amazonec2-security-group": ["sg-12345678"],
        "amazonec2-instance-types": ["a.large,b.large"], "amazonec2-zones": ["b,a"],
        "amazonec2-request-spot-instance": true}"#;
    let subnet = |zone: &str, default: bool| {
        format!(
            "<item><subnetId>subnet-{zone}-{default}</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1{zone}</availabilityZone><defaultForAz>{default}</defaultForAz></item>"
        )
    };
    let subnets = [subnet("a", false), subnet("a", true), subnet("b", true)].concat();
    let short = || error(500, "InsufficientInstanceCapacity", "none");
    let mut answers = vec![
        listed("", ""),
        ok(
            "DescribeSubnets",
            &format!("<subnetSet>{subnets}</subnetSet>"),
        ),
        short(),
        error(400, "SpotMaxPriceTooLow", "dear"),
        short(),
        error(400, "MaxSpotInstanceCountExceeded", "enough"),
        error(400, "Unsupported", "not here"),
    ];
    answers.push(run("pending", ""));
    let fake = Fake::new(answers);
    AmazonEc2::create(&fake.host(), &context(text), &creation()).unwrap();
    let field = |form: &str, name: &str| {
        let line = form
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or("-").to_owned()
    };
    let names = [
        "ClientToken",
        "InstanceType",
        "NetworkInterface.1.SubnetId",
        "InstanceMarketOptions.SpotOptions.MaxPrice",
    ];
    let tried: Vec<String> = fake.asked()[2..]
        .iter()
        .map(|form| names.map(|name| field(form, name)).join(" "))
        .collect();
    insta::assert_snapshot!(tried.join("\n"), @r"
    t1-0 a.large subnet-b-true 0.50
    t1-1 a.large subnet-a-true 0.50
    t1-2 b.large subnet-b-true 0.50
    t1-3 b.large subnet-a-true 0.50
    t1-4 a.large subnet-b-true -
    t1-5 a.large subnet-a-true -
    ");
}

#[test]
fn a_try_that_succeeded_while_its_answer_was_lost_is_found_by_its_token() {
    let text = SET.replace("{", r#"{"amazonec2-instance-types": ["a.large,b.large"], "#);
    let fake = Fake::new([listed(&instance("i-1", "running", ""), "")]);
    let machine = AmazonEc2::create(&fake.host(), &context(&text), &creation()).unwrap();
    assert_eq!(machine.id, "i-1");
    assert_eq!(fake.actions(), ["DescribeInstances"]);

    let again = error(400, "IdempotentParameterMismatch", "other words");
    let fake = Fake::new([again.clone(), listed(&instance("i-1", "running", ""), "")]);
    let machine = AmazonEc2::create(&fake.host(), &context(SET), &creation()).unwrap();
    assert_eq!(machine.id, "i-1");
    let fake = Fake::new([again, listed("", "")]);
    let failed = AmazonEc2::create(&fake.host(), &context(SET), &creation());
    assert!(
        matches!(failed, Err(PluginError::Transient(_))),
        "{failed:?}"
    );
}

#[test]
fn what_stops_a_launch_is_the_error_the_host_acts_on() {
    let over = |code: &str| {
        let reason =
            format!("<stateReason><code>{code}</code><message>why</message></stateReason>");
        run("terminated", &reason)
    };
    let cases = [
        (
            "capacity",
            error(500, "InsufficientInstanceCapacity", "none"),
        ),
        ("quota", error(400, "VcpuLimitExceeded", "enough")),
        ("throttled", error(503, "RequestLimitExceeded", "slow down")),
        ("denied", error(403, "UnauthorizedOperation", "no")),
        (
            "invalid-config",
            error(400, "InvalidAMIID.NotFound", "no image"),
        ),
        ("invalid-config", error(400, "InvalidParameterValue", "no")),
        ("transient", error(500, "InternalError", "oh")),
        ("transient", answer(502, "<html>Bad Gateway</html>")),
        ("permanent", error(400, "OperationNotPermitted", "no")),
        ("capacity", over("Server.InsufficientInstanceCapacity")),
        ("quota", over("Client.VolumeLimitExceeded")),
        ("permanent", over("Client.UserInitiatedShutdown")),
    ];
    for (index, (wanted, answer)) in cases.into_iter().enumerate() {
        let fake = Fake::new([answer]);
        let failed = AmazonEc2::create(&fake.host(), &context(SET), &creation()).unwrap_err();
        let sort = match &failed {
            PluginError::Capacity(_) => "capacity",
            PluginError::Quota(_) => "quota",
            PluginError::Throttled(5_000) => "throttled",
            PluginError::Denied(_) => "denied",
            PluginError::InvalidConfig(_) => "invalid-config",
            PluginError::Transient(_) => "transient",
            PluginError::Permanent(_) => "permanent",
            other => panic!("case {index}: {other:?}"),
        };
        assert_eq!(sort, wanted, "case {index}: {failed:?}");
    }
}

#[test]
fn user_data_that_ec2_would_refuse_is_refused_before_anything_is_made() {
    let creation = Creation {
        user_data: Some("x".repeat(16_385)),
        ..creation()
    };
    let failed = AmazonEc2::create(&Fake::new([]).host(), &context(SET), &creation);
    assert!(
        matches!(failed, Err(PluginError::InvalidConfig(_))),
        "{failed:?}"
    );
}

#[test]
fn a_key_alone_is_user_data_too() {
    let creation = Creation {
        ssh_key: Some("ssh-ed25519 AAAA ci\n".into()),
        ..creation()
    };
    let fake = Fake::new([run("pending", "")]);
    AmazonEc2::create(&fake.host(), &context(SET), &creation).unwrap();
    let wanted =
        STANDARD.encode("#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA ci\"\n");
    let wanted = format!("UserData={}", wanted.replace('=', "%3D"));
    assert!(
        fake.asked()[0].lines().any(|line| line == wanted),
        "{}",
        fake.asked()[0]
    );
}

const SUBNET: &str = "<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1a</availabilityZone></item></subnetSet>";

fn group(rules: &str, tags: &str) -> String {
    format!(
        "<securityGroupInfo><item><groupId>sg-1</groupId><groupName>docker-machine</groupName><ipPermissions>{rules}</ipPermissions><tagSet>{tags}</tagSet></item></securityGroupInfo>"
    )
}

const SSH_RULE: &str =
    "<item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort></item>";

#[test]
fn a_security_group_that_is_missing_is_made_with_its_rule() {
    let text = r#"{"amazonec2-ami": "ami-1", "amazonec2-open-port": ["8080"]}"#;
    let fake = Fake::new([
        ok("DescribeSubnets", SUBNET),
        ok("DescribeSecurityGroups", "<securityGroupInfo/>"),
        ok(
            "CreateSecurityGroup",
            "<return>true</return><groupId>sg-9</groupId>",
        ),
        ok("AuthorizeSecurityGroupIngress", "<return>true</return>"),
        run("pending", ""),
    ]);
    AmazonEc2::create(&fake.host(), &context(text), &creation()).unwrap();
    let asked = fake.asked();
    insta::assert_snapshot!(asked[1..4].join("\n\n"), @r"
    Action=DescribeSecurityGroups
    Filter.1.Name=group-name
    Filter.1.Value.1=docker-machine
    Filter.2.Name=vpc-id
    Filter.2.Value.1=vpc-1
    MaxResults=500

    Action=CreateSecurityGroup
    GroupName=docker-machine
    GroupDescription=Machines%20for%20CI%20jobs
    VpcId=vpc-1
    TagSpecification.1.ResourceType=security-group
    TagSpecification.1.Tag.1.Key=springtide%3Alease-until
    TagSpecification.1.Tag.1.Value=605800
    TagSpecification.1.Tag.2.Key=springtide%3Amanager
    TagSpecification.1.Tag.2.Value=host
    TagSpecification.1.Tag.3.Key=springtide%3Aowner
    TagSpecification.1.Tag.3.Value=owner

    Action=AuthorizeSecurityGroupIngress
    GroupId=sg-9
    IpPermissions.1.IpProtocol=tcp
    IpPermissions.1.FromPort=22
    IpPermissions.1.ToPort=22
    IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0
    IpPermissions.2.IpProtocol=tcp
    IpPermissions.2.FromPort=8080
    IpPermissions.2.ToPort=8080
    IpPermissions.2.IpRanges.1.CidrIp=0.0.0.0%2F0
    ");
    assert!(
        asked[4].contains("NetworkInterface.1.SecurityGroupId.1=sg-9"),
        "{}",
        asked[4]
    );

    let readonly = text.replace("{", r#"{"amazonec2-security-group-readonly": true, "#);
    let fake = Fake::new([
        ok("DescribeSubnets", SUBNET),
        ok("DescribeSecurityGroups", "<securityGroupInfo/>"),
    ]);
    let failed = AmazonEc2::create(&fake.host(), &context(&readonly), &creation());
    assert!(
        matches!(failed, Err(PluginError::InvalidConfig(_))),
        "{failed:?}"
    );
}

#[test]
fn a_group_that_is_there_gets_what_it_lacks_and_no_more() {
    let text = r#"{"amazonec2-ami": "ami-1"}"#;
    let wide = "<item><ipProtocol>-1</ipProtocol></item>";
    let other = SSH_RULE.replace("22", "2376");
    let fresh = "<item><key>springtide:lease-until</key><value>605800</value></item>";
    let stale = "<item><key>springtide:lease-until</key><value>1000</value></item>";
    for (rules, tags, between) in [
        (SSH_RULE, "", &[][..]),
        (wide, fresh, &[]),
        (SSH_RULE, stale, &["CreateTags"]),
        (&other, "", &["AuthorizeSecurityGroupIngress"]),
    ] {
        let mut answers = vec![
            ok("DescribeSubnets", SUBNET),
            ok("DescribeSecurityGroups", &group(rules, tags)),
        ];
        answers.extend(between.iter().map(|action| ok(action, "")));
        answers.push(run("pending", ""));
        let fake = Fake::new(answers);
        AmazonEc2::create(&fake.host(), &context(text), &creation()).unwrap();
        assert_eq!(
            fake.actions()[2..fake.actions().len() - 1],
            *between,
            "{rules} {tags}"
        );
    }
}

#[test]
fn two_calls_that_make_a_group_at_once_end_with_one() {
    let text = r#"{"amazonec2-ami": "ami-1"}"#;
    let fake = Fake::new([
        ok("DescribeSubnets", SUBNET),
        ok("DescribeSecurityGroups", "<securityGroupInfo/>"),
        error(400, "InvalidGroup.Duplicate", "there"),
        ok("DescribeSecurityGroups", &group("", "")),
        error(400, "InvalidPermission.Duplicate", "there"),
        run("pending", ""),
    ]);
    AmazonEc2::create(&fake.host(), &context(text), &creation()).unwrap();
}

#[test]
fn the_image_is_looked_up_for_the_types_architecture() {
    let text = r#"{"amazonec2-instance-type": "m7g.large", "amazonec2-image": "debian",
        "amazonec2-subnet-id": "subnet-1", "amazonec2-security-group": ["sg-12345678"]}"#;
    let types = "<instanceTypeSet><item><instanceType>m7g.large</instanceType><processorInfo><supportedArchitectures><item>arm64</item></supportedArchitectures></processorInfo></item></instanceTypeSet>";
    let image = |id: &str, name: &str| {
        format!(
            "<item><imageId>{id}</imageId><name>{name}</name><rootDeviceName>/dev/xvda</rootDeviceName><creationDate>2026-01-01T00:00:00.000Z</creationDate></item>"
        )
    };
    let images = image("ami-12", "debian-12-arm64-20260101-1")
        + &image("ami-13", "debian-13-arm64-20260101-1");
    let fake = Fake::new([
        ok("DescribeInstanceTypes", types),
        ok(
            "DescribeImages",
            &format!("<imagesSet>{images}</imagesSet>"),
        ),
        run("pending", ""),
    ]);
    AmazonEc2::create(&fake.host(), &context(text), &creation()).unwrap();
    let asked = fake.asked();
    assert!(asked[1].contains("Owner.1=136693071363"), "{}", asked[1]);
    assert!(asked[1].contains("debian-%3F%3F-arm64-%2A"), "{}", asked[1]);
    assert!(asked[2].contains("ImageId=ami-13\n"), "{}", asked[2]);
    assert!(
        asked[2].contains("DeviceName=%2Fdev%2Fxvda\n"),
        "{}",
        asked[2]
    );
}
