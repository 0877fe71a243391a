//! For a policy's own tests: the arguments of a call with everything zero or empty, to change one
//! field of each.

use crate::policy::bindings::exports::springtide::plugin::policy::{Counts, Limits};
use crate::{CallContext, Civil, Queue, Targets, View, Zones};

/// A view of no machines, no limits and no queue.
#[must_use]
pub fn view(now: u32) -> View {
    View {
        now,
        machines: Counts {
            intended: 0,
            creating: 0,
            booting: 0,
            idle: 0,
            reserved: 0,
            busy: 0,
            draining: 0,
            retiring: 0,
            missing: 0,
            held: 0,
        },
        limits: Limits {
            limit: 0,
            max_growth_rate: 0,
            max_builds: 0,
            max_jobs: 0,
        },
        jobs_held: 0,
        queue: None,
        boot_times: Vec::new(),
    }
}

/// A queue just looked at, in which nothing waits, of a runner without tags.
#[must_use]
pub fn queue() -> Queue {
    Queue {
        age: 0,
        stale: false,
        waiting: Vec::new(),
        tags: Vec::new(),
        run_untagged: false,
        arrivals: 0,
        completions: 0,
    }
}

/// Targets that keep no machine.
#[must_use]
pub fn targets() -> Targets {
    Targets {
        idle_count: 0,
        idle_count_min: 0,
        idle_scale_factor: 0.0,
        idle_time: 0,
        wanted: 0,
        ceiling: None,
        wake_at: None,
    }
}

/// A call with these settings.
#[must_use]
pub fn context(settings: &str) -> CallContext {
    CallContext {
        runner: "test".into(),
        settings: settings.into(),
    }
}

/// The zones of a policy that should ask for none: a call panics.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoZones;

impl Zones for NoZones {
    fn civil_time(&self, zone: &str, _at: u32) -> Result<Civil, String> {
        panic!("it asked for the time in \"{zone}\"")
    }
}
