//! What follows from a configuration: rules of GitLab Runner's over several keys.

use crate::{Config, Runner};
use serde_json::{Map, Value, json};
use springtide_pool::{Limits, Millis, Targets};
use std::time::Duration;

/// The policy that obeys `OffPeak*` and `[[runners.machine.autoscaling]]`.
pub const OFF_PEAK: &str = "off-peak";
/// The policy of a runner with a queue and none named.
pub const QUEUE_DEPTH: &str = "queue-depth";

/// One policy of a runner's chain.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLink {
    /// The plugin's id.
    pub plugin: String,
    /// Its settings: an object.
    pub settings: Value,
    /// Whether it is there without being named.
    pub implied: bool,
}

impl Config {
    /// How long to wait from one runner's request to the next one's: `check_interval` is shared among
    /// them (`commands/multi.go`, `feedRunners`). With no runner, the whole of it.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        let runners = u32::try_from(self.runners.len()).unwrap_or(u32::MAX);
        self.check_interval / runners.max(1)
    }
}

impl Runner {
    /// The part of the token that GitLab itself shows, for logs and metrics.
    #[must_use]
    pub fn short_token(&self) -> &str {
        crate::build::short_token(secrecy::ExposeSecret::expose_secret(&self.token))
    }

    /// The policies that run, in order: `off-peak` first where `OffPeak*` or autoscaling sections
    /// stand, then those of `[[runners.policy]]`, or `queue-depth` where a queue is looked at and none
    /// is named.
    #[must_use]
    pub fn policy_chain(&self) -> Vec<PolicyLink> {
        let mut chain = Vec::new();
        if let Some(settings) = self.off_peak_settings() {
            chain.push(PolicyLink {
                plugin: OFF_PEAK.to_owned(),
                settings,
                implied: true,
            });
        }
        chain.extend(self.policies.iter().map(|entry| PolicyLink {
            plugin: entry.plugin.clone(),
            settings: Value::Object(entry.settings.clone()),
            implied: false,
        }));
        if self.policies.is_empty() && self.queue.is_some() {
            chain.push(PolicyLink {
                plugin: QUEUE_DEPTH.to_owned(),
                settings: Value::Object(Map::new()),
                implied: true,
            });
        }
        chain
    }

    /// What `off-peak` reads, in the keys of the file.
    fn off_peak_settings(&self) -> Option<Value> {
        let machine = self.machine.as_ref()?;
        if !machine.autoscaling.is_empty() {
            let sections: Vec<Value> = machine
                .autoscaling
                .iter()
                .map(|section| {
                    json!({
                        "Periods": section.periods,
                        "Timezone": section.timezone,
                        "IdleCount": section.idle_count,
                        "IdleCountMin": section.idle_count_min,
                        "IdleScaleFactor": section.idle_scale_factor,
                        "IdleTime": section.idle_time,
                    })
                })
                .collect();
            return Some(json!({ "autoscaling": sections }));
        }
        let off_peak = machine.off_peak.as_ref()?;
        Some(json!({
            "OffPeakPeriods": off_peak.periods,
            "OffPeakTimezone": off_peak.timezone,
            "OffPeakIdleCount": off_peak.idle_count,
            "OffPeakIdleTime": off_peak.idle_time,
        }))
    }

    /// What the pool's rules may not pass. `max_jobs`, the runner's share of `concurrent`, is the
    /// daemon's to fill in.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let millis = |span: Duration| {
            Millis::seconds(u32::try_from(span.as_secs()).unwrap_or(u32::MAX).into())
        };
        let machine = self.machine.as_ref();
        Limits {
            limit: self.limit,
            max_growth_rate: machine.map_or(0, |machine| machine.max_growth_rate),
            max_builds: machine.map_or(0, |machine| machine.max_builds),
            max_jobs: None,
            request_concurrency: self.request_concurrency,
            create_timeout: millis(self.pool.create_timeout),
            boot_timeout: millis(self.pool.boot_timeout),
            prepare_timeout: millis(self.pool.prepare_timeout),
            machine_tries: self.pool.machine_tries,
            missing_grace: millis(self.pool.missing_grace),
        }
    }

    /// What the file asks for, before any policy.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let Some(machine) = &self.machine else {
            return Targets::default();
        };
        Targets {
            idle_count: machine.idle_count,
            idle_count_min: machine.idle_count_min,
            idle_scale_factor: machine.idle_scale_factor,
            idle_time: machine.idle_time,
            ..Targets::default()
        }
    }
}
