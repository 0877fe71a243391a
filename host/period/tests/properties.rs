//! What holds for any text and any instant, and the days of a month against a model that lists them.

mod common;

use std::collections::BTreeSet;

use common::clocks;
use jiff::civil::{Date, date};
use proptest::collection::vec;
use proptest::prelude::*;
use springtide_period::{Civil, Fault, Period};

/// An entry of the day-of-month or the day-of-week field.
#[derive(Clone, Copy, Debug)]
enum Day {
    All,
    Span(i8, i8, i8),
    Last,
    LastWorkday,
    Workday(i8),
    LastWeekday(i8),
    Nth(i8, i8),
}

impl Day {
    fn text(self) -> String {
        match self {
            Day::All => "*".into(),
            Day::Span(first, last, 1) if first == last => first.to_string(),
            Day::Span(first, last, 1) => format!("{first}-{last}"),
            Day::Span(first, last, step) => format!("{first}-{last}/{step}"),
            Day::Last => "L".into(),
            Day::LastWorkday => "lw".into(),
            Day::Workday(day) => format!("{day}W"),
            Day::LastWeekday(day) => format!("{day}L"),
            Day::Nth(day, week) => format!("{day}#{week}"),
        }
    }
}

fn weekday(date: Date) -> i8 {
    date.weekday().to_sunday_zero_offset()
}

/// Monday to Friday nearest to a date without leaving its month, by trying the dates around it.
fn nearest(target: Date) -> Date {
    let near = |days: i8| {
        let other = target
            .checked_add(jiff::Span::new().days(days))
            .expect("in range");
        let workday = (1..=5).contains(&weekday(other));
        (workday && other.first_of_month() == target.first_of_month()).then_some(other)
    };
    // Saturday has its Friday at -1, Sunday its Monday at 1; at a month's end the other side.
    [0, -1, 1, 2, -2]
        .into_iter()
        .filter(|days| !(weekday(target) == 0 && *days == 2 || weekday(target) == 6 && *days == -2))
        .find_map(near)
        .expect("no month has two days")
}

/// The days of a month that the two fields name, as a list.
fn model(month_days: &[Day], week_days: &[Day], year: i16, month: i8) -> BTreeSet<i8> {
    let first = date(year, month, 1);
    let last = first.last_of_month().day();
    let dates = || (1..=last).map(|day| date(year, month, day));
    let any = |entries: &[Day]| entries.iter().any(|entry| matches!(entry, Day::All));
    let mut days = BTreeSet::new();
    if any(month_days) && any(week_days) {
        return (1..=last).collect();
    }
    if !any(month_days) {
        for entry in month_days {
            match *entry {
                Day::Span(from, to, step) => {
                    days.extend((from..=to.min(last)).step_by(step as usize));
                }
                Day::Last => {
                    days.insert(last);
                }
                Day::LastWorkday => {
                    days.insert(nearest(first.last_of_month()).day());
                }
                Day::Workday(day) if day <= last => {
                    days.insert(nearest(date(year, month, day)).day());
                }
                _ => {}
            }
        }
    }
    if !any(week_days) {
        for entry in week_days {
            let on = |day: i8| dates().filter(move |date| weekday(*date) == day % 7);
            match *entry {
                Day::Span(from, to, step) => (from..=to)
                    .step_by(step as usize)
                    .for_each(|day| days.extend(on(day).map(|date| date.day()))),
                Day::LastWeekday(day) => days.extend(on(day).next_back().map(|date| date.day())),
                Day::Nth(day, week) => {
                    days.extend(on(day).nth(week as usize - 1).map(|date| date.day()));
                }
                _ => {}
            }
        }
    }
    days
}

fn list(entries: &[Day]) -> String {
    entries
        .iter()
        .map(|entry| entry.text())
        .collect::<Vec<_>>()
        .join(",")
}

fn month_day() -> impl Strategy<Value = Day> {
    prop_oneof![
        1 => Just(Day::All),
        4 => (1..=31i8, 1..=31i8, 1..=9i8).prop_map(|(a, b, step)| Day::Span(a, b, step)),
        2 => (1..=31i8).prop_map(|day| Day::Span(day, day, 1)),
        1 => Just(Day::Last),
        2 => Just(Day::LastWorkday),
        4 => (1..=31i8).prop_map(Day::Workday),
    ]
}

fn week_day() -> impl Strategy<Value = Day> {
    prop_oneof![
        1 => Just(Day::All),
        3 => (0..=6i8, 0..=6i8, 1..=6i8).prop_map(|(a, b, step)| Day::Span(a, b, step)),
        3 => (0..=7i8).prop_map(Day::LastWeekday),
        3 => (0..=7i8, 1..=5i8).prop_map(|(day, week)| Day::Nth(day, week)),
    ]
}

fn any_civil() -> impl Strategy<Value = Civil> {
    let part = |usual: u32| prop_oneof![9 => 0..=usual, 1 => any::<u32>()];
    let year = prop_oneof![9 => 1960..=2110u32, 1 => any::<u32>()];
    (
        year,
        part(13),
        part(32),
        part(25),
        part(61),
        part(61),
        part(7),
    )
        .prop_map(|(year, month, day, hour, minute, second, weekday)| Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            weekday,
        })
}

/// Texts that are nearly periods.
fn nearly() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        "[*?0-9,/L#W-]{1,6}",
        "(\\*|[0-9]{1,2}|20[0-9]{2}|mon|dec)(-([0-9]{1,2}|20[0-9]{2}|fri|mar))?(/[0-9]{1,2})?",
        Just("*".to_owned()),
        Just("@daily".to_owned()),
    ];
    vec(field, 4..9).prop_map(|fields| fields.join(" "))
}

/// A day's clocks at midnight.
fn midnight(day: Date) -> Civil {
    clocks(day.at(0, 0, 0, 0))
}

/// Whether the weekday is that of the date.
fn has_its_weekday(civil: &Civil) -> bool {
    let part = |part: u32| i8::try_from(part).ok();
    let date = || {
        let year = i16::try_from(civil.year).ok()?;
        Date::new(year, part(civil.month)?, part(civil.day)?).ok()
    };
    date().is_some_and(|date| midnight(date).weekday == civil.weekday)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_text_and_no_clock_panics(text in prop_oneof![any::<String>(), nearly()], civil in any_civil()) {
        match Period::parse(&text) {
            Ok(period) => {
                // A weekday that is not the date's can be in without any instant ever being in.
                let inside = period.contains(&civil) && has_its_weekday(&civil);
                let never = period.never_again(&civil);
                prop_assert!(!(inside && never), "{text}: in it and never again at {civil:?}");
                for dead in Period::dead_entries(&text) {
                    prop_assert!(!dead.instead.is_empty(), "{text}: {dead:?}");
                }
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn days_are_those_of_the_model(
        month_days in vec(month_day(), 1..4),
        week_days in vec(week_day(), 1..4),
        year in 1970..=2099i16,
        month in 1..=12i8,
    ) {
        let text = format!("* * * {} * {} *", list(&month_days), list(&week_days));
        let period = Period::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let last = date(year, month, 1).last_of_month().day();
        let ours: BTreeSet<i8> =
            (1..=last).filter(|day| period.contains(&midnight(date(year, month, *day)))).collect();
        prop_assert_eq!(ours, model(&month_days, &week_days, year, month), "{}", text);
    }
}

#[test]
fn every_range_of_hours_backwards_is_spelled_round_the_clock() {
    for (first, last) in (0..24u32).flat_map(|first| (0..first).map(move |last| (first, last))) {
        for step in 1..24u32 {
            let written = format!("* * {first}-{last}/{step} * * * *");
            let error = Period::parse(&written).expect_err("it ends before it begins");
            let Fault::Backwards {
                instead,
                until: Some(until),
                ..
            } = error.fault()
            else {
                panic!("{error}");
            };
            for (better, end) in [(instead, last + 24), (until, last + 23)] {
                let better = format!("* * {better} * * * *");
                let period = Period::parse(&better).unwrap_or_else(|error| panic!("{error}"));
                let named = (first..=end)
                    .step_by(step as usize)
                    .fold(0, |bits, hour| bits | 1 << (hour % 24));
                let ours = (0..24).fold(0, |bits, hour| {
                    let at = Civil {
                        hour,
                        ..midnight(date(2026, 3, 2))
                    };
                    bits | u32::from(period.contains(&at)) << hour
                });
                assert_eq!(ours, named, "{better} for {written}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn never_again_is_what_looking_at_every_day_finds(
        month_days in vec(month_day(), 1..3),
        week_days in vec(week_day(), 1..3),
        month in 1..=12i8,
        years in (2026..=2030i16, 0..=4i16),
        from in (2026..=2036i16, 1..=366i16),
    ) {
        let text = format!(
            "* * * {} {month} {} {}-{}",
            list(&month_days), list(&week_days), years.0, years.0 + years.1,
        );
        let period = Period::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let begin = date(from.0, 1, 1)
            .checked_add(jiff::Span::new().days(from.1 - 1))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let found = begin
            .series(jiff::Span::new().days(1))
            .take_while(|day| day.year() <= 2036)
            .any(|day| period.contains(&midnight(day)));
        prop_assert_eq!(period.never_again(&midnight(begin)), !found, "{}", text);
    }
}
