//! Which jobs wait at GitLab, read with a token of its own.
//!
//! A runner cannot ask GitLab how many jobs wait for it. [`QueueSource`] reads the pending jobs of
//! the projects and groups it is given, [`QueueFeed`] does so on a timer and when a webhook asks
//! for it, and [`QueueView`], which is pure, keeps what one runner makes of it: what waits, how old
//! that knowledge is, and whether the source has proved blind. A reading is whole or it is not
//! used: one that fails leaves the last one standing, and its age grows.

mod api;
mod error;
mod feed;
mod pace;
mod source;
mod view;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub use error::QueueError;
pub use feed::{FeedOptions, QueueFeed, QueueNews, pause};
pub(crate) use pace::server_wait;
pub use source::QueueSource;
pub use view::{QueueState, QueueSummary, QueueView, Silence, TakenJob, Waiting};

/// How often the queue is read where the configuration does not say.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(15);
/// How old a reading may be and still be acted on, where the configuration does not say.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(90);
/// Requests a minute where nothing else is said. GitLab allows a user 600 for the list of a
/// project's jobs; others use that token's user too.
pub const DEFAULT_REQUESTS_PER_MINUTE: usize = 400;

/// Where waiting jobs are read, and for whom. Its token is not in its `Debug`.
#[derive(Clone)]
pub struct QueueOptions {
    /// GitLab's address, as the runner has it: with or without a slash, or `/ci`, at the end.
    pub url: String,
    /// A token with the scope `read_api`.
    pub token: SecretString,
    /// Projects, each a full path (`team/app`) or a number.
    pub projects: Vec<String>,
    /// Groups whose projects are read, those of their subgroups too: paths or numbers.
    pub groups: Vec<String>,
    /// The runner's tags. GitLab does not tell a runner its own.
    pub tags: Vec<String>,
    /// Whether the runner takes jobs without tags.
    pub run_untagged: bool,
    /// The time from one reading to the next, where no webhook asks for one sooner.
    pub refresh: Duration,
    /// How old a reading may be before it is not acted on.
    pub stale_after: Duration,
    /// Certificates to trust beside the system's: a PEM file.
    pub tls_ca_file: Option<PathBuf>,
    /// Requests a minute at most, 1 or more. A reading that needs more takes longer.
    pub requests_per_minute: usize,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// For how long the list of a group's projects is used before it is asked for again.
    pub projects_for: Duration,
}

impl QueueOptions {
    /// No projects, no groups, no tags, untagged jobs taken, and the defaults for the rest.
    #[must_use]
    pub fn new(url: impl Into<String>, token: SecretString) -> Self {
        Self {
            url: url.into(),
            token,
            projects: Vec::new(),
            groups: Vec::new(),
            tags: Vec::new(),
            run_untagged: true,
            refresh: DEFAULT_REFRESH,
            stale_after: DEFAULT_STALE_AFTER,
            tls_ca_file: None,
            requests_per_minute: DEFAULT_REQUESTS_PER_MINUTE,
            request_timeout: Duration::from_secs(30),
            projects_for: Duration::from_secs(600),
        }
    }
}

impl fmt::Debug for QueueOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOptions")
            .field("projects", &self.projects)
            .field("groups", &self.groups)
            .field("tags", &self.tags)
            .field("run_untagged", &self.run_untagged)
            .field("refresh", &self.refresh)
            .field("stale_after", &self.stale_after)
            .finish_non_exhaustive()
    }
}

/// A job that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PendingJob {
    /// GitLab's number of the job.
    pub id: u64,
    /// GitLab's number of its project.
    pub project: u64,
    /// The tags a runner must have, sorted, each once.
    pub tags: Vec<String>,
    /// How long it had been queued when it was read. A job that was created and then waited for
    /// an earlier stage counts from the moment it was free to run.
    pub queued_for: Duration,
}

/// One whole reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct QueueSnapshot {
    /// When the reading began, since 1970-01-01T00:00:00Z. All it says may be as old as that.
    pub read_at: Duration,
    /// The jobs that wait, by number, each once.
    pub jobs: Vec<PendingJob>,
    /// The numbers of the projects that were read.
    pub projects: BTreeSet<u64>,
    /// What could not be read because the token may not, or it is not there; one sentence each.
    pub problems: Vec<String>,
    /// Whether a project had more waiting jobs than are read (10,000); then its oldest are missing.
    pub truncated: bool,
}

/// Whoever can tell which jobs wait. [`QueueSource`] asks GitLab; tests have their own.
#[async_trait]
pub trait ReadQueue: Send + Sync {
    /// One whole reading.
    ///
    /// # Errors
    /// GitLab could not be read, or not whole.
    async fn refresh(&self) -> Result<QueueSnapshot, QueueError>;
}

/// Whether a runner takes a job, by GitLab's rule: it has all of the job's tags, or the job has
/// none and the runner takes such jobs. Upper and lower case differ.
#[must_use]
pub fn takes(job_tags: &[String], runner_tags: &[String], run_untagged: bool) -> bool {
    match job_tags {
        [] => run_untagged,
        tags => tags.iter().all(|tag| runner_tags.contains(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_takes_jobs_whose_tags_it_has() {
        let list =
            |words: &str| -> Vec<String> { words.split_whitespace().map(str::to_owned).collect() };
        for (job, runner, untagged, expected) in [
            ("", "", true, true),
            ("", "", false, false),
            ("", "docker", true, true),
            ("", "docker", false, false),
            ("docker", "docker", false, true),
            ("docker", "docker linux", false, true),
            ("docker linux", "linux docker", false, true),
            ("docker linux", "docker", true, false),
            ("docker", "", true, false),
            ("Docker", "docker", true, false),
        ] {
            assert_eq!(
                takes(&list(job), &list(runner), untagged),
                expected,
                "job [{job}], runner [{runner}], untagged {untagged}"
            );
        }
    }

    #[test]
    fn the_token_is_not_in_the_debug_text() {
        let options = QueueOptions::new("https://u:pw@gitlab.test", "glpat-hidden".into());
        let text = format!("{options:?}");
        assert!(!text.contains("hidden") && !text.contains("pw"), "{text}");
    }
}
