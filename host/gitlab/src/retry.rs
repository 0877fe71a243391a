//! When a request that GitLab refused for now is made again. Pure: the time and the jitter are
//! arguments. The rules are GitLab Runner's.

use std::time::Duration;

/// How often one request is made at most.
pub const MAX_ATTEMPTS: u32 = 5;

const LONGEST: Duration = Duration::from_secs(60);

/// Whether a response of this HTTP status is worth another attempt.
#[must_use]
pub fn retriable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504) || status >= 512
}

/// How long to wait after attempt `attempt` (from 1) was refused, 60 s at most.
///
/// `reset_time` is the header `RateLimit-ResetTime` (an RFC 2822 date), `retry_after` the header
/// `Retry-After` (whole seconds), `now` seconds since the epoch and `jitter` from 0 to 1. The
/// first header that can be read counts; without one the wait doubles from 100 ms.
#[must_use]
pub fn retry_wait(
    attempt: u32,
    reset_time: Option<&str>,
    retry_after: Option<&str>,
    now: i64,
    jitter: f64,
) -> Duration {
    if let Some(reset) = reset_time.and_then(epoch_seconds) {
        return Duration::from_secs(u64::try_from(reset.saturating_sub(now)).unwrap_or(0))
            .min(LONGEST);
    }
    if let Some(seconds) = retry_after.and_then(|text| text.trim().parse().ok()) {
        return Duration::from_secs(seconds).min(LONGEST);
    }
    let ceiling = Duration::from_millis(100)
        .saturating_mul(
            1_u32
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u32::MAX),
        )
        .min(LONGEST);
    let half = ceiling / 2;
    half + half.mul_f64(if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    })
}

fn epoch_seconds(date: &str) -> Option<i64> {
    let zoned = jiff::fmt::rfc2822::parse(date.trim()).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_worth_another_attempt() {
        for (status, again) in [
            (200, false),
            (204, false),
            (403, false),
            (404, false),
            (408, true),
            (409, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
            (511, false),
            (512, true),
            (599, true),
        ] {
            assert_eq!(retriable(status), again, "{status}");
        }
    }

    #[test]
    fn the_servers_own_word_comes_before_the_exponential_wait() {
        let reset = Some("Thu, 01 Jan 1970 00:00:30 GMT");
        let cases = [
            (1, reset, Some("5"), 10, 20_000),
            (1, reset, None, 40, 0),
            (1, Some("soon"), Some("5"), 0, 5_000),
            (1, None, Some("9999"), 0, 60_000),
            (1, None, Some("soon"), 0, 100),
            (2, None, None, 0, 200),
            (90, None, None, 0, 60_000),
        ];
        for (attempt, reset, after, now, ms) in cases {
            let wait = retry_wait(attempt, reset, after, now, 1.0);
            assert_eq!(
                wait,
                Duration::from_millis(ms),
                "{attempt} {reset:?} {after:?}"
            );
        }
        assert_eq!(retry_wait(1, None, None, 0, 0.0), Duration::from_millis(50));
        assert_eq!(
            retry_wait(1, None, None, 0, f64::NAN),
            Duration::from_millis(50)
        );
    }
}
