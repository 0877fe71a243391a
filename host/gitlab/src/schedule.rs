//! Whose turn it is to ask for a job. Pure: the time is an argument.
//!
//! `check_interval` is shared: of three runners and an interval of 3 s one is asked for each second,
//! round and round, so that each has its turn once in an interval and they do not ask together. A
//! runner that was given a job may ask again at once, for where there was one there may be more.

use std::collections::VecDeque;
use std::time::Duration;

/// The order in which runners ask. Times are since any fixed moment.
#[derive(Clone, Debug)]
pub struct Schedule<K> {
    interval: Duration,
    runners: Vec<K>,
    next: usize,
    at: Duration,
    at_once: VecDeque<K>,
}

impl<K: Clone + PartialEq> Schedule<K> {
    /// A schedule without runners.
    #[must_use]
    pub fn new(check_interval: Duration) -> Self {
        Self {
            interval: check_interval,
            runners: Vec::new(),
            next: 0,
            at: Duration::ZERO,
            at_once: VecDeque::new(),
        }
    }

    /// Another interval, from the next turn on.
    pub fn set_interval(&mut self, check_interval: Duration) {
        self.interval = check_interval;
    }

    /// These runners, in this order. The one whose turn is next stays so if it is among them.
    pub fn set_runners(&mut self, runners: Vec<K>) {
        let next = self.runners.get(self.next).cloned();
        let place = |next: &K| runners.iter().position(|runner| runner == next);
        self.next = next.as_ref().and_then(place).unwrap_or(0);
        self.at_once.retain(|runner| runners.contains(runner));
        self.runners = runners;
    }

    /// Between two turns; an hour where there is no runner.
    #[must_use]
    pub fn step(&self) -> Duration {
        match u32::try_from(self.runners.len()) {
            Ok(0) | Err(_) => Duration::from_secs(3600),
            Ok(runners) => self.interval / runners,
        }
    }

    /// Whose turn it is at `now`, if it is anybody's; each call is another turn. A turn that
    /// came late is not made up for.
    pub fn turn(&mut self, now: Duration) -> Option<K> {
        if let Some(runner) = self.at_once.pop_front() {
            return Some(runner);
        }
        if self.runners.is_empty() || now < self.at {
            return None;
        }
        let runner = self.runners[self.next].clone();
        self.next = (self.next + 1) % self.runners.len();
        self.at = now.saturating_add(self.step());
        Some(runner)
    }

    /// When the next turn is; zero is now. `None` where there is no runner.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        match (self.at_once.is_empty(), self.runners.is_empty()) {
            (false, _) => Some(Duration::ZERO),
            (true, false) => Some(self.at),
            (true, true) => None,
        }
    }

    /// A runner was given a job: it has the next turn as well. Not for one with
    /// `strict_check_interval`.
    pub fn again(&mut self, runner: &K) {
        if self.runners.contains(runner) && !self.at_once.contains(runner) {
            self.at_once.push_back(runner.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn schedule(runners: &[&'static str]) -> Schedule<&'static str> {
        let mut schedule = Schedule::new(seconds(6));
        schedule.set_runners(runners.to_vec());
        schedule
    }

    #[test]
    fn the_interval_is_shared_and_each_has_its_turn() {
        let mut schedule = schedule(&["a", "b", "c"]);
        let turns: Vec<_> = (0..8).map(|now| schedule.turn(seconds(now))).collect();
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        assert_eq!(turns, [a, None, b, None, c, None, a, None]);
        assert_eq!(schedule.next_at(), Some(seconds(8)));
    }

    #[test]
    fn a_late_turn_is_not_made_up_for() {
        let mut schedule = schedule(&["a", "b", "c"]);
        assert_eq!(schedule.turn(seconds(0)), Some("a"));
        assert_eq!(schedule.turn(seconds(60)), Some("b"));
        assert_eq!(schedule.turn(seconds(61)), None);
        assert_eq!(schedule.turn(seconds(62)), Some("c"));
    }

    #[test]
    fn who_was_given_a_job_asks_again_at_once_and_the_others_keep_their_turns() {
        let mut schedule = schedule(&["a", "b"]);
        assert_eq!(schedule.turn(seconds(0)), Some("a"));
        schedule.again(&"a");
        schedule.again(&"a");
        schedule.again(&"unknown");
        assert_eq!(schedule.next_at(), Some(Duration::ZERO));
        assert_eq!(schedule.turn(seconds(1)), Some("a"));
        assert_eq!(schedule.turn(seconds(1)), None);
        assert_eq!(schedule.turn(seconds(3)), Some("b"));
    }

    #[test]
    fn a_reload_keeps_whose_turn_it_is() {
        let mut schedule = schedule(&["a", "b", "c"]);
        assert_eq!(schedule.turn(seconds(0)), Some("a"));
        schedule.again(&"c");
        schedule.set_runners(vec!["x", "b"]);
        assert_eq!(schedule.turn(seconds(2)), Some("b"));
        assert_eq!(schedule.turn(seconds(5)), Some("x"));
        schedule.set_runners(Vec::new());
        assert_eq!(
            (schedule.turn(seconds(99)), schedule.next_at()),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn no_runner_asks_more_than_once_an_interval_and_none_is_left_out(
            runners in 1_usize..20, steps in proptest::collection::vec(0_u64..5000, 1..300),
        ) {
            let interval = seconds(3);
            let mut schedule = Schedule::new(interval);
            schedule.set_runners((0..runners).collect());
            let mut now = Duration::ZERO;
            let mut last = vec![None; runners];
            let mut turns = vec![0_u32; runners];
            for step in steps {
                now += Duration::from_millis(step);
                if let Some(runner) = schedule.turn(now) {
                    let least = interval - Duration::from_nanos(runners as u64);
                    prop_assert!(last[runner].is_none_or(|last: Duration| now - last >= least));
                    last[runner] = Some(now);
                    turns[runner] += 1;
                }
            }
            let (most, least) = (turns.iter().max(), turns.iter().min());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
        }
    }
}
