//! Scaling policies: how many machines there should be.

pub use bindings::exports::springtide::plugin::policy::{
    Counts, Decision, Limits, Patch, Queue, Targets, View, Waiting,
};
pub use bindings::springtide::plugin::zones::Civil;

use crate::{CallContext, Description, PluginError};
use bindings::exports::springtide::plugin::{meta, policy};
use std::marker::PhantomData;

/// The world of a scaling policy, as generated from the contract.
pub use springtide_policy_bindings as bindings;

/// Civil time in named zones: the host's, or a test's own.
pub trait Zones {
    /// An instant, in seconds since 1970, on the clocks of a zone; empty and `Local` are the host's.
    ///
    /// # Errors
    /// Where there is no such zone.
    fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String>;
}

/// The host's zones. Natively there is no host, and a call panics.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostZones;

impl Zones for HostZones {
    fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String> {
        bindings::springtide::plugin::zones::civil_time(zone, at)
    }
}

/// A scaling policy: a pure function of its arguments.
pub trait Policy {
    /// Who it is; always the same answer.
    fn describe() -> Description;

    /// Decides.
    ///
    /// # Errors
    /// Where its settings can't work.
    fn evaluate(
        zones: &dyn Zones,
        context: &CallContext,
        view: &View,
        proposal: &Targets,
        state: &[u8],
    ) -> Result<Decision, PluginError>;
}

/// What the component of a policy exports.
#[doc(hidden)]
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Policy> meta::Guest for Exported<P> {
    fn describe() -> Description {
        P::describe()
    }
}

impl<P: Policy> policy::Guest for Exported<P> {
    fn evaluate(
        context: CallContext,
        view: View,
        proposal: Targets,
        state: Vec<u8>,
    ) -> Result<Decision, PluginError> {
        P::evaluate(&HostZones, &context, &view, &proposal, &state)
    }
}

/// Makes a component of a type that implements [`Policy`](crate::Policy).
// rustfmt can't parse what the inner macro takes, and moves it by its mood.
#[rustfmt::skip]
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type SpringtideExport = $crate::policy::Exported<$policy>;
            $crate::policy::bindings::export!(SpringtideExport with_types_in $crate::policy::bindings);
        };
    };
}

/// A patch that changes nothing.
#[must_use]
pub fn unchanged() -> Patch {
    Patch {
        idle_count: None,
        idle_count_min: None,
        idle_scale_factor: None,
        idle_time: None,
        wanted: None,
        ceiling: None,
        wake_at: None,
    }
}

/// A decision that keeps no state. A reason longer than the contract's 1,000 bytes is cut.
#[must_use]
pub fn decision(patch: Patch, mut reason: String) -> Decision {
    let mut end = reason.len().min(1_000);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    Decision {
        patch,
        reason,
        state: Vec::new(),
    }
}
