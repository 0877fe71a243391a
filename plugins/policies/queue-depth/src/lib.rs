//! The shipped policy `queue-depth`: machines for the jobs that wait.
//!
//! It answers with `wanted`, which is a level: what the waiting jobs need, whether or not machines
//! for them are on their way. The pool takes those away that are, once, so that a policy must not.
//! While the queue is not known well enough to act on, it holds what there is.

mod ask;
mod settings;

use ask::Ask;
use settings::Settings;
use springtide_sdk::{
    CallContext, Decision, Description, Kind, Patch, PluginError, Policy, Queue, Targets, View,
    Zones, decision, description, unchanged,
};

/// The policy.
#[derive(Debug)]
pub struct QueueDepth;

impl Policy for QueueDepth {
    fn describe() -> Description {
        description(
            "queue-depth",
            env!("CARGO_PKG_VERSION"),
            Kind::Policy,
            settings::SCHEMA,
        )
    }

    fn evaluate(
        _zones: &dyn Zones,
        context: &CallContext,
        view: &View,
        proposal: &Targets,
        state: &[u8],
    ) -> Result<Decision, PluginError> {
        let settings = Settings::read(&context.settings).map_err(PluginError::InvalidConfig)?;
        let Some(queue) = &view.queue else {
            let reason = "no machines are asked for: this runner has no queue source";
            return Ok(decision(unchanged(), reason.into()));
        };
        Ok(if queue.stale {
            hold(view, queue, proposal, wanted_before(state))
        } else {
            ask(view, queue, &settings)
        })
    }
}

fn ask(view: &View, queue: &Queue, settings: &Settings) -> Decision {
    let ask = Ask::of(view, queue, settings);
    want(ask.wanted, ask.reason(settings))
}

/// What the pool would be asked for so that no machine is made and none goes: as many as it has
/// beyond the idle target, but no more than were wanted while the queue was known.
fn hold(view: &View, queue: &Queue, proposal: &Targets, before: u32) -> Decision {
    let beyond = available(view)
        .saturating_sub(view.jobs_held)
        .saturating_sub(idle_target(view, proposal));
    let held = before.min(beyond);
    want(
        held,
        format!(
            "the queue was last seen {} s ago, too long to act on: no machine is asked for, and {held} that jobs were waiting for are kept",
            queue.age
        ),
    )
}

fn want(machines: u32, reason: String) -> Decision {
    let patch = Patch {
        wanted: Some(machines),
        ..unchanged()
    };
    Decision {
        state: machines.to_le_bytes().to_vec(),
        ..decision(patch, reason)
    }
}

/// What was wanted last; nothing, where the state is not of this policy's making.
fn wanted_before(state: &[u8]) -> u32 {
    state.try_into().map_or(0, u32::from_le_bytes)
}

/// Machines that are on their way: they exist for jobs, but can't take one yet.
fn coming(view: &View) -> u32 {
    let machines = &view.machines;
    machines
        .intended
        .saturating_add(machines.creating)
        .saturating_add(machines.booting)
}

/// Machines a job can have now or will be able to: those the pool takes from what is wanted.
fn available(view: &View) -> u32 {
    coming(view)
        .saturating_add(view.machines.idle)
        .saturating_add(view.machines.reserved)
}

/// The idle target, by the pool's own rule.
fn idle_target(view: &View, targets: &Targets) -> u32 {
    if targets.idle_scale_factor > 0.0 {
        let machines = &view.machines;
        let in_use = f64::from(machines.busy.saturating_add(machines.draining));
        let share = (in_use * targets.idle_scale_factor) as u32;
        targets
            .idle_count
            .min(share.max(targets.idle_count_min.max(1)))
    } else {
        targets.idle_count
    }
}

springtide_sdk::export_policy!(QueueDepth);

#[cfg(test)]
mod tests;
