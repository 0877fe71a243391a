//! Reading a period: aliases, fields, entries. It takes what gorhill/cronexpr takes.

use alloc::borrow::Cow;
use alloc::string::String;

use crate::field::Value;
use crate::period::{DaysOfMonth, DaysOfWeek, Years};
use crate::{Fault, Field, Period, PeriodError, rewrite};

/// In the order they are tried; they stand for their text wherever they occur.
const ALIASES: [(&str, &str); 6] = [
    ("@yearly", "0 0 0 1 1 * *"),
    ("@annually", "0 0 0 1 1 * *"),
    ("@monthly", "0 0 0 1 * * *"),
    ("@weekly", "0 0 0 * * 0 *"),
    ("@daily", "0 0 0 * * * *"),
    ("@hourly", "0 0 * * * * *"),
];

/// What one entry of a field says in the grammar that all fields share.
pub(crate) enum Entry {
    /// `*` or `?`.
    All,
    /// One value, or a range with its step.
    Span {
        first: Value,
        last: Value,
        step: u32,
        /// Whether both ends are written out.
        range: bool,
    },
    /// Something of the field's own, or nonsense.
    Other,
}

/// The values of a field as bits from its lowest value on; a month of 0 is bit 12.
#[derive(Clone, Copy, Default)]
struct Values {
    bits: Years,
    /// Whether GitLab Runner's list of values has any, month 0 included.
    any: bool,
}

pub(crate) fn period(text: &str) -> Result<Period, PeriodError> {
    let spelled = spell_out(text);
    read(&spelled).map_err(|fault| PeriodError::new(text, fault))
}

fn read(text: &str) -> Result<Period, Fault> {
    let (fields, found) = fields(text);
    let at = |field: usize| fields[field];
    if found < 5 {
        return Err(Fault::MissingFields { found });
    }
    // Seconds are there only with all seven, the year from six on.
    let skip = usize::from(found >= 7);
    let seconds = if skip == 1 {
        low(values(Field::Second, at(0))?)
    } else {
        1
    };
    let minutes = low(values(Field::Minute, at(skip))?);
    let hours = low(values(Field::Hour, at(skip + 1))?);
    let month_days = days_of_month(at(skip + 2))?;
    let months = low(values(Field::Month, at(skip + 3))?);
    let week_days = days_of_week(at(skip + 4))?;
    let years = if found >= 6 {
        values(Field::Year, at(skip + 5))?.bits
    } else {
        Years::all()
    };
    Ok(Period {
        seconds,
        minutes,
        hours,
        months,
        years,
        month_days,
        week_days,
    })
}

/// Replaces the aliases.
pub(crate) fn spell_out(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match ALIASES.iter().find(|(alias, _)| rest.starts_with(alias)) {
            Some((alias, spelled)) => {
                out.push_str(spelled);
                rest = &rest[alias.len()..];
            }
            None => {
                out.push('@');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The first seven fields and how many there are, seven at most.
pub(crate) fn fields(text: &str) -> ([&str; 7], usize) {
    let mut fields = [""; 7];
    let mut found = 0;
    for (slot, field) in fields.iter_mut().zip(text.split_ascii_whitespace()) {
        *slot = field;
        found += 1;
    }
    (fields, found)
}

/// The entries of a field; empty ones are nothing.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|entry| !entry.is_empty())
}

/// Reads what all fields share.
pub(crate) fn entry(field: Field, text: &str) -> Result<Entry, Fault> {
    if text == "*" || text == "?" {
        return Ok(Entry::All);
    }
    let (head, digits) = match text.split_once('/') {
        Some((head, digits)) => (head, Some(digits)),
        None => (text, None),
    };
    let exact = |value: u32| Value {
        taken: value,
        meant: value,
    };
    let (first, last, range) = if let Some((first, last)) = head.split_once('-') {
        let (Some(first), Some(last)) = (field.value(first), field.value(last)) else {
            return Ok(Entry::Other);
        };
        (first, last, true)
    } else if head == "*" {
        (exact(field.min()), exact(field.max()), false)
    } else if let Some(value) = field.value(head) {
        // A value with a step runs to the end of the field.
        (
            value,
            if digits.is_some() {
                exact(field.max())
            } else {
                value
            },
            false,
        )
    } else {
        return Ok(Entry::Other);
    };
    let step = match digits {
        None => 1,
        Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
            return Ok(Entry::Other);
        }
        Some(digits) => field.step(digits).ok_or_else(|| Fault::Step {
            field,
            entry: text.into(),
        })?,
    };
    Ok(Entry::Span {
        first,
        last,
        step,
        range,
    })
}

/// The values of a field other than the days.
fn values(field: Field, text: &str) -> Result<Values, Fault> {
    let mut values = Values::default();
    let mut all = false;
    let mut seen = false;
    for one in entries(text) {
        seen = true;
        match entry(field, one)? {
            Entry::All => all = true,
            Entry::Span {
                first, last, step, ..
            } => {
                for value in span(first, last, step) {
                    values.any = true;
                    // A month of 0 counts as a value and matches none.
                    if let Some(bit) = value.checked_sub(field.min()) {
                        values.bits.insert(bit);
                    }
                }
            }
            // GitLab Runner stops reading at the first entry that is all.
            Entry::Other if all => {}
            Entry::Other => {
                return Err(Fault::Syntax {
                    field,
                    entry: one.into(),
                });
            }
        }
    }
    if !seen {
        return Err(Fault::NoEntry { field });
    }
    if all {
        return Ok(Values {
            bits: Years::first(field.max() - field.min() + 1),
            any: true,
        });
    }
    if !values.any && field != Field::Year {
        return Err(rewrite::backwards(field, text));
    }
    Ok(values)
}

fn days_of_month(text: &str) -> Result<DaysOfMonth, Fault> {
    let field = Field::DayOfMonth;
    let mut days = DaysOfMonth {
        restricted: true,
        ..DaysOfMonth::default()
    };
    let mut seen = false;
    for one in entries(text) {
        seen = true;
        match entry(field, one)? {
            Entry::All => days.restricted = false,
            Entry::Span {
                first, last, step, ..
            } => {
                days.days |= bits(span(first, last, step));
            }
            Entry::Other if one.eq_ignore_ascii_case("l") => days.last = true,
            Entry::Other if one.eq_ignore_ascii_case("lw") => days.last_workday = true,
            Entry::Other => match one
                .strip_suffix(['w', 'W'])
                .and_then(|day| field.value(day))
            {
                Some(day) => days.workdays |= 1 << day.taken,
                None => {
                    return Err(Fault::Syntax {
                        field,
                        entry: one.into(),
                    });
                }
            },
        }
    }
    if seen {
        Ok(days)
    } else {
        Err(Fault::NoEntry { field })
    }
}

fn days_of_week(text: &str) -> Result<DaysOfWeek, Fault> {
    let field = Field::DayOfWeek;
    let mut days = DaysOfWeek {
        restricted: true,
        ..DaysOfWeek::default()
    };
    let mut seen = false;
    for one in entries(text) {
        seen = true;
        match entry(field, one)? {
            Entry::All => days.restricted = false,
            Entry::Span {
                first, last, step, ..
            } => {
                days.days |= bits(span(first, last, step));
            }
            Entry::Other => {
                if let Some(day) = one
                    .strip_suffix(['l', 'L'])
                    .and_then(|day| field.value(day))
                {
                    days.last |= 1 << day.taken;
                } else if let Some((day, week)) = nth(one) {
                    days.nth |= 1 << ((week - 1) * 7 + day);
                } else {
                    return Err(Fault::Syntax {
                        field,
                        entry: one.into(),
                    });
                }
            }
        }
    }
    if seen {
        Ok(days)
    } else {
        Err(Fault::NoEntry { field })
    }
}

/// `3#2`: a weekday, 0 to 6, and which of the month, 1 to 5.
fn nth(entry: &str) -> Option<(u32, u32)> {
    let (day, week) = entry.split_once('#')?;
    let day = Field::DayOfWeek.value(day)?;
    let week = match week {
        "1" => 1,
        "2" => 2,
        "3" => 3,
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    Some((day.taken, week))
}

/// The values of a range as GitLab Runner counts them: none if it ends before it begins.
pub(crate) fn span(first: Value, last: Value, step: u32) -> impl Iterator<Item = u32> {
    let wide = usize::try_from(step).unwrap_or(usize::MAX);
    (first.taken..=last.taken).step_by(wide)
}

/// Values below 32 as bits.
fn bits(values: impl Iterator<Item = u32>) -> u32 {
    values.fold(0, |bits, value| bits | 1 << value)
}

fn low(values: Values) -> u64 {
    values.bits.0[0]
}
