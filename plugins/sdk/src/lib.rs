//! What a plugin in Rust depends on: the contract's types, a trait a plugin implements, and the
//! macro that makes a component of it.
//!
//! A crate that uses it compiles natively too, so that its decisions can be tested without a host:
//! the functions a host provides come to a plugin as arguments ([`Zones`]).

/// The world of a scaling policy, as generated from the contract.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "policy-plugin",
        path: "../../wit",
        pub_export_macro: true,
        default_bindings_module: "springtide_sdk::bindings",
    });
}

pub use bindings::exports::springtide::plugin::meta::{Description, Kind};
pub use bindings::exports::springtide::plugin::policy::{
    Counts, Decision, Limits, Patch, Queue, Targets, View, Waiting,
};
pub use bindings::springtide::plugin::types::{CallContext, PluginError};
pub use bindings::springtide::plugin::zones::Civil;

/// Civil time in named zones: the host's, or a test's own.
pub trait Zones {
    /// An instant, in seconds since 1970, on the clocks of a zone; empty and `Local` are the host's.
    ///
    /// # Errors
    /// Where there is no such zone.
    fn civil_time(&self, zone: &str, at: u32) -> Result<Civil, String>;
}

/// The host's zones.
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

/// Makes a component of a type that implements [`Policy`].
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::springtide::plugin::{meta, policy};

            struct Component;

            impl meta::Guest for Component {
                fn describe() -> meta::Description {
                    <$policy as $crate::Policy>::describe()
                }
            }

            impl policy::Guest for Component {
                fn evaluate(
                    context: $crate::CallContext,
                    view: $crate::View,
                    proposal: $crate::Targets,
                    state: Vec<u8>,
                ) -> Result<$crate::Decision, $crate::PluginError> {
                    <$policy as $crate::Policy>::evaluate(
                        &$crate::HostZones,
                        &context,
                        &view,
                        &proposal,
                        &state,
                    )
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
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
