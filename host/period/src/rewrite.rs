//! What to write instead of entries that GitLab Runner reads as nothing.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::field::Value;
use crate::parse::{Entry, entries, entry, fields, span, spell_out};
use crate::{Fault, Field, Period};

/// An entry that is taken but does not mean what it says: GitLab Runner takes it for no value at all,
/// or for Sunday, and so does [`Period::contains`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEntry {
    /// The field it is in.
    pub field: Field,
    /// The entry between its commas, as written.
    pub entry: String,
    /// What says what was meant.
    pub instead: String,
}

impl Period {
    /// The entries of a text that [`Period::parse`] takes without them meaning what they say: ranges
    /// that end before they begin (`fri-mon`, and `1-7`, as 7 is Sunday and Sunday is 0) and months
    /// and weekdays with a leading zero (`03`). Good for a warning. Nothing for a text that does not
    /// parse.
    pub fn dead_entries(text: &str) -> Vec<DeadEntry> {
        let mut dead = Vec::new();
        if Period::parse(text).is_err() {
            return dead;
        }
        let spelled = spell_out(text);
        let (texts, found) = fields(&spelled);
        let named = &Field::ALL[usize::from(found < 7)..];
        for (field, text) in named.iter().copied().zip(texts.iter().take(found)) {
            dead.extend(entries(text).filter_map(|one| {
                let instead = other_reading(field, one)?;
                Some(DeadEntry {
                    field,
                    entry: one.into(),
                    instead,
                })
            }));
        }
        dead
    }
}

/// What to write for an entry that does not mean what it says; none if it does.
fn other_reading(field: Field, one: &str) -> Option<String> {
    let misread = |value: Value| match field {
        Field::Month => value.taken != value.meant,
        Field::DayOfWeek => value.taken != value.meant % 7,
        _ => false,
    };
    match entry(field, one).ok()? {
        Entry::Span {
            first,
            last,
            step,
            range,
        } => {
            let none = span(first, last, step).next().is_none();
            (none || misread(first) || range && misread(last))
                .then(|| spelled_range(field, one, first, last, step, false))
        }
        Entry::Other if field == Field::DayOfWeek => {
            // 05L and 05#2 are taken for a Sunday.
            let value = one.get(..2).and_then(|day| field.value(day))?;
            misread(value).then(|| one.chars().skip(1).collect())
        }
        Entry::All | Entry::Other => None,
    }
}

/// The error for a field whose every range ends before it begins.
pub(crate) fn backwards(field: Field, text: &str) -> Fault {
    let rewrite = |until: bool| {
        let parts: Vec<String> = entries(text)
            .filter_map(|one| match entry(field, one) {
                Ok(Entry::Span {
                    first, last, step, ..
                }) => Some(spelled_range(field, one, first, last, step, until)),
                _ => None,
            })
            .collect();
        parts.join(",")
    };
    Fault::Backwards {
        field,
        written: text.into(),
        instead: rewrite(false),
        until: (field == Field::Hour).then(|| rewrite(true)),
    }
}

/// A range by what it says, in at most two ranges that begin before they end; with a step, value by
/// value. `until` leaves out the last value of a range that wraps.
fn spelled_range(
    field: Field,
    written: &str,
    first: Value,
    last: Value,
    step: u32,
    until: bool,
) -> String {
    let (min, max) = (field.min(), field.max());
    let (from, to) = (first.meant, last.meant);
    let name = |value: u32| {
        let names = written.starts_with(|c: char| c.is_ascii_alphabetic());
        match field.short_name(value).filter(|_| names) {
            Some(name) => String::from(name),
            None => value.to_string(),
        }
    };
    let piece = |from: u32, to: u32| {
        if from == to {
            name(from)
        } else {
            name(from) + "-" + &name(to)
        }
    };
    if step > 1 {
        // Years do not wrap, and a weekday of 7 is one beyond the last.
        let size = max - min + 1;
        let end = if from <= to || field == Field::Year {
            to
        } else {
            to + size - u32::from(until)
        };
        let wide = usize::try_from(step).unwrap_or(usize::MAX);
        let all: Vec<String> = (from..=end)
            .step_by(wide)
            .map(|value| name(min + (value - min) % size))
            .collect();
        return all.join(",");
    }
    if field == Field::Year && from > to {
        return piece(to, from);
    }
    if from <= to && to > max {
        // 1-7 and mon-7: Sunday by its other number.
        return if from > max {
            name(0)
        } else {
            piece(from, max) + "," + &name(0)
        };
    }
    if from <= to {
        return piece(from, to);
    }
    if from > max {
        // 7-2: it begins on a Sunday.
        return piece(0, to);
    }
    if until && to == min {
        return piece(from, max);
    }
    piece(from, max) + "," + &piece(min, if until { to - 1 } else { to })
}
