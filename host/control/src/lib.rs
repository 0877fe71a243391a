//! The daemon's loop with all I/O outside it.
//!
//! A [`Controller`] holds one pool's state. It is told what happened ([`Happening`]) and when, writes
//! what follows to its [`Store`], and only then says what to do ([`Effect`]). Nothing here reads a
//! clock, a socket or a source of randomness, so the simulation runs this very code in virtual time
//! and lets it die between any two writes.
//!
//! - [`record`]: what the state holds, and where.
//! - [`sqlite`]: the state in a file.
//! - [`event`]: what it is told and what it asks for.
//! - [`controller`]: the loop.
//! - [`chain`]: what the answers of policies do to the targets.

pub mod chain;
pub mod controller;
pub mod event;
pub mod record;
pub mod sqlite;

pub use chain::{Chain, Patch};
pub use controller::{Controller, Options};
pub use event::{DriverFailure, Effect, Happening, RequestEnd, RunEnd, Seen, SeenState};
pub use record::{
    Boot, Change, Ending, JobRecord, MachineRecord, MemoryStore, Stage, State, Store, StoreError,
};
pub use sqlite::SqliteStore;
