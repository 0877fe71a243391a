//! One module a command.

pub mod pool;
pub mod sandbox;
