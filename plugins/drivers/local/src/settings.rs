//! What an operator can set, as `MachineOptions`.

use serde::Deserialize;
use springtide_sdk::PluginError;

/// The settings. Delays are milliseconds, shares are percent of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(rename = "local-create-delay")]
    pub(crate) create_delay: u32,
    #[serde(rename = "local-boot-delay")]
    pub(crate) boot_delay: u32,
    #[serde(rename = "local-destroy-delay")]
    pub(crate) destroy_delay: u32,
    #[serde(rename = "local-slow")]
    pub(crate) slow: u32,
    #[serde(rename = "local-fail-create")]
    pub(crate) fail_create: u32,
    #[serde(rename = "local-fail-boot")]
    pub(crate) fail_boot: u32,
    #[serde(rename = "local-vanish")]
    pub(crate) vanish: u32,
    #[serde(rename = "local-vanish-after")]
    pub(crate) vanish_after: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            create_delay: 0,
            boot_delay: 0,
            destroy_delay: 0,
            slow: 0,
            fail_create: 0,
            fail_boot: 0,
            vanish: 0,
            vanish_after: 60,
        }
    }
}

pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "local-create-delay": {"type": "integer", "minimum": 0, "maximum": 3600000, "default": 0, "description": "Milliseconds a machine is being created before it runs."},
    "local-boot-delay": {"type": "integer", "minimum": 0, "maximum": 3600000, "default": 0, "description": "Milliseconds a running machine boots before it takes work."},
    "local-destroy-delay": {"type": "integer", "minimum": 0, "maximum": 3600000, "default": 0, "description": "Milliseconds a machine is being removed before it is gone."},
    "local-slow": {"type": "integer", "minimum": 0, "maximum": 20000, "default": 0, "description": "Milliseconds every call to the provider takes longer."},
    "local-fail-create": {"type": "integer", "minimum": 0, "maximum": 100, "default": 0, "description": "Percent of the machines asked for that are not made; half find no room, half fail for a while."},
    "local-fail-boot": {"type": "integer", "minimum": 0, "maximum": 100, "default": 0, "description": "Percent of the machines whose boot never ends."},
    "local-vanish": {"type": "integer", "minimum": 0, "maximum": 100, "default": 0, "description": "Percent of the machines that switch themselves off after local-vanish-after."},
    "local-vanish-after": {"type": "integer", "minimum": 1, "maximum": 86400, "default": 60, "description": "Seconds from running until a machine switches itself off, where local-vanish has it so."}
  }
}"#;

impl Settings {
    /// Reads and checks them.
    pub(crate) fn read(text: &str) -> Result<Settings, PluginError> {
        // A list would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(PluginError::InvalidConfig(
                "the settings are no JSON object".into(),
            ));
        }
        let settings: Settings = serde_json::from_str(text).map_err(|error| {
            PluginError::InvalidConfig(format!("the settings do not fit: {error}"))
        })?;
        for (name, value, most) in [
            ("local-fail-create", settings.fail_create, 100),
            ("local-fail-boot", settings.fail_boot, 100),
            ("local-vanish", settings.vanish, 100),
            ("local-slow", settings.slow, 20_000),
        ] {
            if value > most {
                return Err(PluginError::InvalidConfig(format!(
                    "{name} is {value}: write a number from 0 to {most}"
                )));
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_a_provider_without_faults() {
        assert_eq!(Settings::read("{}").unwrap(), Settings::default());
    }

    #[test]
    fn the_schema_names_each_setting_with_its_default() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        let defaults: serde_json::Map<_, _> = properties
            .iter()
            .map(|(name, property)| (name.clone(), property["default"].clone()))
            .collect();
        assert_eq!(defaults.len(), 8);
        let text = serde_json::Value::Object(defaults).to_string();
        assert_eq!(Settings::read(&text).unwrap(), Settings::default());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, said) in [
            ("[]", "no JSON object"),
            (r#"{"local-boot-dealy": 1}"#, "unknown field"),
            (r#"{"local-boot-delay": -1}"#, "invalid value"),
            (r#"{"local-boot-delay": "1"}"#, "invalid type"),
            (r#"{"local-vanish": 101}"#, "from 0 to 100"),
        ] {
            let Err(PluginError::InvalidConfig(why)) = Settings::read(text) else {
                panic!("{text} was taken");
            };
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
