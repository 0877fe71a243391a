//! Machines reached over SSH: one connection a machine, with a channel for everything that is done
//! there.
//!
//! The manager logs in with a key of its own. A machine's host key is pinned at the first login and
//! checked at each one after. A connection that was cut is made again by the next call; what was
//! under way over it fails as unreachable, and none of it is done twice.

mod channel;
mod connection;
mod dial;
mod forward;
mod host_keys;
mod install;
mod key;
mod process;
mod put;
mod shell;
mod stream;

pub use connection::{SshConnection, SshOptions, SshTarget};
pub use dial::{SshTimes, probe_tcp};
pub use forward::{FarEnd, ListenAt, LocalForward};
pub use host_keys::HostKeys;
pub use key::{KeyError, SshKey};
pub use process::{CommandOutput, SshProcess};
pub use shell::{Shell, Terminal};
pub use stream::SshStream;
