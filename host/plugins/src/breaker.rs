//! Keeps calls back from a plugin that fails again and again, per runner and provider scope, so that
//! one bad image does not stop another runner. Time is an argument.

use std::time::Duration;

/// Failures in a row that open a breaker.
const FAILURES: u32 = 5;
/// The first time it stays open; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(10);
/// The longest it stays open.
const LONGEST: Duration = Duration::from_secs(300);

/// Whether calls go through. Times are since any fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// They do; the last one worked.
    #[default]
    Quiet,
    /// They do; this many failed in a row.
    Failing(u32),
    /// They do not until then.
    Open {
        /// When one call may try again.
        until: Duration,
        /// How long it was opened for.
        rest: Duration,
    },
    /// One call is under way to see whether it works again.
    Trying {
        /// When another may try, if that one is never answered.
        until: Duration,
        /// How long it was open before.
        rest: Duration,
    },
}

/// How a call ended, for a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It worked, or the plugin answered that the request can't.
    Answered,
    /// It failed.
    Failed,
}

impl<T> From<&Result<T, crate::CallError>> for Outcome {
    fn from(answer: &Result<T, crate::CallError>) -> Outcome {
        match answer {
            Err(error) if !error.is_answer() => Outcome::Failed,
            _ => Outcome::Answered,
        }
    }
}

impl Breaker {
    /// Whether a call may be made now; a half-open breaker lets one through.
    ///
    /// # Errors
    /// How long to wait.
    pub fn ask(&mut self, now: Duration) -> Result<(), Duration> {
        match *self {
            Breaker::Quiet | Breaker::Failing(_) => Ok(()),
            Breaker::Open { until, rest } | Breaker::Trying { until, rest } => {
                if now < until {
                    return Err(until - now);
                }
                *self = Breaker::Trying {
                    until: now.saturating_add(rest),
                    rest,
                };
                Ok(())
            }
        }
    }

    /// Takes note of how a call ended; answers whether this opened it.
    pub fn tell(&mut self, outcome: Outcome, now: Duration) -> bool {
        let open = |rest: Duration| Breaker::Open {
            until: now.saturating_add(rest),
            rest,
        };
        let next = match (outcome, *self) {
            (Outcome::Answered, _) => Breaker::Quiet,
            (Outcome::Failed, Breaker::Quiet) => Breaker::Failing(1),
            (Outcome::Failed, Breaker::Failing(count)) if count + 1 >= FAILURES => open(FIRST),
            (Outcome::Failed, Breaker::Failing(count)) => Breaker::Failing(count + 1),
            (Outcome::Failed, Breaker::Trying { rest, .. }) => {
                open(rest.saturating_mul(2).min(LONGEST))
            }
            // A call from before it opened.
            (Outcome::Failed, open @ Breaker::Open { .. }) => open,
        };
        let opened = matches!(next, Breaker::Open { .. }) && !matches!(self, Breaker::Open { .. });
        *self = next;
        opened
    }

    /// Whether calls are kept back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Breaker::Open { .. } | Breaker::Trying { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallError;
    use crate::contract::PluginError;
    use proptest::prelude::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for count in 1..=FAILURES {
            assert_eq!(breaker.ask(at(0)), Ok(()));
            assert_eq!(breaker.tell(Outcome::Failed, at(0)), count == FAILURES);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_call_tries_after_a_rest() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1)), Err(at(9)));
        assert_eq!(breaker.ask(at(10)), Ok(()));
        assert_eq!(breaker.ask(at(10)), Err(at(10)), "one is under way");
        assert!(breaker.tell(Outcome::Failed, at(11)));
        assert_eq!(breaker.ask(at(12)), Err(at(19)), "twice as long");
        assert_eq!(breaker.ask(at(31)), Ok(()));
        breaker.tell(Outcome::Answered, at(32));
        assert_eq!(breaker, Breaker::Quiet);
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                assert!(!breaker.tell(Outcome::Failed, at(0)));
            }
            breaker.tell(Outcome::Answered, at(0));
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_try_that_is_never_answered_does_not_close_it_for_ever() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(10)), Ok(()));
        assert_eq!(breaker.ask(at(20)), Ok(()));
    }

    #[test]
    fn what_is_an_answer_is_no_failure() {
        let answers = [
            PluginError::InvalidConfig("x".into()),
            PluginError::Denied("x".into()),
            PluginError::Quota("x".into()),
            PluginError::Throttled(5),
            PluginError::NotFound("x".into()),
        ];
        for error in answers {
            let answer: Result<(), _> = Err(CallError::Plugin(error));
            assert_eq!(Outcome::from(&answer), Outcome::Answered);
        }
        for error in [
            CallError::Plugin(PluginError::Transient("x".into())),
            CallError::Trap("x".into()),
            CallError::Deadline(at(1)),
        ] {
            assert_eq!(Outcome::from(&Err::<(), _>(error)), Outcome::Failed);
        }
        assert_eq!(Outcome::from(&Ok(())), Outcome::Answered);
    }

    proptest! {
        #[test]
        fn it_never_keeps_calls_back_longer_than_its_longest(
            calls in proptest::collection::vec((any::<bool>(), 0_u64..1000), 0..200)
        ) {
            let mut breaker = Breaker::default();
            let mut now = Duration::ZERO;
            for (works, later) in calls {
                now += at(later);
                match breaker.ask(now) {
                    Ok(()) => {
                        let outcome = if works { Outcome::Answered } else { Outcome::Failed };
                        breaker.tell(outcome, now);
                    }
                    Err(wait) => prop_assert!(wait <= LONGEST),
                }
            }
        }
    }
}
