//! The sandbox as a runner, a watcher of the queue and git see it, over loopback.

mod asked;
mod common;
mod control;
mod faults;
mod git;
mod jobs;
mod queue;
mod runners;
mod traces;
mod violations;
mod webhooks;
