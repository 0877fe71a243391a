//! The policy as a native call, with clocks of the test's own.

use super::*;
use springtide_sdk::{Civil, Counts, Limits};

/// Berlin on Monday, 2 March 2026, 10:00:00, and UTC an hour earlier.
struct Clocks;

impl Zones for Clocks {
    fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String> {
        let hour = match zone {
            "Europe/Berlin" => 10,
            "UTC" => 9,
            _ => return Err(format!("there is no zone \"{zone}\"")),
        };
        assert_eq!(at, 1_772_442_000);
        Ok(Civil {
            year: 2026,
            month: 3,
            day: 2,
            hour,
            minute: 0,
            second: 0,
            weekday: 1,
            offset: 3600,
            next_change: None,
            data_version: "test".into(),
        })
    }
}

fn evaluate(settings: &str) -> Result<Decision, PluginError> {
    let counts = Counts {
        intended: 0,
        creating: 0,
        booting: 0,
        idle: 1,
        reserved: 0,
        busy: 2,
        draining: 0,
        retiring: 0,
        missing: 0,
        held: 0,
    };
    let limits = Limits {
        limit: 0,
        max_growth_rate: 0,
        max_builds: 0,
        max_jobs: 0,
    };
    let view = View {
        now: 1_772_442_000,
        machines: counts,
        limits,
        jobs_held: 0,
        queue: None,
        boot_times: Vec::new(),
    };
    let proposal = Targets {
        idle_count: 2,
        idle_count_min: 0,
        idle_scale_factor: 0.0,
        idle_time: 1800,
        wanted: 0,
        ceiling: None,
        wake_at: None,
    };
    let context = CallContext {
        runner: "elastic".into(),
        settings: settings.into(),
    };
    OffPeak::evaluate(&Clocks, &context, &view, &proposal, &[])
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
