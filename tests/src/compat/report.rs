//! What a run of the suite came to, for a person.

use super::case::Case;
use super::compare::Difference;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Lines of a trace that are shown of a job that differs.
const SHOWN: usize = 60;

/// What a case came to.
#[derive(Debug)]
pub enum Verdict {
    /// All is as expected.
    Right,
    /// It is not, and is known not to be.
    Open(String),
    /// All is as expected of a case that is said not to be right yet.
    NoLongerOpen(String),
    /// This machine lacks a program it needs.
    LeftOut(String),
    /// Something is not as expected.
    Wrong(Vec<Wrong>),
}

/// A job of a case that is not as expected.
#[derive(Debug)]
pub struct Wrong {
    /// The job's name.
    pub job: String,
    /// Its id in this run.
    pub id: u64,
    /// What differs.
    pub differences: Vec<Difference>,
    /// Its trace, without colours.
    pub trace: String,
}

/// A case and what it came to.
pub struct Outcome<'a> {
    /// The case.
    pub case: &'a Case,
    /// What it came to.
    pub verdict: Verdict,
}

/// All of them.
pub struct Report<'a> {
    /// The outcomes, in the order of the files.
    pub outcomes: Vec<Outcome<'a>>,
    /// How many jobs ran.
    pub jobs: usize,
    /// How long it took.
    pub took: Duration,
}

impl Report<'_> {
    /// Whether every case is as it should be, or known not to be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.outcomes.iter().any(|outcome| {
            matches!(
                outcome.verdict,
                Verdict::Wrong(_) | Verdict::NoLongerOpen(_)
            )
        })
    }
}

fn indented(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines()
        .try_for_each(|line| writeln!(f, "      | {line}"))
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    job {:?} ({})", self.job, self.id)?;
        for Difference {
            what,
            expected,
            actual,
        } in &self.differences
        {
            writeln!(f, "      {what}: expected {expected}")?;
            writeln!(f, "      {what}:      got {actual}")?;
        }
        let lines: Vec<&str> = self.trace.lines().collect();
        let from = lines.len().saturating_sub(SHOWN);
        if from > 0 {
            writeln!(f, "      | ({from} lines before)")?;
        }
        let shown = lines[from..]
            .iter()
            .map(|line| line.get(..400).unwrap_or(line));
        indented(f, &shown.collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut files: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
        for outcome in &self.outcomes {
            let column = match &outcome.verdict {
                Verdict::Right => 0,
                Verdict::Open(_) => 1,
                Verdict::LeftOut(_) => 2,
                Verdict::Wrong(_) | Verdict::NoLongerOpen(_) => 3,
            };
            files.entry(&outcome.case.file).or_default()[column] += 1;
        }
        let mut sum = [0; 4];
        writeln!(
            f,
            "{:<12}{:>7}{:>7}{:>10}{:>7}",
            "file", "right", "open", "left out", "wrong"
        )?;
        for (file, counts) in &files {
            let [right, open, left, wrong] = counts;
            writeln!(f, "{file:<12}{right:>7}{open:>7}{left:>10}{wrong:>7}")?;
            sum.iter_mut()
                .zip(counts)
                .for_each(|(sum, count)| *sum += count);
        }
        let [right, open, left, wrong] = sum;
        writeln!(f, "{:<12}{right:>7}{open:>7}{left:>10}{wrong:>7}", "all")?;
        writeln!(f, "{} jobs in {:.1} s", self.jobs, self.took.as_secs_f64())?;
        for Outcome { case, verdict } in &self.outcomes {
            let name = format!("{}: {}", case.file, case.name);
            match verdict {
                Verdict::Right => {}
                Verdict::Open(why) => writeln!(f, "  open      {name} ({why})")?,
                Verdict::LeftOut(why) => writeln!(f, "  left out  {name} ({why})")?,
                Verdict::NoLongerOpen(why) => writeln!(
                    f,
                    "  RIGHT     {name}: it is as expected by now; delete its line `open` ({why})"
                )?,
                Verdict::Wrong(_) => {}
            }
        }
        for Outcome { case, verdict } in &self.outcomes {
            if let Verdict::Wrong(jobs) = verdict {
                writeln!(f, "  WRONG     {}: {}", case.file, case.name)?;
                jobs.iter().try_for_each(|job| write!(f, "{job}"))?;
            }
        }
        Ok(())
    }
}
