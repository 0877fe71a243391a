//! When the next request may be made: a number of requests a minute, and the server's own word.
//! Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// A server that names a longer wait is asked again after this one.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// A closed gate shorter than this is waited for; a longer one ends the reading.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Make it now; it is counted.
    Go,
    /// Look again after this long.
    Wait(Duration),
    /// The server wants nothing asked for this long.
    Closed(Duration),
}

/// The requests of the last minute, and until when the server wants none.
#[derive(Debug)]
pub(super) struct Pace {
    per_minute: usize,
    asked: VecDeque<Instant>,
    closed_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(per_minute: usize) -> Self {
        Self {
            per_minute: per_minute.max(1),
            asked: VecDeque::new(),
            closed_until: None,
        }
    }

    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if let Some(until) = self.closed_until {
            match until.saturating_duration_since(now) {
                Duration::ZERO => self.closed_until = None,
                wait if wait <= PATIENCE => return Turn::Wait(wait),
                wait => return Turn::Closed(wait),
            }
        }
        while self
            .asked
            .front()
            .is_some_and(|asked| now.saturating_duration_since(*asked) >= WINDOW)
        {
            self.asked.pop_front();
        }
        match self.asked.front() {
            Some(oldest) if self.asked.len() >= self.per_minute => {
                Turn::Wait((*oldest + WINDOW).saturating_duration_since(now))
            }
            _ => {
                self.asked.push_back(now);
                Turn::Go
            }
        }
    }

    /// The server wants nothing asked for `wait`.
    pub(super) fn close(&mut self, now: Instant, wait: Duration) {
        let until = now + wait.min(LONGEST);
        self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
    }
}

/// How long the server wants nothing asked, by its headers: `RateLimit-ResetTime` (a date),
/// `Retry-After` (seconds or a date), `RateLimit-Reset` (seconds since the epoch); 15 minutes at
/// most. `now` is in seconds since the epoch.
pub(crate) fn server_wait(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let until = |at: i64| Duration::from_secs(u64::try_from(at.saturating_sub(now)).unwrap_or(0));
    let date = |text: &str| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(until(date.timestamp().as_second()))
    };
    text("ratelimit-resettime")
        .and_then(date)
        .or_else(|| {
            let text = text("retry-after")?;
            text.parse().map(Duration::from_secs).ok().or(date(text))
        })
        .or_else(|| Some(until(text("ratelimit-reset")?.parse().ok()?)))
        .map(|wait| wait.min(LONGEST))
}

/// Whether the server says that this was the last request of its window.
pub(super) fn used_up(headers: &HeaderMap) -> bool {
    headers
        .get("ratelimit-remaining")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_holds_so_many_requests() {
        let start = Instant::now();
        let mut pace = Pace::new(2);
        assert_eq!(pace.turn(start), Turn::Go);
        assert_eq!(pace.turn(start + seconds(20)), Turn::Go);
        assert_eq!(pace.turn(start + seconds(30)), Turn::Wait(seconds(30)));
        assert_eq!(pace.turn(start + seconds(60)), Turn::Go);
        assert_eq!(pace.turn(start + seconds(60)), Turn::Wait(seconds(20)));
        assert_eq!(Pace::new(0).turn(start), Turn::Go);
    }

    #[test]
    fn a_short_refusal_is_waited_for_and_a_long_one_is_told() {
        let start = Instant::now();
        let mut pace = Pace::new(9);
        pace.close(start, seconds(5));
        pace.close(start, seconds(3));
        assert_eq!(pace.turn(start), Turn::Wait(seconds(5)));
        assert_eq!(pace.turn(start + seconds(5)), Turn::Go);
        pace.close(start, seconds(100_000));
        assert_eq!(pace.turn(start), Turn::Closed(seconds(900)));
        assert_eq!(pace.turn(start + seconds(870)), Turn::Wait(seconds(30)));
    }

    #[test]
    fn the_servers_wait_is_read_from_its_headers() {
        let reset = "Thu, 01 Jan 1970 00:00:30 GMT";
        type Case<'a> = (&'a [(&'static str, &'a str)], Option<u64>);
        let cases: [Case; 10] = [
            (&[], None),
            (&[("retry-after", "7")], Some(7)),
            (&[("retry-after", reset)], Some(20)),
            (&[("retry-after", "soon")], None),
            (&[("ratelimit-reset", "40")], Some(30)),
            (&[("ratelimit-reset", "5")], Some(0)),
            (
                &[("ratelimit-resettime", reset), ("retry-after", "7")],
                Some(20),
            ),
            (
                &[("ratelimit-resettime", "later"), ("retry-after", "7")],
                Some(7),
            ),
            (&[("retry-after", "99999")], Some(900)),
            (&[("retry-after", "-1")], None),
        ];
        for (headers, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name = http::HeaderName::from_static(name);
                map.insert(name, value.parse().expect("a value"));
            }
            assert_eq!(
                server_wait(&map, 10),
                expected.map(Duration::from_secs),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn remaining_zero_is_used_up() {
        for (value, expected) in [("0", true), (" 0 ", true), ("1", false), ("x", false)] {
            let mut map = HeaderMap::new();
            map.insert("ratelimit-remaining", value.parse().expect("a value"));
            assert_eq!(used_up(&map), expected, "{value}");
        }
        assert!(!used_up(&HeaderMap::new()));
    }
}
