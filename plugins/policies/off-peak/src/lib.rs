//! The shipped policy `off-peak`: other idle counts and idle times in the periods of a file.
//!
//! It is what GitLab Runner does with `[[runners.machine.autoscaling]]`, and what it did with
//! `OffPeak*` before 14.0. Of the autoscaling sections the last that holds replaces all four
//! values. `OffPeak*` counts only where there is no such section.
//!
//! A period holds at an instant if the whole second that contains it matches. Everything is read and
//! looked at in each call, so that a period or a zone that can't work is never overlooked.

use serde::Deserialize;
use springtide_period::Period;
use springtide_sdk::{
    CallContext, Decision, Description, Kind, Patch, PluginError, Policy, Targets, View, Zones,
    decision, description, unchanged,
};
use std::borrow::Cow;
use std::fmt;

/// The policy.
#[derive(Debug)]
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
        description("off-peak", env!("CARGO_PKG_VERSION"), Kind::Policy, SCHEMA)
    }

    fn evaluate(
        zones: &dyn Zones,
        context: &CallContext,
        view: &View,
        _proposal: &Targets,
        _state: &[u8],
    ) -> Result<Decision, PluginError> {
        decide(zones, &context.settings, view.now).map_err(PluginError::InvalidConfig)
    }
}

fn decide(zones: &dyn Zones, settings: &str, now: u32) -> Result<Decision, String> {
    let settings = read(settings)?;
    let mut clocks = Clocks {
        zones,
        now,
        known: Vec::new(),
    };
    if settings.autoscaling.is_empty() {
        off_peak(&settings, &mut clocks)
    } else {
        sections(&settings.autoscaling, &mut clocks)
    }
}

fn read(text: &str) -> Result<Settings<'_>, String> {
    // A list would be read as the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err("the settings are no JSON object".into());
    }
    serde_json::from_str(text).map_err(|error| format!("the settings do not fit: {error}"))
}

fn off_peak(settings: &Settings, clocks: &mut Clocks) -> Result<Decision, String> {
    let name = format_args!("OffPeakPeriods");
    let found = look(&settings.periods, &settings.timezone, clocks, &name)?;
    Ok(match found.holds {
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
        None => decision(unchanged(), format!("not off-peak now{}", Over(found.over))),
    })
}

fn sections(sections: &[Section], clocks: &mut Clocks) -> Result<Decision, String> {
    let mut last = None;
    let mut over = None;
    for (number, section) in (1..).zip(sections) {
        let name = format_args!("autoscaling section {number}");
        if section.idle_scale_factor < 0.0 {
            return Err(format!(
                "{name}: IdleScaleFactor is {}: write 0 or more",
                section.idle_scale_factor
            ));
        }
        let found = look(&section.periods, &section.timezone, clocks, &name)?;
        if let Some(period) = found.holds {
            last = Some((number, period, section));
        }
        over = over.or(found.over);
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
                "autoscaling section {number} holds by its period \"{period}\": idle count {}, idle time {} s",
                section.idle_count, section.idle_time
            ),
        ),
        None => decision(
            unchanged(),
            format!(
                "none of {} autoscaling sections holds now{}",
                sections.len(),
                Over(over)
            ),
        ),
    })
}

/// What was found of a list of periods.
#[derive(Default)]
struct Found<'a> {
    /// The first that holds now.
    holds: Option<&'a str>,
    /// The first that never will again.
    over: Option<&'a str>,
}

/// Says of a period that it is over.
struct Over<'a>(Option<&'a str>);

impl fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => write!(f, "; the period \"{period}\" never will again"),
            None => Ok(()),
        }
    }
}

/// Looks at all periods of a list, so that a bad one is never overlooked.
fn look<'a>(
    periods: &'a [Cow<'a, str>],
    zone: &str,
    clocks: &mut Clocks,
    name: &fmt::Arguments,
) -> Result<Found<'a>, String> {
    let mut found = Found::default();
    if periods.is_empty() && zone.is_empty() {
        return Ok(found);
    }
    let civil = clocks
        .at(zone)
        .map_err(|error| format!("{name}: {error}"))?;
    for text in periods {
        let period = Period::parse(text).map_err(|error| format!("{name}: {error}"))?;
        if period.contains(&civil) {
            found.holds = found.holds.or(Some(text));
        } else if found.over.is_none() && period.never_again(&civil) {
            found.over = Some(text);
        }
    }
    Ok(found)
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

springtide_sdk::export_policy!(OffPeak);

#[cfg(test)]
mod tests;
