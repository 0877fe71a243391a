//! What an operator can set, read from a schema for people.

use serde::Serialize;
use serde_json::{Map, Value};

/// Tables within tables that are looked into.
const DEPTH: usize = 4;

/// One key of a plugin's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setting {
    /// Its name; `sections[].count` is a key of each table of the list `sections`.
    pub name: String,
    /// What it takes, in words.
    #[serde(rename = "type")]
    pub kind: String,
    /// What holds where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it means.
    pub meaning: String,
    /// Whether it can't be left out.
    pub required: bool,
    /// Whether its value stays in the host.
    pub secret: bool,
    /// Whether it names a file that the host reads.
    pub host_file: bool,
    /// What to use instead, where it is not obeyed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl Setting {
    /// What else is to be known of it, in words; `-` if nothing.
    #[must_use]
    pub fn marks(&self) -> String {
        let marks = [
            (self.required, "required"),
            (self.secret, "secret"),
            (self.host_file, "host-file"),
            (self.instead.is_some(), "deprecated"),
        ];
        let said: Vec<&str> = marks
            .iter()
            .filter(|mark| mark.0)
            .map(|mark| mark.1)
            .collect();
        if said.is_empty() {
            "-".into()
        } else {
            said.join(", ")
        }
    }

    /// What holds where it is left out, as a person would write it; `-` if nothing.
    #[must_use]
    pub fn default_shown(&self) -> String {
        self.default.as_ref().map_or_else(|| "-".into(), shown)
    }
}

/// The settings a schema describes, those within tables after the table.
pub(super) fn settings(schema: &Value) -> Vec<Setting> {
    let mut found = Vec::new();
    Reader { root: schema }.properties(schema, "", DEPTH, &mut found);
    found
}

struct Reader<'a> {
    root: &'a Value,
}

impl<'a> Reader<'a> {
    fn properties(&self, table: &'a Value, before: &str, depth: usize, found: &mut Vec<Setting>) {
        let Some(properties) = table.get("properties").and_then(Value::as_object) else {
            return;
        };
        let required = |name: &str| {
            let names = table.get("required").and_then(Value::as_array);
            names.is_some_and(|names| names.iter().any(|other| other == name))
        };
        for (key, said) in properties {
            let meant = self.resolve(said);
            // What stands beside a reference counts as well as what it refers to.
            let word = |word: &str| said.get(word).or_else(|| meant.get(word));
            // A mark may say more than that it is there.
            let is = |mark: &str| {
                word(mark).is_some_and(|value| value.is_string() || *value == Value::Bool(true))
            };
            let name = format!("{before}{key}");
            found.push(Setting {
                kind: self.kind(meant, depth),
                default: word("default").cloned(),
                meaning: word("description")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                required: required(key),
                secret: is("secret"),
                host_file: is("host-file"),
                instead: word("instead").and_then(Value::as_str).map(str::to_owned),
                name: name.clone(),
            });
            if depth == 0 {
                continue;
            }
            self.properties(meant, &format!("{name}."), depth - 1, found);
            if let Some(items) = meant.get("items") {
                let items = self.resolve(items);
                self.properties(items, &format!("{name}[]."), depth - 1, found);
            }
        }
    }

    fn resolve(&self, said: &'a Value) -> &'a Value {
        resolved(self.root, said)
    }

    fn kind(&self, said: &'a Value, depth: usize) -> String {
        let said = self.resolve(said);
        if let Some(values) = said.get("enum").and_then(Value::as_array) {
            let values: Vec<String> = values.iter().map(shown).collect();
            return format!("one of {}", values.join(", "));
        }
        if let Some(value) = said.get("const") {
            return shown(value);
        }
        let choices = ["anyOf", "oneOf"].iter().find_map(|word| said.get(word));
        if let Some(choices) = choices.and_then(Value::as_array) {
            if depth == 0 {
                return "any".into();
            }
            let kinds = choices.iter().map(|choice| self.kind(choice, depth - 1));
            return either(kinds);
        }
        match said.get("type") {
            Some(Value::String(kind)) => self.plain(kind, said, depth),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                either(kinds.map(|kind| self.plain(kind, said, depth)))
            }
            _ => "any".into(),
        }
    }

    fn plain(&self, kind: &str, said: &'a Value, depth: usize) -> String {
        let of = |what: Option<&'a Value>| match what {
            Some(what) if what.is_object() && depth > 0 => self.kind(what, depth - 1),
            _ => "any".into(),
        };
        match kind {
            "integer" | "number" => bounded(kind, said),
            "array" => format!("list of {}", many(of(said.get("items")))),
            "object" if said.get("properties").is_some() => "table".into(),
            "object" => format!("table of {}", many(of(said.get("additionalProperties")))),
            other => other.to_owned(),
        }
    }
}

/// What a reference within a schema refers to, or what is no reference.
#[must_use]
pub fn resolved<'a>(root: &'a Value, mut said: &'a Value) -> &'a Value {
    for _ in 0..DEPTH {
        let target = said.get("$ref").and_then(Value::as_str);
        match target.and_then(|target| root.pointer(target.strip_prefix('#')?)) {
            Some(target) => said = target,
            None => break,
        }
    }
    said
}

/// More than one of a type.
fn many(kind: String) -> String {
    match kind.as_str() {
        "string" | "integer" | "number" | "boolean" | "table" => kind + "s",
        _ => kind,
    }
}

fn either(kinds: impl Iterator<Item = String>) -> String {
    let kinds: Vec<String> = kinds.filter(|kind| kind != "null").collect();
    kinds.join(" or ")
}

fn bounded(kind: &str, said: &Value) -> String {
    // The contract's integers have 32 bits: that bound says nothing.
    let top = Value::from(u32::MAX);
    let most = said.get("maximum").filter(|most| **most != top);
    match (said.get("minimum"), most) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
        (Some(least), None) => format!("{kind}, {least} or more"),
        (None, Some(most)) => format!("{kind}, {most} or less"),
        (None, None) => kind.to_owned(),
    }
}

/// A value as a person would write it: a text without its quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Object(table) if *table == Map::new() => "{}".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(schema: Value) -> String {
        let whole = json!({
            "properties": {"it": schema},
            "$defs": {"size": {"type": "string", "enum": ["small", "large"]}}
        });
        settings(&whole)[0].kind.clone()
    }

    #[test]
    fn a_type_is_said_in_words() {
        for (schema, words) in [
            (json!({"type": "string"}), "string"),
            (
                json!({"type": "integer", "minimum": 0, "maximum": 100}),
                "integer, 0 to 100",
            ),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 4_294_967_295_u32}),
                "integer, 1 or more",
            ),
            (
                json!({"type": "number", "maximum": 0.5}),
                "number, 0.5 or less",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "list of strings",
            ),
            (json!({"type": "array"}), "list of any"),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "table of strings",
            ),
            (json!({"type": "object", "properties": {}}), "table"),
            (json!({"enum": ["a", 2]}), "one of a, 2"),
            (json!({"$ref": "#/$defs/size"}), "one of small, large"),
            (json!({"$ref": "elsewhere"}), "any"),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                "integer",
            ),
            (json!({"type": ["string", "boolean"]}), "string or boolean"),
            (json!({}), "any"),
            (json!(true), "any"),
        ] {
            assert_eq!(kind(schema.clone()), words, "{schema}");
        }
    }

    #[test]
    fn keys_of_tables_follow_their_table_and_marks_are_kept() {
        let schema = json!({
            "required": ["token"],
            "properties": {
                "sections": {"type": "array", "items": {"$ref": "#/$defs/section"}},
                "token": {"type": "string", "secret": "aws.session-token"},
                "old": {"type": "string", "instead": "use key instead"},
                "key": {"$ref": "#/$defs/key", "description": "A key."}
            },
            "$defs": {
                "section": {"type": "object", "properties": {"count": {"type": "integer", "default": 3}}},
                "key": {"type": "string", "host-file": true}
            }
        });
        let mut rows: Vec<String> = settings(&schema)
            .iter()
            .map(|one| {
                format!(
                    "{}: {}, {}, {}",
                    one.name,
                    one.kind,
                    one.marks(),
                    one.meaning
                )
            })
            .collect();
        rows.sort();
        assert_eq!(
            rows,
            [
                "key: string, host-file, A key.",
                "old: string, deprecated, ",
                "sections: list of tables, -, ",
                "sections[].count: integer, -, ",
                "token: string, required, secret, ",
            ]
        );
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let schema = json!({
            "type": "object",
            "properties": {"again": {"$ref": "#"}},
            "$ref": "#"
        });
        assert!(settings(&schema).len() <= DEPTH + 1);
        let choice = json!({"properties": {"it": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}});
        assert_eq!(settings(&choice)[0].kind, "any");
    }
}
