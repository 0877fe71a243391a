//! Cases made by running GitLab Runner's own code: is an instant in a period, and which texts are no
//! period. GitLab Runner looks at the next whole second, so each case is asked one second later.

mod common;

use common::clocks;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use springtide_period::{Fault, Period};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    expr: String,
    timezone: String,
    at: Timestamp,
    in_period: Option<bool>,
    parse_error: Option<String>,
}

/// The wording of GitLab Runner for the same fault.
fn its_words(fault: &Fault) -> String {
    match fault {
        Fault::MissingFields { .. } => "missing field(s)".to_owned(),
        Fault::NoEntry { field } => format!("{field} field: missing directive"),
        Fault::Syntax { field, entry } => format!("syntax error in {field} field: '{entry}'"),
        Fault::Step { entry, .. } => format!("invalid interval {}", entry.to_lowercase()),
        Fault::Backwards { .. } => "a crash".to_owned(),
    }
}

#[test]
fn agrees_with_gitlab_runner_one_second_later() {
    let lines = include_str!("data/cron-periods.jsonl").lines();
    let (mut asked, mut refused, mut wrong) = (0, 0, Vec::new());
    for line in lines {
        let case: Case = serde_json::from_str(line).expect("a case is one line of JSON");
        match (Period::parse(&case.expr), case.in_period, case.parse_error) {
            (Ok(period), Some(expected), None) => {
                asked += 1;
                let zone = TimeZone::get(&case.timezone).expect("the zone is in the IANA data");
                let whole = case.at.as_nanosecond().div_euclid(1_000_000_000);
                let next = i64::try_from(whole + 1).expect("a year of four digits");
                let next = Timestamp::from_second(next).expect("a year of four digits");
                let clocks = clocks(zone.to_datetime(next));
                if period.contains(&clocks) != expected {
                    wrong.push(format!("{line}: we say {}", !expected));
                }
            }
            (Err(error), None, Some(words)) => {
                refused += 1;
                if its_words(error.fault()) != words {
                    wrong.push(format!("{line}: we say {error}"));
                }
            }
            (ours, _, _) => wrong.push(format!("{line}: we read {ours:?}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!((asked, refused), (528, 12), "every case is looked at");
}
