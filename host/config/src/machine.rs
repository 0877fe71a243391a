//! `[runners.machine]` as it was read.

use crate::Position;

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
