//! The policy as a native call.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use springtide_sdk::Waiting;
use springtide_sdk::testing::{NoZones, context, queue, targets, view};

fn waiting(tags: &[&str], count: u32, oldest_age: u32) -> Waiting {
    Waiting {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        count,
        oldest_age,
    }
}

/// A runner with the tags `docker` and `linux` that takes untagged jobs.
fn seen(sets: &[Waiting]) -> View {
    View {
        queue: Some(Queue {
            waiting: sets.to_vec(),
            tags: vec!["docker".into(), "linux".into()],
            run_untagged: true,
            ..queue()
        }),
        ..view(1_772_442_000)
    }
}

fn call(settings: &str, view: &View, state: &[u8]) -> Result<Decision, PluginError> {
    QueueDepth::evaluate(&NoZones, &context(settings), view, &targets(), state)
}

fn wanted(settings: &str, view: &View) -> u32 {
    let decision = call(settings, view, &[]).unwrap();
    let wanted = decision.patch.wanted.unwrap();
    let only = Patch {
        wanted: Some(wanted),
        ..unchanged()
    };
    assert_eq!(decision.patch, only, "nothing else is its business");
    wanted
}

#[test]
fn a_machine_for_each_job_that_waits_and_that_the_tags_take() {
    let cases: [(&[Waiting], u32); 9] = [
        (&[], 0),
        (&[waiting(&[], 4, 0)], 4),
        (&[waiting(&["docker"], 3, 0)], 3),
        (&[waiting(&["docker", "linux"], 3, 0)], 3),
        (&[waiting(&["docker", "gpu"], 3, 0)], 0),
        (&[waiting(&["Docker"], 3, 0)], 0),
        (&[waiting(&["gpu"], 9, 0), waiting(&["linux"], 2, 0)], 2),
        (&[waiting(&[], 1, 0), waiting(&["linux"], 2, 0)], 3),
        (
            &[waiting(&[], u32::MAX, 0), waiting(&["linux"], 2, 0)],
            u32::MAX,
        ),
    ];
    for (sets, expected) in cases {
        assert_eq!(wanted("{}", &seen(sets)), expected, "{sets:?}");
    }
    let mut tagged_only = seen(&[waiting(&[], 4, 0), waiting(&["linux"], 2, 0)]);
    tagged_only.queue.as_mut().unwrap().run_untagged = false;
    assert_eq!(wanted("{}", &tagged_only), 2);
}

#[test]
fn the_level_stays_while_machines_are_on_their_way_for_the_pool_takes_them_off() {
    let mut view = seen(&[waiting(&[], 5, 0)]);
    view.machines.booting = 3;
    view.machines.idle = 1;
    view.jobs_held = 2;
    assert_eq!(wanted("{}", &view), 5);
}

#[test]
fn settings_bend_what_is_asked_for() {
    // Settings, jobs, age of the oldest, boot times, machines.
    let cases: [(&str, u32, u32, &[u32], u32); 18] = [
        (r#"{"share":0.5}"#, 10, 0, &[], 5),
        (r#"{"share":0.5}"#, 3, 0, &[], 2),
        (r#"{"share":0.01}"#, 1, 0, &[], 1),
        (r#"{"share":0}"#, 10, 0, &[], 0),
        (r#"{"share":0.5,"target_wait":60}"#, 10, 60, &[], 5),
        (r#"{"share":0.5,"target_wait":60}"#, 10, 61, &[], 10),
        (r#"{"share":0,"target_wait":60}"#, 10, 61, &[], 10),
        (r#"{"jobs_per_machine":4}"#, 10, 0, &[], 3),
        (
            r#"{"jobs_per_machine":4,"target_wait":100}"#,
            12,
            0,
            &[50],
            6,
        ),
        (
            r#"{"jobs_per_machine":4,"target_wait":100}"#,
            12,
            0,
            &[10, 50, 90],
            6,
        ),
        (
            r#"{"jobs_per_machine":4,"target_wait":100}"#,
            12,
            25,
            &[50],
            12,
        ),
        (
            r#"{"jobs_per_machine":4,"target_wait":100}"#,
            12,
            0,
            &[500],
            12,
        ),
        (
            r#"{"jobs_per_machine":4,"target_wait":100}"#,
            12,
            101,
            &[],
            12,
        ),
        (r#"{"floor":2}"#, 0, 0, &[], 2),
        (r#"{"floor":2}"#, 5, 0, &[], 5),
        (r#"{"ceiling":3}"#, 5, 0, &[], 3),
        (r#"{"ceiling":3,"target_wait":1}"#, 5, 900, &[], 3),
        (r#"{"floor":3,"ceiling":3}"#, 0, 0, &[], 3),
    ];
    for (settings, count, age, boot, expected) in cases {
        let mut view = seen(&[waiting(&[], count, age)]);
        view.boot_times = boot.to_vec();
        assert_eq!(
            wanted(settings, &view),
            expected,
            "{settings} {count} {age} {boot:?}"
        );
    }
}

#[test]
fn the_age_of_jobs_that_others_take_does_not_hurry() {
    let view = seen(&[waiting(&["gpu"], 1, 9_000), waiting(&[], 10, 1)]);
    assert_eq!(wanted(r#"{"share":0.5}"#, &view), 5);
}

#[test]
fn without_a_queue_nothing_changes() {
    let decision = call("{}", &view(0), &7_u32.to_le_bytes()).unwrap();
    assert_eq!(decision.patch, unchanged());
    assert!(
        decision.reason.contains("no queue source"),
        "{}",
        decision.reason
    );
    assert!(decision.state.is_empty());
}

#[test]
fn a_stale_queue_makes_no_machine_and_lets_none_go() {
    let fresh = call("{}", &seen(&[waiting(&[], 6, 0)]), &[]).unwrap();
    // Machines on their way, idle, held jobs, idle count; what is wanted then.
    let cases = [
        (4, 2, 0, 0, 6),
        (4, 2, 0, 2, 4),
        (1, 1, 0, 0, 2),
        (0, 0, 0, 0, 0),
        (0, 9, 0, 0, 6),
        (4, 2, 3, 0, 3),
        (1, 1, 0, 5, 0),
    ];
    for (booting, idle, jobs_held, idle_count, expected) in cases {
        let mut view = seen(&[waiting(&[], 99, 0)]);
        view.machines.booting = booting;
        view.machines.idle = idle;
        view.jobs_held = jobs_held;
        let queue = view.queue.as_mut().unwrap();
        queue.stale = true;
        queue.age = 120;
        let proposal = Targets {
            idle_count,
            ..targets()
        };
        let of = |state: &[u8]| {
            QueueDepth::evaluate(&NoZones, &context("{}"), &view, &proposal, state).unwrap()
        };
        let held = of(&fresh.state);
        assert_eq!(held.patch.wanted, Some(expected));
        assert!(held.reason.contains("120 s"), "{}", held.reason);
        let all = expected + idle_count + jobs_held;
        assert!(
            all <= (booting + idle).max(idle_count + jobs_held),
            "none is made"
        );
        assert_eq!(of(&held.state).patch.wanted, Some(expected), "and so on");
        for strange in [&b""[..], b"xyz", b"12345"] {
            assert_eq!(
                of(strange).patch.wanted,
                Some(0),
                "nothing was wanted before"
            );
        }
    }
}

#[test]
fn the_reason_has_the_numbers() {
    let cases = [
        (
            "{}",
            seen(&[]),
            "0 of 0 waiting jobs are this runner's: 0 machines wanted",
        ),
        (
            "{}",
            seen(&[waiting(&["gpu"], 2, 9), waiting(&[], 1, 4)]),
            "1 of 3 waiting jobs are this runner's, the oldest for 4 s: 1 machine wanted",
        ),
        (
            r#"{"share":0.5,"jobs_per_machine":3,"ceiling":1}"#,
            View {
                boot_times: vec![40],
                ..seen(&[waiting(&[], 10, 4)])
            },
            "10 of 10 waiting jobs are this runner's, the oldest for 4 s; 5 of them count; 2 to a machine, which takes 40 s to boot: 1 machine wanted by the ceiling, not 3",
        ),
        (
            r#"{"target_wait":60,"floor":4}"#,
            View {
                machines: springtide_sdk::Counts {
                    booting: 2,
                    creating: 1,
                    ..view(0).machines
                },
                ..seen(&[waiting(&[], 2, 70)])
            },
            "2 of 2 waiting jobs are this runner's, the oldest for 70 s, longer than the 60 s it should: 4 machines wanted by the floor, 3 already on the way",
        ),
    ];
    for (settings, view, expected) in cases {
        assert_eq!(call(settings, &view, &[]).unwrap().reason, expected);
    }
}

#[test]
fn settings_that_cannot_work_are_invalid_config_and_say_what_to_write() {
    let cases = [
        ("", "no JSON object"),
        ("[]", "no JSON object"),
        (r#"{"jobs":1}"#, "unknown field `jobs`"),
        (r#"{"share":"half"}"#, "expected f64"),
        (r#"{"share":1.5}"#, "from 0 to 1"),
        (r#"{"share":-0.1}"#, "from 0 to 1"),
        (r#"{"jobs_per_machine":0}"#, "write 1 or more"),
        (r#"{"jobs_per_machine":-1}"#, "-1"),
        (r#"{"target_wait":0}"#, "write 1 second or more"),
        (r#"{"floor":4,"ceiling":3}"#, "at or below the ceiling"),
    ];
    for (settings, says) in cases {
        // They are looked at though there is no queue.
        match call(settings, &view(0), &[]) {
            Err(PluginError::InvalidConfig(text)) => {
                assert!(text.contains(says), "{settings}: {text}");
            }
            other => panic!("{settings}: {other:?}"),
        }
    }
}

#[test]
fn the_schema_names_every_setting_and_its_default() {
    let schema: serde_json::Value =
        serde_json::from_str(&QueueDepth::describe().settings_schema).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 5);
    let defaults: serde_json::Map<_, _> = properties
        .iter()
        .map(|(name, property)| (name.clone(), property["default"].clone()))
        .collect();
    let text = serde_json::Value::Object(defaults).to_string();
    assert_eq!(Settings::read(&text), Ok(Settings::default()));
}

fn settings() -> impl Strategy<Value = String> {
    (1..9_u32, 1..600_u32, 0..=100_u32, 0..9_u32, 0..30_u32).prop_map(
        |(jobs, wait, share, floor, room)| {
            let ceiling = if room == 0 { 0 } else { floor + room };
            let share = f64::from(share) / 100.0;
            format!(
                r#"{{"jobs_per_machine":{jobs},"target_wait":{wait},"share":{share},"floor":{floor},"ceiling":{ceiling}}}"#
            )
        },
    )
}

fn any_view() -> impl Strategy<Value = View> {
    let tags = vec(
        prop_oneof![Just("docker"), Just("linux"), Just("gpu")],
        0..3,
    );
    let sets = vec((tags, 0..50_u32, 0..700_u32), 0..5);
    let boot = vec(0..300_u32, 0..5);
    (sets, boot, any::<bool>(), 0..9_u32, 0..9_u32).prop_map(|(sets, boot, stale, coming, idle)| {
        let sets: Vec<_> = sets
            .iter()
            .map(|(tags, count, age)| waiting(tags, *count, *age))
            .collect();
        let mut view = seen(&sets);
        view.boot_times = boot;
        view.machines.booting = coming;
        view.machines.idle = idle;
        view.queue.as_mut().unwrap().stale = stale;
        view
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_same_input_gives_the_same_bytes(settings in settings(), view in any_view(), state in vec(any::<u8>(), 0..6)) {
        let once = call(&settings, &view, &state).unwrap();
        prop_assert_eq!(&once, &call(&settings, &view, &state).unwrap());
        prop_assert!(!once.reason.is_empty() && once.reason.len() <= 1_000);
        prop_assert_eq!(once.state.len(), 4);
    }

    #[test]
    fn it_never_asks_for_more_than_the_ceiling(settings in settings(), view in any_view()) {
        let wanted = call(&settings, &view, &[]).unwrap().patch.wanted.unwrap();
        let ceiling = Settings::read(&settings).unwrap().ceiling;
        prop_assert!(ceiling == 0 || wanted <= ceiling);
    }

    #[test]
    fn more_jobs_or_a_longer_wait_never_ask_for_fewer_machines(
        settings in settings(), view in any_view(), more in 0..20_u32, longer in 0..400_u32,
    ) {
        let mut busier = view.clone();
        for set in &mut busier.queue.as_mut().unwrap().waiting {
            set.count += more;
            set.oldest_age += longer;
        }
        let before = call(&settings, &view, &[]).unwrap().patch.wanted;
        prop_assert!(call(&settings, &busier, &[]).unwrap().patch.wanted >= before);
    }
}
