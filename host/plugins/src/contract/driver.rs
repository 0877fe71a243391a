//! Machines at a provider: what a driver is asked for and answers.

use super::KeyValue;
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

/// What to make. Its user data may hold secrets, so it is not in `Debug`'s answer.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Creation {
    /// Makes the call safe to repeat.
    pub token: String,
    /// The machine's name.
    pub name: String,
    /// Whose machine it is.
    pub owner: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Who made it, for people.
    pub manager: String,
    /// When it may be swept away if nobody renewed its lease, in epoch seconds.
    #[component(name = "lease-until")]
    pub lease_until: u32,
    /// Cloud-init user data for the first boot.
    #[component(name = "user-data")]
    pub user_data: Option<String>,
    /// The public key that may log in, in OpenSSH's format.
    #[component(name = "ssh-key")]
    pub ssh_key: Option<String>,
    /// Labels of the operator's.
    pub labels: Vec<KeyValue>,
}

impl std::fmt::Debug for Creation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Creation")
            .field("token", &self.token)
            .field("name", &self.name)
            .field("owner", &self.owner)
            .field("pool", &self.pool)
            .field("lease_until", &self.lease_until)
            .finish_non_exhaustive()
    }
}

/// What a provider says of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(enum)]
#[repr(u8)]
pub enum MachineState {
    /// Being made; call `create` again with its token to carry it further.
    #[component(name = "creating")]
    Creating,
    /// It exists.
    #[component(name = "running")]
    Running,
    /// It exists and does not run.
    #[component(name = "stopped")]
    Stopped,
    /// The provider took it back, or will within minutes.
    #[component(name = "interrupted")]
    Interrupted,
    /// Being removed.
    #[component(name = "removing")]
    Removing,
    /// The provider can't say right now. Never means gone.
    #[component(name = "unknown")]
    Unknown,
}

/// Where a machine's SSH server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
pub struct SshAddress {
    /// A name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
}

/// How the host reaches a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum Reach {
    /// By SSH.
    #[component(name = "ssh")]
    Ssh(SshAddress),
    /// By processes on this host whose working directory is this path.
    #[component(name = "process")]
    Process(String),
}

/// How a machine costs money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(variant)]
pub enum Billing {
    /// By the second, with a least number of seconds each start.
    #[component(name = "per-second")]
    PerSecond(u32),
    /// By the hour begun.
    #[component(name = "per-hour")]
    PerHour,
    /// Nothing, or nothing that depends on its life.
    #[component(name = "free")]
    Free,
    /// Something else.
    #[component(name = "other")]
    Other(String),
}

/// A machine as the provider knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(record)]
pub struct Machine {
    /// The provider's id for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The token it was made with.
    pub token: String,
    /// Its owner mark.
    pub owner: String,
    /// Its pool mark.
    pub pool: String,
    /// When its lease runs out, in epoch seconds; 0 where it has none.
    #[component(name = "lease-until")]
    pub lease_until: u32,
    /// When it was made, by the provider's clock, in epoch seconds.
    #[component(name = "created-at")]
    pub created_at: u32,
    /// What the provider says of it.
    pub state: MachineState,
    /// How to reach it, once that is known.
    pub reach: Option<Reach>,
    /// How it costs.
    pub billing: Billing,
    /// More for people.
    pub details: Vec<KeyValue>,
}

/// Something a machine left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case")]
#[component(record)]
pub struct Leftover {
    /// The provider's id for it.
    pub id: String,
    /// What it is, in a word.
    pub sort: String,
    /// Its owner mark, empty where it carries none.
    pub owner: String,
    /// When it was made, in epoch seconds; 0 where that is not known.
    #[component(name = "created-at")]
    pub created_at: u32,
}
