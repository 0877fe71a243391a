//! What became of requests, for whoever counts them.

use std::time::Duration;

/// What a runner asks again and again; other requests are not told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Asking for a job.
    RequestJob,
    /// Telling what a job is at.
    UpdateJob,
    /// Sending a part of a trace.
    PatchTrace,
}

impl Endpoint {
    /// GitLab Runner's name of it in metrics: `request_job`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Endpoint::RequestJob => "request_job",
            Endpoint::UpdateJob => "update_job",
            Endpoint::PatchTrace => "patch_trace",
        }
    }
}

/// A request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked.
    pub endpoint: Endpoint,
    /// `POST`, `PUT` or `PATCH`.
    pub method: &'static str,
    /// The status of the last attempt.
    pub status: u16,
    /// How long it took, with all attempts and the waits between them.
    pub took: Duration,
}

/// Somebody who is told of answers. A request that got none is not told of.
pub trait Observer: Send + Sync + 'static {
    /// An answer came. It is called on the thread that asks: it may not block.
    fn answered(&self, answered: &Answered);
}
