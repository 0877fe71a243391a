//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use jiff::civil::DateTime;
use springtide_period::Civil;

/// A civil date and time of jiff as the crate's.
pub fn clocks(at: DateTime) -> Civil {
    let part = |part: i8| u32::try_from(part).expect("clocks show no negative numbers");
    Civil {
        year: u32::try_from(at.year()).expect("a year of the common era"),
        month: part(at.month()),
        day: part(at.day()),
        hour: part(at.hour()),
        minute: part(at.minute()),
        second: part(at.second()),
        weekday: part(at.weekday().to_sunday_zero_offset()),
    }
}

/// `2026-03-02T09:00:00` as the crate's civil time.
pub fn at(text: &str) -> Civil {
    clocks(text.parse().expect("an ISO 8601 date and time"))
}
