//! One module a command.

pub mod pool;
