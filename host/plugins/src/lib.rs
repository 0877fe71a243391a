//! Loads, checks, limits and calls plugin components, and grants them capabilities.
//!
//! A plugin is untrusted code that decides how much money is spent. Nothing of it runs before it was
//! checked; each call has an instance of its own, with a cap on time, work, memory and answer; and
//! it reaches nothing that the operator did not grant it by name.

mod breaker;
mod call;
mod capabilities;
pub mod contract;
mod digest;
mod engine;
mod grants;
mod guest;
mod host;
mod load;
mod plugin;
mod registry;
mod schema;
mod validate;
mod wasi;

pub use breaker::{Breaker, Outcome};
pub use call::CallError;
pub use capabilities::{Aws, AwsKeys, Civil, Credential, Origin, OriginError, ZoneError, Zones};
pub use digest::{Digest, DigestError};
pub use grants::{Grants, HttpGrant, Owned, OwnedError, ToolGrant};
pub use host::{Host, HostError, HostOptions};
pub use load::{CacheError, LoadError, MAX_BYTES, Passed, Report, Source, Stage};
pub use plugin::{Info, Plugin};
pub use registry::{Contexts, Listed, PluginOptions, Registry, RegistryError, RegistryOptions};
pub use schema::{Problem, Schema, SchemaError, Setting, resolved};
