//! The way to a machine over SSH, as the daemon goes it, to the real OpenSSH server.

#[path = "../../host/machines/tests/support/mod.rs"]
mod support;

use springtide::pool_loop::Passing;
use springtide::runtime::reach::{Door, NotWound, Ways, WaysOptions};
use springtide_control::{Boot, Happening, MachineRecord, Stage};
use springtide_machines::{HelperClient, Output, SshOptions, Work, WorkEnd};
use springtide_pool::{Machine, MachineId, Phase, Time};
use std::fs;
use std::process::Stdio;
use std::time::Duration;
use support::{Server, helper};
use tokio::sync::mpsc;

/// A server, the daemon's ways to it, and the machine as its state knows it.
struct Scene {
    server: Server,
    ways: Ways,
    record: MachineRecord,
    passing: Passing,
    told: mpsc::UnboundedReceiver<Happening>,
}

impl Scene {
    /// A machine that lets nobody in yet.
    fn booting() -> Scene {
        let server = Server::start();
        fs::write(server.path("authorized"), "").unwrap();
        let options = WaysOptions {
            ssh: SshOptions {
                homes: vec![server.text("home")],
                ..SshOptions::default()
            },
            lease: server.text("lease"),
            refused: Duration::ZERO,
            again: Duration::ZERO,
        };
        let ways = Ways::with_options(helper(), &server.path("state/ssh"), options).unwrap();
        let target = server.target();
        let reach = serde_json::json!({
            "ssh": {"host": target.host, "port": target.port, "user": target.user}
        });
        let record = MachineRecord {
            machine: Machine {
                id: MachineId(7),
                phase: Phase::Intended { since: Time(0) },
                builds: 0,
                made: Time(0),
                interrupted: false,
            },
            name: "ci-1".into(),
            token: "3f6c".into(),
            provider_id: Some("i-1".into()),
            scope: String::new(),
            reach: Some(reach.to_string()),
            lease_until: Time(0),
            removal_accepted: false,
            boot: Boot::default(),
            keep: false,
        };
        let (to, told) = mpsc::unbounded_channel();
        Scene {
            server,
            ways,
            record,
            passing: Passing::new(MachineId(7), to),
            told,
        }
    }

    /// One that lets the manager in.
    async fn booted() -> Scene {
        let scene = Scene::booting();
        scene.let_in().await;
        scene
    }

    async fn let_in(&self) {
        let key = self.ways.public_key(&self.record.scope).await.unwrap();
        fs::write(self.server.path("authorized"), key).unwrap();
    }

    /// Looks once: whether it is ready, and the stages it was found to have passed.
    async fn look(&mut self, ready_command: Option<&str>) -> (bool, Vec<Stage>) {
        let look = self.ways.ready(&self.record, ready_command, &self.passing);
        let ready = look.await;
        let mut stages = Vec::new();
        while let Ok(told) = self.told.try_recv() {
            match told {
                Happening::Passed(MachineId(7), stage) => {
                    self.record.boot.pass(stage, Time(1));
                    stages.push(stage);
                }
                other => panic!("not of a boot: {other:?}"),
            }
        }
        (ready, stages)
    }

    fn waits_for(&self) -> String {
        self.ways.waits_for("ci-1").unwrap_or_default()
    }
}

#[tokio::test]
async fn a_machine_is_ready_when_it_has_passed_every_stage_and_each_is_told_once() {
    let mut scene = Scene::booting();
    let port = scene.server.port;
    let elsewhere = scene.record.reach.clone();
    let nobody = elsewhere
        .as_deref()
        .unwrap()
        .replace(&port.to_string(), "1");
    scene.record.reach = Some(nobody);
    assert_eq!(scene.look(None).await, (false, vec![]));
    assert!(
        scene.waits_for().contains("can't be reached"),
        "{}",
        scene.waits_for()
    );

    scene.record.reach = elsewhere;
    assert_eq!(scene.look(None).await, (false, vec![Stage::Tcp]));
    assert!(
        scene.waits_for().contains("refuses"),
        "{}",
        scene.waits_for()
    );

    scene.let_in().await;
    let flag = scene.server.text("it is ready");
    let command = format!("test -e '{flag}' || {{ echo 'not yet' >&2; exit 4; }}");
    let rest = vec![Stage::Ssh, Stage::FirstBoot];
    assert_eq!(scene.look(Some(&command)).await, (false, rest));
    assert_eq!(
        scene.waits_for(),
        "ready_command ended with exit code 4: not yet"
    );

    fs::write(&flag, "").unwrap();
    assert_eq!(scene.look(Some(&command)).await, (true, vec![]));
    assert_eq!(scene.waits_for(), "");
    assert_eq!(scene.server.logins(), 1, "one connection does for all");
}

#[tokio::test]
async fn a_lease_is_wound_where_there_is_a_timer_and_its_lack_is_told() {
    let scene = Scene::booted().await;
    let lease = scene.server.path("lease");
    let none = scene.ways.wind(&scene.record, 3600).await.unwrap_err();
    assert!(matches!(none, NotWound::NoTimer), "{none}");
    fs::write(&lease, "5\n").unwrap();
    scene.ways.wind(&scene.record, 3600).await.unwrap();
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let end: u64 = fs::read_to_string(&lease).unwrap().trim().parse().unwrap();
    assert!(
        (uptime + 3540..=uptime + 3600).contains(&end),
        "{uptime} {end}"
    );
}

#[tokio::test]
async fn work_on_a_machine_runs_over_the_same_way() {
    let scene = Scene::booted().await;
    let way = scene.ways.to(&scene.record).await.unwrap();
    let client = HelperClient::new(way.connection());
    client.hello().await.unwrap();
    let work = Work {
        id: "job".into(),
        program: ["sh", "-c", "echo out; exit 3"].map(String::from).to_vec(),
        directory: scene.server.text("home/builds"),
        environment: Default::default(),
        stdin: Vec::new(),
        files: Vec::new(),
        spool_limit: 1 << 20,
    };
    client.start(&work).await.unwrap();
    let mut follow = client.follow("job", 0).await.unwrap();
    let mut said = Vec::new();
    let end = loop {
        match follow.next().await.unwrap() {
            Some(Output::Bytes { bytes, .. }) => said.extend_from_slice(&bytes),
            Some(Output::Ended(end)) => break end,
            None => panic!("no end"),
        }
    };
    assert_eq!(said, b"out\n");
    assert_eq!(end, WorkEnd::Exited { code: 3 });
}

#[tokio::test]
async fn a_person_goes_there_with_the_pinned_key_until_the_machine_is_forgotten() {
    let mut scene = Scene::booted().await;
    let early = scene.ways.door(&scene.record).await.unwrap_err();
    assert!(
        early.to_string().contains("nobody has logged in"),
        "{early}"
    );
    assert!(scene.look(None).await.0);
    let Door::Ssh {
        host,
        port,
        user,
        key,
        known_hosts,
    } = scene.ways.door(&scene.record).await.unwrap()
    else {
        panic!("it is reached by SSH");
    };
    let output = tokio::process::Command::new("ssh")
        .args([
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args(["-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=ci-1"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .arg("-i")
        .arg(key)
        .args(["-p", &port.to_string(), "-l", &user, &host, "echo here"])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"here\n", "{said}");
    scene.ways.forget("ci-1").await;
    assert!(!known_hosts.exists());
    assert!(scene.ways.door(&scene.record).await.is_err());
}

#[tokio::test]
async fn a_machine_with_another_host_key_is_not_ready_and_says_so() {
    let mut scene = Scene::booted().await;
    assert!(scene.look(None).await.0);
    let other = Scene::booted().await;
    let there = format!("\"port\":{}", scene.server.port);
    let elsewhere = format!("\"port\":{}", other.server.port);
    let reach = scene.record.reach.as_deref().unwrap();
    scene.record.reach = Some(reach.replace(&there, &elsewhere));
    let key = scene.ways.public_key("").await.unwrap();
    fs::write(other.server.path("authorized"), key).unwrap();
    assert_eq!(scene.look(None).await, (false, vec![]));
    assert!(
        scene.waits_for().contains("host key"),
        "{}",
        scene.waits_for()
    );
}
