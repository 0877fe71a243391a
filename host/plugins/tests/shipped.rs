//! The components the project ships, loaded and called as the daemon does.

mod common;

use common::shipped;
use springtide_plugins::contract::{CallContext, Kind, PluginError, Targets, View};
use springtide_plugins::{CallError, Host, HostOptions, Plugin, Source};

fn load(name: &str) -> Plugin {
    let host = Host::new(&HostOptions::default()).unwrap();
    host.load(&Source::file(shipped(name))).unwrap()
}

fn context(settings: &str) -> CallContext {
    CallContext {
        runner: "elastic".into(),
        owner: String::new(),
        settings: settings.into(),
    }
}

#[test]
fn off_peak_answers_as_the_contract_shows() {
    let plugin = load("off-peak");
    assert_eq!(plugin.kind(), Kind::Policy);
    let settings = r#"{"autoscaling":[{"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"Europe/Berlin","IdleCount":5,"IdleTime":600}]}"#;
    let view: View =
        serde_json::from_str(r#"{"now":1772442000,"machines":{"idle":1,"busy":2}}"#).unwrap();
    let proposal = Targets {
        idle_count: 2,
        idle_time: 1800,
        ..Targets::default()
    };
    let decision = plugin
        .evaluate(&context(settings), &view, &proposal, &[])
        .unwrap();
    assert_eq!(decision.patch.idle_count, Some(5));
    assert_eq!(decision.patch.idle_time, Some(600));
    assert!(!decision.reason.is_empty());
    let again = plugin.evaluate(&context(settings), &view, &proposal, &[]);
    assert_eq!(again, Ok(decision), "the same input gives the same bytes");
}

#[test]
fn settings_that_can_not_work_are_an_answer_and_no_failure() {
    let plugin = load("off-peak");
    let settings = r#"{"autoscaling":[{"Periods":["nonsense"]}]}"#;
    let error = plugin
        .evaluate(
            &context(settings),
            &View::default(),
            &Targets::default(),
            &[],
        )
        .unwrap_err();
    assert!(error.is_answer());
    let CallError::Plugin(PluginError::InvalidConfig(text)) = error else {
        panic!("{error:?}");
    };
    assert!(text.contains("nonsense"), "{text}");
}

#[test]
fn queue_depth_asks_for_machines_for_the_jobs_that_wait() {
    let plugin = load("queue-depth");
    let view = r#"{"now":1772442000,"queue":{"waiting":[{"count":3}],"run-untagged":true}}"#;
    let view: View = serde_json::from_str(view).unwrap();
    let decision = plugin
        .evaluate(&context("{}"), &view, &Targets::default(), &[])
        .unwrap();
    assert_eq!(decision.patch.wanted, Some(3));
}
