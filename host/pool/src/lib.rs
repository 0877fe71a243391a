//! What should happen to a pool of machines.
//!
//! [`step()`] looks at one whole snapshot and says what to do and why. It is a pure function: no I/O,
//! no clock, no randomness, no async; the same input gives the same output. The daemon, the
//! simulation, `springtide pool step` and the tests all call this one.
//!
//! - [`time`]: instants and lengths of time, in milliseconds.
//! - [`machine`]: a machine's life as one enum, and the one `match` that says how it goes on.
//! - [`snapshot`]: what `step` looks at.
//! - [`decision`]: what `step` answers.
//! - [`mod@step`]: the rules.
//! - [`wake`]: when to call `step` again though nothing else happened.

pub mod decision;
pub mod machine;
pub mod snapshot;
pub mod step;
pub mod time;
pub mod wake;

pub use decision::{Action, Decision, Reason};
pub use machine::{Event, Machine, MachineId, Phase, Refused, RetireCause};
pub use snapshot::{
    Counts, Job, JobId, JobPhase, Limits, Pool, Request, RequestId, Source, Targets,
};
pub use step::step;
pub use time::{Millis, Time};
pub use wake::next_wake;
