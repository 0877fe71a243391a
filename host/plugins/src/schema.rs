//! A plugin's settings: their schema, whether settings fit it, and what an operator can set.

mod settings;

pub use settings::{Setting, resolved};

use jsonschema::Validator;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;
use thiserror::Error;

/// The schema of a plugin's settings, ready to check some.
#[derive(Debug)]
pub struct Schema {
    value: Value,
    validator: Validator,
}

/// A text that is no schema of settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It is no JSON.
    #[error("is no JSON: {0}")]
    NotJson(String),
    /// It is no JSON Schema.
    #[error("is no JSON Schema (2020-12): {0}")]
    NotSchema(String),
    /// What it describes is no object.
    #[error(
        "does not describe an object: settings are keys with values, so its type is \"object\""
    )]
    NotObject,
    /// A mark the host does not know, which it would have to guess.
    #[error("marks {property} with {mark}, which is none; write {instead}")]
    Mark {
        /// The property.
        property: String,
        /// The mark as it is written.
        mark: String,
        /// What it could be.
        instead: &'static str,
    },
}

/// What does not fit, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key, or the path to it; empty for the settings as a whole.
    pub at: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl Schema {
    /// Reads a schema; nothing outside it is read, so a reference to another document is an error.
    ///
    /// # Errors
    /// Where it is no JSON Schema of an object.
    pub fn new(text: &str) -> Result<Schema, SchemaError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| SchemaError::NotJson(error.to_string()))?;
        if let Err(error) = jsonschema::draft202012::meta::validate(&value) {
            let at = error.instance_path().to_string();
            let place = if at.is_empty() { "" } else { " at " };
            return Err(SchemaError::NotSchema(format!("{error}{place}{at}")));
        }
        if value.get("type") != Some(&Value::from("object")) {
            return Err(SchemaError::NotObject);
        }
        let properties = value.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            known_marks(name, property)?;
        }
        let validator = jsonschema::draft202012::options()
            .build(&value)
            .map_err(|error| SchemaError::NotSchema(error.to_string()))?;
        Ok(Schema { value, validator })
    }

    /// The schema itself.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether settings fit.
    ///
    /// # Errors
    /// All that does not, not only the first. Values of settings marked secret are not shown.
    pub fn validate(&self, settings: &Value) -> Result<(), Vec<Problem>> {
        let problems: Vec<Problem> = self
            .validator
            .iter_errors(settings)
            .map(|error| {
                let path = error.instance_path().to_string();
                let at = path.trim_start_matches('/').replace('/', ".");
                let top = at.split('.').next().unwrap_or("");
                // The problem of all settings together may show any of them.
                let what = if at.is_empty() || self.is_secret(top) {
                    error.masked().to_string()
                } else {
                    error.to_string()
                };
                Problem { at, what }
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn properties(&self) -> Option<&Map<String, Value>> {
        self.value.get("properties")?.as_object()
    }

    fn is_secret(&self, name: &str) -> bool {
        self.properties()
            .and_then(|all| all.get(name))
            .is_some_and(|one| marked(one, "secret"))
    }

    /// What can be set, in the schema's order; the keys of a table follow it.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        settings::settings(&self.value)
    }

    /// The settings object that `MachineOptions` come to: `flag=value`, or a bare `flag`, which is
    /// true. Values are read as the schema types them, and repeats of an array are its items.
    ///
    /// # Errors
    /// All options that can't be, not only the first.
    pub fn options_to_settings(&self, options: &[String]) -> Result<Value, Vec<Problem>> {
        let mut settings = Map::new();
        let mut problems = Vec::new();
        for option in options {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            if let Err(what) = self.set(&mut settings, name, value) {
                problems.push(Problem {
                    at: name.to_owned(),
                    what,
                });
            }
        }
        let settings = Value::Object(settings);
        if problems.is_empty() {
            self.validate(&settings)?;
            return Ok(settings);
        }
        Err(problems)
    }

    fn set(
        &self,
        settings: &mut Map<String, Value>,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), String> {
        let property = self.properties().and_then(|all| all.get(name));
        let Some(property) = property else {
            return Err(self.unknown(name));
        };
        if kind(property) == "array" {
            let item = property.get("items").unwrap_or(&Value::Null);
            let value = typed(item, value.ok_or("it needs a value: write FLAG=VALUE")?)?;
            let list = settings
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(value);
            }
            return Ok(());
        }
        let value = match value {
            Some(value) => typed(property, value)?,
            None if kind(property) == "boolean" => Value::Bool(true),
            None => return Err("it needs a value: write FLAG=VALUE".into()),
        };
        match settings.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err("it is set twice, and takes one value".into()),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let nearest = self
            .properties()
            .into_iter()
            .flat_map(Map::keys)
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .max_by(|one, other| one.0.total_cmp(&other.0));
        match nearest {
            Some((likeness, known)) if likeness > 0.8 => {
                format!("there is no such option; {known} is the nearest")
            }
            _ => {
                "there is no such option; `springtide plugin inspect` lists those there are".into()
            }
        }
    }
}

/// A mark may say more than that it is there.
fn marked(property: &Value, mark: &str) -> bool {
    property
        .get(mark)
        .is_some_and(|value| value.is_string() || *value == Value::Bool(true))
}

fn known_marks(name: &str, property: &Value) -> Result<(), SchemaError> {
    let marks: [(&str, &[&str], &str); 2] = [
        (
            "secret",
            &[
                "aws.access-key-id",
                "aws.secret-access-key",
                "aws.session-token",
            ],
            "true, \"aws.access-key-id\", \"aws.secret-access-key\" or \"aws.session-token\"",
        ),
        (
            "host-file",
            &["user-data", "ssh-key"],
            "true, \"user-data\" or \"ssh-key\"",
        ),
    ];
    for (mark, known, instead) in marks {
        let Some(value) = property.get(mark) else {
            continue;
        };
        let good = value.is_boolean() || value.as_str().is_some_and(|text| known.contains(&text));
        if !good {
            return Err(SchemaError::Mark {
                property: name.to_owned(),
                mark: format!("{mark:?}: {value}"),
                instead,
            });
        }
    }
    match property.get("instead") {
        Some(value) if !value.is_string() => Err(SchemaError::Mark {
            property: name.to_owned(),
            mark: format!("\"instead\": {value}"),
            instead: "a text that says what to use",
        }),
        _ => Ok(()),
    }
}

fn kind(property: &Value) -> String {
    match property.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            kinds.join("|")
        }
        _ => "any".into(),
    }
}

/// The value a text is for a property.
fn typed(property: &Value, text: &str) -> Result<Value, String> {
    let shown = if marked(property, "secret") {
        "its value"
    } else {
        text
    };
    match kind(property).as_str() {
        "integer" => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("{shown} is no whole number")),
        "number" => text
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| format!("{shown} is no number")),
        "boolean" => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(format!("{shown} is neither true nor false")),
        },
        "object" => Err("its value is an object, which an option can't be".into()),
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        let text = r#"{
          "type": "object", "additionalProperties": false, "required": ["region"],
          "properties": {
            "region": {"type": "string", "description": "Where."},
            "disk": {"type": "integer", "minimum": 1, "default": 16},
            "price": {"type": "number"},
            "spot": {"type": "boolean"},
            "tag": {"type": "array", "items": {"type": "string"}},
            "token": {"type": "string", "secret": true, "maxLength": 3},
            "old": {"type": "string", "instead": "use disk instead"},
            "user-data": {"type": "string", "host-file": true}
          }}"#;
        Schema::new(text).unwrap()
    }

    fn options(options: &[&str]) -> Result<Value, String> {
        let options: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
        schema().options_to_settings(&options).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
            lines.join("\n")
        })
    }

    #[test]
    fn a_text_that_is_no_schema_says_why() {
        for (text, why) in [
            ("", "no JSON"),
            ("{", "no JSON"),
            ("3", "JSON Schema"),
            (r#"{"type": "objekt"}"#, "JSON Schema"),
            (r#"{"type": "object", "properties": []}"#, "JSON Schema"),
            (r#"{"type": "string"}"#, "object"),
            ("{}", "object"),
            (
                r#"{"type":"object","$ref":"http://example.com/x"}"#,
                "JSON Schema",
            ),
            (
                r#"{"type":"object","properties":{"a":{"pattern":"("}}}"#,
                "JSON Schema",
            ),
            (
                r#"{"type":"object","properties":{"a":{"secret":"aws.key"}}}"#,
                "aws.access-key-id",
            ),
            (
                r#"{"type":"object","properties":{"a":{"host-file":3}}}"#,
                "user-data",
            ),
            (
                r#"{"type":"object","properties":{"a":{"instead":true}}}"#,
                "what to use",
            ),
        ] {
            let error = Schema::new(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn options_are_typed_by_the_schema() {
        assert_eq!(
            options(&[
                "region=eu-1",
                "disk=20",
                "price=0.5",
                "spot",
                "tag=a=b",
                "tag=c,d"
            ]),
            Ok(
                json!({"region": "eu-1", "disk": 20, "price": 0.5, "spot": true, "tag": ["a=b", "c,d"]})
            )
        );
    }

    #[test]
    fn all_problems_of_options_are_told_at_once() {
        let problems = options(&[
            "regoin=x",
            "disk=big",
            "spot=maybe",
            "price",
            "disk=3",
            "disk=4",
        ]);
        let problems = problems.unwrap_err();
        for expected in [
            "regoin: there is no such option; region is the nearest",
            "disk: big is no whole number",
            "spot: maybe is neither true nor false",
            "price: it needs a value",
            "disk: it is set twice",
        ] {
            assert!(problems.contains(expected), "{problems}");
        }
        let missing = options(&["disk=0"]).unwrap_err();
        assert_eq!(missing.lines().count(), 2, "{missing}");
    }

    #[test]
    fn a_secret_is_not_in_a_problem() {
        let problems = options(&["region=x", "token=s3cret"]).unwrap_err();
        assert!(
            problems.contains("token") && !problems.contains("s3cret"),
            "{problems}"
        );
        let nested = schema().validate(&json!({"region": "x", "token": ["s3cret"]}));
        assert!(!format!("{nested:?}").contains("s3cret"), "{nested:?}");
    }

    #[test]
    fn what_can_be_set_is_listed_with_its_marks() {
        let all = schema().settings();
        let find = |name: &str| all.iter().find(|one| one.name == name).unwrap();
        assert_eq!(all.len(), 8);
        assert!(find("region").required && find("region").meaning == "Where.");
        assert_eq!(find("disk").default, Some(json!(16)));
        assert!(find("token").secret && find("user-data").host_file);
    }
}
