//! JSON merge patches (RFC 7396), by which a test says what no field of a job can.

use serde_json::{Value, json};

/// Lays one value over another, as RFC 7396 has it.
pub(crate) fn merge(onto: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *onto = patch.clone();
        return;
    };
    if !onto.is_object() {
        *onto = json!({});
    }
    let Value::Object(fields) = onto else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                fields.remove(key);
            }
            value => merge(fields.entry(key).or_insert(Value::Null), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_laid_over_as_the_rfc_has_it() {
        for (onto, patch, expected) in [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2})),
            (json!({"a": [1]}), json!({"a": [2]}), json!({"a": [2]})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": 3}}),
                json!({"a": {"b": 3, "c": 2}}),
            ),
            (
                json!({"a": 1}),
                json!({"a": {"b": {"c": null}}}),
                json!({"a": {"b": {}}}),
            ),
            (json!({}), json!([1]), json!([1])),
        ] {
            let mut merged = onto.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, expected, "{patch} over {onto}");
        }
    }
}
