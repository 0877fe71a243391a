use super::*;
use springtide_sdk::{Output, Process, ProcessError, testing::context};
use std::cell::RefCell;

/// A tool that gives one answer and keeps what it was asked.
struct Fake {
    answer: Result<Output, ProcessError>,
    asked: RefCell<Vec<(String, Vec<String>, serde_json::Value)>>,
}

impl Fake {
    fn saying(text: &str) -> Self {
        Self::answering(Ok(Output {
            code: 0,
            stdout: text.into(),
            stderr: Vec::new(),
            truncated: false,
        }))
    }

    fn answering(answer: Result<Output, ProcessError>) -> Self {
        let asked = RefCell::default();
        Self { answer, asked }
    }

    fn host(&self) -> Host<'_> {
        Host {
            process: self,
            ..Host::refusing()
        }
    }
}

impl Process for Fake {
    fn run(&self, tool: &str, arguments: &[String], stdin: &[u8]) -> Result<Output, ProcessError> {
        let call = serde_json::from_slice(stdin).unwrap();
        self.asked
            .borrow_mut()
            .push((tool.into(), arguments.into(), call));
        self.answer.clone()
    }
}

fn creation() -> Creation {
    Creation {
        token: "t1".into(),
        name: "ci-1".into(),
        owner: "owner".into(),
        pool: "pool".into(),
        manager: "host".into(),
        lease_until: 1000,
        user_data: None,
        ssh_key: None,
        labels: vec![detail("team", "a".into())],
    }
}

const RUNNING: &str = r#"{"id":"ci-1","name":"ci-1","token":"t1","owner":"owner","pool":"pool","manager":"host","lease_until":1000,"created_at":900,"state":"running","directory":"/machines/ci-1","booted":BOOTED}"#;

#[test]
fn create_asks_the_tool_for_the_machine_with_the_delays_dialled() {
    let fake = Fake::saying(&format!(
        r#"{{"ok":{}}}"#,
        RUNNING.replace("BOOTED", "false")
    ));
    let settings = context(r#"{"local-boot-delay": 800, "local-create-delay": 5}"#);
    let machine = Local::create(&fake.host(), &settings, &creation()).unwrap();
    assert_eq!(machine.state, MachineState::Running);
    assert_eq!(machine.reach, None, "it has not booted");
    let asked = fake.asked.borrow();
    let (tool, arguments, call) = &asked[0];
    assert_eq!(tool, "springtide-local");
    assert_eq!(arguments, &["local", "create"]);
    assert_eq!(
        *call,
        json!({
            "slow": 0, "token": "t1", "name": "ci-1", "owner": "owner", "pool": "pool",
            "manager": "host", "lease_until": 1000, "labels": {"team": "a"},
            "create_delay": 5, "boot_delay": 800, "vanish_after": null,
        })
    );
}

#[test]
fn a_machine_is_reached_by_its_directory_once_it_has_booted() {
    let fake = Fake::saying(&format!(
        r#"{{"ok":[{}]}}"#,
        RUNNING.replace("BOOTED", "true")
    ));
    let machines = Local::list_machines(&fake.host(), &context("{}")).unwrap();
    assert_eq!(
        machines[0].reach,
        Some(Reach::Process("/machines/ci-1".into()))
    );
    assert_eq!(machines[0].billing, Billing::Free);
}

#[test]
fn a_create_that_is_to_fail_asks_for_nothing() {
    let fake = Fake::saying("");
    let settings = context(r#"{"local-fail-create": 100}"#);
    let failed = Local::create(&fake.host(), &settings, &creation());
    assert!(matches!(
        failed,
        Err(PluginError::Capacity(_) | PluginError::Transient(_))
    ));
    assert!(fake.asked.borrow().is_empty());
}

#[test]
fn a_boot_that_is_to_hang_has_no_delay_but_none() {
    let fake = Fake::saying(&format!(
        r#"{{"ok":{}}}"#,
        RUNNING.replace("BOOTED", "false")
    ));
    let settings = context(r#"{"local-fail-boot": 100, "local-vanish": 100}"#);
    Local::create(&fake.host(), &settings, &creation()).unwrap();
    let call = &fake.asked.borrow()[0].2;
    assert_eq!(call["boot_delay"], serde_json::Value::Null);
    assert_eq!(call["vanish_after"], 60_000);
}

#[test]
fn what_the_tool_says_becomes_a_typed_error() {
    let said = |kind: &str| {
        Fake::saying(&format!(
            r#"{{"error":{{"kind":"{kind}","message":"why"}}}}"#
        ))
    };
    let output = |stdout: &str, truncated| Output {
        code: 137,
        stdout: stdout.into(),
        stderr: b"killed\n".to_vec(),
        truncated,
    };
    let refused = || Err(ProcessError::Denied("no grant".into()));
    let failed = || Err(ProcessError::Failed("gone".into()));
    let cases = [
        ("not-found", said("not-found")),
        ("permanent", said("bad-call")),
        ("capacity", said("capacity")),
        ("transient", said("failed")),
        ("other", said("new-in-a-later-version")),
        ("denied", Fake::answering(refused())),
        ("transient", Fake::answering(failed())),
        ("transient", Fake::answering(Err(ProcessError::TimedOut))),
        ("transient", Fake::answering(Ok(output("", false)))),
        (
            "permanent",
            Fake::answering(Ok(output(r#"{"ok":null}"#, true))),
        ),
    ];
    for (index, (wanted, fake)) in cases.iter().enumerate() {
        let error = Local::destroy(&fake.host(), &context("{}"), "ci-1").unwrap_err();
        let sort = match error {
            PluginError::NotFound(_) => "not-found",
            PluginError::Permanent(_) => "permanent",
            PluginError::Capacity(_) => "capacity",
            PluginError::Transient(_) => "transient",
            PluginError::Denied(_) => "denied",
            PluginError::Other(_) => "other",
            error => panic!("case {index}: {error:?}"),
        };
        assert_eq!(sort, *wanted, "case {index}");
    }
}

#[test]
fn a_call_that_answers_nothing_is_a_success() {
    let fake = Fake::saying(r#"{"ok":null}"#);
    let settings = context(r#"{"local-destroy-delay": 7, "local-slow": 3}"#);
    Local::destroy(&fake.host(), &settings, "ci-1").unwrap();
    Local::renew_leases(&fake.host(), &settings, &["ci-1".into()], 2000).unwrap();
    let asked = fake.asked.borrow();
    assert_eq!(asked[0].2, json!({"slow": 3, "id": "ci-1", "delay": 7}));
    assert_eq!(
        asked[1].2,
        json!({"slow": 3, "ids": ["ci-1"], "until": 2000})
    );
}

#[test]
fn it_asks_for_its_one_tool_alone() {
    let description = Local::describe();
    assert_eq!(description.name, "local");
    assert_eq!(
        description.requests,
        [Request::Tool("springtide-local".into())]
    );
}
