//! The driver `local` against its provider, as the daemon runs the two, and the machines it makes.

mod support;

use springtide_driver_local::Local;
use springtide_machines::{HelperClient, HelperError, ProcessConnection, Work, WorkEnd};
use springtide_sdk::{
    CallContext, Creation, Driver, Host, Machine, MachineState, Output, PluginError, Process,
    ProcessError, Reach, testing::context,
};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{HELPER, lives, pid_in, until};
use tempfile::TempDir;

/// The tool as the daemon grants it: the helper, with the root in its environment.
struct Tool {
    root: TempDir,
}

impl Process for Tool {
    fn run(&self, tool: &str, arguments: &[String], stdin: &[u8]) -> Result<Output, ProcessError> {
        assert_eq!(tool, "springtide-local");
        let failed = |error: std::io::Error| ProcessError::Failed(error.to_string());
        let mut child = Command::new(HELPER)
            .args(arguments)
            .env_clear()
            .env("SPRINGTIDE_LOCAL_ROOT", self.root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().map_err(failed)?;
        Ok(Output {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap()),
            stdout: output.stdout,
            stderr: output.stderr,
            truncated: false,
        })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        for machine in Local::list_machines(&self.host(), &context("{}")).unwrap_or_default() {
            Local::destroy(&self.host(), &context("{}"), &machine.id).unwrap();
        }
    }
}

impl Tool {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root }
    }

    fn host(&self) -> Host<'_> {
        Host {
            process: self,
            ..Host::refusing()
        }
    }

    fn create(&self, settings: &str, name: &str, token: &str) -> Result<Machine, PluginError> {
        Local::create(&self.host(), &context(settings), &creation(name, token))
    }

    fn list(&self) -> Vec<Machine> {
        Local::list_machines(&self.host(), &none()).unwrap()
    }

    fn state(&self, name: &str) -> Option<MachineState> {
        let machines = self.list();
        machines
            .iter()
            .find(|machine| machine.name == name)
            .map(|machine| machine.state)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn anchor(&self, name: &str) -> i32 {
        let text = std::fs::read_to_string(self.path(name).join("machine.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["anchor"].as_i64().unwrap().try_into().unwrap()
    }

    fn is_empty(&self) -> bool {
        let mut entries = std::fs::read_dir(self.root.path()).unwrap();
        entries.all(|entry| entry.unwrap().file_name() == ".lock")
    }
}

fn none() -> CallContext {
    context("{}")
}

fn creation(name: &str, token: &str) -> Creation {
    Creation {
        token: token.into(),
        name: name.into(),
        owner: "owner".into(),
        pool: "pool".into(),
        manager: "host".into(),
        lease_until: seconds() + 3600,
        user_data: None,
        ssh_key: None,
        labels: Vec::new(),
    }
}

fn seconds() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().try_into().unwrap()
}

fn client(directory: &Path) -> HelperClient {
    HelperClient::new(Arc::new(ProcessConnection::new(HELPER, directory)))
}

fn script(directory: &Path, script: &str) -> Work {
    Work {
        id: "job-1".into(),
        program: vec!["sh".into(), "-c".into(), script.into()],
        directory: directory.join("builds").to_str().unwrap().into(),
        environment: Default::default(),
        stdin: Vec::new(),
        files: Vec::new(),
        spool_limit: 1 << 20,
    }
}

#[tokio::test]
async fn a_machine_is_made_boots_runs_a_job_and_goes_with_all_that_runs_on_it() {
    let tool = Tool::new();
    let made = tool
        .create(r#"{"local-boot-delay": 300}"#, "m1", "t1")
        .unwrap();
    assert_eq!((made.state, made.reach), (MachineState::Running, None));
    let client = client(&tool.path("m1"));
    let early = client.hello().await.unwrap_err();
    assert!(matches!(early, HelperError::NotReady { .. }), "{early}");
    assert!(early.is_transient());
    until("it has booted", || tool.list()[0].reach.is_some()).await;
    let there = tool.path("m1").to_str().unwrap().to_owned();
    assert_eq!(tool.list()[0].reach, Some(Reach::Process(there)));
    client.hello().await.unwrap();
    let work = script(
        &tool.path("m1"),
        "echo $$ > pid; setsid sleep 100 & echo $! > stray; wait",
    );
    client.start(&work).await.unwrap();
    let builds = tool.path("m1").join("builds");
    let (leader, stray) = (
        pid_in(builds.join("pid")).await,
        pid_in(builds.join("stray")).await,
    );
    let anchor = tool.anchor("m1");
    // As Go leaves its module cache.
    let read_only = builds.join("mod/cache");
    std::fs::create_dir_all(&read_only).unwrap();
    std::fs::write(read_only.join("file"), "").unwrap();
    Command::new("chmod")
        .args(["-R", "a-w"])
        .arg(&builds)
        .status()
        .unwrap();
    Local::destroy(&tool.host(), &none(), "m1").unwrap();
    assert!(!lives(leader) && !lives(stray) && !lives(anchor));
    assert!(tool.is_empty());
    Local::destroy(&tool.host(), &none(), "m1").unwrap();
    let gone = client.hello().await.unwrap_err();
    assert!(matches!(gone, HelperError::Connect(_)), "{gone}");
    let missing = Local::get(&tool.host(), &none(), "m1");
    assert!(matches!(missing, Err(PluginError::NotFound(_))));
}

#[test]
fn one_token_makes_one_machine_however_many_ask_at_once() {
    let tool = Tool::new();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| tool.create("{}", "m1", "t1").unwrap().id))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(ids, vec!["m1"; 8]);
    assert_eq!(tool.list().len(), 1);
    let other = tool.create("{}", "m1", "t2");
    assert!(matches!(other, Err(PluginError::Permanent(_))), "{other:?}");
}

#[tokio::test]
async fn a_machine_is_created_for_a_while_and_removed_for_a_while() {
    let tool = Tool::new();
    let settings = r#"{"local-create-delay": 300, "local-destroy-delay": 300}"#;
    let made = tool.create(settings, "m1", "t1").unwrap();
    assert_eq!(made.state, MachineState::Creating);
    until("it runs", || {
        tool.state("m1") == Some(MachineState::Running)
    })
    .await;
    Local::destroy(&tool.host(), &context(settings), "m1").unwrap();
    assert_eq!(tool.state("m1"), Some(MachineState::Removing));
    let again = || Local::destroy(&tool.host(), &context(settings), "m1").unwrap();
    until("it is gone", || {
        again();
        tool.state("m1").is_none()
    })
    .await;
    assert!(tool.is_empty());
}

#[tokio::test]
async fn a_machine_whose_lease_runs_out_switches_itself_off_with_its_work() {
    let tool = Tool::new();
    tool.create("{}", "m1", "t1").unwrap();
    tool.create("{}", "m2", "t2").unwrap();
    let work = script(&tool.path("m1"), "echo $$ > pid; sleep 100");
    client(&tool.path("m1")).start(&work).await.unwrap();
    let pid = pid_in(tool.path("m1").join("builds/pid")).await;
    let ids = ["m1".to_owned(), "gone".to_owned()];
    Local::renew_leases(&tool.host(), &none(), &ids, seconds() - 1).unwrap();
    until("it is off", || {
        tool.state("m1") == Some(MachineState::Stopped)
    })
    .await;
    assert!(!lives(pid));
    let end = client(&tool.path("m1")).result("job-1").await.unwrap();
    assert!(
        matches!(end, Some(WorkEnd::Signaled { signal: 9 })),
        "{end:?}"
    );
    let refused = client(&tool.path("m1")).hello().await.unwrap_err();
    assert!(matches!(refused, HelperError::NotReady { .. }));
    assert_eq!(tool.state("m2"), Some(MachineState::Running));
}

#[tokio::test]
async fn a_machine_whose_process_was_killed_is_stopped_and_can_be_destroyed() {
    let tool = Tool::new();
    tool.create("{}", "m1", "t1").unwrap();
    let killed = Command::new("kill")
        .args(["-9", &tool.anchor("m1").to_string()])
        .status();
    assert!(killed.unwrap().success());
    until("it is off", || {
        tool.state("m1") == Some(MachineState::Stopped)
    })
    .await;
    // A create with its token finds it as it is.
    let again = tool.create("{}", "m1", "t1").unwrap();
    assert_eq!(again.state, MachineState::Stopped);
    Local::destroy(&tool.host(), &none(), "m1").unwrap();
    assert!(tool.is_empty());
}

#[tokio::test]
async fn some_switch_themselves_off_and_some_never_boot() {
    let tool = Tool::new();
    tool.create(
        r#"{"local-vanish": 100, "local-vanish-after": 1}"#,
        "m1",
        "t1",
    )
    .unwrap();
    tool.create(r#"{"local-fail-boot": 100}"#, "m2", "t2")
        .unwrap();
    until("it is off", || {
        tool.state("m1") == Some(MachineState::Stopped)
    })
    .await;
    let stuck = Local::get(&tool.host(), &none(), "m2").unwrap();
    assert_eq!((stuck.state, stuck.reach), (MachineState::Running, None));
    let stuck = client(&tool.path("m2")).hello().await.unwrap_err();
    assert!(matches!(stuck, HelperError::NotReady { .. }));
}

#[test]
fn a_create_that_was_cut_short_when_the_machine_was_on_is_carried_further() {
    let tool = Tool::new();
    tool.create("{}", "m1", "t1").unwrap();
    let anchor = tool.anchor("m1");
    let path = tool.path("m1").join("machine.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let cut = text.replace(&format!("\"anchor\":{anchor}"), "\"anchor\":null");
    assert_ne!(cut, text);
    std::fs::write(&path, cut).unwrap();
    assert_eq!(tool.list()[0].state, MachineState::Creating);
    let again = tool.create("{}", "m1", "t1").unwrap();
    assert_eq!(again.state, MachineState::Running);
    assert_eq!(tool.anchor("m1"), anchor);
}

#[test]
fn calls_that_were_cut_short_leave_leftovers_with_their_owner_that_can_be_removed() {
    let tool = Tool::new();
    tool.create("{}", "m1", "t1").unwrap();
    let anchor = tool.anchor("m1");
    std::fs::rename(tool.path("m1"), tool.path(".trash-m1-1")).unwrap();
    std::fs::create_dir(tool.path(".new-m2")).unwrap();
    assert!(tool.list().is_empty());
    let leftovers = Local::list_leftovers(&tool.host(), &none()).unwrap();
    let told: Vec<_> = leftovers
        .iter()
        .map(|leftover| (leftover.sort.as_str(), leftover.owner.as_str()))
        .collect();
    // What has no record yet has nothing in it, and is gone with the look.
    assert_eq!(told, [("half-removed-machine", "owner")]);
    for leftover in &leftovers {
        Local::destroy_leftover(&tool.host(), &none(), &leftover.id).unwrap();
        Local::destroy_leftover(&tool.host(), &none(), &leftover.id).unwrap();
    }
    assert!(tool.is_empty() && !lives(anchor));
    let machine = Local::destroy_leftover(&tool.host(), &none(), "../m1");
    assert!(matches!(machine, Err(PluginError::Permanent(_))));
}

#[test]
fn a_slow_provider_takes_its_time() {
    let tool = Tool::new();
    let started = Instant::now();
    Local::list_machines(&tool.host(), &context(r#"{"local-slow": 100}"#)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
}
