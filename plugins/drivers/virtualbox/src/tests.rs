use super::*;
use fake::{Fake, creation, sort};
use springtide_sdk::testing::context;
use springtide_sdk::{MachineState, Reach};

const BASE: &str = r#"{"virtualbox-base-vm":"base é \"1\""}"#;
const MISSING: &str = "Could not find a registered machine named 'x'";

/// A `showvminfo` of our machine.
fn info(state: &str, more: &str) -> String {
    format!(
        "name=\"own-t1\"\nCfgFile=\"/vms/springtide/own/pool/own-t1/own-t1.vbox\"\nVMState=\"{state}\"\nVMStateChangeTime=\"2026-11-25T01:39:09.0\"\nmacaddress1=\"080027C3D962\"\nstoragecontrollername0=\"SATA\"\nstoragecontrollertype0=\"IntelAhci\"\nstoragecontrollermaxportcount0=\"30\"\nstoragecontrollerportcount0=\"1\"\n\"SATA-0-0\"=\"/vms/a.vdi\"\n{more}"
    )
}

fn marks(step: &str) -> String {
    let marks = [
        ("owner", "own"),
        ("token", "t1"),
        ("pool", "pool"),
        ("name", "ci-1"),
        ("user", "docker"),
        ("lease-until", "1000"),
        ("step", step),
    ];
    marks
        .iter()
        .map(|(key, value)| format!("Key: springtide/{key}, Value: {value}\n"))
        .collect()
}

fn create(fake: &Fake, settings: &str) -> Result<Machine, PluginError> {
    Virtualbox::create(&fake.host(), &context(settings), &creation())
}

#[test]
fn a_base_machine_that_can_not_be_cloned_is_the_settings_fault() {
    let snapshots = "SnapshotName=\"a\"\nSnapshotUUID=\"u-a\"\nSnapshotName-1=\"b\"\nSnapshotUUID-1=\"u-b\"\nCurrentSnapshotUUID=\"u-b\"\n";
    let named = r#"{"virtualbox-base-vm":"base é \"1\"","virtualbox-base-snapshot":"c"}"#;
    for (base, settings, said) in [
        ("", BASE, "has no such machine"),
        ("VMState=\"poweroff\"\n", BASE, "which has no snapshot"),
        (
            "VMState=\"running\"\n",
            BASE,
            "is running and has no snapshot",
        ),
        (snapshots, named, "no such snapshot"),
    ] {
        let fake = match base {
            "" => Fake::default().failing("showvminfo", MISSING),
            base => Fake::default()
                .saying("--machinereadable", base)
                .failing("own-t1", MISSING),
        };
        let Err(PluginError::InvalidConfig(why)) = create(&fake, settings) else {
            panic!("{settings} was taken with {base}");
        };
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_machine_is_configured_once_and_started_after() {
    let fake = Fake::default()
        .saying(
            "showvminfo",
            &info("poweroff", "Forwarding(0)=\"web,tcp,,8080,,80\"\n"),
        )
        .saying("getextradata", &marks("marked"));
    let machine = create(&fake, BASE).unwrap();
    assert_eq!(machine.state, MachineState::Creating);
    assert_eq!(fake.files(), ["springtide_own_t1.iso"]);
    let calls = fake.calls().join("\n");
    assert!(
        calls.contains("modifyvm own-t1 --memory 1024 --cpus 1 --description ci-1 --nic1 nat"),
        "{calls}"
    );
    assert!(calls.contains("--portcount 2"), "{calls}");
    assert!(
        calls.contains(
            "--port 1 --device 0 --type dvddrive --medium /scratch/springtide_own_t1.iso"
        ),
        "{calls}"
    );
    assert!(
        calls.contains("setextradata own-t1 springtide/step configured"),
        "{calls}"
    );
    assert!(!calls.contains("startvm"), "{calls}");

    let fake = Fake::default()
        .saying(
            "showvminfo",
            &info("poweroff", "Forwarding(0)=\"web,tcp,,8080,,80\"\n"),
        )
        .saying("getextradata", &marks("configured"));
    create(&fake, BASE).unwrap();
    let calls = fake.calls().join("\n");
    assert!(calls.contains("--natpf1 delete web"), "{calls}");
    assert!(
        calls.contains("--natpf1 springtide-ssh,tcp,127.0.0.1,"),
        "{calls}"
    );
    assert!(calls.contains("startvm own-t1 --type headless"), "{calls}");
}

#[test]
fn a_machine_of_the_host_only_network_is_reached_where_its_guest_additions_say() {
    let running = info("running", "macaddress2=\"080027AABBCC\"\n");
    let marks = marks("started") + "Key: springtide/address, Value: host-only\n";
    let booting = || {
        Fake::default()
            .saying("showvminfo", &running)
            .saying("getextradata", &marks)
            .saying("guestproperty", "No value set!\n")
    };
    let ready = || {
        booting()
            .saying("/VirtualBox/GuestInfo/Net/1/MAC", "Value: 080027C3D962\n")
            .saying("/VirtualBox/GuestInfo/Net/0/MAC", "Value: 080027aabbcc\n")
    };
    let address = "/VirtualBox/GuestInfo/Net/0/V4/IP";
    for (fake, wanted) in [
        (booting(), None),
        (ready(), None),
        (ready().saying(address, "Value: 0.0.0.0\n"), None),
        (ready().saying(address, "Value: -oops\n"), None),
        (
            ready().saying(address, "Value: 192.168.56.101\n"),
            Some(("192.168.56.101", 22)),
        ),
    ] {
        let machine = create(&fake, BASE).unwrap();
        assert_eq!(machine.state, MachineState::Running);
        let reached = machine.reach.as_ref().map(|reach| match reach {
            Reach::Ssh(at) => (at.host.as_str(), at.port),
            other => panic!("{other:?}"),
        });
        assert_eq!(reached, wanted, "{:?}", fake.calls());
    }
}

#[test]
fn a_machine_that_ran_is_not_started_again() {
    let fake = Fake::default()
        .saying("showvminfo", &info("poweroff", ""))
        .saying("getextradata", &marks("started"));
    assert_eq!(create(&fake, BASE).unwrap().state, MachineState::Stopped);
    assert_eq!(fake.calls().len(), 2, "it was looked at, and no more");
}

#[test]
fn the_marks_of_a_base_are_not_taken_for_a_clones_own() {
    let foreign = marks("started").replace("t1", "other");
    let fake = Fake::default()
        .saying("showvminfo", &info("poweroff", ""))
        .saying("getextradata", &foreign);
    create(&fake, BASE).unwrap();
    let calls = fake.calls();
    assert_eq!(calls[2].trim_end(), "setextradata own-t1 springtide/step");
    assert!(
        calls.contains(&"setextradata own-t1 springtide/token t1".into()),
        "{calls:?}"
    );
}

#[test]
fn what_is_not_ours_is_not_seen_and_not_touched() {
    let fake = Fake::default()
        .saying(
            "list vms",
            "\"own-t1\" {2507c69e-0942-4ed9-91d3-f5c5901b59f1}\n",
        )
        .saying(
            "showvminfo",
            "CfgFile=\"/vms/own-t1/own-t1.vbox\"\nVMState=\"running\"\n",
        );
    let host = fake.host();
    assert_eq!(
        Virtualbox::list_machines(&host, &context("{}")).unwrap(),
        []
    );
    let got = Virtualbox::get(&host, &context("{}"), "own-t1").unwrap_err();
    assert_eq!(sort(&got), "not-found");
    Virtualbox::destroy(&host, &context("{}"), "own-t1").unwrap();
    let calls = fake.calls().join("\n");
    assert!(
        !calls.contains("poweroff") && !calls.contains("unregistervm"),
        "{calls}"
    );
}

#[test]
fn an_id_that_is_an_option_is_no_machine() {
    let fake = Fake::default();
    for id in ["--help", "", "a b", "/x"] {
        let got = Virtualbox::get(&fake.host(), &context("{}"), id).unwrap_err();
        assert_eq!(sort(&got), "not-found", "{id:?}");
        Virtualbox::destroy(&fake.host(), &context("{}"), id).unwrap();
    }
    assert_eq!(fake.calls().len(), 0);
}

#[test]
fn a_running_machine_is_switched_off_and_taken_with_all_that_is_its() {
    let fake = Fake::default()
        .saying("showvminfo", &info("running", ""))
        .saying("getextradata", &marks("started"))
        .saying(
            "list dvds",
            "UUID: 1\nLocation:  /scratch/springtide_own_t1.iso\n",
        );
    Virtualbox::destroy(&fake.host(), &context("{}"), "own-t1").unwrap();
    let calls = fake.calls();
    assert_eq!(
        &calls[2..],
        [
            "controlvm own-t1 poweroff",
            "unregistervm own-t1 --delete",
            "list dvds",
            "closemedium dvd /scratch/springtide_own_t1.iso",
        ]
    );
}

#[test]
fn leftovers_are_what_lies_in_our_directories_without_a_machine() {
    let fake = Fake::default()
        .saying("list vms", "\"own-t2\" {2507c69e-0942-4ed9-91d3-f5c5901b59f1}\n")
        .saying("list hdds", "UUID: 1\nLocation: /vms/springtide/own/pool/own-t1/disk.vdi\n\nUUID: 2\nLocation: /vms/springtide/own/pool/own-t2/disk.vdi\n\nUUID: 3\nLocation: /vms/base/base.vdi\n")
        .saying("list dvds", "UUID: 1\nLocation: /scratch/springtide_own_t3.iso\n")
        .saying("list dhcpservers", "NetworkName: HostInterfaceNetworking-vboxnet4\n 224/hex: 6f776e\n");
    let found = Virtualbox::list_leftovers(&fake.host(), &context("{}")).unwrap();
    let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "disk:/vms/springtide/own/pool/own-t1/disk.vdi",
            "seed:/scratch/springtide_own_t3.iso",
            "interface:vboxnet4",
        ]
    );
    assert!(found.iter().all(|one| one.owner == "own"));
    for id in [
        "disk:/vms/base/base.vdi",
        "seed:/etc/passwd",
        "interface:vboxnet0",
        "x",
    ] {
        Virtualbox::destroy_leftover(&fake.host(), &context("{}"), id).unwrap();
    }
    let calls = fake.calls().join("\n");
    assert!(
        !calls.contains("closemedium") && !calls.contains("hostonlyif remove"),
        "{calls}"
    );
}

#[test]
fn an_owner_that_can_not_be_a_name_is_refused() {
    for owner in ["", "a/b", "-x", "a b", "ä", &"x".repeat(90)] {
        let creation = Creation {
            owner: owner.into(),
            ..creation()
        };
        let fake = Fake::default();
        let refused = Virtualbox::create(&fake.host(), &context(BASE), &creation).unwrap_err();
        assert_eq!(sort(&refused), "invalid-config", "{owner:?}");
        assert_eq!(fake.calls().len(), 0);
    }
}

#[test]
fn it_asks_for_its_tool_and_a_place_for_seeds() {
    let description = Virtualbox::describe();
    assert_eq!(description.name, "virtualbox");
    assert_eq!(
        description.requests,
        [Request::Tool("VBoxManage".into()), Request::Files]
    );
}
