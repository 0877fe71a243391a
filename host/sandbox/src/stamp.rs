//! Instants as the sandbox keeps them: the time since the Unix epoch, and how each reader wants it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes back: the wall clock at its start, and a monotonic one since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Duration,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.wall + self.started.elapsed()
    }
}

/// Seconds since the epoch, to the millisecond.
pub(crate) fn seconds(at: Duration) -> f64 {
    (at.as_secs_f64() * 1000.0).round() / 1000.0
}

fn timestamp(at: Duration) -> jiff::Timestamp {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// ISO 8601 with milliseconds, as GitLab's JSON has it.
pub(crate) fn iso(at: Duration) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The date form of HTTP headers.
pub(crate) fn http_date(at: Duration) -> String {
    timestamp(at)
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_as_each_reader_wants_them() {
        let at = Duration::from_millis(1_772_442_000_123);
        assert_eq!(iso(at), "2026-03-02T09:00:00.123Z");
        assert_eq!(http_date(at), "Mon, 02 Mar 2026 09:00:00 GMT");
        assert_eq!(seconds(at), 1_772_442_000.123);
    }
}
