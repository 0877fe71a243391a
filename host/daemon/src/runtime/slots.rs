//! `concurrent` is global: a slot is taken before a job is asked for and kept until it is final.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All slots of a daemon.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    most: u32,
    used: u32,
}

/// One slot; free again when this is dropped.
#[derive(Debug)]
pub struct Slot(Slots);

impl Slots {
    /// So many slots.
    #[must_use]
    pub fn new(most: u32) -> Slots {
        Slots(Arc::new(Mutex::new(Count { most, used: 0 })))
    }

    /// Another number of slots; those in use beyond it stay until they are free.
    pub fn set(&self, most: u32) {
        self.lock().most = most;
    }

    /// A slot, if one is free.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let mut count = self.lock();
        (count.used < count.most).then(|| {
            count.used += 1;
            Slot(self.clone())
        })
    }

    /// Whether one is free still.
    #[must_use]
    pub fn any_left(&self) -> bool {
        let count = self.lock();
        count.used < count.most
    }

    /// A slot for a job that was taken before this daemon started: it has one, free or not.
    #[must_use]
    pub fn adopt(&self) -> Slot {
        self.lock().used += 1;
        Slot(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.used = count.used.saturating_sub(1);
    }
}

/// Turns of requests for jobs: `check_interval` is shared among the runners, so that they do not ask
/// together.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<u64>>);

impl Turns {
    /// The next turn at or after `from`, `step` after the one before it; both in milliseconds, the
    /// first since the epoch. Never later than `latest`.
    #[must_use]
    pub fn next(&self, from: u64, step: u64, latest: u64) -> u64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = from.max(last.saturating_add(step)).min(latest.max(from));
        *last = turn.max(*last);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are_and_dropped_ones_are_free_again() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take(), slots.take());
        assert!(one.is_some() && two.is_some());
        assert!(slots.take().is_none());
        drop(one);
        let adopted = slots.adopt();
        assert!(slots.take().is_none());
        slots.set(3);
        assert!(slots.take().is_some());
        drop((two, adopted));
        slots.set(0);
        assert!(slots.take().is_none());
    }

    #[test]
    fn turns_are_a_step_apart_and_no_later_than_they_may_be() {
        let turns = Turns::default();
        let all: Vec<u64> = (0..4).map(|_| turns.next(1000, 100, 1250)).collect();
        assert_eq!(all, [1000, 1100, 1200, 1250]);
        assert_eq!(turns.next(5000, 100, 6000), 5000);
    }
}
