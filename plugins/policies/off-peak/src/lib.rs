//! The shipped policy `off-peak`: other idle counts and idle times in the periods of a file.
//!
//! It is what GitLab Runner does with `[[runners.machine.autoscaling]]`, and what it did with
//! `OffPeak*` before 14.0. Of the autoscaling sections the last that holds replaces all four
//! values. `OffPeak*` counts only where there is no such section.

use serde::Deserialize;
use springtide_period::Period;
use springtide_sdk::{
    CallContext, Decision, Description, Kind, Patch, PluginError, Policy, Targets, View, Zones,
    unchanged,
};
use std::borrow::Cow;

/// The policy.
pub struct OffPeak;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings<'a> {
    #[serde(borrow, rename = "OffPeakPeriods")]
    periods: Vec<Cow<'a, str>>,
    #[serde(borrow, rename = "OffPeakTimezone")]
    timezone: Cow<'a, str>,
    #[serde(rename = "OffPeakIdleCount")]
    idle_count: u32,
    #[serde(rename = "OffPeakIdleTime")]
    idle_time: u32,
    #[serde(borrow)]
    autoscaling: Vec<Section<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Section<'a> {
    #[serde(borrow, rename = "Periods")]
    periods: Vec<Cow<'a, str>>,
    #[serde(borrow, rename = "Timezone")]
    timezone: Cow<'a, str>,
    #[serde(rename = "IdleCount")]
    idle_count: u32,
    #[serde(rename = "IdleCountMin")]
    idle_count_min: u32,
    #[serde(rename = "IdleScaleFactor")]
    idle_scale_factor: f64,
    #[serde(rename = "IdleTime")]
    idle_time: u32,
}

const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "OffPeakPeriods": {"type": "array", "items": {"type": "string"}, "description": "Periods in which OffPeakIdleCount and OffPeakIdleTime hold; ignored where there is an autoscaling section."},
    "OffPeakTimezone": {"type": "string", "description": "The zone of OffPeakPeriods; empty or Local is the host's."},
    "OffPeakIdleCount": {"type": "integer", "minimum": 0, "description": "Idle machines in these periods."},
    "OffPeakIdleTime": {"type": "integer", "minimum": 0, "description": "Seconds an idle machine beyond them is kept."},
    "autoscaling": {
      "type": "array",
      "description": "Sections; the last one that holds replaces all four values.",
      "items": {
        "type": "object",
        "additionalProperties": false,
        "properties": {
          "Periods": {"type": "array", "items": {"type": "string"}, "description": "When the section holds."},
          "Timezone": {"type": "string", "description": "The zone of its periods; empty or Local is the host's."},
          "IdleCount": {"type": "integer", "minimum": 0, "description": "Idle machines; with a scale factor, the most."},
          "IdleCountMin": {"type": "integer", "minimum": 0, "description": "Least idle machines with a scale factor."},
          "IdleScaleFactor": {"type": "number", "minimum": 0, "description": "Idle machines as a factor of busy ones."},
          "IdleTime": {"type": "integer", "minimum": 0, "description": "Seconds an idle machine beyond the idle count is kept."}
        }
      }
    }
  }
}"#;

impl Policy for OffPeak {
    fn describe() -> Description {
        Description {
            name: "off-peak".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            kind: Kind::Policy,
            settings_schema: SCHEMA.into(),
            requests: Vec::new(),
            deadlines: Vec::new(),
        }
    }

    fn evaluate(
        zones: &dyn Zones,
        context: &CallContext,
        view: &View,
        _proposal: &Targets,
        _state: &[u8],
    ) -> Result<Decision, PluginError> {
        let settings = read(&context.settings)?;
        let mut clocks = Clocks {
            zones,
            now: view.now,
            known: Vec::new(),
        };
        if settings.autoscaling.is_empty() {
            return off_peak(&settings, &mut clocks);
        }
        let mut last = None;
        for (number, section) in settings.autoscaling.iter().enumerate() {
            let name = format_args!("autoscaling section {}", number + 1);
            if let Some(period) = holds(&section.periods, &section.timezone, &mut clocks, name)? {
                last = Some((number, period, section));
            }
        }
        Ok(match last {
            Some((number, period, section)) => decision(
                Patch {
                    idle_count: Some(section.idle_count),
                    idle_count_min: Some(section.idle_count_min),
                    idle_scale_factor: Some(section.idle_scale_factor),
                    idle_time: Some(section.idle_time),
                    ..unchanged()
                },
                format!(
                    "autoscaling section {} holds by its period \"{period}\": idle count {}, idle time {} s",
                    number + 1,
                    section.idle_count,
                    section.idle_time
                ),
            ),
            None => decision(
                unchanged(),
                format!(
                    "none of {} autoscaling sections holds now",
                    settings.autoscaling.len()
                ),
            ),
        })
    }
}

fn read(text: &str) -> Result<Settings<'_>, PluginError> {
    // A list would be read as the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(invalid("the settings are no JSON object".into()));
    }
    serde_json::from_str(text).map_err(|error| invalid(format!("the settings do not fit: {error}")))
}

fn off_peak(settings: &Settings, clocks: &mut Clocks) -> Result<Decision, PluginError> {
    let name = format_args!("OffPeakPeriods");
    let period = holds(&settings.periods, &settings.timezone, clocks, name)?;
    Ok(match period {
        Some(period) => decision(
            Patch {
                idle_count: Some(settings.idle_count),
                idle_time: Some(settings.idle_time),
                ..unchanged()
            },
            format!(
                "off-peak by the period \"{period}\": idle count {}, idle time {} s",
                settings.idle_count, settings.idle_time
            ),
        ),
        None => decision(unchanged(), "not off-peak now".into()),
    })
}

/// The first period that holds now. All of them are read, so that a bad one is never overlooked.
fn holds<'a>(
    periods: &'a [Cow<'a, str>],
    zone: &str,
    clocks: &mut Clocks,
    name: std::fmt::Arguments,
) -> Result<Option<&'a str>, PluginError> {
    let mut first = None;
    for text in periods {
        let period = Period::parse(text).map_err(|error| invalid(format!("{name}: {error}")))?;
        let civil = clocks
            .at(zone)
            .map_err(|error| invalid(format!("{name}: {error}")))?;
        if first.is_none() && period.contains(&civil) {
            first = Some(text.as_ref());
        }
    }
    Ok(first)
}

/// The clocks of each zone, asked of the host once a call.
struct Clocks<'z> {
    zones: &'z dyn Zones,
    now: u32,
    known: Vec<(String, springtide_period::Civil)>,
}

impl Clocks<'_> {
    fn at(&mut self, zone: &str) -> Result<springtide_period::Civil, String> {
        if let Some((_, civil)) = self.known.iter().find(|(known, _)| known == zone) {
            return Ok(*civil);
        }
        let at = self.zones.civil_time(zone, self.now)?;
        let civil = springtide_period::Civil {
            year: at.year,
            month: at.month,
            day: at.day,
            hour: at.hour,
            minute: at.minute,
            second: at.second,
            weekday: at.weekday,
        };
        self.known.push((zone.to_owned(), civil));
        Ok(civil)
    }
}

fn decision(patch: Patch, mut reason: String) -> Decision {
    let mut end = reason.len().min(1_000);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    Decision {
        patch,
        reason,
        state: Vec::new(),
    }
}

fn invalid(text: String) -> PluginError {
    PluginError::InvalidConfig(text)
}

springtide_sdk::export_policy!(OffPeak);

#[cfg(test)]
mod tests;
