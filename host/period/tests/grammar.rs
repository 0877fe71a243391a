//! The grammar, rule by rule, with the oddities of GitLab Runner's library. 2026-03-02 is a Monday.

mod common;

use common::at;
use springtide_period::Period;

/// A period, and instants in it and not in it.
struct Row {
    rule: &'static str,
    period: &'static str,
    inside: &'static [&'static str],
    outside: &'static [&'static str],
}

fn check(rows: &[Row]) {
    for Row {
        rule,
        period,
        inside,
        outside,
    } in rows
    {
        let parsed = Period::parse(period).unwrap_or_else(|error| panic!("{rule}: {error}"));
        for (instants, expected) in [(inside, true), (outside, false)] {
            for instant in *instants {
                assert_eq!(
                    parsed.contains(&at(instant)),
                    expected,
                    "{rule}: {period} at {instant}"
                );
            }
        }
    }
}

#[test]
fn fields_and_their_number() {
    check(&[
        Row {
            rule: "seven fields begin with the second",
            period: "30 15 9 2 3 1 2026",
            inside: &["2026-03-02T09:15:30"],
            outside: &[
                "2026-03-02T09:15:31",
                "2026-03-02T09:15:00",
                "2027-03-02T09:15:30",
            ],
        },
        Row {
            rule: "six fields are without the second, which is 0",
            period: "15 9 * * * 2026",
            inside: &["2026-03-02T09:15:00"],
            outside: &["2026-03-02T09:15:01", "2027-03-02T09:15:00"],
        },
        Row {
            rule: "five are without the year too, which is any",
            period: "15 9 * * *",
            inside: &[
                "2026-03-02T09:15:00",
                "2099-12-31T09:15:00",
                "1970-01-01T09:15:00",
            ],
            outside: &[
                "2026-03-02T09:15:01",
                "2100-01-01T09:15:00",
                "1969-12-31T09:15:00",
            ],
        },
        Row {
            rule: "fields beyond the seventh are nothing, nonsense included",
            period: "* * * * * * * nonsense 61",
            inside: &["2026-03-02T09:15:30"],
            outside: &[],
        },
        Row {
            rule: "any ASCII white space parts fields",
            period: "  * *\t9-17 *\n* mon-fri\r\n *  ",
            inside: &["2026-03-02T09:00:00", "2026-03-02T17:59:59"],
            outside: &[
                "2026-03-02T08:59:59",
                "2026-03-02T18:00:00",
                "2026-03-01T12:00:00",
            ],
        },
    ]);
}

#[test]
fn aliases() {
    let new_year: &[&str] = &["2026-01-01T00:00:00"];
    let not_new_year: &[&str] = &["2026-01-01T00:00:01", "2026-02-01T00:00:00"];
    check(&[
        Row {
            rule: "yearly",
            period: "@yearly",
            inside: new_year,
            outside: not_new_year,
        },
        Row {
            rule: "annually",
            period: "@annually",
            inside: new_year,
            outside: not_new_year,
        },
        Row {
            rule: "monthly",
            period: "@monthly",
            inside: &["2026-02-01T00:00:00"],
            outside: &["2026-02-02T00:00:00"],
        },
        Row {
            rule: "weekly is Sunday",
            period: "@weekly",
            inside: &["2026-03-01T00:00:00"],
            outside: &["2026-03-02T00:00:00"],
        },
        Row {
            rule: "daily",
            period: " @daily ",
            inside: &["2026-03-02T00:00:00"],
            outside: &["2026-03-02T01:00:00"],
        },
        Row {
            rule: "hourly",
            period: "@hourly",
            inside: &["2026-03-02T01:00:00"],
            outside: &["2026-03-02T01:01:00"],
        },
        Row {
            rule: "an alias is replaced wherever it stands: this is a list of seconds",
            period: "5,@hourly",
            inside: &["2026-03-02T01:00:05", "2026-03-02T01:00:00"],
            outside: &["2026-03-02T01:00:06"],
        },
    ]);
}

#[test]
fn entries() {
    check(&[
        Row {
            rule: "empty entries are nothing",
            period: "* * ,9,,10, * * * *",
            inside: &["2026-03-02T09:00:00", "2026-03-02T10:59:59"],
            outside: &["2026-03-02T08:00:00", "2026-03-02T11:00:00"],
        },
        Row {
            rule: "a step goes over the whole field",
            period: "* */25 * * * * *",
            inside: &[
                "2026-03-02T09:00:00",
                "2026-03-02T09:25:00",
                "2026-03-02T09:50:00",
            ],
            outside: &["2026-03-02T09:15:00"],
        },
        Row {
            rule: "a value with a step runs to the end of the field",
            period: "* * 20/2 * * * *",
            inside: &["2026-03-02T20:00:00", "2026-03-02T22:00:00"],
            outside: &[
                "2026-03-02T21:00:00",
                "2026-03-02T18:00:00",
                "2026-03-02T00:00:00",
            ],
        },
        Row {
            rule: "a step of a range begins at its first value",
            period: "* * 9-13/03 * * * *",
            inside: &["2026-03-02T09:00:00", "2026-03-02T12:00:00"],
            outside: &["2026-03-02T10:00:00", "2026-03-02T15:00:00"],
        },
        Row {
            rule: "one leading zero is fine in times and days of the month",
            period: "00 05 09 02 * * *",
            inside: &["2026-03-02T09:05:00"],
            outside: &["2026-03-02T09:06:00", "2026-03-03T09:05:00"],
        },
        Row {
            rule: "after a * the rest of such a field is not read",
            period: "* *,nonsense,22-6 * * *,13 * *",
            inside: &["2026-03-02T09:05:00"],
            outside: &[],
        },
        Row {
            rule: "? is any in every field",
            period: "? ? ? ? ? ? ?",
            inside: &["2026-03-02T09:05:00"],
            outside: &[],
        },
        Row {
            rule: "a range backwards is nothing beside other values",
            period: "* * 22-6,12 * * * *",
            inside: &["2026-03-02T12:00:00"],
            outside: &["2026-03-02T22:00:00", "2026-03-02T03:00:00"],
        },
    ]);
}

#[test]
fn months_and_years() {
    check(&[
        Row {
            rule: "names of months, short and long, in any case",
            period: "* * * * Jan,DECEMBER,may,6 * *",
            inside: &[
                "2026-01-01T00:00:00",
                "2026-12-01T00:00:00",
                "2026-05-01T00:00:00",
                "2026-06-01T00:00:00",
            ],
            outside: &["2026-07-01T00:00:00"],
        },
        Row {
            rule: "a range may have a name at one end",
            period: "* * * * 11-dec * *",
            inside: &["2026-11-01T00:00:00", "2026-12-31T00:00:00"],
            outside: &["2026-10-31T00:00:00"],
        },
        Row {
            rule: "a month with a leading zero is month 0, which is never",
            period: "* * * * 03,4 * *",
            inside: &["2026-04-01T00:00:00"],
            outside: &["2026-03-01T00:00:00"],
        },
        Row {
            rule: "so a range from one begins at the beginning",
            period: "* * * * 03-4 * *",
            inside: &["2026-01-01T12:00:00", "2026-04-01T00:00:00"],
            outside: &["2026-05-01T00:00:00"],
        },
        Row {
            rule: "and one to one has no values",
            period: "* * * * 1-03,5 * *",
            inside: &["2026-05-01T00:00:00"],
            outside: &["2026-01-01T00:00:00", "2026-03-01T00:00:00"],
        },
        Row {
            rule: "years in lists, ranges and steps",
            period: "* * * * * * 2026-2030/2,2099",
            inside: &[
                "2026-01-01T00:00:00",
                "2028-01-01T00:00:00",
                "2099-01-01T00:00:00",
            ],
            outside: &[
                "2027-01-01T00:00:00",
                "2098-01-01T00:00:00",
                "2163-01-01T00:00:00",
            ],
        },
        Row {
            rule: "a step of years may be as long as a year's number",
            period: "* * * * * * */1970",
            inside: &["1970-01-01T00:00:00"],
            outside: &["2026-01-01T00:00:00"],
        },
        Row {
            rule: "years backwards are taken and match nothing",
            period: "* * * * * * 2030-2026",
            inside: &[],
            outside: &["2026-01-01T00:00:00", "2028-01-01T00:00:00"],
        },
    ]);
}

#[test]
fn days_of_the_week() {
    check(&[
        Row {
            rule: "0 and 7 are Sunday, names in any case",
            period: "* * * * * 7 *",
            inside: &["2026-03-01T00:00:00"],
            outside: &["2026-03-02T00:00:00", "2026-03-07T00:00:00"],
        },
        Row {
            rule: "names short and long",
            period: "* * * * * MON,Wednesday *",
            inside: &["2026-03-02T00:00:00", "2026-03-04T00:00:00"],
            outside: &["2026-03-03T00:00:00"],
        },
        Row {
            rule: "a range to 7 ends at Sunday, 0, before it begins",
            period: "* * * * * 1-7 *",
            inside: &[],
            outside: &[
                "2026-03-01T00:00:00",
                "2026-03-02T00:00:00",
                "2026-03-04T00:00:00",
            ],
        },
        Row {
            rule: "a range from 7 begins at Sunday",
            period: "* * * * * 7-2 *",
            inside: &["2026-03-01T00:00:00", "2026-03-03T00:00:00"],
            outside: &["2026-03-04T00:00:00"],
        },
        Row {
            rule: "so does a week-end written from Friday to Monday",
            period: "* * * * * fri-mon,wed *",
            inside: &["2026-03-04T00:00:00"],
            outside: &[
                "2026-03-01T00:00:00",
                "2026-03-06T00:00:00",
                "2026-03-07T00:00:00",
            ],
        },
        Row {
            rule: "a day with a leading zero is Sunday",
            period: "* * * * * 03 *",
            inside: &["2026-03-01T00:00:00"],
            outside: &["2026-03-04T00:00:00"],
        },
        Row {
            rule: "a value with a step runs to Saturday",
            period: "* * * * * 2/3 *",
            inside: &["2026-03-03T00:00:00", "2026-03-06T00:00:00"],
            outside: &["2026-03-02T00:00:00", "2026-03-08T00:00:00"],
        },
        Row {
            rule: "5L is the last Friday of the month",
            period: "* * * * * 5L *",
            inside: &[
                "2026-03-27T00:00:00",
                "2026-02-27T00:00:00",
                "2026-04-24T00:00:00",
            ],
            outside: &["2026-03-20T00:00:00", "2026-03-26T00:00:00"],
        },
        Row {
            rule: "in the last seven days, to the day",
            period: "* * * * * sunL *",
            inside: &["2026-02-22T00:00:00", "2026-05-31T00:00:00"],
            outside: &["2026-02-15T00:00:00", "2026-05-24T00:00:00"],
        },
        Row {
            rule: "3#2 is the second Wednesday, Sunday may be 7",
            period: "* * * * * 3#2,7#1 *",
            inside: &["2026-03-11T00:00:00", "2026-03-01T00:00:00"],
            outside: &[
                "2026-03-04T00:00:00",
                "2026-03-18T00:00:00",
                "2026-03-08T00:00:00",
            ],
        },
        Row {
            rule: "the fifth is in some months only",
            period: "* * * * * mon#5 *",
            inside: &["2026-03-30T00:00:00"],
            outside: &["2026-04-27T00:00:00", "2026-03-23T00:00:00"],
        },
    ]);
}

#[test]
fn days_of_the_month() {
    check(&[
        Row {
            rule: "L is the last day, leap years included",
            period: "* * * L * * *",
            inside: &[
                "2026-02-28T00:00:00",
                "2028-02-29T00:00:00",
                "2026-12-31T00:00:00",
            ],
            outside: &["2028-02-28T00:00:00", "2026-12-30T00:00:00"],
        },
        Row {
            rule: "2000 was a leap year",
            period: "* * * l feb * *",
            inside: &["2000-02-29T00:00:00"],
            outside: &["2000-02-28T00:00:00"],
        },
        Row {
            rule: "15W is the Monday to Friday next to it",
            // The 15th is a Sunday in February, a Friday in May, a Saturday in August.
            period: "* * * 15W * * 2026",
            inside: &[
                "2026-02-16T00:00:00",
                "2026-05-15T00:00:00",
                "2026-08-14T00:00:00",
            ],
            outside: &[
                "2026-02-15T00:00:00",
                "2026-08-15T00:00:00",
                "2026-08-17T00:00:00",
            ],
        },
        Row {
            rule: "1W stays in the month: Monday the 3rd",
            period: "* * * 1w aug * 2026",
            inside: &["2026-08-03T00:00:00"],
            outside: &["2026-08-01T00:00:00", "2026-07-31T00:00:00"],
        },
        Row {
            rule: "31W stays in the month: Friday the 29th; there is none in a shorter one",
            period: "* * * 31W * * 2026",
            inside: &["2026-05-29T00:00:00", "2026-10-30T00:00:00"],
            outside: &["2026-05-31T00:00:00", "2026-06-30T00:00:00"],
        },
        Row {
            rule: "LW is the last weekday",
            period: "* * * LW * * 2026",
            inside: &[
                "2026-05-29T00:00:00",
                "2026-02-27T00:00:00",
                "2026-03-31T00:00:00",
            ],
            outside: &["2026-05-31T00:00:00", "2026-02-28T00:00:00"],
        },
        Row {
            rule: "with both kinds of day restricted either will do",
            period: "* * * 1 * mon *",
            inside: &[
                "2026-03-01T00:00:00",
                "2026-03-02T00:00:00",
                "2026-03-09T00:00:00",
            ],
            outside: &["2026-03-03T00:00:00"],
        },
        Row {
            rule: "a step restricts",
            period: "* * * */10 * mon *",
            inside: &[
                "2026-03-01T00:00:00",
                "2026-03-02T00:00:00",
                "2026-03-11T00:00:00",
            ],
            outside: &["2026-03-03T00:00:00"],
        },
        Row {
            rule: "any * lifts the restriction, whatever stands beside it",
            period: "* * * 13,*,L * mon *",
            inside: &["2026-03-02T00:00:00"],
            outside: &["2026-03-13T00:00:00", "2026-03-31T00:00:00"],
        },
        Row {
            rule: "with neither restricted every day is in",
            period: "* * * ?,5 * *,2 *",
            inside: &["2026-03-01T00:00:00", "2026-03-31T00:00:00"],
            outside: &[],
        },
        Row {
            rule: "days backwards are taken and match nothing",
            period: "* * * 25-5 * * *",
            inside: &[],
            outside: &["2026-03-01T00:00:00", "2026-03-28T00:00:00"],
        },
        Row {
            rule: "but leave the other kind of day in",
            period: "* * * 25-5 * mon *",
            inside: &["2026-03-02T00:00:00"],
            outside: &["2026-03-01T00:00:00", "2026-03-28T00:00:00"],
        },
    ]);
}

#[test]
fn both_doubled_hours_match_where_the_clocks_go_back() {
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").expect("the zone is in the IANA data");
    let period = Period::parse("* * 2 25 10 * 2026").expect("a period");
    // 02:30 summer time, 02:30 winter time, 03:30 winter time.
    for (utc, expected) in [("00:30", true), ("01:30", true), ("02:30", false)] {
        let at = format!("2026-10-25T{utc}:00Z").parse().expect("an instant");
        let clocks = common::clocks(zone.to_datetime(at));
        assert_eq!(period.contains(&clocks), expected, "{utc} UTC");
    }
}

#[test]
fn an_hour_that_the_clocks_skip_has_no_second_in_it() {
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").expect("the zone is in the IANA data");
    let hours = |hour: u32| Period::parse(&format!("* * {hour} 29 3 * 2026")).expect("a period");
    // From 2026-03-29, 01:58:20 on, across the leap from 02:00 to 03:00.
    for second in 1_774_745_900_i64..1_774_746_100 {
        let at = jiff::Timestamp::from_second(second).expect("an instant");
        let clocks = common::clocks(zone.to_datetime(at));
        let expected = if second < 1_774_746_000 { 1 } else { 3 };
        for hour in 1..=3 {
            assert_eq!(
                hours(hour).contains(&clocks),
                hour == expected,
                "{hour} at {at}"
            );
        }
    }
}
