mod making;

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use springtide_sdk::driver::{Http, HttpError, Request as Sent, Response};
use springtide_sdk::testing::context;
use springtide_sdk::{KeyValue, MachineState, Reach};
use std::cell::RefCell;
use std::collections::VecDeque;

/// An EC2 that gives these answers, one a request, and keeps what it was asked.
struct Fake {
    answers: RefCell<VecDeque<Result<Response, HttpError>>>,
    asked: RefCell<Vec<Sent>>,
}

impl Fake {
    fn new(answers: impl IntoIterator<Item = Result<Response, HttpError>>) -> Fake {
        Fake {
            answers: RefCell::new(answers.into_iter().collect()),
            asked: RefCell::default(),
        }
    }

    fn host(&self) -> Host<'_> {
        Host {
            http: self,
            ..Host::refusing()
        }
    }

    /// The requests, each as its form a parameter a line, without the version.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let form = |sent: &Sent| String::from_utf8_lossy(&sent.body).replace('&', "\n");
        asked
            .iter()
            .map(|sent| form(sent).replace("\nVersion=2016-11-15", ""))
            .collect()
    }

    fn actions(&self) -> Vec<String> {
        let first = |form: String| {
            form.lines()
                .next()
                .unwrap_or_default()
                .replace("Action=", "")
        };
        self.asked().into_iter().map(first).collect()
    }
}

impl Http for Fake {
    fn send(&self, request: &Sent) -> Result<Response, HttpError> {
        self.asked.borrow_mut().push(request.clone());
        let answer = self.answers.borrow_mut().pop_front();
        answer.unwrap_or_else(|| panic!("it asked once more: {:?}", self.asked().last()))
    }
}

fn answer(status: u16, body: &str) -> Result<Response, HttpError> {
    Ok(Response {
        status,
        headers: vec![KeyValue {
            key: "date".into(),
            value: "Mon, 02 Mar 2026 09:00:00 GMT".into(),
        }],
        body: body.into(),
    })
}

fn ok(action: &str, inner: &str) -> Result<Response, HttpError> {
    answer(
        200,
        &format!(
            "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>{inner}</{action}Response>"
        ),
    )
}

fn error(status: u16, code: &str, message: &str) -> Result<Response, HttpError> {
    answer(
        status,
        &format!(
            "<?xml version=\"1.0\"?><Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
        ),
    )
}

fn instance(id: &str, state: &str, more: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><imageId>ami-1</imageId><instanceState><code>0</code><name>{state}</name></instanceState>\
         <instanceType>m6i.large</instanceType><launchTime>2026-03-02T09:00:00.000Z</launchTime>\
         <placement><availabilityZone>us-east-1a</availabilityZone></placement>\
         <privateIpAddress>10.0.0.5</privateIpAddress>{more}\
         <tagSet><item><key>Name</key><value>ci-1</value></item>\
         <item><key>springtide:owner</key><value>owner</value></item>\
         <item><key>springtide:pool</key><value>pool</value></item>\
         <item><key>springtide:token</key><value>t1</value></item>\
         <item><key>springtide:lease-until</key><value>1000</value></item></tagSet></item>"
    )
}

fn listed(instances: &str, next: &str) -> Result<Response, HttpError> {
    ok(
        "DescribeInstances",
        &format!(
            "<reservationSet><item><instancesSet>{instances}</instancesSet></item></reservationSet>{next}"
        ),
    )
}

fn run(state: &str, more: &str) -> Result<Response, HttpError> {
    let made = instance("i-1", state, more);
    ok(
        "RunInstances",
        &format!("<instancesSet>{made}</instancesSet>"),
    )
}

pub(crate) fn creation() -> Creation {
    Creation {
        token: "t1".into(),
        name: "ci-1".into(),
        owner: "owner".into(),
        pool: "pool".into(),
        manager: "host".into(),
        lease_until: 1000,
        user_data: None,
        ssh_key: None,
        labels: Vec::new(),
    }
}

/// All that would have to be looked up is set.
const SET: &str = r#"{"amazonec2-ami": "ami-1", "amazonec2-subnet-id": "subnet-1", "amazonec2-security-group": ["sg-12345678"]}"#;

#[test]
fn a_machine_is_made_by_one_request_that_carries_all_of_it() {
    let fake = Fake::new([run("pending", "")]);
    let creation = Creation {
        user_data: Some("#cloud-config\n".into()),
        ..creation()
    };
    let machine = AmazonEc2::create(&fake.host(), &context(SET), &creation).unwrap();
    assert_eq!(machine.state, MachineState::Running);
    assert_eq!(machine.reach, None, "it has no public address yet");
    assert_eq!(machine.created_at, 1_772_442_000);
    let sent = &fake.asked.borrow()[0];
    assert_eq!(sent.credential.as_deref(), Some("aws/ec2/us-east-1"));
    assert_eq!(sent.url, "https://ec2.us-east-1.amazonaws.com/");
    let form = fake.asked().remove(0);
    let (parameters, tags) = form.split_once("\nTagSpecification.").unwrap();
    insta::assert_snapshot!(parameters, @r"
    Action=RunInstances
    ClientToken=t1-0
    MinCount=1
    MaxCount=1
    ImageId=ami-1
    InstanceType=t2.micro
    InstanceInitiatedShutdownBehavior=terminate
    UserData=I2Nsb3VkLWNvbmZpZwo%3D
    NetworkInterface.1.DeviceIndex=0
    NetworkInterface.1.SubnetId=subnet-1
    NetworkInterface.1.AssociatePublicIpAddress=true
    NetworkInterface.1.DeleteOnTermination=true
    NetworkInterface.1.SecurityGroupId.1=sg-12345678
    BlockDeviceMapping.1.DeviceName=%2Fdev%2Fsda1
    BlockDeviceMapping.1.Ebs.VolumeSize=16
    BlockDeviceMapping.1.Ebs.VolumeType=gp2
    BlockDeviceMapping.1.Ebs.DeleteOnTermination=true
    ");
    let (instance, others) = tags.split_once("\nTagSpecification.2").unwrap();
    insta::assert_snapshot!(instance, @r"
    1.ResourceType=instance
    TagSpecification.1.Tag.1.Key=Name
    TagSpecification.1.Tag.1.Value=ci-1
    TagSpecification.1.Tag.2.Key=springtide%3Alease-until
    TagSpecification.1.Tag.2.Value=1000
    TagSpecification.1.Tag.3.Key=springtide%3Amanager
    TagSpecification.1.Tag.3.Value=host
    TagSpecification.1.Tag.4.Key=springtide%3Aowner
    TagSpecification.1.Tag.4.Value=owner
    TagSpecification.1.Tag.5.Key=springtide%3Apool
    TagSpecification.1.Tag.5.Value=pool
    TagSpecification.1.Tag.6.Key=springtide%3Atoken
    TagSpecification.1.Tag.6.Value=t1
    ");
    for sort in ["volume", "network-interface"] {
        assert!(
            others.contains(&format!("ResourceType={sort}\n")),
            "{others}"
        );
    }
    assert_eq!(others.matches("springtide%3Aowner").count(), 2);
}

#[test]
fn a_machine_that_runs_is_reached_at_the_address_that_was_asked_for() {
    let public = "<ipAddress>203.0.113.7</ipAddress>";
    for (text, host) in [
        (r#"{"amazonec2-ssh-port": 2222}"#, "203.0.113.7"),
        (
            r#"{"amazonec2-ssh-port": 2222, "amazonec2-use-private-address": true}"#,
            "10.0.0.5",
        ),
        (
            r#"{"amazonec2-ssh-port": 2222, "amazonec2-private-address-only": true}"#,
            "10.0.0.5",
        ),
    ] {
        let fake = Fake::new([listed(&instance("i-1", "running", public), "")]);
        let machine = AmazonEc2::get(&fake.host(), &context(text), "i-1").unwrap();
        let Some(Reach::Ssh(address)) = machine.reach else {
            panic!("{text}: {machine:?}");
        };
        assert_eq!(
            (address.host.as_str(), address.port),
            (host, 2222),
            "{text}"
        );
        assert_eq!(address.user, "ubuntu");
    }
}

#[test]
fn each_state_of_ec2s_is_one_of_the_contracts() {
    let reason =
        |code: &str| format!("<stateReason><code>{code}</code><message>m</message></stateReason>");
    let states = [
        ("pending", "", MachineState::Running),
        ("running", "", MachineState::Running),
        ("stopping", "", MachineState::Stopped),
        (
            "stopped",
            "Client.UserInitiatedShutdown",
            MachineState::Stopped,
        ),
        (
            "shutting-down",
            "Client.UserInitiatedShutdown",
            MachineState::Removing,
        ),
        (
            "shutting-down",
            "Server.SpotInstanceTermination",
            MachineState::Interrupted,
        ),
        ("dreaming", "", MachineState::Unknown),
    ];
    let all: String = states
        .iter()
        .enumerate()
        .map(|(at, (state, code, _))| instance(&format!("i-{at}"), state, &reason(code)))
        .collect();
    let fake = Fake::new([listed(&(all + &instance("i-9", "terminated", "")), "")]);
    let machines = AmazonEc2::list_machines(&fake.host(), &context("{}")).unwrap();
    assert_eq!(machines.len(), states.len(), "one that is over is none");
    for (at, (state, _, wanted)) in states.iter().enumerate() {
        let id = format!("i-{at}");
        let machine = machines.iter().find(|machine| machine.id == id).unwrap();
        assert_eq!(machine.state, *wanted, "{state}");
    }
}

#[test]
fn a_spot_instance_that_ec2_will_take_back_is_interrupted() {
    let spot = |id: &str, request: &str| {
        let more = format!(
            "<instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>{request}</spotInstanceRequestId>"
        );
        instance(id, "running", &more)
    };
    let marked = "<spotInstanceRequestSet><item><spotInstanceRequestId>sir-2</spotInstanceRequestId></item></spotInstanceRequestSet>";
    let fake = Fake::new([
        listed(&(spot("i-1", "sir-1") + &spot("i-2", "sir-2")), ""),
        ok("DescribeSpotInstanceRequests", marked),
    ]);
    let machines = AmazonEc2::list_machines(&fake.host(), &context("{}")).unwrap();
    let states: Vec<_> = machines.iter().map(|machine| machine.state).collect();
    assert_eq!(states, [MachineState::Running, MachineState::Interrupted]);
    assert_eq!(machines[0].token, "t1");
    assert_eq!(
        machines[1].token, "",
        "a second machine of one token is nobody's"
    );
}

#[test]
fn a_list_is_every_page_or_none() {
    let one = |id: &str| instance(id, "running", "").replace("t1", id);
    let fake = Fake::new([
        listed(&one("i-1"), "<nextToken>more</nextToken>"),
        listed(&(one("i-1") + &one("i-2")), ""),
    ]);
    let machines = AmazonEc2::list_machines(&fake.host(), &context("{}")).unwrap();
    let ids: Vec<_> = machines.iter().map(|machine| machine.id.as_str()).collect();
    assert_eq!(ids, ["i-1", "i-2"]);
    assert!(fake.asked()[1].ends_with("MaxResults=500\nNextToken=more"));

    let fake = Fake::new([
        listed(&one("i-1"), "<nextToken>more</nextToken>"),
        error(500, "InternalError", ""),
    ]);
    let failed = AmazonEc2::list_machines(&fake.host(), &context("{}"));
    assert!(
        matches!(failed, Err(PluginError::Transient(_))),
        "{failed:?}"
    );

    let fake = Fake::new([
        listed(&one("i-1"), "<nextToken>more</nextToken>"),
        Err(HttpError::TooLarge),
        listed(&one("i-1"), ""),
    ]);
    let machines = AmazonEc2::list_machines(&fake.host(), &context("{}")).unwrap();
    assert_eq!(machines.len(), 1, "it began again with shorter pages");
    assert!(fake.asked()[2].ends_with("MaxResults=125"));

    let fake = Fake::new([ok("DescribeInstances", "<reservationSet/>")]);
    assert_eq!(
        AmazonEc2::list_machines(&fake.host(), &context("{}")),
        Ok(Vec::new())
    );
}

#[test]
fn an_answer_that_is_no_answer_is_tried_again_and_opens_no_entity() {
    let whole = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><DescribeInstancesResponse>&b;</DescribeInstancesResponse>";
    let deep = "<a>".repeat(20_000);
    for body in ["", "no XML", &whole[..40], bomb, "<Other/>", &deep] {
        let fake = Fake::new([answer(200, body)]);
        let failed = AmazonEc2::list_machines(&fake.host(), &context("{}"));
        let Err(PluginError::Transient(why)) = failed else {
            panic!("{body:.40}: {failed:?}");
        };
        assert!(
            why.contains("DescribeInstances") && why.len() < 500,
            "{why}"
        );
    }
}

#[test]
fn what_the_host_refuses_or_can_not_reach_is_said_so() {
    let denied = |why: &str| Err(HttpError::Denied(why.into()));
    let fake = Fake::new([denied("the origin is not granted")]);
    let failed = AmazonEc2::destroy(&fake.host(), &context("{}"), "i-1");
    assert!(
        matches!(&failed, Err(PluginError::Denied(why)) if why.contains("not granted")),
        "{failed:?}"
    );
    for gone in [HttpError::TimedOut, HttpError::Failed("reset".into())] {
        let fake = Fake::new([Err(gone)]);
        let failed = AmazonEc2::destroy(&fake.host(), &context("{}"), "i-1");
        assert!(
            matches!(failed, Err(PluginError::Transient(_))),
            "{failed:?}"
        );
    }
}

#[test]
fn what_is_gone_is_removed() {
    for gone in ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"] {
        let fake = Fake::new([error(400, gone, "gone"), error(400, gone, "gone")]);
        assert_eq!(
            AmazonEc2::destroy(&fake.host(), &context("{}"), "i-1"),
            Ok(())
        );
        let failed = AmazonEc2::get(&fake.host(), &context("{}"), "i-1");
        assert!(
            matches!(failed, Err(PluginError::NotFound(_))),
            "{failed:?}"
        );
    }
    let fake = Fake::new([error(403, "UnauthorizedOperation", "no")]);
    let failed = AmazonEc2::destroy(&fake.host(), &context("{}"), "i-1");
    assert!(
        matches!(&failed, Err(PluginError::Denied(why)) if why.contains("docs/iam.md")),
        "{failed:?}"
    );
}

#[test]
fn leases_are_written_in_batches_and_pass_over_what_is_gone() {
    let ids = |from, to| (from..to).map(|at| format!("i-{at}")).collect::<Vec<_>>();
    let fake = Fake::new([ok("CreateTags", ""), ok("CreateTags", "")]);
    AmazonEc2::renew_leases(&fake.host(), &context("{}"), &ids(0, 501), 2000).unwrap();
    assert!(
        fake.asked()[1]
            .contains("ResourceId.1=i-500\nTag.1.Key=springtide%3Alease-until\nTag.1.Value=2000")
    );

    let gone = |message: &str| error(400, "InvalidInstanceID.NotFound", message);
    let fake = Fake::new([
        gone("The instance IDs 'i-1, i-3' do not exist"),
        ok("CreateTags", ""),
    ]);
    AmazonEc2::renew_leases(&fake.host(), &context("{}"), &ids(1, 4), 2000).unwrap();
    assert!(
        fake.asked()[1].contains("ResourceId.1=i-2\nTag"),
        "{:?}",
        fake.asked()
    );

    // Nothing is named: halves, down to the one that is gone.
    let fake = Fake::new([gone(""), ok("CreateTags", ""), gone("")]);
    AmazonEc2::renew_leases(&fake.host(), &context("{}"), &ids(1, 3), 2000).unwrap();
    assert_eq!(fake.asked().len(), 3);
    assert_eq!(
        AmazonEc2::renew_leases(&Fake::new([]).host(), &context("{}"), &[], 1),
        Ok(())
    );
}

#[test]
fn leftovers_are_what_nothing_uses_and_groups_of_ours_that_are_old() {
    let tags = |until: u32| {
        format!(
            "<tagSet><item><key>springtide:owner</key><value>owner</value></item><item><key>springtide:lease-until</key><value>{until}</value></item></tagSet>"
        )
    };
    let sg = |id: &str, until| format!("<item><groupId>{id}</groupId>{}</item>", tags(until));
    let groups = [
        sg("sg-old", 1_000),
        sg("sg-used", 1_000),
        sg("sg-new", 1_900_000_000),
    ]
    .concat();
    let used = "<networkInterfaceSet><item><groupSet><item><groupId>sg-used</groupId></item></groupSet></item></networkInterfaceSet>";
    let volume = format!(
        "<volumeSet><item><volumeId>vol-1</volumeId><createTime>2026-03-02T09:00:00.000Z</createTime>{}</item></volumeSet>",
        tags(1)
    );
    let fake = Fake::new([
        ok("DescribeVolumes", &volume),
        ok("DescribeNetworkInterfaces", "<networkInterfaceSet/>"),
        ok("DescribeSpotInstanceRequests", "<spotInstanceRequestSet/>"),
        ok(
            "DescribeSecurityGroups",
            &format!("<securityGroupInfo>{groups}</securityGroupInfo>"),
        ),
        ok("DescribeNetworkInterfaces", used),
    ]);
    let found = AmazonEc2::list_leftovers(&fake.host(), &context("{}")).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|one| {
            (
                one.id.as_str(),
                one.sort.as_str(),
                one.owner.as_str(),
                one.created_at,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("vol-1", "volume", "owner", 1_772_442_000),
            ("sg-old", "security-group", "owner", 0)
        ]
    );
    for (id, action) in [
        ("vol-1", "DeleteVolume"),
        ("eni-1", "DeleteNetworkInterface"),
        ("sg-1", "DeleteSecurityGroup"),
        ("sir-1", "CancelSpotInstanceRequests"),
    ] {
        let fake = Fake::new([error(400, "InvalidVolume.NotFound", "gone")]);
        assert_eq!(
            AmazonEc2::destroy_leftover(&fake.host(), &context("{}"), id),
            Ok(())
        );
        assert_eq!(fake.actions(), [action]);
    }
    let fake = Fake::new([error(400, "DependencyViolation", "used")]);
    let failed = AmazonEc2::destroy_leftover(&fake.host(), &context("{}"), "sg-1");
    assert!(
        matches!(failed, Err(PluginError::Transient(_))),
        "{failed:?}"
    );
}

#[test]
fn it_asks_for_the_credential_and_every_action_it_uses_is_told() {
    let description = AmazonEc2::describe();
    assert_eq!(description.name, "amazonec2");
    assert!(
        description
            .requests
            .contains(&Request::Credential("aws".into()))
    );
    assert!(ACTIONS.lines().is_sorted());
    let sources = [
        include_str!("images.rs"),
        include_str!("instances.rs"),
        include_str!("launch.rs"),
        include_str!("leftovers.rs"),
        include_str!("lib.rs"),
        include_str!("network.rs"),
        include_str!("tags.rs"),
    ];
    let used = sources.iter().flat_map(|source| {
        let named = |call: &'static str| source.split(call).skip(1);
        named("Query::new(\"")
            .chain(named("marked(\""))
            .filter_map(|rest| rest.split('"').next())
    });
    let used: std::collections::BTreeSet<&str> = used.collect();
    assert_eq!(used, ACTIONS.lines().collect());
}
