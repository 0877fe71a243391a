//! A runner as it is configured now: what its loop, its jobs and its queue go by.

use crate::metrics::{Metrics, RunnerLabels};
use springtide_cache::{Store, StoreOptions};
use springtide_config::{Config, Docker, Executor, Runner};
use springtide_control::MachineRecord;
use springtide_gitlab::queue::QueueOptions;
use springtide_gitlab::{Client, ClientOptions, HealthLimits, Info, RunnerIdentity};
use springtide_jobs::{DockerRunner, JobSettings, Shell};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A runner's entry and what was made of it.
pub struct Setup {
    /// The entry.
    pub runner: Runner,
    /// Its GitLab.
    pub client: Client,
    /// Who asks for jobs.
    pub identity: RunnerIdentity,
    /// The least time between two requests.
    pub check_interval: Duration,
    /// The least time between requests of two runners.
    pub step: Duration,
    /// The shell of scripts.
    pub shell: Shell,
    /// Where caches are shared.
    pub cache: Option<Arc<Store>>,
    /// How long a job that is over waits for who has its terminal.
    terminal_timeout: Duration,
    /// The certificates of `tls-ca-file`, which machines trust as well.
    pub ca: Option<String>,
}

impl Setup {
    /// Makes the client of an entry, whose requests are counted.
    ///
    /// # Errors
    /// Where its certificates can't be used, or its shell is unknown; for people.
    pub fn new(
        config: &Config,
        runner: &Runner,
        system_id: &str,
        metrics: &Metrics,
    ) -> Result<Setup, String> {
        let shell = match &runner.shell {
            Some(name) => name.parse().map_err(|error| format!("`shell`: {error}"))?,
            None => Shell::Any,
        };
        let client =
            Client::new(client_options(config, runner)).map_err(|error| error.to_string())?;
        let info = Info::new(
            runner.executor.name(),
            runner.shell.as_deref().unwrap_or("bash"),
        )
        .labeled(runner.labels.clone());
        let labels = RunnerLabels::of(runner, system_id);
        let ca =
            match &runner.tls_ca_file {
                None => None,
                Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
                    format!("`tls-ca-file`: reading {}: {error}", file.display())
                })?),
            };
        let sessions = config.sessions.as_ref();
        Ok(Setup {
            client: client.observed(metrics.observer(labels)),
            identity: RunnerIdentity {
                token: runner.token.clone(),
                system_id: system_id.to_owned(),
                info,
            },
            check_interval: config.check_interval,
            step: config.poll_interval(),
            shell,
            cache: cache(runner),
            terminal_timeout: sessions.map_or(Duration::ZERO, |sessions| sessions.timeout),
            ca,
            runner: runner.clone(),
        })
    }

    /// When GitLab's refusals switch the runner off.
    #[must_use]
    pub fn health_limits(&self) -> HealthLimits {
        HealthLimits {
            requests: self.runner.unhealthy_requests_limit,
            interval: self.runner.unhealthy_interval,
        }
    }

    /// The runner's variables, its feature flags among them, as scripts may look at those.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let flags = self.runner.feature_flags.iter();
        let flags = flags.map(|(name, on)| (name.clone(), on.to_string()));
        let own = self.runner.environment.0.iter().cloned();
        flags.chain(own).collect()
    }

    /// What a job needs to know of its runner and this machine.
    #[must_use]
    pub fn job_settings(&self, machine: &MachineRecord) -> JobSettings {
        let runner = &self.runner;
        let docker = match runner.executor {
            Executor::DockerMachine => Some(DockerRunner {
                settings: Arc::new(runner.docker.clone().unwrap_or_else(Docker::by_default)),
                token: runner.token.clone(),
                auth_file: DockerRunner::own_auth_file(),
            }),
            _ => None,
        };
        JobSettings {
            terminal_timeout: self.terminal_timeout,
            docker,
            shell: self.shell,
            builds_dir: runner.builds_dir.clone(),
            environment: self.environment(),
            gitlab_url: runner.url.to_string(),
            ca: self.ca.clone(),
            cache_dir: runner.cache_dir.clone(),
            cache: self.cache.clone(),
            clone_url: runner.clone_url.as_ref().map(ToString::to_string),
            pre_get_sources_script: runner.pre_get_sources_script.clone(),
            post_get_sources_script: runner.post_get_sources_script.clone(),
            pre_build_script: runner.pre_build_script.clone(),
            post_build_script: runner.post_build_script.clone(),
            debug_trace_disabled: runner.debug_trace_disabled,
            get_sources_timeout: runner.get_sources_timeout,
            clean_git_config: runner.clean_git_config,
            safe_directory_checkout: runner.safe_directory_checkout.unwrap_or(false),
            custom_build_dir: runner.custom_build_dir.unwrap_or(true),
            runner_name: runner.name.clone(),
            runner_short_token: runner.short_token().to_owned(),
            system_id: self.identity.system_id.clone(),
            machine_name: machine.name.clone(),
            ..JobSettings::default()
        }
    }

    /// Where the runner's waiting jobs are read, if the entry says so.
    ///
    /// # Errors
    /// Where the file with the token can't be read; for people.
    pub fn queue_options(&self, beside: &Path) -> Result<Option<QueueOptions>, String> {
        let Some(queue) = &self.runner.queue else {
            return Ok(None);
        };
        let file = beside.join(&queue.token_file);
        let token = std::fs::read_to_string(&file).map_err(|error| {
            format!(
                "reading the token of [runners.queue] from {}: {error}; write a token with the scope read_api there",
                file.display()
            )
        })?;
        Ok(Some(QueueOptions {
            projects: queue.projects.clone(),
            groups: queue.groups.clone(),
            tags: queue.tags.clone(),
            run_untagged: queue.run_untagged,
            refresh: queue.refresh,
            stale_after: queue.stale_after,
            tls_ca_file: self.runner.tls_ca_file.clone(),
            requests_per_minute: usize::try_from(queue.requests_per_minute).unwrap_or(usize::MAX),
            ..QueueOptions::new(self.runner.url.as_str(), token.trim().to_owned().into())
        }))
    }
}

fn client_options(config: &Config, runner: &Runner) -> ClientOptions {
    let options = ClientOptions::new(runner.url.as_str());
    ClientOptions {
        tls_ca_file: runner.tls_ca_file.clone(),
        tls_cert_file: runner.tls_cert_file.clone(),
        tls_key_file: runner.tls_key_file.clone(),
        connection_max_age: config.connection_max_age.unwrap_or(Duration::MAX),
        ..options
    }
}

/// The store of a runner's caches. One that can't work is no reason to run no jobs: they keep their
/// caches on their machines.
fn cache(runner: &Runner) -> Option<Arc<Store>> {
    let store = Store::new(runner.cache.as_ref()?, &StoreOptions::default());
    store
        .inspect_err(|error| {
            tracing::warn!(runner = runner.name, %error, "caches are not shared");
        })
        .ok()
        .map(Arc::new)
}
