//! Tries, and the pauses between them.

use super::{Stop, words};
use springtide_helper::Calls;
use std::time::Duration;

/// A pause grows to so many times the first one.
const LONGEST: u32 = 5;

/// Tries until something is done, fails for good, or was tried often enough: `most` says how often,
/// from why it failed. `attempt` is given how often it was tried before.
pub(super) fn retry<T>(
    calls: &Calls,
    context: &str,
    mut attempt: impl FnMut(u32) -> Result<T, Failed>,
) -> Result<T, Stop> {
    let mut tried = 0;
    loop {
        let failed = match attempt(tried) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        tried += 1;
        let (why, most) = match failed {
            Failed::Stop(Stop::MayBeRetried(why)) => (why, calls.attempts),
            Failed::Busy(why) => (why, calls.attempts.saturating_mul(2)),
            Failed::Stop(stop) => return Err(stop),
        };
        if tried >= most {
            return Err(Stop::MayBeRetried(why));
        }
        words::warning("Retrying...", &[("context", context), ("error", &*why)]);
        let times = 2u32.saturating_pow(tried - 1).min(LONGEST);
        std::thread::sleep(Duration::from_millis(calls.pause_milliseconds.into()) * times);
    }
}

/// Why one try failed.
pub(super) enum Failed {
    /// As any other.
    Stop(Stop),
    /// The server says that it can't for the moment, which is worth more tries.
    Busy(String),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Failed::Stop(stop)
    }
}
