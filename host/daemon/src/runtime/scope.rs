//! Where and how a machine is made: driver, settings, labels. A machine's record keeps its scope as
//! text, so that it can be removed when the file has long changed, and a machine is judged gone only
//! by a list of its own scope.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A scope. Two that are equal are one provider, account and region with the same settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scope {
    /// The driver's id.
    pub driver: String,
    /// The runner's name when it was written, for messages.
    pub runner: String,
    /// The driver's settings. Secrets are not among them: the host binds them by name.
    pub settings: Value,
    /// Settings in whose text `%s` stands for the machine's name.
    #[serde(default)]
    pub named: Vec<String>,
}

/// A scope that can't be read: of a newer version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error(
    "the scope of a machine in the state can't be read: {0}; was it written by a newer version?"
)]
pub struct UnreadableScope(#[from] serde_json::Error);

impl Scope {
    /// The text a record keeps.
    #[must_use]
    pub fn text(&self) -> String {
        // Keys of a JSON object come sorted, so equal scopes have equal texts.
        serde_json::json!({
            "driver": self.driver,
            "runner": self.runner,
            "settings": self.settings,
            "named": self.named,
        })
        .to_string()
    }

    /// The settings of a call about this machine; of none, as they stand.
    #[must_use]
    pub fn settings_for(&self, machine: Option<&str>) -> Value {
        let mut settings = self.settings.clone();
        let Some(machine) = machine else {
            return settings;
        };
        for key in &self.named {
            match settings.get_mut(key) {
                Some(Value::String(text)) => *text = text.replace("%s", machine),
                Some(Value::Array(all)) => {
                    for one in all {
                        if let Value::String(text) = one {
                            *text = text.replace("%s", machine);
                        }
                    }
                }
                _ => {}
            }
        }
        settings
    }

    /// Reads what a record kept.
    ///
    /// # Errors
    /// Where it is no scope.
    pub fn read(text: &str) -> Result<Scope, UnreadableScope> {
        Ok(serde_json::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scope_is_read_as_it_was_written() {
        let scope = Scope {
            driver: "local".into(),
            runner: "elastic".into(),
            settings: json!({"delay": 5, "tag": "%s", "labels": ["n-%s"], "plain": "%s"}),
            named: vec!["tag".into(), "labels".into()],
        };
        assert_eq!(
            scope.settings_for(Some("ci-1")),
            json!({"delay": 5, "tag": "ci-1", "labels": ["n-ci-1"], "plain": "%s"})
        );
        assert_eq!(Scope::read(&scope.text()).unwrap(), scope);
        let error = Scope::read("{}").unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }
}
