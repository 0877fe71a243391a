//! The driver virtualbox as it ships, against the real VBoxManage.

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use serde_json::{Value, json};
use springtide_plugins::contract::{
    CallContext, Creation, Machine, MachineState, PluginError, Reach,
};
use springtide_plugins::{CallError, Grants, Host, HostOptions, Plugin, Source, ToolGrant};
use springtide_tests::vbox::{Fault, Faults, VirtualBox};
use std::collections::{BTreeMap, BTreeSet};

/// A name that has all that names may have.
const BASE: &str = "base é \"1\"";

struct Driver {
    vbox: VirtualBox,
    plugin: Plugin,
}

impl Driver {
    async fn new() -> Result<Driver> {
        let vbox = VirtualBox::new()?;
        let tool = ToolGrant {
            path: vbox.program().to_path_buf(),
            env: vbox.env(),
            concurrency: Some(1),
            ..ToolGrant::default()
        };
        let grants = Grants {
            files: true,
            tools: BTreeMap::from([("VBoxManage".to_owned(), tool)]),
            ..Grants::default()
        };
        let options = HostOptions {
            scratch: Some(vbox.path().join("scratch")),
            ..HostOptions::default()
        };
        let source = Source {
            grants,
            ..Source::file(VirtualBox::component()?)
        };
        let load = move || -> Result<Plugin> { Ok(Host::new(&options)?.load(&source)?) };
        let plugin = tokio::task::spawn_blocking(load).await??;
        Ok(Driver { vbox, plugin })
    }

    /// With a base machine that has a snapshot.
    async fn with_base() -> Result<Driver> {
        let driver = Driver::new().await?;
        driver.vbox.base(BASE, Some("ready é"))?;
        Ok(driver)
    }

    /// Calls `create` until the machine runs.
    async fn made(&self, settings: &Value, creation: &Creation) -> Result<Machine, CallError> {
        loop {
            let machine = self.plugin.create(&context(settings), creation).await?;
            if machine.state != MachineState::Creating {
                return Ok(machine);
            }
        }
    }

    /// Removes what there is, as the host does: until nothing is listed and left over.
    async fn clear(&self, settings: &Value) -> Result<()> {
        let context = context(settings);
        for _ in 0..200 {
            let Ok(machines) = self.plugin.list_machines(&context).await else {
                continue;
            };
            let destroys = machines
                .iter()
                .map(|at| self.plugin.destroy(&context, &at.id));
            join_all(destroys).await;
            let Ok(leftovers) = self.plugin.list_leftovers(&context).await else {
                continue;
            };
            let sweeps = leftovers
                .iter()
                .map(|at| self.plugin.destroy_leftover(&context, &at.id));
            join_all(sweeps).await;
            if machines.is_empty() && leftovers.is_empty() {
                return Ok(());
            }
        }
        bail!("something can't be removed")
    }

    /// Nothing but the base and its disks is left at the provider.
    fn only_base(&self) -> Result<()> {
        assert_eq!(self.vbox.machines()?, [BASE]);
        let media = self.vbox.media()?;
        assert_eq!(media.len(), 2, "its disk and the snapshot's: {media:?}");
        let files = self.vbox.files()?;
        assert!(files.is_empty(), "{files:?}");
        Ok(())
    }
}

fn clones() -> Value {
    json!({"virtualbox-base-vm": BASE, "virtualbox-memory": 256})
}

fn context(settings: &Value) -> CallContext {
    let call = json!({"runner": "elastic", "settings": settings.to_string()});
    serde_json::from_value(call).unwrap_or_default()
}

fn creation(token: &str) -> Creation {
    Creation {
        token: token.into(),
        name: format!("ci-{token}"),
        owner: "own".into(),
        pool: "pool".into(),
        manager: "host\nKey: springtide/owner, Value: other".into(),
        lease_until: 1000,
        user_data: None,
        ssh_key: Some("ssh-ed25519 AAAA manager".into()),
        labels: Vec::new(),
    }
}

fn port(machine: &Machine) -> Option<u16> {
    match &machine.reach {
        Some(Reach::Ssh(address)) => Some(address.port),
        _ => None,
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, CallError>) -> Result<PluginError> {
    match answer {
        Err(CallError::Plugin(error)) => Ok(error),
        answer => bail!("{answer:?} is no answer of the driver's"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_listed_renewed_and_destroyed() -> Result<()> {
    let driver = Driver::with_base().await?;
    driver.vbox.fail(&Faults {
        warning: Some("WARNING: The character device /dev/vboxdrv does not exist.".into()),
        ..Faults::default()
    })?;
    let (plugin, context) = (&driver.plugin, context(&clones()));
    let made = driver.made(&clones(), &creation("t1")).await?;
    assert_eq!(made.state, MachineState::Running);
    assert!(port(&made).is_some_and(|port| port != 20080), "{made:?}");
    assert_eq!((made.id.as_str(), made.name.as_str()), ("own-t1", "ci-t1"));
    assert_eq!((made.owner.as_str(), made.pool.as_str()), ("own", "pool"));
    assert!(made.created_at > 1_700_000_000, "{made:?}");
    let again = plugin.create(&context, &creation("t1")).await?;
    assert_eq!(again, made, "one token is one machine");
    assert_eq!(
        plugin.list_machines(&context).await?,
        std::slice::from_ref(&made)
    );
    plugin
        .renew_leases(&context, &["own-t1".into(), "own-gone".into()], 2000)
        .await?;
    assert_eq!(plugin.get(&context, "own-t1").await?.lease_until, 2000);
    assert_eq!(plugin.list_leftovers(&context).await?, []);
    let info = driver
        .vbox
        .manage(&["showvminfo", "own-t1", "--machinereadable"])?;
    for part in ["memory=256", "springtide_own_t1.iso", "nic1=\"nat\""] {
        assert!(info.contains(part), "{part}: {info}");
    }
    plugin.destroy(&context, "own-t1").await?;
    plugin.destroy(&context, "own-t1").await?;
    assert_eq!(plugin.list_machines(&context).await?, []);
    let gone = refused(plugin.get(&context, "own-t1").await)?;
    assert!(matches!(gone, PluginError::NotFound(_)), "{gone:?}");
    driver.only_base()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_can_not_be_cloned_is_the_settings_fault() -> Result<()> {
    let driver = Driver::new().await?;
    driver.vbox.base("bare", None)?;
    for (settings, said) in [
        (json!({"virtualbox-base-vm": "none"}), "no such machine"),
        (json!({"virtualbox-base-vm": "bare"}), "has no snapshot"),
        (json!({}), "nothing to make machines of"),
        (json!({"virtualbox-ova": "/none.ova"}), "/none.ova"),
    ] {
        let (context, creation) = (context(&settings), creation("t1"));
        let error = refused(driver.plugin.create(&context, &creation).await)?;
        let PluginError::InvalidConfig(why) = &error else {
            bail!("{settings}: {error:?}");
        };
        assert!(why.contains(said), "{why}");
    }
    driver
        .vbox
        .manage(&["startvm", "bare", "--type", "headless"])?;
    let bare = json!({"virtualbox-base-vm": "bare"});
    let error = refused(driver.plugin.create(&context(&bare), &creation("t1")).await)?;
    assert!(
        error.text().contains("is running and has no snapshot"),
        "{error:?}"
    );
    assert_eq!(driver.vbox.machines()?, ["bare"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_make_one_machine_a_token_and_share_no_port() -> Result<()> {
    let driver = Driver::with_base().await?;
    // So few ports that some choose the same.
    let mut settings = clones();
    settings["virtualbox-ssh-ports"] = "30000-30005".into();
    let tokens = ["a", "b", "c", "a", "b", "c"];
    let creations: Vec<Creation> = tokens.iter().map(|token| creation(token)).collect();
    let made = creations.iter().map(async |creation| {
        let mut refusals = Vec::new();
        while refusals.len() < 20 {
            // Of two with one token one may be told that it is busy.
            match driver.made(&settings, creation).await {
                Ok(machine) => return Ok(machine),
                Err(error) => refusals.push(error),
            }
        }
        bail!("it is refused again and again: {refusals:?}")
    });
    let made = join_all(made).await;
    let made: Vec<Machine> = made.into_iter().collect::<Result<_>>()?;
    let ids: BTreeSet<&str> = made.iter().map(|at| at.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    let listed = driver.plugin.list_machines(&context(&settings)).await?;
    assert_eq!(listed.len(), 3);
    let ports: BTreeSet<u16> = listed.iter().filter_map(port).collect();
    assert_eq!(ports.len(), 3, "{listed:?}");
    driver.clear(&settings).await?;
    driver.only_base()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_free_port_is_a_matter_of_time() -> Result<()> {
    let driver = Driver::with_base().await?;
    let mut settings = clones();
    settings["virtualbox-ssh-ports"] = "30000-30000".into();
    driver.made(&settings, &creation("a")).await?;
    let error = refused(driver.made(&settings, &creation("b")).await)?;
    assert!(
        matches!(&error, PluginError::Transient(why) if why.contains("no port")),
        "{error:?}"
    );
    driver.clear(&settings).await?;
    driver.only_base()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_made_of_a_disk_an_appliance_and_boot2docker() -> Result<()> {
    let driver = Driver::with_base().await?;
    let at = |name: &str| driver.vbox.path().join(name).display().to_string();
    let (image, ova, iso) = (at("image.vdi"), at("base.ova"), at("boot2docker.iso"));
    driver
        .vbox
        .manage(&["createmedium", "disk", "--filename", &image, "--size", "50"])?;
    driver.vbox.manage(&["closemedium", "disk", &image])?;
    // VirtualBox itself can't read again what it exports of a name with quotes.
    driver.vbox.base("plain", None)?;
    driver.vbox.manage(&["export", "plain", "-o", &ova])?;
    driver.vbox.manage(&["unregistervm", "plain", "--delete"])?;
    std::fs::write(&iso, vec![0; 64 << 10])?;
    for (number, (settings, disk)) in [
        (
            json!({"virtualbox-disk-image": image, "virtualbox-disk-size": 200}),
            "disk.vdi",
        ),
        (json!({"virtualbox-ova": ova}), ".vmdk"),
        (
            json!({"virtualbox-boot2docker-url": iso, "virtualbox-disk-size": 300}),
            "disk.vdi",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("s{number}");
        let made = driver.made(&settings, &creation(&token)).await?;
        assert_eq!(made.state, MachineState::Running, "{settings}");
        let media = driver.vbox.media()?;
        let ours = |path: &&String| path.contains(&made.id) && path.ends_with(disk);
        let path = media
            .iter()
            .find(ours)
            .with_context(|| format!("{settings}: {media:?}"))?;
        if let Some(size) = settings["virtualbox-disk-size"].as_u64() {
            let info = driver.vbox.manage(&["showmediuminfo", "disk", path])?;
            assert!(info.contains(&format!("{size} MBytes")), "{info}");
        }
        driver.plugin.destroy(&context(&settings), &made.id).await?;
    }
    // What machines were made of is the operator's, and stays known.
    driver.vbox.manage(&["closemedium", "disk", &image])?;
    driver.vbox.manage(&["closemedium", "dvd", &iso])?;
    driver.only_base()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_only_network_is_made_once_and_goes_with_its_last_machine() -> Result<()> {
    let driver = Driver::with_base().await?;
    let mut settings = clones();
    settings["virtualbox-hostonly-cidr"] = "192.168.56.1/24".into();
    let creations = [creation("a"), creation("b")];
    let made = creations
        .iter()
        .map(|creation| driver.made(&settings, creation));
    for made in join_all(made).await {
        let info = driver
            .vbox
            .manage(&["showvminfo", &made?.id, "--machinereadable"])?;
        assert!(info.contains("hostonlyadapter2=\"vboxnet0\""), "{info}");
    }
    let context = context(&settings);
    assert_eq!(driver.plugin.list_leftovers(&context).await?, []);
    for creation in &creations {
        let id = format!("own-{}", creation.token);
        driver.plugin.destroy(&context, &id).await?;
    }
    let left = driver.plugin.list_leftovers(&context).await?;
    assert_eq!(
        (left.len(), left[0].id.as_str(), left[0].owner.as_str()),
        (1, "interface:vboxnet0", "own")
    );
    driver.clear(&settings).await?;
    assert!(
        !driver
            .vbox
            .manage(&["list", "hostonlyifs"])?
            .contains("vboxnet")
    );
    driver.only_base()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_cut_short_at_any_step_leaves_nothing_that_is_not_found() -> Result<()> {
    let driver = Driver::with_base().await?;
    let steps = [
        "clonevm",
        "setextradata",
        "modifyvm",
        "storageattach",
        "startvm",
    ];
    for (number, how) in ["fail", "fail-after"].into_iter().enumerate() {
        for subcommand in steps {
            // Of the marks not the first.
            let every = if subcommand == "setextradata" { 3 } else { 1 };
            let token = format!("{subcommand}{number}{every}");
            driver.vbox.fail(&Faults {
                faults: vec![Fault::new(subcommand, every, how)],
                ..Faults::default()
            })?;
            if let Ok(machine) = driver.made(&clones(), &creation(&token)).await {
                assert_eq!(machine.state, MachineState::Running);
            }
            driver.vbox.fail(&Faults::default())?;
            let listed = driver.plugin.list_machines(&context(&clones())).await?;
            for machine in &listed {
                let marks = (machine.owner.as_str(), machine.pool.as_str());
                assert_eq!(marks, ("own", "pool"), "{machine:?}");
                assert_eq!(machine.token, token);
            }
            // It can be carried on, and be removed.
            let made = driver.made(&clones(), &creation(&token)).await?;
            assert_eq!(made.state, MachineState::Running, "{token}");
            driver.clear(&clones()).await?;
            driver.only_base()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_with_a_fifth_of_the_calls_failing_leave_nothing() -> Result<()> {
    leaves_nothing(6).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `cargo xtask test --slow`"]
async fn fifty_creates_at_once_with_a_fifth_of_the_calls_failing_leave_nothing() -> Result<()> {
    leaves_nothing(50).await
}

/// Makes so many machines at once, the provider failing, removes them, and looks what is left.
async fn leaves_nothing(count: usize) -> Result<()> {
    let driver = Driver::with_base().await?;
    driver.vbox.manage(&[
        "createvm",
        "--name",
        "own-other",
        "--ostype",
        "Linux_64",
        "--register",
    ])?;
    driver.vbox.fail(&Faults {
        faults: vec![
            Fault::new("*", 10, "fail"),
            Fault::new("*", 9, "fail-after"),
        ],
        ..Faults::default()
    })?;
    let creations: Vec<Creation> = (0..count)
        .map(|number| creation(&format!("{number:032x}")))
        .collect();
    let settings = clones();
    let made = creations.iter().map(async |creation| {
        for _ in 0..40 {
            if let Ok(machine) = driver.made(&settings, creation).await {
                return Some(machine);
            }
        }
        None
    });
    let made: Vec<Machine> = join_all(made).await.into_iter().flatten().collect();
    let share = made.len() * 2 >= count;
    assert!(share, "{} of {count} were made", made.len());
    let context = context(&settings);
    let gone = creations.iter().map(async |creation| {
        let id = format!("own-{}", creation.token);
        for _ in 0..40 {
            if driver.plugin.destroy(&context, &id).await.is_ok() {
                return;
            }
        }
    });
    join_all(gone).await;
    driver.vbox.fail(&Faults::default())?;
    driver.clear(&settings).await?;
    driver
        .vbox
        .manage(&["unregistervm", "own-other", "--delete"])?;
    driver.only_base()
}
