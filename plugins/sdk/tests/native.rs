//! A policy and a driver tested without a host, as their authors do.

use springtide_sdk::testing::{NoZones, context, targets, view};
use springtide_sdk::{
    Billing, CallContext, Creation, Decision, Description, Driver, Host, Kind, Level, Machine,
    MachineState, Output, Patch, PluginError, Policy, Process, ProcessError, Targets, View, Zones,
    decision, description, unchanged,
};

struct Night;

impl Policy for Night {
    fn describe() -> Description {
        description("night", "1.0.0", Kind::Policy, r#"{"type":"object"}"#)
    }

    fn evaluate(
        zones: &dyn Zones,
        context: &CallContext,
        view: &View,
        _: &Targets,
        _: &[u8],
    ) -> Result<Decision, PluginError> {
        springtide_sdk::log(Level::Debug, "asked");
        let civil = zones
            .civil_time(&context.settings, view.now)
            .map_err(PluginError::InvalidConfig)?;
        let patch = Patch {
            idle_count: (civil.hour >= 22).then_some(0),
            ..unchanged()
        };
        Ok(decision(patch, format!("it is {} o'clock", civil.hour)))
    }
}

struct Clock(u32);

impl Zones for Clock {
    fn civil_time(&self, zone: &str, _: u32) -> Result<springtide_sdk::Civil, String> {
        if zone != "UTC" {
            return Err(format!("there is no zone \"{zone}\""));
        }
        Ok(springtide_sdk::Civil {
            year: 2026,
            month: 3,
            day: 2,
            hour: self.0,
            minute: 0,
            second: 0,
            weekday: 1,
            offset: 0,
            next_change: None,
            data_version: "test".into(),
        })
    }
}

#[test]
fn a_policy_gets_the_tests_own_clocks() {
    let at = |hour| Night::evaluate(&Clock(hour), &context("UTC"), &view(0), &targets(), &[]);
    assert_eq!(at(9).unwrap().patch, unchanged());
    let night = at(23).unwrap();
    assert_eq!(night.patch.idle_count, Some(0));
    assert_eq!(night.reason, "it is 23 o'clock");
    assert_eq!(
        Night::evaluate(&Clock(9), &context("Mars"), &view(0), &targets(), &[]),
        Err(PluginError::InvalidConfig(
            "there is no zone \"Mars\"".into()
        ))
    );
}

#[test]
#[should_panic(expected = "UTC")]
fn a_policy_that_should_need_no_clocks_has_none() {
    Night::evaluate(&NoZones, &context("UTC"), &view(0), &targets(), &[]).ok();
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let cut = decision(unchanged(), "é".repeat(600) + "x").reason;
    assert_eq!(cut, "é".repeat(500));
    let cut = decision(unchanged(), "x".to_owned() + &"é".repeat(600)).reason;
    assert_eq!(cut.len(), 999);
}

/// A driver that asks a tool, and knows nothing but its list.
struct Tool;

impl Driver for Tool {
    fn describe() -> Description {
        description("tool", "1.0.0", Kind::Driver, r#"{"type":"object"}"#)
    }

    fn create(host: &Host, _: &CallContext, creation: &Creation) -> Result<Machine, PluginError> {
        host.process
            .run("make", std::slice::from_ref(&creation.name), &[])
            .map_err(|error| PluginError::Transient(format!("making it: {error}")))?;
        Ok(machine(&creation.name))
    }

    fn list_machines(host: &Host, _: &CallContext) -> Result<Vec<Machine>, PluginError> {
        let output = host
            .process
            .run("list", &[], &[])
            .map_err(|error| PluginError::Denied(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(machine).collect())
    }

    fn destroy(_: &Host, _: &CallContext, _: &str) -> Result<(), PluginError> {
        Ok(())
    }
}

fn machine(name: &str) -> Machine {
    Machine {
        id: format!("id-{name}"),
        name: name.into(),
        token: String::new(),
        owner: String::new(),
        pool: String::new(),
        lease_until: 0,
        created_at: 0,
        state: MachineState::Running,
        reach: None,
        billing: Billing::Free,
        details: Vec::new(),
    }
}

struct Lists(&'static str);

impl Process for Lists {
    fn run(&self, tool: &str, _: &[String], _: &[u8]) -> Result<Output, ProcessError> {
        assert_eq!(tool, "list");
        Ok(Output {
            code: 0,
            stdout: self.0.into(),
            stderr: Vec::new(),
            truncated: false,
        })
    }
}

#[test]
fn a_driver_that_only_lists_answers_the_other_questions_too() {
    let process = Lists("a\nb\n");
    let host = Host {
        process: &process,
        ..Host::refusing()
    };
    let context = context("{}");
    let found = Tool::get(&host, &context, "id-b").unwrap();
    assert_eq!(found, machine("b"));
    assert_eq!(
        Tool::get(&host, &context, "id-c"),
        Err(PluginError::NotFound("there is no machine id-c".into()))
    );
    assert_eq!(Tool::renew_leases(&host, &context, &[], 0), Ok(()));
    assert_eq!(Tool::list_leftovers(&host, &context), Ok(Vec::new()));
}

#[test]
fn a_host_that_grants_nothing_refuses_everything() {
    let refused = Tool::list_machines(&Host::refusing(), &context("{}"));
    assert!(
        matches!(refused, Err(PluginError::Denied(_))),
        "{refused:?}"
    );
    let host = Host::refusing();
    assert!(host.files.put("key", b"").is_err() && host.files.remove("key").is_err());
}
