//! What is no period, and what the message says to write instead.

mod common;

use common::at;
use springtide_period::{DeadEntry, Fault, Field, Period};

fn fault(period: &str) -> Fault {
    match Period::parse(period) {
        Ok(_) => panic!("{period:?} is taken"),
        Err(error) => {
            assert_eq!(error.period(), period);
            error.fault().clone()
        }
    }
}

#[test]
fn too_few_fields() {
    for (period, found) in [
        ("", 0),
        (" \t ", 0),
        ("*", 1),
        ("* * * *", 4),
        ("@midnight", 1),
        ("@reboot", 1),
        ("@Daily", 1),
        ("*\u{a0}* * * *", 4),
        ("*\u{b}* * * *", 4),
    ] {
        assert_eq!(fault(period), Fault::MissingFields { found }, "{period:?}");
    }
}

#[test]
fn nothing_between_the_commas() {
    for (at, field) in Field::ALL.into_iter().enumerate() {
        let mut fields = ["*"; 7];
        fields[at] = ",,";
        assert_eq!(fault(&fields.join(" ")), Fault::NoEntry { field });
    }
}

#[test]
fn entries_that_are_none_of_the_field() {
    let rows: [(Field, &[&str]); 7] = [
        (
            Field::Second,
            &[
                "60", "-1", "a", "1-", "-", "5-60", "*-5", "1-2-3", "007", "L", "+5", "５",
            ],
        ),
        (
            Field::Minute,
            &[
                "60", "9-", "9,x", "*/", "*/-1", "*/5x", "5/", "?/2", "/5", "1/2/3",
            ],
        ),
        (Field::Hour, &["24", "9h", "9:00", "09-24", "*/2-5", "9–17"]),
        (
            Field::DayOfMonth,
            &[
                "0", "00", "32", "W", "WL", "32W", "1-5W", "0W", "L-3", "LL", "mon", "15W/2",
            ],
        ),
        (
            Field::Month,
            &[
                "0", "13", "00", "janu", "sept", "march-", "L", "jan/x", "mai",
            ],
        ),
        (
            Field::DayOfWeek,
            &[
                "8",
                "08",
                "L",
                "5LW",
                "3#0",
                "3#6",
                "3#",
                "#2",
                "3#2#1",
                "3#02",
                "mon-fri#2",
                "mo",
                "8L",
            ],
        ),
        (Field::Year, &["1969", "2100", "26", "02026", "202", "*/x"]),
    ];
    for (field, entries) in rows {
        let place = Field::ALL
            .iter()
            .position(|one| *one == field)
            .expect("it is one of them");
        for entry in entries {
            let mut fields = ["*"; 7];
            fields[place] = entry;
            let entry = entry.rsplit(',').next().unwrap_or(entry).to_owned();
            let period = fields.join(" ");
            assert_eq!(fault(&period), Fault::Syntax { field, entry }, "{period}");
        }
    }
}

#[test]
fn steps_out_of_range() {
    let rows: [(Field, &[&str]); 7] = [
        (
            Field::Second,
            &["*/0", "*/60", "*/007", "*/99999999999999999999", "5/00"],
        ),
        (Field::Minute, &["*/60", "0-30/0", "*/2026", "*/100"]),
        (Field::Hour, &["*/24", "*/0", "9-17/24"]),
        (Field::DayOfMonth, &["*/32", "1-5/0"]),
        (Field::Month, &["*/13", "jan/0"]),
        (Field::DayOfWeek, &["*/7", "mon-fri/0"]),
        (
            Field::Year,
            &["*/0", "*/60", "*/1969", "*/2100", "2026/100"],
        ),
    ];
    for (field, entries) in rows {
        let place = Field::ALL
            .iter()
            .position(|one| *one == field)
            .expect("it is one of them");
        for entry in entries {
            let mut fields = ["*"; 7];
            fields[place] = entry;
            let period = fields.join(" ");
            assert_eq!(
                fault(&period),
                Fault::Step {
                    field,
                    entry: (*entry).into()
                },
                "{period}"
            );
            // It is looked at even behind a *, where nonsense is not.
            let listed = format!("*,{entry}");
            fields[place] = &listed;
            let expected = Fault::Step {
                field,
                entry: (*entry).into(),
            };
            assert_eq!(fault(&fields.join(" ")), expected, "{listed}");
        }
    }
}

#[test]
fn ranges_backwards_say_what_to_write() {
    // Where, as written, all of it, up to the last hour.
    let rows = [
        (Field::Hour, "22-6", "22-23,0-6", Some("22-23,0-5")),
        (Field::Hour, "23-0", "23,0", Some("23")),
        (Field::Hour, "18-1", "18-23,0-1", Some("18-23,0")),
        (Field::Hour, "22-06", "22-23,0-6", Some("22-23,0-5")),
        (Field::Hour, "22-6/2", "22,0,2,4,6", Some("22,0,2,4")),
        (
            Field::Hour,
            ",22-6,20-3,",
            "22-23,0-6,20-23,0-3",
            Some("22-23,0-5,20-23,0-2"),
        ),
        (Field::Minute, "50-10", "50-59,0-10", None),
        (Field::Minute, "50-10/7", "50,57,4", None),
        (Field::Second, "59-0", "59,0", None),
        (Field::Month, "11-2", "11-12,1-2", None),
        (Field::Month, "nov-feb", "nov-dec,jan-feb", None),
        (Field::Month, "December-January", "dec,jan", None),
        (Field::Month, "10-03", "10-12,1-3", None),
        (Field::Month, "3-09", "3-9", None),
        (Field::Month, "nov-feb/2", "nov,jan", None),
    ];
    for (field, written, instead, until) in rows {
        let place = Field::ALL
            .iter()
            .position(|one| *one == field)
            .expect("it is one of them");
        let mut fields = ["*"; 7];
        fields[place] = written;
        let period = fields.join(" ");
        let expected = Fault::Backwards {
            field,
            written: written.into(),
            instead: instead.into(),
            until: until.map(str::to_owned),
        };
        assert_eq!(fault(&period), expected, "{period}");
        for better in until.into_iter().chain([instead]) {
            fields[place] = better;
            let period = fields.join(" ");
            assert!(Period::parse(&period).is_ok(), "{period}");
        }
    }
}

#[test]
fn messages_name_the_text_the_field_and_the_way_out() {
    let rows = [
        (
            "* * 22-6 * * * *",
            "cannot read the period \"* * 22-6 * * * *\": the hour field \"22-6\" ends before it begins and would never match; write \"22-23,0-5\" to stop when the last hour begins, or \"22-23,0-6\" to have all of it",
        ),
        (
            "* 50-10 * * * * *",
            "cannot read the period \"* 50-10 * * * * *\": the minute field \"50-10\" ends before it begins and would never match; write \"50-59,0-10\"",
        ),
        (
            "* * * *",
            "cannot read the period \"* * * *\": it has 4 fields and needs at least 5; write all 7, second minute hour day-of-month month day-of-week year, such as \"* * 9-17 * * mon-fri *\"",
        ),
        (
            "@midnight",
            "cannot read the period \"@midnight\": it has 1 field and needs at least 5; the only aliases are @yearly, @annually, @monthly, @weekly, @daily and @hourly, in lower case",
        ),
        (
            "* * 24 * * * *",
            "cannot read the period \"* * 24 * * * *\": the hour field cannot be \"24\"; write *, values 0 to 23, ranges such as 9-17, steps such as */2",
        ),
        (
            "* */60 * * * * *",
            "cannot read the period \"* */60 * * * * *\": the step of \"*/60\" in the minute field has to be 1 to 59, without leading zeros; write such a step, or a single value for once",
        ),
        (
            "* * * , * * *",
            "cannot read the period \"* * * , * * *\": the day-of-month field has nothing between its commas; write * for any",
        ),
    ];
    for (period, expected) in rows {
        let error = Period::parse(period).expect_err("it is no period");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_message_stays_short_and_printable_whatever_the_text() {
    let error = Period::parse(&"\u{1b}[31mé".repeat(10_000)).expect_err("it is no period");
    let message = error.to_string();
    assert!(message.len() < 2_000, "{} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{message}");
}

#[test]
fn entries_that_do_not_mean_what_they_say() {
    type Dead = (Field, &'static str, &'static str);
    let rows: [(&str, &[Dead]); 14] = [
        ("* * 9-17 * mar-nov mon-fri,7 2026", &[]),
        ("* * * * * 1-7 *", &[(Field::DayOfWeek, "1-7", "1-6,0")]),
        (
            "* * * * * mon-7 *",
            &[(Field::DayOfWeek, "mon-7", "mon-sat,sun")],
        ),
        (
            "* * * * * fri-mon *",
            &[(Field::DayOfWeek, "fri-mon", "fri-sat,sun-mon")],
        ),
        ("* * * * * 6-7 *", &[(Field::DayOfWeek, "6-7", "6,0")]),
        ("* * * * * 01-05 *", &[(Field::DayOfWeek, "01-05", "1-5")]),
        (
            "* * * * * 05L,3#2,05#2,5L,07L *",
            &[
                (Field::DayOfWeek, "05L", "5L"),
                (Field::DayOfWeek, "05#2", "5#2"),
            ],
        ),
        ("* * * * 03 * *", &[(Field::Month, "03", "3")]),
        ("* * * * 07-12 * *", &[(Field::Month, "07-12", "7-12")]),
        ("* * * * 03/4 * *", &[(Field::Month, "03/4", "3,7,11")]),
        (
            "* * 22-6,12 25-5 * * *",
            &[
                (Field::Hour, "22-6", "22-23,0-6"),
                (Field::DayOfMonth, "25-5", "25-31,1-5"),
            ],
        ),
        (
            "* * * * * 2030-2026",
            &[(Field::Year, "2030-2026", "2026-2030")],
        ),
        ("* * * 00-05 *", &[]),
        ("00 00-07 * * 07", &[]),
    ];
    for (period, expected) in rows {
        let expected: Vec<DeadEntry> = expected
            .iter()
            .map(|(field, entry, instead)| DeadEntry {
                field: *field,
                entry: (*entry).into(),
                instead: (*instead).into(),
            })
            .collect();
        assert_eq!(Period::dead_entries(period), expected, "{period}");
    }
}

#[test]
fn the_way_out_means_what_was_meant() {
    let whole_week = Period::parse("* * * * * 1-6,0 *").expect("a period");
    let night = Period::parse("* * 22-23,0-5 * * * *").expect("a period");
    for day in 1..=7 {
        assert!(
            whole_week.contains(&at(&format!("2026-03-0{day}T00:00:00"))),
            "{day}"
        );
    }
    for hour in 0..24 {
        let inside = !(6..22).contains(&hour);
        assert_eq!(
            night.contains(&at(&format!("2026-03-02T{hour:02}:59:59"))),
            inside,
            "{hour}"
        );
    }
}
