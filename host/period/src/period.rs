//! A period as bit sets, and the two questions put to it.

use crate::calendar::{days_in, first_weekday};
use crate::{Civil, PeriodError, parse};

/// The years that periods know.
const FIRST_YEAR: u32 = 1970;
const LAST_YEAR: u32 = 2099;
const SATURDAY: u32 = 6;
const SUNDAY: u32 = 0;

/// The seconds of the civil calendar, 1970 to 2099, that one cron expression names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    /// January is bit 0.
    pub(crate) months: u64,
    pub(crate) years: Years,
    pub(crate) month_days: DaysOfMonth,
    pub(crate) week_days: DaysOfWeek,
}

/// Up to 192 bits from the lowest value of a field on: for years, bit 0 is 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Years(pub(crate) [u64; 3]);

/// The day-of-month field. Bits are the days themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DaysOfMonth {
    /// No entry is `*` or `?`.
    pub(crate) restricted: bool,
    pub(crate) days: u32,
    /// `15W`: the weekday (Monday to Friday) nearest to the day within its month.
    pub(crate) workdays: u32,
    pub(crate) last: bool,
    pub(crate) last_workday: bool,
}

/// The day-of-week field. Bit 0 is Sunday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DaysOfWeek {
    /// No entry is `*` or `?`.
    pub(crate) restricted: bool,
    pub(crate) days: u32,
    /// `5L`: those in the last seven days of the month.
    pub(crate) last: u32,
    /// `3#2`: bit 7 x (which of the month - 1) + weekday.
    pub(crate) nth: u64,
}

impl Years {
    pub(crate) fn all() -> Self {
        Years::first(LAST_YEAR - FIRST_YEAR + 1)
    }

    /// The lowest `count` bits.
    pub(crate) fn first(count: u32) -> Self {
        let mut years = Years::default();
        (0..count).for_each(|bit| years.insert(bit));
        years
    }

    pub(crate) fn insert(&mut self, bit: u32) {
        let word = usize::try_from(bit / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (bit % 64);
        }
    }

    fn has(&self, bit: u32) -> bool {
        let word = usize::try_from(bit / 64).unwrap_or(usize::MAX);
        self.0.get(word).is_some_and(|word| has(*word, bit % 64))
    }
}

impl Period {
    /// Reads a period such as `* * 9-17 * * mon-fri *`.
    ///
    /// Five to seven fields; with fewer than seven the second is 0, with five the year is any. Without
    /// a `*` for the seconds a period holds for single seconds only.
    ///
    /// # Errors
    /// What GitLab Runner refuses or crashes on, with what to write instead. Ranges of weekdays, days
    /// or years that end before they begin are taken and match nothing, as there: [`Period::dead_entries`]
    /// finds them.
    pub fn parse(text: &str) -> Result<Period, PeriodError> {
        parse::period(text)
    }

    /// Whether the whole second that the clocks show is in the period.
    pub fn contains(&self, civil: &Civil) -> bool {
        has(self.seconds, civil.second)
            && has(self.minutes, civil.minute)
            && has(self.hours, civil.hour)
            && self.has_month(civil.year, civil.month)
            && civil.weekday <= SATURDAY
            && self.has_day(civil.day, civil.weekday, days_in(civil.year, civil.month))
    }

    /// Whether no civil second at or after `from` is in the period, up to the end of 2099, the last
    /// year a period can name. The weekday of `from` is not looked at.
    ///
    /// It looks at each day once: some hundred microseconds where the answer is yes and every month
    /// is named, and far less where it is no.
    pub fn never_again(&self, from: &Civil) -> bool {
        let begin = (from.year, from.month, from.day);
        for year in from.year.max(FIRST_YEAR)..=LAST_YEAR {
            for month in (1..=12).filter(|month| self.has_month(year, *month)) {
                let days = days_in(year, month);
                let first = first_weekday(year, month);
                for day in 1..=days {
                    let date = (year, month, day);
                    if date >= begin
                        && self.has_day(day, (first + day - 1) % 7, days)
                        && (date > begin || self.has_time_from(from))
                    {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn has_month(&self, year: u32, month: u32) -> bool {
        let year = year.checked_sub(FIRST_YEAR);
        let month = month.checked_sub(1);
        year.is_some_and(|year| self.years.has(year))
            && month.is_some_and(|month| has(self.months, month))
    }

    /// Whether a day of a month with so many days is in: either field if both are restricted, else
    /// the one that is.
    fn has_day(&self, day: u32, weekday: u32, days: u32) -> bool {
        if day == 0 || day > days {
            return false;
        }
        match (self.month_days.restricted, self.week_days.restricted) {
            (false, false) => true,
            (true, false) => self.month_days.has(day, weekday, days),
            (false, true) => self.week_days.has(day, weekday, days),
            (true, true) => {
                self.month_days.has(day, weekday, days) || self.week_days.has(day, weekday, days)
            }
        }
    }

    /// Whether a time of day at or after that of `from` is in.
    fn has_time_from(&self, from: &Civil) -> bool {
        let minute_or_later = || {
            above(self.minutes, from.minute)
                || has(self.minutes, from.minute)
                    && (has(self.seconds, from.second) || above(self.seconds, from.second))
        };
        above(self.hours, from.hour) || has(self.hours, from.hour) && minute_or_later()
    }
}

impl DaysOfMonth {
    fn has(&self, day: u32, weekday: u32, days: u32) -> bool {
        if has(self.days.into(), day) || self.last && day == days {
            return true;
        }
        if self.workdays == 0 && !self.last_workday {
            return false;
        }
        // A weekday stands in for a day at most two days off.
        (day.saturating_sub(2).max(1)..=(day + 2).min(days)).any(|target| {
            let asked = has(self.workdays.into(), target) || self.last_workday && target == days;
            asked && nearest_workday(target, (weekday + 7 + target - day) % 7, days) == day
        })
    }
}

impl DaysOfWeek {
    fn has(&self, day: u32, weekday: u32, days: u32) -> bool {
        has(self.days.into(), weekday)
            || has(self.nth, (day - 1) / 7 * 7 + weekday)
            || day + 7 > days && has(self.last.into(), weekday)
    }
}

/// The Monday to Friday nearest to a day, in the same month of `days` days.
fn nearest_workday(day: u32, weekday: u32, days: u32) -> u32 {
    match weekday {
        SATURDAY if day > 1 => day - 1,
        SATURDAY => day + 2,
        SUNDAY if day < days => day + 1,
        SUNDAY => day - 2,
        _ => day,
    }
}

/// Whether a bit is set; none above 63 is.
fn has(bits: u64, bit: u32) -> bool {
    bits.checked_shr(bit).unwrap_or(0) & 1 == 1
}

/// Whether a bit above this one is set.
fn above(bits: u64, bit: u32) -> bool {
    bits.checked_shr(bit).unwrap_or(0) > 1
}
