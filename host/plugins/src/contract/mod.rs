//! The contract's types as the host has them: what crosses into a component and comes back, with the
//! WIT names in JSON.
//!
//! They are written out, not generated, for `serde` must know them by their WIT names too. A test
//! holds them to `wit/`: every function there takes and returns exactly these.

mod driver;
mod meta;
mod policy;

pub use driver::{Billing, Creation, Leftover, Machine, MachineState, Reach, SshAddress};
pub use meta::{Deadline, Description, Kind, Request};
pub use policy::{Counts, Decision, Limits, Patch, Queue, Targets, View, Waiting};

use serde::{Deserialize, Serialize};
use std::fmt;
use wasmtime::component::{ComponentType, Lift, Lower};

/// The version of the contract this host speaks.
pub const VERSION: &str = "0.1.0";

/// The package all of the contract is in.
pub const PACKAGE: &str = "springtide:plugin";

/// The contract itself, file by file.
pub(crate) const WIT: &[(&str, &str)] = &[
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("meta.wit", include_str!("../../../../wit/meta.wit")),
    (
        "capabilities.wit",
        include_str!("../../../../wit/capabilities.wit"),
    ),
    ("policy.wit", include_str!("../../../../wit/policy.wit")),
    ("driver.wit", include_str!("../../../../wit/driver.wit")),
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
];

/// Why a plugin says a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum PluginError {
    /// What the call names does not exist.
    #[component(name = "not-found")]
    NotFound(String),
    /// An account limit of the provider is reached.
    #[component(name = "quota")]
    Quota(String),
    /// The provider has none of what was asked for right now.
    #[component(name = "capacity")]
    Capacity(String),
    /// The provider asks for fewer calls: wait this many milliseconds.
    #[component(name = "throttled")]
    Throttled(u32),
    /// The provider, or a grant of the host, refused.
    #[component(name = "denied")]
    Denied(String),
    /// The settings can't work as they are.
    #[component(name = "invalid-config")]
    InvalidConfig(String),
    /// May work if tried again.
    #[component(name = "transient")]
    Transient(String),
    /// Will not work however often it is tried.
    #[component(name = "permanent")]
    Permanent(String),
    /// None of the above.
    #[component(name = "other")]
    Other(String),
}

impl PluginError {
    /// Its case, as the contract spells it.
    #[must_use]
    pub fn case(&self) -> &'static str {
        match self {
            PluginError::NotFound(_) => "not-found",
            PluginError::Quota(_) => "quota",
            PluginError::Capacity(_) => "capacity",
            PluginError::Throttled(_) => "throttled",
            PluginError::Denied(_) => "denied",
            PluginError::InvalidConfig(_) => "invalid-config",
            PluginError::Transient(_) => "transient",
            PluginError::Permanent(_) => "permanent",
            PluginError::Other(_) => "other",
        }
    }

    /// What it says, without its case.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            PluginError::NotFound(text)
            | PluginError::Quota(text)
            | PluginError::Capacity(text)
            | PluginError::Denied(text)
            | PluginError::InvalidConfig(text)
            | PluginError::Transient(text)
            | PluginError::Permanent(text)
            | PluginError::Other(text) => text,
            PluginError::Throttled(_) => "the provider asks for fewer calls",
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = match self {
            PluginError::NotFound(_) => "not found",
            PluginError::Quota(_) => "over quota",
            PluginError::Capacity(_) => "no capacity",
            PluginError::Throttled(wait) => {
                return write!(f, "the provider asks to wait {wait} ms");
            }
            PluginError::Denied(_) => "denied",
            PluginError::InvalidConfig(_) => "invalid settings",
            PluginError::Transient(_) => "failed for now",
            PluginError::Permanent(_) => "failed for good",
            PluginError::Other(_) => "failed",
        };
        write!(f, "{case}: {}", self.text())
    }
}

/// One entry of a map.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(deny_unknown_fields)]
#[component(record)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Who calls and with which settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallContext {
    /// The runner's name in config.toml, for messages and for credentials of its own.
    pub runner: String,
    /// One JSON object that fits the plugin's settings schema.
    pub settings: String,
    /// The owner mark of the pool that calls: names that a grant's rules call owned begin with it.
    /// Empty: none, and such names are refused. It stays in the host.
    pub owner: String,
}

impl CallContext {
    /// What of it travels.
    pub(crate) fn travels(&self) -> Travelling<'_> {
        Travelling {
            runner: &self.runner,
            settings: &self.settings,
        }
    }
}

/// The part of a [`CallContext`] that is the contract's.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Travelling<'a> {
    runner: &'a str,
    settings: &'a str,
}

#[cfg(test)]
mod tests;
