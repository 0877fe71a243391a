//! The driver `amazonec2` as it ships, in the host that runs it, against EC2 as moto has it, with what
//! moto lacks of the real one.

use anyhow::{Context, Result, anyhow, bail};
use springtide_driver_amazonec2::ACTIONS;
use springtide_plugins::contract::{
    CallContext, Creation, KeyValue, Leftover, Machine, MachineState, PluginError, Reach,
};
use springtide_plugins::{
    Aws, AwsKeys, CallError, Credential, Grants, Host, HostOptions, HttpGrant, Plugin, Source,
};
use springtide_tests::ec2::{Ec2, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const REGION: &str = "eu-west-1";

/// Calls of a test that wait for something to be shown; each is a look, so this is no time.
const LOOKS: usize = 50;

/// An account with a pool's settings.
#[derive(Clone)]
struct Account {
    ec2: Arc<Ec2>,
    plugin: Arc<Plugin>,
    context: CallContext,
}

/// The driver as it ships, with the grants it has there, but for this EC2.
async fn driver(ec2: &Ec2, secret: &str) -> Result<Plugin> {
    let host = Host::new(&HostOptions {
        cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
        ..HostOptions::default()
    })?;
    let keys = AwsKeys::Static {
        access_key_id: ec2.key.id.clone(),
        secret_access_key: secret.to_owned().into(),
        session_token: None,
    };
    let aws = Credential::Aws(Aws::new(keys));
    host.set_credentials(BTreeMap::from([("aws".to_owned(), aws)]));
    let source = Source {
        grants: Grants {
            http: Some(HttpGrant {
                origins: vec![ec2.url.clone()],
                allow_private: true,
                credentials: vec!["aws".into()],
                actions: Some(ACTIONS.lines().map(str::to_owned).collect()),
            }),
            ..Grants::default()
        },
        ..Source::file(springtide_tests::plugins()?.join("amazonec2.wasm"))
    };
    let loaded = tokio::task::spawn_blocking(move || host.load(&source)).await?;
    Ok(loaded?)
}

impl Account {
    async fn new(options: &[(&str, serde_json::Value)]) -> Result<Account> {
        let ec2 = Ec2::start().await?;
        let mut settings = serde_json::json!({
            "amazonec2-region": REGION,
            "amazonec2-endpoint": ec2.url,
            "amazonec2-insecure-transport": true,
        });
        for (name, value) in options {
            settings[format!("amazonec2-{name}")] = value.clone();
        }
        Ok(Account {
            plugin: Arc::new(driver(&ec2, &ec2.key.secret).await?),
            ec2: Arc::new(ec2),
            context: CallContext {
                runner: "elastic".into(),
                settings: settings.to_string(),
                owner: "owner".into(),
            },
        })
    }

    async fn make(&self, creation: &Creation) -> Result<Machine, PluginError> {
        let made = self.plugin.create(&self.context, creation).await;
        made.map_err(said)
    }

    async fn create(&self, token: &str) -> Result<Machine, PluginError> {
        self.make(&creation(token)).await
    }

    async fn list(&self) -> Result<Vec<Machine>, PluginError> {
        let listed = self.plugin.list_machines(&self.context).await;
        listed.map_err(said)
    }

    async fn destroy(&self, id: &str) -> Result<(), PluginError> {
        let done = self.plugin.destroy(&self.context, id).await;
        done.map_err(said)
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, PluginError> {
        let listed = self.plugin.list_leftovers(&self.context).await;
        listed.map_err(said)
    }

    /// Creates as the daemon does: again with the same token for as long as it may work.
    async fn persist(&self, token: &str) -> Result<Machine> {
        for _ in 0..LOOKS {
            match self.create(token).await {
                Ok(machine) => return Ok(machine),
                Err(PluginError::Transient(_) | PluginError::Throttled(_)) => {}
                Err(error) => bail!("{token}: {error:?}"),
            }
        }
        bail!("{token} is never made")
    }

    /// Destroys as the daemon does: until a list does not show any.
    async fn destroy_all(&self) -> Result<()> {
        for _ in 0..LOOKS {
            let Ok(machines) = self.list().await else {
                continue;
            };
            if machines.is_empty() {
                return Ok(());
            }
            for machine in machines {
                // What fails is seen in the next list.
                self.destroy(&machine.id).await.ok();
            }
        }
        bail!("there are machines left: {:?}", self.list().await)
    }
}

/// What the driver says of a failure; anything else is a failure of the test.
fn said(error: CallError) -> PluginError {
    match error {
        CallError::Plugin(error) => error,
        other => PluginError::Other(format!("the host ended it: {other}")),
    }
}

fn creation(token: &str) -> Creation {
    Creation {
        token: token.into(),
        name: format!("ci-{token}"),
        owner: "owner".into(),
        pool: "pool".into(),
        manager: "host".into(),
        lease_until: 2_000_000_000,
        user_data: Some("#cloud-config\n".into()),
        ssh_key: Some("ssh-ed25519 AAAA".into()),
        labels: vec![KeyValue {
            key: "team \"a\" & b=c".into(),
            value: "--flag 'ü' <&> $(x)".into(),
        }],
    }
}

fn failed<T: std::fmt::Debug>(error: PluginError) -> Result<T> {
    Err(anyhow!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_listed_leased_and_removed_with_few_calls() -> Result<()> {
    let account = Account::new(&[]).await?;
    let made = account.create("t1").await.or_else(failed)?;
    assert_eq!(made.state, MachineState::Running);
    let mut calls = account.ec2.calls();
    // The group is made by the first machine of an account.
    assert_eq!(calls.remove("CreateSecurityGroup"), Some(1));
    assert_eq!(calls.remove("AuthorizeSecurityGroupIngress"), Some(1));
    let calls: Vec<_> = calls
        .iter()
        .map(|(action, count)| (action.as_str(), *count))
        .collect();
    assert_eq!(
        calls,
        [
            ("DescribeImages", 1),
            ("DescribeInstanceTypes", 1),
            ("DescribeSecurityGroups", 1),
            ("DescribeSubnets", 1),
            ("RunInstances", 1)
        ],
        "what is looked up where no option names it"
    );

    account.ec2.forget_calls();
    let machines = account.list().await.or_else(failed)?;
    let [machine] = &machines[..] else {
        bail!("{machines:?}");
    };
    assert_eq!(
        (&machine.id, &machine.name),
        (&made.id, &"ci-t1".to_owned())
    );
    assert_eq!(
        (machine.token.as_str(), machine.owner.as_str()),
        ("t1", "owner")
    );
    assert_eq!(
        (machine.pool.as_str(), machine.lease_until),
        ("pool", 2_000_000_000)
    );
    let Some(Reach::Ssh(address)) = &machine.reach else {
        bail!("{machine:?}");
    };
    assert_eq!((address.port, address.user.as_str()), (22, "ubuntu"));
    let ids = [machine.id.clone()];
    let renewed = account
        .plugin
        .renew_leases(&account.context, &ids, 2_000_000_100);
    renewed.await?;
    assert_eq!(
        account.list().await.or_else(failed)?[0].lease_until,
        2_000_000_100
    );
    account.destroy(&made.id).await.or_else(failed)?;
    account.destroy(&made.id).await.or_else(failed)?;
    assert_eq!(account.list().await.or_else(failed)?, []);
    let calls = account.ec2.calls();
    let calls: Vec<_> = calls
        .iter()
        .map(|(action, count)| (action.as_str(), *count))
        .collect();
    assert_eq!(
        calls,
        [
            ("CreateTags", 1),
            ("DescribeInstances", 3),
            ("TerminateInstances", 2)
        ]
    );
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_one_machine_again_at_once_and_after_a_lost_answer() -> Result<()> {
    let account = Account::new(&[("ami", "ami-12345678".into())]).await?;
    let first = account.create("t1").await.or_else(failed)?;
    let second = account.create("t1").await.or_else(failed)?;
    assert_eq!(first.id, second.id);
    let at_once: Vec<_> = (0..4).map(|_| account.persist("t2")).collect();
    let mut ids = BTreeSet::new();
    for made in futures_util::future::join_all(at_once).await {
        ids.insert(made?.id);
    }
    assert_eq!(ids.len(), 1);
    for fault in [Fault::Before, Fault::After, Fault::Truncated] {
        account.ec2.faults(|faults| {
            faults
                .next
                .entry("RunInstances".into())
                .or_default()
                .push_back(fault);
        });
        let token = format!("after-{fault:?}");
        let lost = account.create(&token).await;
        assert!(matches!(lost, Err(PluginError::Transient(_))), "{lost:?}");
        account.persist(&token).await?;
    }
    assert_eq!(account.ec2.instances(REGION).await?.len(), 5);
    // Asked for in other words: it is found by its token.
    let other = Creation {
        lease_until: 2_000_000_001,
        ..creation("t1")
    };
    assert_eq!(account.make(&other).await.or_else(failed)?.id, first.id);
    assert_eq!(account.ec2.instances(REGION).await?.len(), 5);
    account.destroy_all().await?;
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_tried_in_order_and_on_demand_after_spot() -> Result<()> {
    let types = serde_json::json!(["m6i.large", "m5.large"]);
    let account = Account::new(&[
        ("ami", "ami-12345678".into()),
        ("instance-types", types),
        ("zones", serde_json::json!(["b", "a"])),
        ("request-spot-instance", true.into()),
    ])
    .await?;
    let market = |machine: &Machine| {
        let detail = |key: &str| {
            let found = machine.details.iter().find(|detail| detail.key == key);
            found.map_or("-", |detail| detail.value.as_str()).to_owned()
        };
        [detail("type"), detail("zone"), detail("market")].join(" ")
    };
    account.create("spot").await.or_else(failed)?;
    account.ec2.faults(|faults| {
        faults.short_spot = ["m6i.large", "m5.large"].map(str::to_owned).into();
        faults.short = ["m6i.large".to_owned()].into();
    });
    account.create("demand").await.or_else(failed)?;
    account.ec2.faults(|faults| {
        faults.short.insert("m5.large".into());
    });
    let none = account.create("none").await;
    let Err(PluginError::Capacity(why)) = none else {
        bail!("{none:?}");
    };
    assert!(why.contains("none of 8"), "{why}");
    let machines = account.list().await.or_else(failed)?;
    let mut found: Vec<_> = machines.iter().map(market).collect();
    found.sort();
    assert_eq!(
        found,
        ["m5.large eu-west-1b -", "m6i.large eu-west-1b spot"]
    );
    account.destroy_all().await?;
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_eleven_hundred_is_whole_and_costs_three_calls() -> Result<()> {
    let account = Account::new(&[]).await?;
    let form = "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&InstanceType=t2.micro\
        &MinCount=11&MaxCount=11&TagSpecification.1.ResourceType=instance\
        &TagSpecification.1.Tag.1.Key=springtide%3Aowner&TagSpecification.1.Tag.1.Value=other";
    account.ec2.ask(REGION, form).await?;
    account.ec2.faults(|faults| faults.copies = 99);
    let machines = account.list().await.or_else(failed)?;
    assert_eq!(machines.len(), 1100);
    assert_eq!(account.ec2.calls()["DescribeInstances"], 3);
    account.ec2.faults(|faults| {
        let cut = faults.next.entry("DescribeInstances".into()).or_default();
        cut.push_back(Fault::Truncated);
    });
    let cut = account.list().await;
    assert!(
        matches!(cut, Err(PluginError::Transient(_))),
        "never a part of the list"
    );
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ec2_refuses_is_the_error_the_daemon_acts_on() -> Result<()> {
    let account = Account::new(&[("ami", "ami-12345678".into())]).await?;
    type Is = fn(&PluginError) -> bool;
    let cases: [(u16, &str, Is); 7] = [
        (503, "RequestLimitExceeded", |e| {
            matches!(e, PluginError::Throttled(_))
        }),
        (400, "VcpuLimitExceeded", |e| {
            matches!(e, PluginError::Quota(_))
        }),
        (500, "InsufficientInstanceCapacity", |e| {
            matches!(e, PluginError::Capacity(_))
        }),
        (403, "UnauthorizedOperation", |e| {
            matches!(e, PluginError::Denied(_))
        }),
        (400, "InvalidAMIID.NotFound", |e| {
            matches!(e, PluginError::InvalidConfig(_))
        }),
        (500, "InternalError", |e| {
            matches!(e, PluginError::Transient(_))
        }),
        (400, "ExpiredToken", |e| matches!(e, PluginError::Denied(_))),
    ];
    for (status, code, is) in cases {
        account.ec2.faults(|faults| {
            let refuse = faults.refuse.entry("RunInstances".into()).or_default();
            refuse.push_back((status, code.to_owned()));
        });
        let error = account.create("t1").await.err().context(code)?;
        assert!(is(&error), "{code}: {error:?}");
    }
    assert_eq!(account.ec2.instances(REGION).await?, Vec::<String>::new());
    let stranger = Account {
        plugin: Arc::new(driver(&account.ec2, "another").await?),
        ..account.clone()
    };
    let refused = stranger.list().await;
    assert!(
        matches!(refused, Err(PluginError::Denied(_))),
        "{refused:?}"
    );
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_yet_or_still_shown_confuses_nobody() -> Result<()> {
    let account = Account::new(&[("ami", "ami-12345678".into())]).await?;
    account.ec2.faults(|faults| {
        faults.hidden_for = 3;
        faults.stale_for = 2;
    });
    let made = account.create("t1").await.or_else(failed)?;
    assert_eq!(
        account.list().await.or_else(failed)?,
        [],
        "it is not shown yet"
    );
    assert_eq!(account.create("t1").await.or_else(failed)?.id, made.id);
    // A removal of what EC2 does not know yet is no failure; the daemon repeats it.
    account.destroy(&made.id).await.or_else(failed)?;
    let mut looks = 0;
    while account.list().await.or_else(failed)?.is_empty() {
        looks += 1;
        assert!(looks < LOOKS, "it is never shown");
    }
    account.destroy(&made.id).await.or_else(failed)?;
    assert_eq!(
        account.list().await.or_else(failed)?.len(),
        1,
        "it is still shown"
    );
    account.destroy_all().await?;
    assert_eq!(account.ec2.instances(REGION).await?, Vec::<String>::new());
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_a_fifth_of_the_calls_failing_leave_nothing_behind() -> Result<()> {
    let account = Account::new(&[("ami", "ami-12345678".into())]).await?;
    account.ec2.faults(|faults| {
        faults.every = 5;
        faults.hidden_for = 2;
        faults.stale_for = 1;
    });
    let tokens: Vec<String> = (0..50).map(|at| format!("t{at}")).collect();
    let creates = tokens.iter().map(|token| account.persist(token));
    for made in futures_util::future::join_all(creates).await {
        made?;
    }
    assert_eq!(account.ec2.instances(REGION).await?.len(), 50);
    for _ in 0..LOOKS {
        if account
            .list()
            .await
            .is_ok_and(|machines| machines.len() == 50)
        {
            break;
        }
    }
    account.destroy_all().await?;
    assert_eq!(account.ec2.instances(REGION).await?, Vec::<String>::new());
    account.ec2.faults(|faults| faults.every = 0);
    let left = account.leftovers().await.or_else(failed)?;
    assert_eq!(left, []);
    let groups = account.ec2.calls()["CreateSecurityGroup"];
    let form = "Action=DescribeSecurityGroups&Version=2016-11-15\
        &Filter.1.Name=group-name&Filter.1.Value.1=docker-machine";
    let found = account.ec2.ask(REGION, form).await?;
    let found = springtide_tests::ec2::texts(&found, "groupName");
    assert_eq!(
        found,
        ["docker-machine"],
        "one group, after {groups} calls for it"
    );
    account.ec2.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_and_interfaces_that_nothing_uses_are_swept() -> Result<()> {
    let account = Account::new(&[]).await?;
    let tagged = |sort: &str| {
        format!(
            "&TagSpecification.1.ResourceType={sort}&TagSpecification.1.Tag.1.Key=springtide%3Aowner&TagSpecification.1.Tag.1.Value=owner"
        )
    };
    let volume =
        format!("Action=CreateVolume&Version=2016-11-15&Size=1&AvailabilityZone={REGION}a");
    account.ec2.ask(REGION, &volume).await?;
    account
        .ec2
        .ask(REGION, &(volume + &tagged("volume")))
        .await?;
    let subnets = account
        .ec2
        .ask(REGION, "Action=DescribeSubnets&Version=2016-11-15")
        .await?;
    let subnets = springtide_tests::ec2::texts(&subnets, "subnetId");
    let subnet = subnets.first().context("no subnet")?;
    let interface = format!("Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={subnet}");
    account
        .ec2
        .ask(REGION, &(interface + &tagged("network-interface")))
        .await?;
    let found = account.leftovers().await.or_else(failed)?;
    let sorts: Vec<_> = found
        .iter()
        .map(|one| (one.sort.as_str(), one.owner.as_str()))
        .collect();
    assert_eq!(sorts, [("volume", "owner"), ("interface", "owner")]);
    for one in found {
        for _ in 0..2 {
            let done = account.plugin.destroy_leftover(&account.context, &one.id);
            done.await?;
        }
    }
    assert_eq!(account.leftovers().await.or_else(failed)?, []);
    let asked = account.ec2.calls();
    for action in asked.keys() {
        assert!(
            ACTIONS.lines().any(|granted| granted == action),
            "{action} is granted to nobody"
        );
    }
    account.ec2.check().await
}
