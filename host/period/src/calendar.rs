//! The civil calendar as far as periods need it: what a clock shows, and weekdays.

/// What the clocks of a zone show at an instant, to the second.
///
/// Fields out of their ranges are allowed and match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Civil {
    /// The year of the common era; periods know 1970 to 2099.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 is Sunday, 6 Saturday. It has to be the weekday of the date; it is not checked.
    pub weekday: u32,
}

/// Days in a month, 28 to 31; 0 if there is no such month.
pub(crate) fn days_in(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 0,
    }
}

/// The weekday of the first day of a month, 0 for Sunday. `year` is 1970 to 2099, `month` 1 to 12.
pub(crate) fn first_weekday(year: u32, month: u32) -> u32 {
    let before: u32 = (1..month).map(|month| days_in(year, month)).sum();
    let years = year - 1;
    // 1 January of year 1 was a Monday.
    (1 + years * 365 + years / 4 - years / 100 + years / 400 + before) % 7
}
