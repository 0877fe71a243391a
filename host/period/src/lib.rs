//! Is an instant in a period: the cron grammar of GitLab Runner's autoscaling sections.
//!
//! A period is the text of one entry of `Periods` or `OffPeakPeriods`, seven fields as
//! `second minute hour day-of-month month day-of-week year`; the first and the last may be left out.
//! It is read as the library does that GitLab Runner uses (gorhill/cronexpr), oddities included, so
//! that a configuration means the same here as there. Four things differ on purpose:
//!
//! - A period holds at an instant if the whole second that contains it matches. GitLab Runner looks
//!   at the *next* whole second, so its periods begin and end one second early.
//! - A field whose ranges are all written backwards (`22-6` hours) is an error that says what to
//!   write. GitLab Runner takes it and crashes when it first looks at the clock.
//! - Where the clocks go back, both of the doubled hours match. GitLab Runner matches the second.
//! - Single seconds that its search for the next match adds or loses are not imitated: an hour that
//!   is skipped in spring matching the second after the leap, and months from `01` on missing the
//!   first second of a year.
//!
//! Parsing allocates only for an alias and for an error; a [`Period`] is a handful of bit sets, and
//! [`Period::contains`] a handful of bit tests: it may be called in a plugin at every decision. There
//! is no clock and no time zone in here: the caller says what the clocks of the zone show.
//!
//! ```
//! use springtide_period::{Civil, Period};
//!
//! let office_hours = Period::parse("* * 9-17 * * mon-fri *")?;
//! let monday = Civil { year: 2026, month: 3, day: 2, hour: 9, minute: 0, second: 0, weekday: 1 };
//! assert!(office_hours.contains(&monday));
//! assert!(!office_hours.contains(&Civil { hour: 18, ..monday }));
//! assert!(!office_hours.never_again(&monday));
//!
//! let error = Period::parse("* * 22-6 * * * *").expect_err("no hour is from 22 to 6");
//! assert!(error.to_string().contains("22-23,0-5"));
//! # Ok::<(), springtide_period::PeriodError>(())
//! ```

#![no_std]

extern crate alloc;

mod calendar;
mod error;
mod field;
mod parse;
mod period;
mod rewrite;

pub use calendar::Civil;
pub use error::{Fault, PeriodError};
pub use field::Field;
pub use period::Period;
pub use rewrite::DeadEntry;
