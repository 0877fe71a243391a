//! `concurrent` is global: a slot is taken before a job is asked for and kept until it is final.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All slots of a daemon.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    most: u32,
    used: u32,
    there: Operations,
}

/// What became of slots since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Slots that came to be.
    pub started: u64,
    /// Slots that are no more: one beyond `concurrent` is there until its job is over.
    pub stopped: u64,
}

impl Operations {
    /// Slots there are now.
    #[must_use]
    pub fn slots(self) -> u64 {
        self.started.saturating_sub(self.stopped)
    }
}

impl Count {
    fn settle(&mut self) {
        let (now, before) = (u64::from(self.most.max(self.used)), self.there.slots());
        self.there.started += now.saturating_sub(before);
        self.there.stopped += before.saturating_sub(now);
    }
}

/// One slot; free again when this is dropped.
#[derive(Debug)]
pub struct Slot(Slots);

impl Slots {
    /// So many slots.
    #[must_use]
    pub fn new(most: u32) -> Slots {
        let mut count = Count {
            most,
            used: 0,
            there: Operations::default(),
        };
        count.settle();
        Slots(Arc::new(Mutex::new(count)))
    }

    /// Another number of slots; those in use beyond it stay until they are free.
    pub fn set(&self, most: u32) {
        let mut count = self.lock();
        count.most = most;
        count.settle();
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
        let mut count = self.lock();
        count.used += 1;
        count.settle();
        drop(count);
        Slot(self.clone())
    }

    /// What became of slots so far.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.lock().there
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.used = count.used.saturating_sub(1);
        count.settle();
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
    fn slots_are_started_and_stopped_as_concurrent_changes_and_never_under_a_job() {
        let slots = Slots::new(2);
        let operations = |started, stopped| Operations { started, stopped };
        assert_eq!(slots.operations(), operations(2, 0));
        let (one, two) = (slots.take(), slots.take());
        slots.set(1);
        assert_eq!(slots.operations(), operations(2, 0));
        drop(one);
        assert_eq!(slots.operations(), operations(2, 1));
        let adopted = slots.adopt();
        assert_eq!(slots.operations().slots(), 2);
        drop((two, adopted));
        assert_eq!(slots.operations(), operations(3, 2));
        slots.set(5);
        assert_eq!(slots.operations().slots(), 5);
    }

    #[test]
    fn turns_are_a_step_apart_and_no_later_than_they_may_be() {
        let turns = Turns::default();
        let all: Vec<u64> = (0..4).map(|_| turns.next(1000, 100, 1250)).collect();
        assert_eq!(all, [1000, 1100, 1200, 1250]);
        assert_eq!(turns.next(5000, 100, 6000), 5000);
    }
}
