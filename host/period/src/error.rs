//! Why a text is not a period, and what to write instead.

use alloc::string::String;
use core::fmt;

use crate::Field;

/// A text that is not a period. Its message names the text, the field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodError {
    period: String,
    fault: Fault,
}

/// What is wrong with a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fewer than five fields. GitLab Runner says `missing field(s)`.
    MissingFields {
        /// How many there are.
        found: usize,
    },
    /// A field of commas only.
    NoEntry {
        /// The field.
        field: Field,
    },
    /// An entry that is not in the grammar of its field.
    Syntax {
        /// The field.
        field: Field,
        /// The entry between its commas, as written.
        entry: String,
    },
    /// A step of 0, wider than the field, or written as no value is.
    Step {
        /// The field.
        field: Field,
        /// The entry between its commas, as written.
        entry: String,
    },
    /// No value is left because every range ends before it begins. GitLab Runner crashes on these.
    Backwards {
        /// The field: second, minute, hour or month. In the others GitLab Runner goes on and matches
        /// nothing, and so does this crate.
        field: Field,
        /// The field as written.
        written: String,
        /// The field that says what was meant, the last value of each range included.
        instead: String,
        /// For hours, the same up to the beginning of the last hour.
        until: Option<String>,
    },
}

impl PeriodError {
    pub(crate) fn new(period: &str, fault: Fault) -> Self {
        PeriodError {
            period: period.into(),
            fault,
        }
    }

    /// The text that was to be a period.
    pub fn period(&self) -> &str {
        &self.period
    }

    /// What is wrong with it.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl core::error::Error for PeriodError {}

impl fmt::Display for PeriodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the period {}: ", Cut(&self.period))?;
        match &self.fault {
            Fault::MissingFields { found } => {
                let s = if *found == 1 { "" } else { "s" };
                write!(f, "it has {found} field{s} and needs at least 5; ")?;
                if self.period.trim_start().starts_with('@') {
                    return f.write_str(
                        "the only aliases are @yearly, @annually, @monthly, @weekly, @daily and @hourly, in lower case",
                    );
                }
                f.write_str(
                    "write all 7, second minute hour day-of-month month day-of-week year, such as \"* * 9-17 * * mon-fri *\"",
                )
            }
            Fault::NoEntry { field } => {
                write!(
                    f,
                    "the {field} field has nothing between its commas; write * for any"
                )
            }
            Fault::Syntax { field, entry } => {
                write!(
                    f,
                    "the {field} field cannot be {}; write {}",
                    Cut(entry),
                    field.allows()
                )
            }
            Fault::Step { field, entry } => write!(
                f,
                "the step of {} in the {field} field has to be 1 to {}, without leading zeros; write such a step, or a single value for once",
                Cut(entry),
                field.max()
            ),
            Fault::Backwards {
                field,
                written,
                instead,
                until,
            } => {
                write!(
                    f,
                    "the {field} field {} ends before it begins and would never match; write ",
                    Cut(written)
                )?;
                match until {
                    Some(until) => write!(
                        f,
                        "\"{until}\" to stop when the last hour begins, or \"{instead}\" to have all of it"
                    ),
                    None => write!(f, "\"{instead}\""),
                }
            }
        }
    }
}

/// Quoted, with control characters escaped, and cut where nobody reads on.
struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 120;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?} and so on", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}
