//! Machines in metrics: how many there are in which state, what was done with them and how long it took.

use super::{Metrics, RunnerLabels};
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};
use springtide_pool::{Counts, Targets};

/// The metrics of machines.
#[derive(Debug, Clone)]
pub(super) struct Machines {
    states: IntGaugeVec,
    actions: IntCounterVec,
    creation: Histogram,
    removal: Histogram,
    failed_creation: Histogram,
    boot_stages: HistogramVec,
    phases: IntGaugeVec,
    targets: GaugeVec,
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

/// GitLab Runner's buckets for what a provider is asked to do, in seconds.
const CALLS: [f64; 10] = [1.0, 3.0, 5.0, 10.0, 30.0, 50.0, 60.0, 80.0, 90.0, 120.0];

impl Machines {
    pub(super) fn new(registry: &Registry) -> Result<Machines, prometheus::Error> {
        let of_executor = |name: &str, help: &str| {
            Opts::new(name, help).const_label("executor", "docker+machine")
        };
        let seconds = |name: &str, help: &str, buckets: Vec<f64>| {
            HistogramOpts::new(name, help)
                .const_label("executor", "docker+machine")
                .buckets(buckets)
        };
        let machines = Machines {
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
                CALLS.to_vec(),
            ))?,
            boot_stages: HistogramVec::new(
                HistogramOpts::new(
                    "springtide_boot_stage_seconds",
                    "How long machines took for each stage of their boot, of those that got ready.",
                )
                .buckets(exponential_buckets(0.25, 2.0, 12)?),
                &["stage"],
            )?,
            failed_creation: Histogram::with_opts(seconds(
                "gitlab_runner_autoscaling_machine_failed_creation_duration_seconds",
                "From asked for to the failure of a call that makes it.",
                CALLS.to_vec(),
            ))?,
            phases: IntGaugeVec::new(
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
        };
        let all: [Box<dyn Collector>; 8] = [
            Box::new(machines.states.clone()),
            Box::new(machines.actions.clone()),
            Box::new(machines.creation.clone()),
            Box::new(machines.removal.clone()),
            Box::new(machines.failed_creation.clone()),
            Box::new(machines.boot_stages.clone()),
            Box::new(machines.phases.clone()),
            Box::new(machines.targets.clone()),
        ];
        for one in all {
            registry.register(one)?;
        }
        Ok(machines)
    }
}

impl Metrics {
    /// A machine that is ready took so many seconds for this stage of its boot.
    pub fn boot_stage(&self, stage: &str, seconds: f64) {
        self.machines
            .boot_stages
            .with_label_values(&[stage])
            .observe(seconds);
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
            self.machines.states.with_label_values(&[name]).set(sum);
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
                .phases
                .with_label_values(&[&runner.name, phase])
                .set(i64::from(count));
        }
        let targets = [
            ("idle-count", f64::from(targets.idle_count)),
            ("idle-time", f64::from(targets.idle_time)),
            ("wanted", f64::from(targets.wanted)),
        ];
        for (target, value) in targets {
            self.machines
                .targets
                .with_label_values(&[&runner.name, target])
                .set(value);
        }
    }

    /// Something was done with a machine.
    pub fn machine(&self, action: MachineAction) {
        self.machines
            .actions
            .with_label_values(&[action.name()])
            .inc();
    }

    /// A machine got ready so many seconds after it was asked for.
    pub fn created_in(&self, seconds: f64) {
        self.machines.creation.observe(seconds);
    }

    /// A call that makes a machine failed so many seconds after the machine was asked for.
    pub fn not_made_in(&self, seconds: f64) {
        self.machines.failed_creation.observe(seconds);
    }

    /// A machine was gone so many seconds after its removal was decided.
    pub fn removed_in(&self, seconds: f64) {
        self.machines.removal.observe(seconds);
    }
}
