//! Prometheus metrics, under GitLab Runner's names where the meaning is the same, and `springtide_*`
//! beside them.
//!
//! GitLab Runner's autoscaling metrics carry no runner label; theirs stay as they are, so that
//! dashboards work, and `springtide_machines` has the runner.

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};
use springtide_pool::{Counts, Targets};

/// All metrics of a daemon.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    states: IntGaugeVec,
    actions: IntCounterVec,
    creation: Histogram,
    removal: Histogram,
    concurrent: Gauge,
    limit: GaugeVec,
    jobs_total: IntCounterVec,
    failed_jobs: IntCounterVec,
    job_duration: HistogramVec,
    queue_duration: HistogramVec,
    loads: IntCounterVec,
    loaded: IntCounter,
    not_loaded: IntCounter,
    jobs: IntGaugeVec,
    version: IntGaugeVec,
    machines: IntGaugeVec,
    targets: GaugeVec,
    plugin_failures: IntCounterVec,
}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineAction {
    /// A machine was made.
    Created,
    /// One could not be made.
    CreationFailed,
    /// A machine was given a job.
    Used,
    /// A machine is gone.
    Removed,
}

impl MachineAction {
    fn name(self) -> &'static str {
        match self {
            MachineAction::Created => "created",
            MachineAction::CreationFailed => "creation-failed",
            MachineAction::Used => "used",
            MachineAction::Removed => "removed",
        }
    }
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

impl RunnerLabels {
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
        let of_executor = |name: &str, help: &str| {
            Opts::new(name, help).const_label("executor", "docker+machine")
        };
        let seconds = |name: &str, help: &str, buckets: Vec<f64>| {
            HistogramOpts::new(name, help)
                .const_label("executor", "docker+machine")
                .buckets(buckets)
        };
        let metrics = Metrics {
            states: IntGaugeVec::new(
                of_executor(
                    "gitlab_runner_autoscaling_machine_states",
                    "Machines by state, of all runners.",
                ),
                &["state"],
            )?,
            actions: IntCounterVec::new(
                of_executor(
                    "gitlab_runner_autoscaling_actions_total",
                    "What was done with machines.",
                ),
                &["action"],
            )?,
            creation: Histogram::with_opts(seconds(
                "gitlab_runner_autoscaling_machine_creation_duration_seconds",
                "From asked for to ready.",
                exponential_buckets(30.0, 1.25, 10)?,
            ))?,
            removal: Histogram::with_opts(seconds(
                "gitlab_runner_autoscaling_machine_removal_duration_seconds",
                "From the decision to gone.",
                vec![1.0, 3.0, 5.0, 10.0, 30.0, 50.0, 60.0, 80.0, 90.0, 120.0],
            ))?,
            concurrent: Gauge::new("gitlab_runner_concurrent", "`concurrent` of the file.")?,
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
                &RUNNER,
            )?,
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
            machines: IntGaugeVec::new(
                Opts::new("springtide_machines", "Machines by runner and phase."),
                &["runner_name", "phase"],
            )?,
            targets: GaugeVec::new(
                Opts::new(
                    "springtide_targets",
                    "What the policies want, by runner and target.",
                ),
                &["runner_name", "target"],
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
        registry.register(Box::new(self.states.clone()))?;
        registry.register(Box::new(self.actions.clone()))?;
        registry.register(Box::new(self.creation.clone()))?;
        registry.register(Box::new(self.removal.clone()))?;
        registry.register(Box::new(self.concurrent.clone()))?;
        registry.register(Box::new(self.limit.clone()))?;
        registry.register(Box::new(self.jobs_total.clone()))?;
        registry.register(Box::new(self.failed_jobs.clone()))?;
        registry.register(Box::new(self.job_duration.clone()))?;
        registry.register(Box::new(self.queue_duration.clone()))?;
        registry.register(Box::new(self.loads.clone()))?;
        registry.register(Box::new(self.loaded.clone()))?;
        registry.register(Box::new(self.not_loaded.clone()))?;
        registry.register(Box::new(self.jobs.clone()))?;
        registry.register(Box::new(self.version.clone()))?;
        registry.register(Box::new(self.machines.clone()))?;
        registry.register(Box::new(self.targets.clone()))?;
        registry.register(Box::new(self.plugin_failures.clone()))
    }

    /// Machines of all pools, summed, each pool with how many of its removals do not succeed. The
    /// states of GitLab Runner are always all there; a machine out of sight is in none of them.
    pub fn states<'a>(&self, pools: impl IntoIterator<Item = (&'a Counts, u32)>) {
        let mut sums = [0_i64; 6];
        for (counts, stuck) in pools {
            let of_pool = [
                counts.reserved + counts.held,
                counts.intended + counts.creating + counts.booting,
                counts.idle,
                counts.busy + counts.draining,
                counts.retiring.saturating_sub(stuck),
                stuck,
            ];
            for (sum, count) in sums.iter_mut().zip(of_pool) {
                *sum += i64::from(count);
            }
        }
        let names = [
            "acquired",
            "creating",
            "idle",
            "used",
            "removing",
            "stuck-on-removing",
        ];
        for (name, sum) in names.into_iter().zip(sums) {
            self.states.with_label_values(&[name]).set(sum);
        }
    }

    /// One pool's machines and what its policies want.
    pub fn pool(&self, runner: &RunnerLabels, counts: &Counts, targets: &Targets) {
        let phases = [
            ("intended", counts.intended),
            ("creating", counts.creating),
            ("booting", counts.booting),
            ("idle", counts.idle),
            ("reserved", counts.reserved),
            ("busy", counts.busy),
            ("draining", counts.draining),
            ("retiring", counts.retiring),
            ("missing", counts.missing),
            ("held", counts.held),
        ];
        for (phase, count) in phases {
            self.machines
                .with_label_values(&[&runner.name, phase])
                .set(i64::from(count));
        }
        let targets = [
            ("idle-count", f64::from(targets.idle_count)),
            ("idle-time", f64::from(targets.idle_time)),
            ("wanted", f64::from(targets.wanted)),
        ];
        for (target, value) in targets {
            self.targets
                .with_label_values(&[&runner.name, target])
                .set(value);
        }
    }

    /// `concurrent` of the file.
    pub fn concurrent(&self, concurrent: u32) {
        self.concurrent.set(f64::from(concurrent));
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

    /// Something was done with a machine.
    pub fn machine(&self, action: MachineAction) {
        self.actions.with_label_values(&[action.name()]).inc();
    }

    /// A machine got ready so many seconds after it was asked for.
    pub fn created_in(&self, seconds: f64) {
        self.creation.observe(seconds);
    }

    /// A machine was gone so many seconds after its removal was decided.
    pub fn removed_in(&self, seconds: f64) {
        self.removal.observe(seconds);
    }

    /// A job was taken that had been queued for so many seconds.
    pub fn job_taken(&self, runner: &RunnerLabels, queued: f64) {
        self.jobs_total.with_label_values(&runner.values()).inc();
        self.queue_duration
            .with_label_values(&runner.values())
            .observe(queued);
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
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_of_gitlab_runner_finds_its_names() {
        let metrics = Metrics::new().unwrap();
        let runner = RunnerLabels {
            short_token: "abcdefghi".into(),
            name: "elastic".into(),
            system_id: "s_1".into(),
        };
        let counts = Counts {
            idle: 2,
            booting: 1,
            busy: 3,
            draining: 1,
            retiring: 4,
            ..Counts::default()
        };
        metrics.states([(&counts, 0), (&counts, 1)]);
        metrics.pool(&runner, &counts, &Targets::default());
        metrics.machine(MachineAction::Created);
        metrics.job_taken(&runner, 2.5);
        metrics.job_final(&runner, 61.0, Some("script_failure"));
        metrics.limit(&runner, 7);
        metrics.jobs(&runner, 3, 1);
        metrics.concurrent(10);
        let text = metrics.text().unwrap();
        for line in [
            r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="idle"} 4"#,
            r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="used"} 8"#,
            r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="stuck-on-removing"} 1"#,
            r#"gitlab_runner_autoscaling_actions_total{action="created",executor="docker+machine"} 1"#,
            r#"gitlab_runner_jobs_total{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 1"#,
            r#"gitlab_runner_failed_jobs_total{failure_reason="script_failure",runner="abcdefghi",runner_name="elastic"} 1"#,
            r#"gitlab_runner_job_duration_seconds_bucket{runner="abcdefghi",runner_name="elastic",system_id="s_1",le="60"} 0"#,
            r#"gitlab_runner_limit{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 7"#,
            r#"gitlab_runner_jobs{executor_stage="job_run",runner="abcdefghi",runner_name="elastic",stage="running",state="running",system_id="s_1"} 3"#,
            "gitlab_runner_concurrent 10",
            r#"springtide_machines{phase="retiring",runner_name="elastic"} 4"#,
        ] {
            assert!(
                text.lines().any(|at| at == line),
                "{line}\nis not in\n{text}"
            );
        }
        metrics.forget(&runner);
        assert!(!metrics.text().unwrap().contains("gitlab_runner_limit{"));
    }
}
