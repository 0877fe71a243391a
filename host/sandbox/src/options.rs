//! What a sandbox is started with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a sandbox behaves. The default listens on a free port of loopback and has one runner.
#[derive(Clone)]
pub struct SandboxOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address runners and machines use, without a slash at the end; `None` makes it from `listen`.
    pub external_url: Option<String>,
    /// Runners that are there from the start.
    pub runner_tokens: Vec<RunnerSeed>,
    /// The registration token; `None` answers 410, as a GitLab does that has switched them off.
    pub registration_token: Option<String>,
    /// What the API that lists jobs wants as `PRIVATE-TOKEN`.
    pub api_token: String,
    /// Whether a runner that says it can is given jobs in two phases: offered, then accepted.
    pub two_phase: bool,
    /// How long an offered job waits for a sign of its runner before it goes back to the queue.
    pub offer_expiry: Duration,
    /// How long a request for a job is held that already knows the queue's present value.
    pub long_poll: Duration,
    /// Seconds between two parts of a trace, told to runners.
    pub trace_update_interval: u32,
    /// Bytes a trace may have; a job that writes more is failed.
    pub trace_limit: u64,
    /// Bytes one uploaded artifact may have.
    pub artifact_limit: usize,
    /// Requests for jobs a runner may make in a minute before it is told 429.
    pub requests_per_minute: u32,
    /// How often the final update of a job is answered 202 before it is taken.
    pub accepted_first: u32,
    /// Whether git is served without a token.
    pub open_git: bool,
    /// Whether a job's token reads the repositories of all projects of its group, as submodules need
    /// it; else its own project's alone. At GitLab each project has a list of who may.
    pub group_reads: bool,
    /// Projects that are there from the start, as `group/project`.
    pub projects: Vec<String>,
    /// Where events of jobs are posted.
    pub webhook: Option<Webhook>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            external_url: None,
            runner_tokens: vec![RunnerSeed::default()],
            registration_token: Some("sandbox-registration".to_owned()),
            api_token: "glpat-sandbox".to_owned(),
            two_phase: false,
            offer_expiry: Duration::from_secs(120),
            long_poll: Duration::from_secs(50),
            trace_update_interval: 3,
            trace_limit: 100 * 1024 * 1024,
            artifact_limit: 100 * 1024 * 1024,
            requests_per_minute: 2000,
            accepted_first: 0,
            open_git: false,
            group_reads: false,
            projects: Vec::new(),
            webhook: None,
        }
    }
}

impl fmt::Debug for SandboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxOptions")
            .field("listen", &self.listen)
            .field("runner_tokens", &self.runner_tokens)
            .field("two_phase", &self.two_phase)
            .field("long_poll", &self.long_poll)
            .field("projects", &self.projects)
            .field("webhook", &self.webhook)
            .finish_non_exhaustive()
    }
}

/// A runner as GitLab knows it. Its token is not in its `Debug`.
#[derive(Clone)]
pub struct RunnerSeed {
    /// Its authentication token.
    pub token: String,
    /// Tags of the jobs it takes.
    pub tags: Vec<String>,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Whether it is given no jobs.
    pub paused: bool,
}

impl RunnerSeed {
    /// A runner that takes jobs without tags and those of `tags`.
    pub fn new<T: Into<String>>(
        token: impl Into<String>,
        tags: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            token: token.into(),
            tags: tags.into_iter().map(Into::into).collect(),
            run_untagged: true,
            paused: false,
        }
    }
}

impl Default for RunnerSeed {
    fn default() -> Self {
        Self::new("glrt-sandbox-token", Vec::<String>::new())
    }
}

impl fmt::Debug for RunnerSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerSeed")
            .field("tags", &self.tags)
            .field("run_untagged", &self.run_untagged)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

/// Where events of jobs are posted. Its secret is not in its `Debug`.
#[derive(Clone)]
pub struct Webhook {
    /// The receiver's address.
    pub url: String,
    /// Sent as `X-Gitlab-Token`.
    pub secret: String,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
