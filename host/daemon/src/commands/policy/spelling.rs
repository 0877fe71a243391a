//! Settings whose keys are spelled in another case than the policy's schema: config.toml takes
//! `OffpeakIdleCount` too.

use serde_json::{Map, Value};
use springtide_plugins::resolved;

/// Tables within tables that are looked into.
const DEPTH: usize = 8;

/// Gives keys the spelling of the schema, in tables and in lists of them; whether any had another. A
/// key that stands there in both spellings is left alone, and the schema says what it thinks of it.
pub(super) fn respell(settings: &mut Value, schema: &Value) -> bool {
    below(settings, schema, schema, DEPTH)
}

fn below(settings: &mut Value, said: &Value, root: &Value, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    let said = resolved(root, said);
    match settings {
        Value::Object(table) => {
            let Some(known) = said.get("properties").and_then(Value::as_object) else {
                return false;
            };
            let mut changed = rename(table, known);
            for (key, value) in table.iter_mut() {
                if let Some(said) = known.get(key) {
                    changed |= below(value, said, root, depth - 1);
                }
            }
            changed
        }
        Value::Array(list) => {
            let Some(said) = said.get("items") else {
                return false;
            };
            let mut changed = false;
            for one in list {
                changed |= below(one, said, root, depth - 1);
            }
            changed
        }
        _ => false,
    }
}

fn rename(table: &mut Map<String, Value>, known: &Map<String, Value>) -> bool {
    let other = |key: &&String| !known.contains_key(*key);
    let others: Vec<String> = table.keys().filter(other).cloned().collect();
    let mut changed = false;
    for key in others {
        let right = known.keys().find(|name| name.eq_ignore_ascii_case(&key));
        let Some(right) = right.filter(|right| !table.contains_key(*right)) else {
            continue;
        };
        if let Some(value) = table.remove(&key) {
            table.insert(right.clone(), value);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_get_the_spelling_of_the_schema_wherever_it_says_one() {
        let schema = json!({
            "type": "object",
            "properties": {
                "OffPeakIdleCount": {"type": "integer"},
                "autoscaling": {"type": "array", "items": {"$ref": "#/$defs/section"}},
                "free": {"type": "object"},
            },
            "$defs": {"section": {"type": "object", "properties": {"IdleCount": {}, "Periods": {}}}},
        });
        for (name, written, read) in [
            (
                "as it is",
                json!({"OffPeakIdleCount": 1}),
                json!({"OffPeakIdleCount": 1}),
            ),
            (
                "another case",
                json!({"OffpeakIdleCount": 1}),
                json!({"OffPeakIdleCount": 1}),
            ),
            (
                "in a list behind a reference",
                json!({"Autoscaling": [{"idlecount": 1}, {"PERIODS": ["IdleCount"]}]}),
                json!({"autoscaling": [{"IdleCount": 1}, {"Periods": ["IdleCount"]}]}),
            ),
            (
                "both",
                json!({"OffPeakIdleCount": 1, "offpeakidlecount": 2}),
                json!({"OffPeakIdleCount": 1, "offpeakidlecount": 2}),
            ),
            (
                "no key of the schema",
                json!({"OffPeakIdle": 1, "free": {"A": 1}}),
                json!({"OffPeakIdle": 1, "free": {"A": 1}}),
            ),
            ("no table", json!([1]), json!([1])),
        ] {
            let mut settings = written.clone();
            assert_eq!(respell(&mut settings, &schema), written != read, "{name}");
            assert_eq!(settings, read, "{name}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let schema = json!({"properties": {"again": {"$ref": "#"}}, "$ref": "#"});
        let mut settings = json!({});
        for _ in 0..20 {
            settings = json!({ "again": settings });
        }
        assert!(!respell(&mut settings, &schema));
    }
}
