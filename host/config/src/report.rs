//! Where problems are gathered while a file is read.

use crate::problem;
use crate::{Position, Problem, Severity, Source};
use std::ops::Range;

/// A span of bytes in the file.
pub(crate) type Span = Range<usize>;

/// The problems so far.
pub(crate) struct Report<'s> {
    source: &'s Source,
    problems: Vec<Problem>,
    errors: usize,
    /// What runners that can't be used say of plugins.
    pub(crate) unusable: Vec<crate::Unusable>,
}

impl<'s> Report<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Report {
            source,
            problems: Vec::new(),
            errors: 0,
            unusable: Vec::new(),
        }
    }

    pub(crate) fn error(&mut self, at: &Span, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Error, at, text, advice);
    }

    pub(crate) fn warning(
        &mut self,
        at: &Span,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Severity::Warning, at, text, advice);
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        at: &Span,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let at = self.source.position(at.clone());
        self.push(Problem::new(severity, at, text, advice));
    }

    /// A problem of the file as a whole.
    pub(crate) fn of_file(
        &mut self,
        severity: Severity,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.push(Problem::new(severity, Position::FILE, text, advice));
    }

    fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.is_error());
        self.problems.push(problem);
    }

    /// How many errors there are: what was read between two looks is whole if they agree.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn position(&self, at: &Span) -> Position {
        self.source.position(at.clone())
    }

    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problem::sort(&mut problems);
        problems
    }
}
