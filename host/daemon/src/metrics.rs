//! Prometheus metrics, under GitLab Runner's names where the meaning is the same, and `springtide_*`
//! beside them.
//!
//! GitLab Runner's autoscaling metrics carry no runner label; theirs stay as they are, so that
//! dashboards work, and `springtide_machines` has the runner.

mod elsewhere;
mod machines;
mod process;
mod requests;

use crate::logging;
use crate::runtime::slots::{Operations, Slots};
use elsewhere::Elsewhere;
use machines::Machines;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use requests::Requests;
use springtide_config::Runner;

pub use machines::MachineAction;

/// All metrics of a daemon.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    machines: Machines,
    concurrent: Gauge,
    slots: IntGauge,
    limit: GaugeVec,
    jobs_total: IntCounterVec,
    failed_jobs: IntCounterVec,
    job_duration: HistogramVec,
    queue_duration: HistogramVec,
    queue_size: IntGaugeVec,
    queue_depth: IntGaugeVec,
    requests: Requests,
    loads: IntCounterVec,
    loaded: IntCounter,
    not_loaded: IntCounter,
    jobs: IntGaugeVec,
    version: IntGaugeVec,
    plugin_failures: IntCounterVec,
}

const RUNNER: [&str; 3] = ["runner", "runner_name", "system_id"];

/// How a runner is named in metrics.
#[derive(Clone, Debug, Default)]
pub struct RunnerLabels {
    /// The first nine characters of the token after its prefix: not a secret, as GitLab shows them.
    pub short_token: String,
    /// Its name in the configuration.
    pub name: String,
    /// The system's id.
    pub system_id: String,
}

/// What GitLab told of the queue a job came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued<'a> {
    /// How long the job was in it, in seconds.
    pub seconds: f64,
    /// Jobs that waited with it.
    pub size: i64,
    /// Jobs that waited before it.
    pub depth: i64,
    /// Jobs of its project that ran on instance runners: a number or `+Inf`.
    pub project_jobs: &'a str,
}

impl RunnerLabels {
    /// Those of a runner, on the system with this id.
    #[must_use]
    pub fn of(runner: &Runner, system_id: &str) -> RunnerLabels {
        RunnerLabels {
            short_token: runner.short_token().to_owned(),
            name: runner.name.clone(),
            system_id: system_id.to_owned(),
        }
    }

    fn values(&self) -> [&str; 3] {
        [&self.short_token, &self.name, &self.system_id]
    }
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Where two of them have one name: a mistake in this file, which its test finds.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Metrics {
            machines: Machines::new(&registry)?,
            concurrent: Gauge::new("gitlab_runner_concurrent", "`concurrent` of the file.")?,
            slots: IntGauge::new(
                "gitlab_runner_worker_slots_number",
                "Slots for jobs: `concurrent`, and those beyond it that are in use still.",
            )?,
            limit: GaugeVec::new(
                Opts::new("gitlab_runner_limit", "`limit` of a runner."),
                &RUNNER,
            )?,
            jobs_total: IntCounterVec::new(
                Opts::new("gitlab_runner_jobs_total", "Jobs taken."),
                &RUNNER,
            )?,
            failed_jobs: IntCounterVec::new(
                Opts::new("gitlab_runner_failed_jobs_total", "Jobs that failed."),
                &["runner", "runner_name", "failure_reason"],
            )?,
            job_duration: HistogramVec::new(
                HistogramOpts::new("gitlab_runner_job_duration_seconds", "From taken to final.")
                    .buckets(vec![
                        30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0,
                    ]),
                &RUNNER,
            )?,
            queue_duration: HistogramVec::new(
                HistogramOpts::new(
                    "gitlab_runner_job_queue_duration_seconds",
                    "How long a taken job had been queued at GitLab.",
                )
                .buckets(vec![
                    1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0,
                ]),
                &["runner", "runner_name", "system_id", "project_jobs_running"],
            )?,
            queue_size: IntGaugeVec::new(
                Opts::new(
                    "gitlab_runner_job_queue_size",
                    "Jobs that waited with the job taken last.",
                ),
                &RUNNER,
            )?,
            queue_depth: IntGaugeVec::new(
                Opts::new(
                    "gitlab_runner_job_queue_depth",
                    "Jobs that waited before the job taken last.",
                ),
                &RUNNER,
            )?,
            requests: Requests::new(&registry)?,
            loads: IntCounterVec::new(
                Opts::new(
                    "springtide_configuration_loads_total",
                    "Reads of the configuration, by outcome.",
                ),
                &["outcome"],
            )?,
            loaded: IntCounter::new(
                "gitlab_runner_configuration_loaded_total",
                "Reads of the configuration that were taken.",
            )?,
            not_loaded: IntCounter::new(
                "gitlab_runner_configuration_loading_error_total",
                "Reads of the configuration that were refused.",
            )?,
            jobs: IntGaugeVec::new(
                Opts::new(
                    "gitlab_runner_jobs",
                    "Jobs taken and not final, by where they are.",
                ),
                &[
                    "runner",
                    "runner_name",
                    "system_id",
                    "state",
                    "stage",
                    "executor_stage",
                ],
            )?,
            version: IntGaugeVec::new(
                Opts::new("gitlab_runner_version_info", "The version that runs."),
                &["name", "version", "os", "architecture"],
            )?,
            plugin_failures: IntCounterVec::new(
                Opts::new(
                    "springtide_plugin_failures_total",
                    "Calls of a plugin that failed, by plugin and function.",
                ),
                &["plugin", "function"],
            )?,
            registry,
        };
        metrics.register()?;
        metrics
            .version
            .with_label_values(&[
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH,
            ])
            .set(1);
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let registry = &self.registry;
        registry.register(Box::new(self.concurrent.clone()))?;
        registry.register(Box::new(self.slots.clone()))?;
        registry.register(Box::new(self.limit.clone()))?;
        registry.register(Box::new(self.jobs_total.clone()))?;
        registry.register(Box::new(self.failed_jobs.clone()))?;
        registry.register(Box::new(self.job_duration.clone()))?;
        registry.register(Box::new(self.queue_duration.clone()))?;
        registry.register(Box::new(self.queue_size.clone()))?;
        registry.register(Box::new(self.queue_depth.clone()))?;
        registry.register(Box::new(process::Process::new()?))?;
        registry.register(Box::new(Elsewhere::new(
            "gitlab_runner_errors_total",
            "Lines of the log, by level: warnings and errors.",
            "level",
            logging::counted,
        )?))?;
        registry.register(Box::new(self.loads.clone()))?;
        registry.register(Box::new(self.loaded.clone()))?;
        registry.register(Box::new(self.not_loaded.clone()))?;
        registry.register(Box::new(self.jobs.clone()))?;
        registry.register(Box::new(self.version.clone()))?;
        registry.register(Box::new(self.plugin_failures.clone()))
    }

    /// Tells of the slots for jobs, too.
    ///
    /// # Errors
    /// Where it does so already.
    pub fn with_slots(self, slots: &Slots) -> Result<Metrics, prometheus::Error> {
        let operations = slots.clone();
        self.registry.register(Box::new(Elsewhere::new(
            "gitlab_runner_worker_slot_operations_total",
            "Slots for jobs that came to be or are no more, as `concurrent` was changed.",
            "operation",
            move || {
                let Operations { started, stopped } = operations.operations();
                vec![("started", started), ("stopped", stopped)]
            },
        )?))?;
        Ok(self)
    }

    /// `concurrent` of the file.
    pub fn concurrent(&self, concurrent: u32) {
        self.concurrent.set(f64::from(concurrent));
    }

    /// Slots for jobs there are now.
    pub fn slots(&self, slots: u64) {
        self.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    /// `limit` of a runner.
    pub fn limit(&self, runner: &RunnerLabels, limit: u32) {
        self.limit
            .with_label_values(&runner.values())
            .set(f64::from(limit));
    }

    /// The jobs of a runner that run, and those that wait for a machine.
    pub fn jobs(&self, runner: &RunnerLabels, running: usize, held: usize) {
        let set = |state: [&str; 3], count: usize| {
            let [one, two, three] = runner.values();
            self.jobs
                .with_label_values(&[one, two, three, state[0], state[1], state[2]])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        // GitLab Runner always has this one.
        set(["idle", "idle", "idle"], 0);
        set(["pending", "prepare_executor", "prepare"], held);
        set(["running", "running", "job_run"], running);
    }

    /// A job was taken.
    pub fn job_taken(&self, runner: &RunnerLabels, queued: &Queued) {
        let [one, two, three] = runner.values();
        self.jobs_total.with_label_values(&runner.values()).inc();
        self.queue_duration
            .with_label_values(&[one, two, three, queued.project_jobs])
            .observe(queued.seconds);
        self.queue_size
            .with_label_values(&runner.values())
            .set(queued.size);
        self.queue_depth
            .with_label_values(&runner.values())
            .set(queued.depth);
    }

    /// A job is final after so many seconds; with the reason where it failed.
    pub fn job_final(&self, runner: &RunnerLabels, seconds: f64, failed: Option<&str>) {
        self.job_duration
            .with_label_values(&runner.values())
            .observe(seconds);
        if let Some(reason) = failed {
            self.failed_jobs
                .with_label_values(&[&runner.short_token, &runner.name, reason])
                .inc();
        }
    }

    /// The configuration was read.
    pub fn loaded(&self, accepted: bool) {
        if accepted {
            self.loaded.inc();
        } else {
            self.not_loaded.inc();
        }
        let outcome = if accepted { "accepted" } else { "refused" };
        self.loads.with_label_values(&[outcome]).inc();
    }

    /// A plugin's function failed.
    pub fn plugin_failed(&self, plugin: &str, function: &str) {
        self.plugin_failures
            .with_label_values(&[plugin, function])
            .inc();
    }

    /// Forgets a runner that is no longer in the configuration.
    ///
    /// Counters stay: a counter that vanishes looks like a restart.
    pub fn forget(&self, runner: &RunnerLabels) {
        // A runner that never had a value has none to remove.
        self.limit.remove_label_values(&runner.values()).ok();
        self.forget_requests(runner);
    }

    /// The text a scrape gets.
    ///
    /// # Errors
    /// Where a metric can't be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
