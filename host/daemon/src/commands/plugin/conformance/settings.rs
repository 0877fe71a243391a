//! What a driver says of itself, and which settings it takes.

use super::bench::{Bench, Owner};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use springtide_plugins::contract::{CallContext, Description, PluginError};
use springtide_plugins::{CallError, Schema};

/// A driver describes itself the same each time, and an operator can read what can be set.
pub(super) fn describe(bench: &Bench, again: &Description) -> Result<String> {
    let info = bench.plugin.info();
    let said = &info.description;
    if said != again {
        bail!("describe answers differently each time");
    }
    if *said.name != *info.id {
        bail!(
            "it calls itself {:?}, and its file is {:?}: rename one of them",
            said.name,
            info.id
        );
    }
    let settings = bench.plugin.schema().settings();
    let silent: Vec<&str> = settings
        .iter()
        .filter(|one| one.meaning.trim().is_empty())
        .map(|one| one.name.as_str())
        .collect();
    if !silent.is_empty() {
        bail!(
            "these settings have no description, which is all an operator has: {}",
            silent.join(", ")
        );
    }
    Ok(format!("{} settings", settings.len()))
}

/// The runner's settings fit the schema, and the driver works with them.
pub(super) async fn accepted(bench: &Bench) -> Result<String> {
    let settings = Value::Object(bench.settings.clone());
    if let Err(problems) = bench.plugin.schema().validate(&settings) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!(
            "the runner's do not fit the schema: {}",
            problems.join("; ")
        );
    }
    let machines = bench.list().await.context("with the runner's settings")?;
    Ok(format!(
        "{} set, {} machines listed",
        bench.settings.len(),
        machines.len()
    ))
}

/// Settings that can't be are refused: by the schema, so that `springtide check` finds them, and by
/// the driver with `invalid-config`, for those of a machine of long ago come from the state.
pub(super) async fn rejected(bench: &Bench) -> Result<String> {
    let wrong = refused_by_schema(bench.plugin.schema(), &bench.settings)?;
    for text in ["nonsense", "[]", "{", "null", ""] {
        let context = CallContext {
            settings: text.into(),
            ..bench.context(Owner::First)
        };
        match bench.plugin.list_machines(&context).await {
            Err(CallError::Plugin(PluginError::InvalidConfig(_))) => {}
            Err(error) => {
                bail!("settings that are {text:?}: {error}; say `invalid-config`")
            }
            Ok(_) => bail!("settings that are {text:?} are taken; say `invalid-config`"),
        }
    }
    for settings in &wrong {
        let context = bench.context_with(settings);
        match bench.plugin.list_machines(&context).await {
            // A setting that a call does not need may go unread.
            Ok(_) | Err(CallError::Plugin(PluginError::InvalidConfig(_))) => {}
            Err(error) => bail!(
                "settings that do not fit the schema, {}: {error}; say `invalid-config`",
                Value::Object(settings.clone())
            ),
        }
    }
    Ok(format!("{} kinds refused", wrong.len() + 5))
}

/// Settings with one that is unknown, and with each in turn of a type it can't have. Fails where the
/// schema takes one of them.
fn refused_by_schema(
    schema: &Schema,
    settings: &Map<String, Value>,
) -> Result<Vec<Map<String, Value>>> {
    let with = |name: &str, value: Value| {
        let mut changed = settings.clone();
        changed.insert(name.to_owned(), value);
        changed
    };
    let unknown = "no-such-setting-at-all";
    let mut wrong = vec![(unknown.to_owned(), with(unknown, json!("x")))];
    for setting in schema.settings() {
        // No flag has a value of this form.
        let odd = json!([[{"no": ["setting", null]}]]);
        wrong.push((setting.name.clone(), with(&setting.name, odd)));
    }
    let mut refused = Vec::new();
    for (name, changed) in wrong {
        if schema.validate(&Value::Object(changed.clone())).is_ok() {
            if name == unknown {
                bail!(
                    "the schema takes settings it does not know, and a mistyped one would go unseen: write \"additionalProperties\": false"
                );
            }
            bail!("the schema takes any value for {name}: give it a \"type\"");
        }
        refused.push(changed);
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_takes_anything_is_told_where() {
        for (schema, why) in [
            (
                r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#,
                "additionalProperties",
            ),
            (
                r#"{"type": "object", "additionalProperties": false, "properties": {"a": {}}}"#,
                "any value for a",
            ),
        ] {
            let schema = Schema::new(schema).unwrap();
            let error = refused_by_schema(&schema, &Map::new()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let strict = r#"{"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}}}"#;
        let refused = refused_by_schema(&Schema::new(strict).unwrap(), &Map::new());
        assert_eq!(refused.unwrap().len(), 3);
    }
}
