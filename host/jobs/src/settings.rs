//! What a job needs to know of its runner and its machine.

use crate::shell::Shell;
use secrecy::SecretString;
use springtide_cache::Store;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a job needs to know of its runner where it runs in containers.
#[derive(Clone, Debug)]
pub struct DockerRunner {
    /// `[runners.docker]`.
    pub settings: Arc<springtide_config::Docker>,
    /// The runner's token: volumes that are kept have names made from it.
    pub token: SecretString,
    /// Docker's configuration on this host, for logins at registries.
    pub auth_file: Option<PathBuf>,
}

impl DockerRunner {
    /// Docker's configuration of the user this program runs as; there may be none.
    #[must_use]
    pub fn own_auth_file() -> Option<PathBuf> {
        crate::docker::own_auth_file()
    }
}

/// What a job needs to know of its runner and its machine.
#[derive(Clone)]
pub struct JobSettings {
    /// Runs the job in containers; `None` under the machine's shell.
    pub docker: Option<DockerRunner>,
    /// Which shell scripts run under.
    pub shell: Shell,
    /// Where builds are kept on the machine, absolute; where it is `None`, `builds` in the machine's
    /// home, and `/builds` in containers.
    pub builds_dir: Option<String>,
    /// Variables of the runner's own; the job's win over them. Their values are not shown by
    /// `Debug`.
    pub environment: Vec<(String, String)>,
    /// GitLab's address, as runners have it.
    pub gitlab_url: String,
    /// Certificates in PEM that are trusted besides the machine's own.
    pub ca: Option<String>,
    /// Where caches are kept on the machine, absolute; `cache` in the machine's home where it is
    /// `None`.
    pub cache_dir: Option<String>,
    /// Where caches are shared; `None` keeps them on the machine.
    pub cache: Option<Arc<Store>>,
    /// Where to get sources from in place of what GitLab says: scheme, host and path before the
    /// project's.
    pub clone_url: Option<String>,
    /// Script before sources are got.
    pub pre_get_sources_script: Option<String>,
    /// Script after sources are got.
    pub post_get_sources_script: Option<String>,
    /// Script before the job's own, in the same shell.
    pub pre_build_script: Option<String>,
    /// Script after the job's own, in the same shell.
    pub post_build_script: Option<String>,
    /// Whether `CI_DEBUG_TRACE` is passed over.
    pub debug_trace_disabled: bool,
    /// How long the getting of the sources may take; `None` is as long as the job.
    pub get_sources_timeout: Option<Duration>,
    /// Whether git's settings and hooks in the project's directory are removed before and after the
    /// job; `None` is before those that get sources.
    pub clean_git_config: Option<bool>,
    /// Whether the machine's git is told for good that the project's directory is safe, whoever owns
    /// it.
    pub safe_directory_checkout: bool,
    /// Whether a job may choose where its sources go, by `GIT_CLONE_PATH`.
    pub custom_build_dir: bool,
    /// Whether the project's directory is removed after the job instead of kept to fetch into.
    pub discard_build: bool,
    /// The runner's name, for the trace.
    pub runner_name: String,
    /// The part of the runner's token that may be shown.
    pub runner_short_token: String,
    /// The manager's `system_id`, for the trace; left out where it is empty.
    pub system_id: String,
    /// The machine's name, for the trace.
    pub machine_name: String,
    /// This program's version.
    pub version: String,
    /// How long a job that is over waits for a person who has its terminal.
    pub terminal_timeout: Duration,
    /// How long a script that was told to end may take before it is killed.
    pub grace: Duration,
    /// How long a machine may stay out of reach before it is taken for lost.
    pub lost_after: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            docker: None,
            shell: Shell::Any,
            builds_dir: None,
            environment: Vec::new(),
            gitlab_url: String::new(),
            ca: None,
            cache_dir: None,
            cache: None,
            clone_url: None,
            pre_get_sources_script: None,
            post_get_sources_script: None,
            pre_build_script: None,
            post_build_script: None,
            debug_trace_disabled: false,
            get_sources_timeout: None,
            clean_git_config: None,
            safe_directory_checkout: false,
            custom_build_dir: true,
            discard_build: false,
            runner_name: String::new(),
            runner_short_token: String::new(),
            system_id: String::new(),
            machine_name: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            terminal_timeout: Duration::ZERO,
            grace: Duration::from_secs(10),
            lost_after: Duration::from_secs(300),
        }
    }
}

impl std::fmt::Debug for JobSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobSettings")
            .field("runner", &self.runner_name)
            .field("machine", &self.machine_name)
            .field("shell", &self.shell)
            .finish_non_exhaustive()
    }
}
