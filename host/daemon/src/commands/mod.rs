//! One module a command.

pub mod asking;
pub mod check;
pub mod demo;
pub mod machine;
pub mod plugin;
pub mod policy;
pub mod pool;
pub mod register;
pub mod run;
pub mod sandbox;
pub mod status;
pub mod unregister;
pub mod verify;
