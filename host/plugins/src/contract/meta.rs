//! Who a plugin is and what it wants.

use serde::{Deserialize, Serialize};
use std::fmt;
use wasmtime::component::{ComponentType, Lift, Lower};

/// What a plugin does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum Kind {
    /// It makes and removes machines.
    #[component(name = "driver")]
    Driver,
    /// It says how many machines there should be.
    #[component(name = "policy")]
    Policy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Driver => "driver",
            Kind::Policy => "policy",
        })
    }
}

/// A capability a plugin would like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum Request {
    /// To run a named tool.
    #[component(name = "tool")]
    Tool(String),
    /// To send to an origin.
    #[component(name = "origin")]
    Origin(String),
    /// To have the host apply a credential of this name.
    #[component(name = "credential")]
    Credential(String),
    /// To put files into a scratch directory.
    #[component(name = "files")]
    Files,
    /// Something a later version of the contract knows.
    #[component(name = "other")]
    Other(String),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Tool(name) => write!(f, "tool {name}"),
            Request::Origin(origin) => write!(f, "origin {origin}"),
            Request::Credential(name) => write!(f, "credential {name}"),
            Request::Files => f.write_str("files"),
            Request::Other(text) => write!(f, "other {text}"),
        }
    }
}

/// How long one function may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Deadline {
    /// The function's WIT name.
    pub function: String,
    /// Its limit in seconds.
    pub limit: u32,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(record)]
pub struct Description {
    /// The plugin's own name.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// What it exports beside `meta`.
    pub kind: Kind,
    /// A JSON Schema (2020-12) of the settings object.
    #[component(name = "settings-schema")]
    pub settings_schema: String,
    /// The capabilities it would like.
    pub requests: Vec<Request>,
    /// Limits of its functions.
    pub deadlines: Vec<Deadline>,
}
