//! When [`crate::step()`] could answer differently though nothing but time went by, so that a timer
//! can be set instead of asking again and again.

use crate::machine::Phase;
use crate::snapshot::{JobPhase, Limits, Pool, Targets};
use crate::time::{Millis, Time};

/// The earliest time after `now` at which [`crate::step()`] could decide something else for the same
/// snapshot: an idle time, a timeout or a not-before runs out. None where time changes nothing.
///
/// Between `now` and that time it decides the same; at that time it may or may not decide something
/// else. [`Targets::wake_at`] is not in it: that is when the policies are to be asked again.
#[must_use]
pub fn next_wake(pool: &Pool, targets: &Targets, limits: &Limits, now: Time) -> Option<Time> {
    // The rules say "longer than", so the first different answer is a millisecond later.
    let past = |since: Time, length: Millis| since.after(length).after(Millis(1));
    let timeout = |since: Time, length: Millis| (length.0 > 0).then(|| past(since, length));
    let idle_time = Millis::seconds(u64::from(targets.idle_time));

    let machines = pool
        .machines
        .iter()
        .filter_map(|machine| match machine.phase {
            Phase::Creating { since } => timeout(since, limits.create_timeout),
            Phase::Booting { since, .. } => timeout(since, limits.boot_timeout),
            Phase::Idle { since } => Some(past(since, idle_time)),
            Phase::Reserved { idle_since, .. } => Some(past(idle_since, idle_time)),
            Phase::Missing { since, .. } => timeout(since, limits.missing_grace),
            Phase::Intended { .. }
            | Phase::Busy { .. }
            | Phase::Draining { .. }
            | Phase::Retiring { .. }
            | Phase::Held { .. }
            | Phase::Gone { .. } => None,
        });
    let jobs = pool.jobs.iter().filter_map(|job| match job.phase {
        JobPhase::Held => timeout(job.taken, limits.prepare_timeout),
        JobPhase::Running { .. } => None,
    });
    machines
        .chain(jobs)
        .chain([pool.request_not_before, pool.create_not_before])
        .filter(|time| *time > now)
        .min()
}
