//! What is wrong in a configuration, where, and what to write instead.

use serde::Serialize;
use std::fmt;

/// Whether a runner, or the whole file, can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It can't be used: the runner it stands in is left out, or the whole file.
    Error,
    /// It is used, but hardly means what it says.
    Warning,
    /// It is used; something in it changes nothing here.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// A place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// From 1; 0 is the file as a whole.
    pub line: usize,
    /// In characters, from 1; 0 is the file as a whole.
    pub column: usize,
    /// Characters from there on that are meant, to the end of the line at most.
    pub width: usize,
}

impl Position {
    /// The file as a whole.
    pub const FILE: Position = Position {
        line: 0,
        column: 0,
        width: 0,
    };
}

/// One thing wrong in a configuration. Values of secret keys are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    #[serde(flatten)]
    pub at: Position,
    /// What is wrong.
    pub text: String,
    /// What to do about it: `write ...`, `delete ...`; empty where the text says it.
    pub advice: String,
}

impl Problem {
    /// A problem.
    pub fn new(
        severity: Severity,
        at: Position,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Problem {
        Problem {
            severity,
            at,
            text: text.into(),
            advice: advice.into(),
        }
    }

    /// Whether the runner or the file can't be used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at != Position::FILE {
            write!(f, "{}:{}: ", self.at.line, self.at.column)?;
        }
        write!(f, "{}: {}", self.severity, self.text)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Sorted by place; at one place, errors first.
pub(crate) fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|one, other| {
        (one.at.line, one.at.column, one.severity).cmp(&(
            other.at.line,
            other.at.column,
            other.severity,
        ))
    });
    problems.dedup();
}
