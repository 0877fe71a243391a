//! The client against the sandbox GitLab, which notes each breach of the protocol.

mod common;
mod jobs;
mod lies;
mod queue;
mod runners;
mod traces;
