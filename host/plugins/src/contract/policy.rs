//! How many machines there should be: what a policy sees and answers.

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

/// Machines by phase.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Counts {
    /// Written down, not yet asked for.
    pub intended: u32,
    /// Asked for, not yet seen to exist.
    pub creating: u32,
    /// They exist and are not yet ready for a job.
    pub booting: u32,
    /// Ready and free.
    pub idle: u32,
    /// Free, with a job request under way for each.
    pub reserved: u32,
    /// Running a job.
    pub busy: u32,
    /// They take no new job and go when free.
    pub draining: u32,
    /// Being removed.
    pub retiring: u32,
    /// Not seen where they should be, not yet believed gone.
    pub missing: u32,
    /// Kept for a person.
    pub held: u32,
}

/// What the operator allows, whatever the chain says; 0 is no limit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Limits {
    /// Most machines in any phase but gone.
    pub limit: u32,
    /// Most machines being made at once.
    #[component(name = "max-growth-rate")]
    pub max_growth_rate: u32,
    /// Jobs a machine runs before it is removed.
    #[component(name = "max-builds")]
    pub max_builds: u32,
    /// Most jobs this runner may run at once after its share of `concurrent`.
    #[component(name = "max-jobs")]
    pub max_jobs: u32,
}

/// Jobs that wait with one set of tags.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Waiting {
    /// The tags, sorted; empty for untagged jobs.
    pub tags: Vec<String>,
    /// How many wait.
    pub count: u32,
    /// Seconds the oldest of them has been queued.
    #[component(name = "oldest-age")]
    pub oldest_age: u32,
}

/// The jobs that wait at GitLab, as far as is known.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Queue {
    /// How old this knowledge is, in seconds.
    pub age: u32,
    /// Whether it is too old to act on.
    pub stale: bool,
    /// Jobs that wait, by tag set, without those this runner has taken.
    pub waiting: Vec<Waiting>,
    /// The tags this runner takes.
    pub tags: Vec<String>,
    /// Whether it takes jobs with no tags.
    #[component(name = "run-untagged")]
    pub run_untagged: bool,
    /// Jobs seen to arrive since the daemon first looked.
    pub arrivals: u32,
    /// Jobs seen to end since the daemon first looked.
    pub completions: u32,
}

/// What a policy may know.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct View {
    /// The time of the decision, in epoch seconds.
    pub now: u32,
    /// Machines of this runner by phase.
    pub machines: Counts,
    /// What the operator allows.
    pub limits: Limits,
    /// Jobs that this runner has taken and that wait for a machine.
    #[component(name = "jobs-held")]
    pub jobs_held: u32,
    /// Waiting jobs, where the runner has a queue source.
    pub queue: Option<Queue>,
    /// Seconds recent machines took from asked for to ready, newest last, at most 20.
    #[component(name = "boot-times")]
    pub boot_times: Vec<u32>,
}

/// What the pool should hold to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Targets {
    /// Idle machines to keep; with a scale factor, the most.
    #[component(name = "idle-count")]
    pub idle_count: u32,
    /// Least idle machines with a scale factor.
    #[component(name = "idle-count-min")]
    pub idle_count_min: u32,
    /// Idle machines to keep as a factor of busy ones; 0 means `idle_count` is a plain number.
    #[component(name = "idle-scale-factor")]
    pub idle_scale_factor: f64,
    /// Seconds an idle machine beyond the idle count is kept.
    #[component(name = "idle-time")]
    pub idle_time: u32,
    /// Machines wanted for jobs that wait: a level, not an increment.
    pub wanted: u32,
    /// Most machines in any phase but gone.
    pub ceiling: Option<u32>,
    /// When the chain would answer differently though nothing else changed, in epoch seconds.
    #[component(name = "wake-at")]
    pub wake_at: Option<u32>,
}

/// The targets to change; what is left out stays.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower,
)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[component(record)]
pub struct Patch {
    /// Idle machines to keep.
    #[component(name = "idle-count")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_count: Option<u32>,
    /// Least idle machines with a scale factor.
    #[component(name = "idle-count-min")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_count_min: Option<u32>,
    /// Idle machines as a factor of busy ones.
    #[component(name = "idle-scale-factor")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_scale_factor: Option<f64>,
    /// Seconds an idle machine beyond the idle count is kept.
    #[component(name = "idle-time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_time: Option<u32>,
    /// Machines wanted for jobs that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// Most machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<u32>,
    /// When the policy would answer differently, in epoch seconds.
    #[component(name = "wake-at")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<u32>,
}

/// A policy's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[component(record)]
pub struct Decision {
    /// The targets to change.
    pub patch: Patch,
    /// Why, in a sentence with the numbers.
    pub reason: String,
    /// Handed back on the next call; base64 in JSON.
    #[serde(with = "base64_text")]
    pub state: Vec<u8>,
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD
            .decode(text)
            .map_err(|error| D::Error::custom(format!("the state is no base64: {error}")))
    }
}
