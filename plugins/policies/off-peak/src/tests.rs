//! The policy as a native call, with clocks of the test's own.

use super::*;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use springtide_sdk::Civil;
use springtide_sdk::testing::{context, targets, view};

/// The clocks of all zones, as a host has them; `Local` is UTC here.
struct Iana;

impl Zones for Iana {
    fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String> {
        let name = if matches!(zone, "" | "Local") {
            "UTC"
        } else {
            zone
        };
        let zone = TimeZone::get(name).map_err(|_| format!("there is no zone \"{zone}\""))?;
        let instant = Timestamp::from_second(at.into()).unwrap();
        let clocks = zone.to_datetime(instant);
        let part = |part: i8| u32::try_from(part).unwrap();
        Ok(Civil {
            year: u32::try_from(clocks.year()).unwrap(),
            month: part(clocks.month()),
            day: part(clocks.day()),
            hour: part(clocks.hour()),
            minute: part(clocks.minute()),
            second: part(clocks.second()),
            weekday: part(clocks.weekday().to_sunday_zero_offset()),
            offset: zone.to_offset(instant).seconds(),
            next_change: None,
            data_version: "test".into(),
        })
    }
}

/// Monday, 2 March 2026, 09:00:00 UTC; 10:00 in Berlin.
const MONDAY: u32 = 1_772_442_000;

fn evaluate_at(settings: &str, now: u32) -> Result<Decision, PluginError> {
    let proposal = Targets {
        idle_count: 2,
        idle_time: 1800,
        ..targets()
    };
    OffPeak::evaluate(&Iana, &context(settings), &view(now), &proposal, &[])
}

fn evaluate(settings: &str) -> Result<Decision, PluginError> {
    evaluate_at(settings, MONDAY)
}

/// Idle count, least, factor and time of the patch; the rest must be left alone.
fn patch(settings: &str) -> (Option<u32>, Option<u32>, Option<f64>, Option<u32>) {
    let decision = evaluate(settings).unwrap();
    assert!(!decision.reason.is_empty() && decision.state.is_empty());
    let patch = decision.patch;
    assert!(patch.wanted.is_none() && patch.ceiling.is_none() && patch.wake_at.is_none());
    (
        patch.idle_count,
        patch.idle_count_min,
        patch.idle_scale_factor,
        patch.idle_time,
    )
}

#[test]
fn the_last_section_that_holds_replaces_all_four() {
    let work = r#"{"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"Europe/Berlin","IdleCount":5,"IdleTime":600}"#;
    let always = r#"{"Periods":["* * * * * * *"],"Timezone":"UTC","IdleCount":7,"IdleCountMin":1,"IdleScaleFactor":1.5,"IdleTime":9}"#;
    let never = r#"{"Periods":["* * 3 * * * *"],"Timezone":"UTC","IdleCount":99}"#;
    let of = |sections: &[&str]| format!(r#"{{"autoscaling":[{}]}}"#, sections.join(","));
    let five = (Some(5), Some(0), Some(0.0), Some(600));
    let seven = (Some(7), Some(1), Some(1.5), Some(9));
    assert_eq!(patch(&of(&[work])), five);
    assert_eq!(patch(&of(&[always, work, never])), five);
    assert_eq!(patch(&of(&[work, always])), seven);
    assert_eq!(patch(&of(&[never])), (None, None, None, None));
}

#[test]
fn off_peak_counts_only_without_sections() {
    let keys = r#""OffPeakPeriods":["* * 3 * * * *","* * 10 * * * *"],"OffPeakTimezone":"Europe/Berlin","OffPeakIdleCount":0,"OffPeakIdleTime":60"#;
    assert_eq!(
        patch(&format!("{{{keys}}}")),
        (Some(0), None, None, Some(60))
    );
    let both =
        format!(r#"{{{keys},"autoscaling":[{{"Periods":["* * 3 * * * *"],"Timezone":"UTC"}}]}}"#);
    assert_eq!(patch(&both), (None, None, None, None));
    assert_eq!(patch("{}"), (None, None, None, None));
}

#[test]
fn what_cannot_work_is_invalid_config_and_says_where() {
    let cases = [
        (
            r#"{"autoscaling":[{"Periods":["* * 22-6 * * * *"],"Timezone":"UTC"}]}"#,
            "22-23,0-5",
        ),
        (
            r#"{"autoscaling":[{"Periods":["* * * * * * *"],"Timezone":"UTC"},{"Periods":["nonsense"],"Timezone":"UTC"}]}"#,
            "autoscaling section 2",
        ),
        (
            r#"{"OffPeakPeriods":["* * * * * * *"],"OffPeakTimezone":"Mars"}"#,
            "Mars",
        ),
        (r#"{"autoscaling":[{"Period":[]}]}"#, "Period"),
        (
            r#"{"autoscaling":[{"Timezone":"Mars"}]}"#,
            "section 1: there is no zone",
        ),
        (r#"{"OffPeakTimezone":"Mars"}"#, "Mars"),
        (
            r#"{"autoscaling":[{"IdleScaleFactor":-0.5}]}"#,
            "write 0 or more",
        ),
        (r#"{"autoscaling":[{"IdleCount":-1}]}"#, "-1"),
        (
            r#"{"autoscaling":[{"IdleCount":1},{"IdleTime":4294967296}]}"#,
            "4294967296",
        ),
        ("[]", "settings"),
        ("", "settings"),
    ];
    for (settings, says) in cases {
        match evaluate(settings) {
            Err(PluginError::InvalidConfig(text)) => {
                assert!(text.contains(says), "{settings}: {text}");
            }
            other => panic!("{settings}: {other:?}"),
        }
    }
}

#[test]
fn the_example_of_the_issue_gives_its_patch_and_nothing_more() {
    let settings = r#"{"autoscaling":[{"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"Europe/Berlin","IdleCount":5,"IdleTime":600}]}"#;
    let decision = evaluate(settings).unwrap();
    let expected = Patch {
        idle_count: Some(5),
        idle_count_min: Some(0),
        idle_scale_factor: Some(0.0),
        idle_time: Some(600),
        ..unchanged()
    };
    assert_eq!(decision.patch, expected);
    assert_eq!(
        decision.reason,
        "autoscaling section 1 holds by its period \"* * 9-17 * * mon-fri *\": idle count 5, idle time 600 s"
    );
    assert!(decision.state.is_empty());
}

#[test]
fn a_section_holds_from_the_first_to_the_last_second_of_its_period() {
    let settings = r#"{"autoscaling":[{"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"UTC","IdleCount":5}]}"#;
    let nine = MONDAY;
    let six = MONDAY + 9 * 3600;
    for (now, holds) in [
        (nine - 1, false),
        (nine, true),
        (six - 1, true),
        (six, false),
    ] {
        let patch = evaluate_at(settings, now).unwrap().patch;
        assert_eq!(patch.idle_count.is_some(), holds, "{now}");
    }
}

#[test]
fn zones_are_the_hosts_where_none_is_named() {
    // 09 in UTC, which is the host's here, 10 in Berlin, 04 in New York.
    let cases = [
        ("", 9),
        ("Local", 9),
        ("UTC", 9),
        ("Europe/Berlin", 10),
        ("America/New_York", 4),
    ];
    for (zone, hour) in cases {
        for asked in 0..24 {
            let settings = format!(
                r#"{{"autoscaling":[{{"Periods":["* * {asked} * * * *"],"Timezone":"{zone}","IdleCount":1}}]}}"#
            );
            let held = evaluate(&settings).unwrap().patch.idle_count.is_some();
            assert_eq!(held, asked == hour, "{zone} {asked}");
        }
    }
}

#[test]
fn each_zone_is_asked_for_once() {
    struct Once(std::cell::RefCell<Vec<String>>);
    impl Zones for Once {
        fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String> {
            self.0.borrow_mut().push(zone.into());
            Iana.civil_time(zone, at)
        }
    }
    let section = |zone: &str| {
        format!(r#"{{"Periods":["* * 9 * * * *","* * 11 * * * *"],"Timezone":"{zone}"}}"#)
    };
    let settings = format!(
        r#"{{"autoscaling":[{},{},{}]}}"#,
        section("UTC"),
        section("Europe/Berlin"),
        section("UTC")
    );
    let zones = Once(Vec::new().into());
    let answer = OffPeak::evaluate(&zones, &context(&settings), &view(MONDAY), &targets(), &[]);
    assert!(answer.is_ok());
    assert_eq!(*zones.0.borrow(), ["UTC", "Europe/Berlin"]);
}

#[test]
fn a_period_that_is_over_is_named() {
    let cases = [
        (
            r#"{"OffPeakPeriods":["* * * * * * 2020"]}"#,
            "not off-peak now; the period \"* * * * * * 2020\" never will again",
        ),
        (
            r#"{"OffPeakPeriods":["* * * * * sun *"]}"#,
            "not off-peak now",
        ),
        (
            r#"{"autoscaling":[{"Periods":["* * 3 * * * *"]},{"Periods":["* * * 30 feb * *"]}]}"#,
            "none of 2 autoscaling sections holds now; the period \"* * * 30 feb * *\" never will again",
        ),
    ];
    for (settings, reason) in cases {
        let decision = evaluate(settings).unwrap();
        assert_eq!(decision.reason, reason);
        assert_eq!(decision.patch, unchanged());
        assert!(decision.state.is_empty());
    }
}

/// Cases made by running GitLab Runner's own code, which looks at the next whole second.
#[test]
fn the_cases_of_the_real_code_hold_one_second_later() {
    #[derive(Deserialize)]
    struct Case {
        expr: String,
        timezone: String,
        at: Timestamp,
        in_period: Option<bool>,
    }
    let lines = include_str!("../../../../host/period/tests/data/cron-periods.jsonl").lines();
    let (mut asked, mut refused) = (0, 0);
    for line in lines {
        let case: Case = serde_json::from_str(line).unwrap();
        let now = u32::try_from(case.at.as_nanosecond().div_euclid(1_000_000_000) + 1).unwrap();
        let section =
            serde_json::json!({"Periods": [case.expr], "Timezone": case.timezone, "IdleCount": 3});
        let settings = serde_json::json!({"autoscaling": [section]}).to_string();
        match (evaluate_at(&settings, now), case.in_period) {
            (Ok(decision), Some(expected)) => {
                asked += 1;
                assert_eq!(decision.patch.idle_count, expected.then_some(3), "{line}");
            }
            (Err(PluginError::InvalidConfig(_)), None) => refused += 1,
            (other, _) => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!((asked, refused), (528, 12), "every case is looked at");
}

#[test]
fn the_schema_is_json_and_names_every_setting() {
    let schema: serde_json::Value =
        serde_json::from_str(&OffPeak::describe().settings_schema).unwrap();
    assert_eq!(schema["properties"].as_object().unwrap().len(), 5);
}

#[test]
fn a_long_period_makes_no_long_reason() {
    let long = format!("{}* * * * * * *", " ".repeat(5_000));
    let settings = serde_json::json!({"autoscaling": [{"Periods": [long], "Timezone": "UTC"}]});
    assert!(evaluate(&settings.to_string()).unwrap().reason.len() <= 1_000);
}
