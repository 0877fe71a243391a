//! The rules.
use crate::decision::Decision;
use crate::snapshot::{Limits, Pool, Targets};
use crate::time::Time;

/// Says what should happen to a pool now, and why.
#[must_use]
pub fn step(_pool: &Pool, _targets: &Targets, _limits: &Limits, _now: Time) -> Vec<Decision> {
    Vec::new()
}
