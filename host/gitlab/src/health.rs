//! When a runner may ask GitLab again. Pure: the time and the jitter are arguments.
//!
//! A token that GitLab forbids three times in a row is not asked with for an hour: that is
//! GitLab Runner's rule. A GitLab that is down, busy or slow says nothing about the runner; it is
//! given time, more of it with each failure.

use std::time::Duration;

use crate::{GitlabError, JobRequestOutcome};

/// The first and the longest pause after failures.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When a runner that GitLab forbids is left alone. The defaults are GitLab Runner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthLimits {
    /// `unhealthy_requests_limit`: so many 403 in a row; 3.
    pub requests: u32,
    /// `unhealthy_interval`: for so long; an hour.
    pub interval: Duration,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self {
            requests: 3,
            interval: Duration::from_secs(3600),
        }
    }
}

/// What an answer says of a runner and of GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// GitLab answered as it should.
    Well,
    /// 403, or nothing could be asked with these options.
    Forbidden,
    /// Nothing is to be asked for this long.
    Throttled(Duration),
    /// GitLab did not answer, or made no sense.
    Failed,
}

impl JobRequestOutcome {
    /// What the outcome says of the runner and of GitLab.
    #[must_use]
    pub fn sign(&self) -> Sign {
        match self {
            Self::Job(_) | Self::Unreadable(_) | Self::Nothing | Self::Conflict => Sign::Well,
            Self::Throttled { wait, .. } => Sign::Throttled(*wait),
            Self::Forbidden(_) | Self::Failed(GitlabError::BadOption { .. }) => Sign::Forbidden,
            Self::Failed(_) => Sign::Failed,
        }
    }
}

/// One runner's standing. Times are since any fixed moment.
#[derive(Clone, Debug)]
pub struct Health {
    limits: HealthLimits,
    forbidden: u32,
    failures: u32,
    not_before: Duration,
    disabled_until: Option<Duration>,
}

impl Health {
    /// A runner of which nothing bad is known.
    #[must_use]
    pub fn new(limits: HealthLimits) -> Self {
        Self {
            limits,
            forbidden: 0,
            failures: 0,
            not_before: Duration::ZERO,
            disabled_until: None,
        }
    }

    /// Takes in an answer that came at `now`; `jitter` is from 0 to 1. True where it is this one
    /// that disables the runner.
    pub fn note(&mut self, sign: Sign, now: Duration, jitter: f64) -> bool {
        match sign {
            Sign::Well => {
                (self.forbidden, self.failures) = (0, 0);
                self.not_before = now;
                self.disabled_until = None;
            }
            Sign::Forbidden => {
                self.failures = 0;
                // After the interval one request decides, and the count begins anew.
                if self.disabled_until.take().is_some() {
                    self.forbidden = 0;
                }
                self.forbidden = self.forbidden.saturating_add(1);
                if self.forbidden >= self.limits.requests.max(1) {
                    let until = now.saturating_add(self.limits.interval);
                    self.disabled_until = Some(until);
                    self.not_before = until;
                    return true;
                }
                self.not_before = now;
            }
            // GitLab spoke, and not of the token.
            Sign::Throttled(wait) => {
                self.forbidden = 0;
                self.not_before = now.saturating_add(wait + (wait / 10).mul_f64(unit(jitter)));
            }
            Sign::Failed => {
                self.forbidden = 0;
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.saturating_add(pause(FAILED, self.failures, jitter));
            }
        }
        false
    }

    /// When the next request may be made; a time that has passed is now.
    #[must_use]
    pub fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Until when the runner is disabled at `now`, if it is.
    #[must_use]
    pub fn disabled_until(&self, now: Duration) -> Option<Duration> {
        self.disabled_until.filter(|until| now < *until)
    }

    /// Whether the last answer was as it should be, or there was none yet.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.forbidden == 0 && self.failures == 0 && self.disabled_until.is_none()
    }
}

/// The pause after so many failures: from the first bound doubled each time up to the second,
/// and of that between a half and the whole by `jitter`, from 0 to 1.
pub(crate) fn pause(
    (first, longest): (Duration, Duration),
    failures: u32,
    jitter: f64,
) -> Duration {
    let doublings = failures.saturating_sub(1);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let ceiling = first.saturating_mul(factor).min(longest);
    let half = ceiling / 2;
    half + half.mul_f64(unit(jitter))
}

fn unit(jitter: f64) -> f64 {
    match jitter.is_finite() {
        true => jitter.clamp(0.0, 1.0),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn health() -> Health {
        Health::new(HealthLimits::default())
    }

    #[test]
    fn three_times_forbidden_in_a_row_disables_a_runner_for_its_interval() {
        let mut health = health();
        for disables in [false, false, true] {
            assert_eq!(health.not_before(), Duration::ZERO);
            assert_eq!(health.note(Sign::Forbidden, Duration::ZERO, 0.0), disables);
        }
        assert_eq!(health.not_before(), seconds(3600));
        assert_eq!(health.disabled_until(seconds(1)), Some(seconds(3600)));
        assert_eq!(health.disabled_until(seconds(3600)), None);
        assert!(!health.is_well());
    }

    #[test]
    fn after_the_interval_the_count_begins_anew() {
        let mut health = health();
        for _ in 0..3 {
            health.note(Sign::Forbidden, Duration::ZERO, 0.0);
        }
        for (now, disables) in [(3600, false), (3603, false), (3606, true)] {
            assert_eq!(health.note(Sign::Forbidden, seconds(now), 0.0), disables);
        }
        assert_eq!(health.not_before(), seconds(3606 + 3600));
        health.note(Sign::Well, seconds(9000), 0.0);
        assert!(health.is_well() && health.not_before() == seconds(9000));
    }

    #[test]
    fn what_is_not_about_the_token_never_disables_a_runner() {
        for sign in [Sign::Well, Sign::Throttled(seconds(5)), Sign::Failed] {
            let mut health = health();
            for _ in 0..100 {
                assert!(!health.note(sign, Duration::ZERO, 1.0), "{sign:?}");
            }
            assert_eq!(health.disabled_until(Duration::ZERO), None, "{sign:?}");
            for between in [Sign::Forbidden, Sign::Forbidden, sign, Sign::Forbidden] {
                assert!(!health.note(between, Duration::ZERO, 1.0), "{sign:?}");
            }
        }
    }

    #[test]
    fn a_gitlab_that_is_down_is_asked_less_and_less_often() {
        let mut health = health();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            health.note(Sign::Failed, seconds(100), 1.0);
            pauses.push(health.not_before().as_secs() - 100);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        health.note(Sign::Throttled(seconds(100)), seconds(200), 1.0);
        assert_eq!(health.not_before(), seconds(310));
    }

    proptest! {
        #[test]
        fn a_pause_is_between_half_and_all_of_its_bound(failures in 0_u32..200, jitter: f64) {
            let pause = pause(FAILED, failures, jitter);
            prop_assert!(pause >= FAILED.0 / 2 && pause <= FAILED.1);
        }
    }
}
