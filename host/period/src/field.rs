//! The seven fields: their names, their ranges and how one value of each is written.

use core::fmt;

/// One of the seven fields of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// 0 to 59; left out, it is 0.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31, `L` (the last), `LW` (the last weekday), `15W` (the weekday nearest to the 15th).
    DayOfMonth,
    /// 1 to 12 or a name.
    Month,
    /// 0 to 7 or a name, 0 and 7 are Sunday; `5L` (the last Friday), `3#2` (the second Wednesday).
    DayOfWeek,
    /// 1970 to 2099; left out, it is any.
    Year,
}

/// One value as written.
#[derive(Clone, Copy)]
pub(crate) struct Value {
    /// What GitLab Runner takes it for: 0 for a month or weekday with a leading zero.
    pub(crate) taken: u32,
    /// What it says.
    pub(crate) meant: u32,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

impl Field {
    /// All fields in the order of a period with seven of them.
    pub const ALL: [Field; 7] = [
        Field::Second,
        Field::Minute,
        Field::Hour,
        Field::DayOfMonth,
        Field::Month,
        Field::DayOfWeek,
        Field::Year,
    ];

    /// The lowest value.
    pub(crate) fn min(self) -> u32 {
        match self {
            Field::Second | Field::Minute | Field::Hour | Field::DayOfWeek => 0,
            Field::DayOfMonth | Field::Month => 1,
            Field::Year => 1970,
        }
    }

    /// The highest value, which is also the widest step.
    pub(crate) fn max(self) -> u32 {
        match self {
            Field::Second | Field::Minute => 59,
            Field::Hour => 23,
            Field::DayOfMonth => 31,
            Field::Month => 12,
            Field::DayOfWeek => 6,
            Field::Year => 2099,
        }
    }

    /// The names of the values from [`Field::min`] on, if they have any.
    fn names(self) -> &'static [&'static str] {
        match self {
            Field::Month => &MONTHS,
            Field::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    /// A value by its name, in full or the first three letters.
    fn named(self, text: &str) -> Option<u32> {
        let is = |name: &&str| {
            name.eq_ignore_ascii_case(text)
                || name
                    .get(..3)
                    .is_some_and(|short| short.eq_ignore_ascii_case(text))
        };
        let at = self.names().iter().position(is)?;
        u32::try_from(at).ok().map(|at| at + self.min())
    }

    /// The three-letter name of a value in range, if the field has names.
    pub(crate) fn short_name(self, value: u32) -> Option<&'static str> {
        let at = usize::try_from(value.checked_sub(self.min())?).ok()?;
        self.names().get(at)?.get(..3)
    }

    /// Reads one value; none if it is not one of this field's.
    pub(crate) fn value(self, text: &str) -> Option<Value> {
        if let Some(value) = self.named(text) {
            return Some(Value {
                taken: value,
                meant: value,
            });
        }
        let width = if self == Field::Year { 4..=4 } else { 1..=2 };
        if !width.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let meant: u32 = text.parse().ok()?;
        // 7 is Sunday too, though it is no value of the set.
        let top = if self == Field::DayOfWeek {
            7
        } else {
            self.max()
        };
        if meant < self.min() || meant > top {
            return None;
        }
        let padded = text.len() == 2 && text.starts_with('0');
        let taken = match self {
            Field::Month | Field::DayOfWeek if padded => 0,
            Field::DayOfWeek => meant % 7,
            _ => meant,
        };
        Some(Value { taken, meant })
    }

    /// The step after a slash: a number that could be a value of some field, one leading zero allowed,
    /// in 1 to [`Field::max`]. None if it is not, so that `*/60` and `*/007` are errors.
    pub(crate) fn step(self, digits: &str) -> Option<u32> {
        let step: u32 = match digits.len() {
            1 | 2 => digits.parse().ok().filter(|step| *step <= 59)?,
            4 => digits
                .parse()
                .ok()
                .filter(|step| (1970..=2099).contains(step))?,
            _ => return None,
        };
        (1..=self.max()).contains(&step).then_some(step)
    }

    /// What may stand in the field, for an error message.
    pub(crate) fn allows(self) -> &'static str {
        match self {
            Field::Second | Field::Minute => {
                "*, values 0 to 59, ranges such as 0-29, steps such as */5"
            }
            Field::Hour => "*, values 0 to 23, ranges such as 9-17, steps such as */2",
            Field::DayOfMonth => {
                "*, ?, values 1 to 31, ranges such as 1-7, steps such as */2, L (the last day), LW (the last weekday), 15W (the weekday nearest to the 15th)"
            }
            Field::Month => {
                "*, values 1 to 12, names such as jan or january, ranges such as mar-nov, steps such as */3"
            }
            Field::DayOfWeek => {
                "*, ?, values 0 (Sunday) to 6 (Saturday), names such as mon or monday, ranges such as mon-fri, 5L (the last Friday), 3#2 (the second Wednesday)"
            }
            Field::Year => "*, values 1970 to 2099, ranges such as 2026-2028, steps such as */2",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day-of-month",
            Field::Month => "month",
            Field::DayOfWeek => "day-of-week",
            Field::Year => "year",
        })
    }
}
