//! What Springtide says of itself: its version, and what it can do.

use std::collections::BTreeMap;

use serde::Serialize;

use Claim::{InContainers, No, Yes};

/// Whether GitLab may count on a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Wherever a job runs.
    Yes,
    /// It is not done.
    No,
    /// Where jobs run in containers.
    InContainers,
}

impl Claim {
    fn holds(self, executor: &str) -> bool {
        match self {
            Yes => true,
            No => false,
            InContainers => executor == "docker+machine",
        }
    }
}

/// What GitLab may count on, and why. GitLab hands out and cancels jobs by this, so what is not
/// done is not claimed: a job that needs it waits for another runner instead of failing here.
pub const FEATURES: &[(&str, Claim, &str)] = &[
    (
        "variables",
        Yes,
        "the job's variables are in the environment of its scripts",
    ),
    ("raw_variables", Yes, "`$` in a raw variable is left alone"),
    (
        "refspecs",
        Yes,
        "sources are fetched by the refspecs of the job",
    ),
    (
        "masking",
        Yes,
        "masked variables are masked before a byte of the trace leaves",
    ),
    (
        "return_exit_code",
        Yes,
        "the script's exit code is in the final update",
    ),
    (
        "trace_reset",
        Yes,
        "a trace is sent again from where GitLab says",
    ),
    ("trace_checksum", Yes, "updates carry the trace's CRC-32"),
    ("trace_size", Yes, "updates carry the trace's length"),
    (
        "cancelable",
        Yes,
        "a job that is over at GitLab is ended here",
    ),
    (
        "cancel_gracefully",
        Yes,
        "`after_script` runs after a cancel",
    ),
    (
        "two_phase_job_commit",
        Yes,
        "a job stays pending until its machine is ready",
    ),
    ("artifacts", Yes, "the helper uploads them"),
    (
        "upload_multiple_artifacts",
        Yes,
        "each entry is a transfer of its own",
    ),
    ("upload_raw_artifacts", Yes, "zip, gzip and raw"),
    ("artifacts_exclude", Yes, "patterns are the helper's"),
    ("cache", Yes, "on the machine, and in S3, GCS and Azure"),
    ("fallback_cache_keys", Yes, "tried in order after the key"),
    ("image", InContainers, "a machine's shell has no images"),
    (
        "services",
        InContainers,
        "a machine's shell has no services beside it",
    ),
    (
        "service_variables",
        InContainers,
        "as images and services are",
    ),
    (
        "service_multiple_aliases",
        InContainers,
        "as images and services are",
    ),
    (
        "image_executor_opts",
        InContainers,
        "as images and services are",
    ),
    (
        "service_executor_opts",
        InContainers,
        "as images and services are",
    ),
    ("shared", No, "a machine runs one job at a time"),
    (
        "session",
        InContainers,
        "a request says where a job's terminal is, where `[session_server]` listens",
    ),
    ("terminal", InContainers, "a shell in the job's container"),
    ("proxy", No, "services are not led to the session server"),
    ("multi_build_steps", Yes, "each step is a stage of its own"),
    ("native_steps_integration", No, "there is no step runner"),
    (
        "vault_secrets",
        No,
        "secrets of outside stores are not fetched",
    ),
    ("job_inputs", No, "inputs are not put into scripts"),
];

/// What a request says of the one who makes it.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    name: &'static str,
    version: &'static str,
    revision: String,
    platform: &'static str,
    architecture: &'static str,
    executor: String,
    shell: String,
    features: BTreeMap<&'static str, bool>,
    config: Config,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
struct Config {
    gpus: &'static str,
}

impl Info {
    /// For a runner of this executor (`shell+machine`) and shell (`bash`).
    #[must_use]
    pub fn new(executor: impl Into<String>, shell: impl Into<String>) -> Self {
        let executor = executor.into();
        Self {
            name: "springtide",
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("SPRINGTIDE_REVISION")
                .unwrap_or("unknown")
                .to_owned(),
            platform: std::env::consts::OS,
            architecture: architecture(),
            shell: shell.into(),
            features: FEATURES
                .iter()
                .map(|(name, claim, _)| (*name, claim.holds(&executor)))
                .collect(),
            executor,
            config: Config { gpus: "" },
            labels: BTreeMap::new(),
        }
    }

    /// The same with the runner's `labels`, as they are.
    #[must_use]
    pub fn labeled(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }
}

/// The processor's name as GitLab Runner writes it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_named_once_with_a_reason_and_nothing_undone_is_claimed() {
        let info = Info::new("shell+machine", "bash");
        assert_eq!(info.features.len(), FEATURES.len());
        assert!(FEATURES.iter().all(|(_, _, reason)| !reason.is_empty()));
        for undone in ["session", "job_inputs", "image", "services"] {
            assert_eq!(info.features.get(undone), Some(&false), "{undone}");
        }
        let info = Info::new("docker+machine", "bash");
        for (feature, claimed) in [
            ("session", true),
            ("proxy", false),
            ("image", true),
            ("services", true),
        ] {
            assert_eq!(info.features.get(feature), Some(&claimed), "{feature}");
        }
    }

    #[test]
    fn labels_are_told_where_there_are_some() {
        let labels = [
            BTreeMap::new(),
            BTreeMap::from([("tier".into(), "ci".into())]),
        ];
        let said = labels.map(|labels| {
            let info = Info::new("shell+machine", "bash").labeled(labels);
            serde_json::to_value(info)
                .expect("JSON")
                .get("labels")
                .cloned()
        });
        assert_eq!(said, [None, Some(serde_json::json!({"tier": "ci"}))]);
    }
}
