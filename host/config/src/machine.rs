//! `[runners.machine]` and `[runners.docker]` as they were read.

use crate::{Hidden, Position};
use std::time::Duration;

/// `[runners.machine]`.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Idle machines to keep; with a scale factor, the most. 0: machines are made for jobs alone.
    pub idle_count: u32,
    /// Least idle machines with a scale factor.
    pub idle_count_min: u32,
    /// Idle machines as a factor of busy ones; 0.0: `idle_count` is a plain number.
    pub idle_scale_factor: f64,
    /// How long an idle machine beyond the idle count is kept, seconds.
    pub idle_time: u32,
    /// Most machines being made at once; 0 is no limit.
    pub max_growth_rate: u32,
    /// Jobs a machine runs; 0 is no limit.
    pub max_builds: u32,
    /// The names of machines, with one `%s`.
    pub machine_name: String,
    /// The driver plugin's id.
    pub machine_driver: String,
    /// Where it is named.
    pub machine_driver_at: Position,
    /// Options of the driver and, as `engine-*`, of the host.
    pub machine_options: Vec<MachineOption>,
    /// The same, with `%s` for the machine's name.
    pub machine_options_with_name: Vec<MachineOption>,
    /// `[[runners.machine.autoscaling]]`, in the order of the file.
    pub autoscaling: Vec<Autoscaling>,
    /// `OffPeak*`, where `OffPeakPeriods` names any and there is no autoscaling section.
    pub off_peak: Option<OffPeak>,
}

/// One `flag=value` of `MachineOptions`; a bare `flag` means true.
#[derive(Clone, PartialEq, Eq)]
pub struct MachineOption {
    /// Before the first `=`, without leading dashes.
    pub flag: String,
    /// After it.
    pub value: Option<String>,
    /// Where it is.
    pub at: Position,
}

impl MachineOption {
    /// Reads `flag=value` or `flag`; dashes in front are dropped.
    #[must_use]
    pub fn read(text: &str, at: Position) -> MachineOption {
        let text = text.trim_start_matches('-');
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (text, None),
        };
        MachineOption {
            flag: flag.to_owned(),
            value,
            at,
        }
    }

    /// Whether it is the host's, not the driver's: of the Docker engine on the machine, or of what
    /// else Docker Machine itself took.
    #[must_use]
    pub fn is_host(&self) -> bool {
        let of = |prefix: &str| self.flag.starts_with(prefix);
        of("engine-") || of("swarm-") || matches!(self.flag.as_str(), "swarm" | "tls-san")
    }
}

impl std::fmt::Debug for MachineOption {
    // The value may be a key to somebody's cloud.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=...", self.flag)
    }
}

/// One `[[runners.machine.autoscaling]]`: the last whose periods hold replaces all four values.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaling {
    /// When it holds, as `springtide_period::Period` reads it.
    pub periods: Vec<String>,
    /// An IANA name; empty or `Local` is the host's.
    pub timezone: String,
    /// Idle machines; with a scale factor, the most.
    pub idle_count: u32,
    /// Least idle machines with a scale factor.
    pub idle_count_min: u32,
    /// Idle machines as a factor of busy ones.
    pub idle_scale_factor: f64,
    /// How long an idle machine beyond the idle count is kept, seconds.
    pub idle_time: u32,
}

/// `OffPeak*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffPeak {
    /// When it holds.
    pub periods: Vec<String>,
    /// An IANA name; empty or `Local` is the host's.
    pub timezone: String,
    /// Idle machines in these periods.
    pub idle_count: u32,
    /// How long an idle machine beyond them is kept, seconds.
    pub idle_time: u32,
}

/// `[runners.docker]`, what the Docker executor obeys.
#[derive(Clone, Debug, Default)]
pub struct Docker {
    /// The image of jobs that name none.
    pub image: Option<String>,
    /// Whether containers have the machine to themselves.
    pub privileged: bool,
    /// The same for services; `None`: as `privileged`.
    pub services_privileged: Option<bool>,
    /// Whether no volumes of ours are used for caches.
    pub disable_cache: bool,
    /// `name`, `/path` or `/host:/path[:mode]`.
    pub volumes: Vec<String>,
    /// When images are pulled, first rule first.
    pub pull_policy: Vec<PullPolicy>,
    /// The policies a job may ask for; empty: those of `pull_policy`.
    pub allowed_pull_policies: Vec<PullPolicy>,
    /// Images a job may name; empty: any.
    pub allowed_images: Vec<String>,
    /// The same for services.
    pub allowed_services: Vec<String>,
    /// Longest wait for a service, `None`: none. Missing: 30 s.
    pub wait_for_services_timeout: Option<Duration>,
    /// Most services of a job; `None`: no limit.
    pub services_limit: Option<u32>,
    /// Bytes of shared memory; 0: Docker's own.
    pub shm_size: u64,
    /// The image that gets sources and carries caches.
    pub helper_image: Option<String>,
    /// Services of every job.
    pub services: Vec<Service>,
    /// Every key of the table by its name in the reference, as JSON, these included.
    pub all: Hidden<serde_json::Map<String, serde_json::Value>>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// Where it isn't there.
    IfNotPresent,
    /// Never.
    Never,
}

/// One `[[runners.docker.services]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The image.
    pub name: String,
    /// Names it is reached by, separated by blanks or commas.
    pub alias: Option<String>,
    /// Instead of the image's command.
    pub command: Vec<String>,
    /// Instead of the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// `KEY=value`.
    pub environment: Hidden<Vec<String>>,
}
