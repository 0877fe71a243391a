//! What an operator can set.

use serde::Deserialize;

/// The settings, checked.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Waiting jobs one machine should absorb within the target wait; at least 1.
    pub(crate) jobs_per_machine: u32,
    /// Seconds after which a job should have begun; at least 1.
    pub(crate) target_wait: u32,
    /// The share of the queue this runner is to serve, 0 to 1.
    pub(crate) share: f64,
    /// Least machines to ask for.
    pub(crate) floor: u32,
    /// Most machines to ask for; 0 is no limit.
    pub(crate) ceiling: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            jobs_per_machine: 1,
            target_wait: 300,
            share: 1.0,
            floor: 0,
            ceiling: 0,
        }
    }
}

pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "jobs_per_machine": {"type": "integer", "minimum": 1, "maximum": 4294967295, "default": 1, "description": "Waiting jobs one machine should absorb within target_wait. Boot time and the age of the oldest job leave less of it."},
    "target_wait": {"type": "integer", "minimum": 1, "maximum": 4294967295, "default": 300, "description": "Seconds after which a job should have begun. Once the oldest has waited longer, share and jobs_per_machine give way to one machine a job."},
    "share": {"type": "number", "minimum": 0, "maximum": 1, "default": 1, "description": "The share of the waiting jobs that is this runner's, where others serve the same queue."},
    "floor": {"type": "integer", "minimum": 0, "maximum": 4294967295, "default": 0, "description": "Least machines to ask for, whatever waits."},
    "ceiling": {"type": "integer", "minimum": 0, "maximum": 4294967295, "default": 0, "description": "Most machines to ask for, whatever waits; 0 is no limit."}
  }
}"#;

impl Settings {
    /// Reads and checks them.
    ///
    /// # Errors
    /// What does not fit and what to write instead.
    pub(crate) fn read(text: &str) -> Result<Settings, String> {
        // A list would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err("the settings are no JSON object".into());
        }
        let settings: Settings = serde_json::from_str(text)
            .map_err(|error| format!("the settings do not fit: {error}"))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        if self.jobs_per_machine == 0 {
            return Err(
                "jobs_per_machine is 0, and no machine absorbs no job: write 1 or more".into(),
            );
        }
        if self.target_wait == 0 {
            return Err(
                "target_wait is 0, and no job begins at once: write 1 second or more".into(),
            );
        }
        if !(0.0..=1.0).contains(&self.share) {
            return Err("share is a part of the queue: write a number from 0 to 1".into());
        }
        if self.ceiling > 0 && self.floor > self.ceiling {
            return Err(format!(
                "floor is {} and ceiling {}: write a floor at or below the ceiling",
                self.floor, self.ceiling
            ));
        }
        Ok(())
    }
}
