//! What a plugin in Rust depends on: the contract's types, a trait a plugin implements, and the
//! macro that makes a component of it.
//!
//! A scaling policy implements [`Policy`] and ends with [`export_policy!`]; a machine driver
//! implements [`Driver`] and ends with [`export_driver!`]. The crate is a `cdylib` and an `rlib`:
//! compiled natively it can be tested without a host, for what a host provides comes to a plugin as
//! arguments ([`Zones`], [`Host`]) that a test replaces by its own.
//!
//! ```
//! use springtide_sdk::{
//!     CallContext, Decision, Description, Kind, Patch, PluginError, Policy, Targets, View, Zones,
//! };
//!
//! /// One idle machine more than there are jobs running.
//! struct OneMore;
//!
//! impl Policy for OneMore {
//!     fn describe() -> Description {
//!         springtide_sdk::description("one-more", "1.0.0", Kind::Policy, r#"{"type":"object"}"#)
//!     }
//!
//!     fn evaluate(
//!         _: &dyn Zones,
//!         _: &CallContext,
//!         view: &View,
//!         _: &Targets,
//!         _: &[u8],
//!     ) -> Result<Decision, PluginError> {
//!         let busy = view.machines.busy;
//!         Ok(springtide_sdk::decision(
//!             Patch { idle_count: Some(busy + 1), ..springtide_sdk::unchanged() },
//!             format!("{busy} busy, so {} idle", busy + 1),
//!         ))
//!     }
//! }
//!
//! springtide_sdk::export_policy!(OneMore);
//! ```

pub mod driver;
pub mod policy;
pub mod testing;

pub use driver::{
    Billing, Creation, Driver, Files, Host, Http, Leftover, Machine, MachineState, Output, Process,
    ProcessError, Reach, SshAddress,
};
pub use policy::bindings::exports::springtide::plugin::meta::{
    Deadline, Description, Kind, Request,
};
pub use policy::bindings::springtide::plugin::logging::Level;
pub use policy::bindings::springtide::plugin::types::{CallContext, KeyValue, PluginError};
pub use policy::{
    Civil, Counts, Decision, HostZones, Limits, Patch, Policy, Queue, Targets, View, Waiting,
    Zones, decision, unchanged,
};

/// What a plugin answers to `describe` when it asks for nothing: no capability, and the host's own
/// deadlines. The schema is a JSON Schema (2020-12) of the settings object.
#[must_use]
pub fn description(name: &str, version: &str, kind: Kind, settings_schema: &str) -> Description {
    Description {
        name: name.into(),
        version: version.into(),
        kind,
        settings_schema: settings_schema.into(),
        requests: Vec::new(),
        deadlines: Vec::new(),
    }
}

/// Writes one line to the host's log; in a native test, to standard error.
pub fn log(level: Level, message: &str) {
    if cfg!(target_arch = "wasm32") {
        policy::bindings::springtide::plugin::logging::log(level, message);
    } else {
        eprintln!("{level:?}: {message}");
    }
}

/// The examples of the guide are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
mod guide {}
