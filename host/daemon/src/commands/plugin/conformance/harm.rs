//! What goes wrong: calls that die, faults of the provider, other owners beside, values nobody
//! expected.

use super::bench::{Bench, Halt, Owner, same_marks};
use super::fault::{Fault, Function};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use springtide_plugins::contract::{Creation, KeyValue, Machine, PluginError};
use springtide_plugins::{CallError, ToolGrant};
use std::time::{Duration, Instant};

/// Creates that die, each a step later than the one before.
const CUTS: u32 = 8;

/// Whatever a create leaves that dies at any step, is listed as its owner's and can be removed.
pub(super) async fn cut(bench: &Bench) -> Result<String> {
    let begun = Instant::now();
    bench.make(&bench.creation(Owner::First)).await?;
    let whole = begun.elapsed();
    bench.sweep(Owner::First).await?;
    let (mut machines, mut leftovers, mut nothing) = (0, 0, 0);
    for step in 1..=CUTS {
        let creation = bench.creation(Owner::First);
        let at = whole * step / (CUTS + 1);
        // Dropped, a call ends with all it has started, as when the daemon dies.
        tokio::time::timeout(at, bench.make(&creation)).await.ok();
        let swept = bench
            .sweep(Owner::First)
            .await
            .with_context(|| format!("a create that died after {}", millis(at)))?;
        match swept {
            (0, 0) => nothing += 1,
            (0, _) => leftovers += 1,
            (_, _) => machines += 1,
        }
    }
    bench.no_unowned().await?;
    Ok(format!(
        "{CUTS} cuts of {}: {machines} left a machine, {leftovers} parts of one, {nothing} nothing",
        millis(whole)
    ))
}

fn millis(length: Duration) -> String {
    format!("{} ms", length.as_millis())
}

/// A fault of the provider is the error it should be, and leaves nothing.
pub(super) async fn fault(bench: &Bench, fault: &Fault) -> Result<String> {
    let mut settings = bench.settings.clone();
    settings.extend(fault.settings.clone());
    let context = bench.context_with(&settings);
    let creation = bench.creation(Owner::First);
    let plugin = &bench.plugin;
    let answer = match fault.function {
        Function::Create => plugin.create(&context, &creation).await.map(drop),
        Function::ListMachines => plugin.list_machines(&context).await.map(drop),
        Function::ListLeftovers => plugin.list_leftovers(&context).await.map(drop),
        // These are about a machine that there is.
        Function::Get => {
            let id = bench.make(&creation).await?.id;
            plugin.get(&context, &id).await.map(drop)
        }
        Function::Destroy => {
            let id = bench.make(&creation).await?.id;
            plugin.destroy(&context, &id).await
        }
        Function::RenewLeases => {
            let id = bench.make(&creation).await?.id;
            plugin
                .renew_leases(&context, &[id], creation.lease_until)
                .await
        }
    };
    let text = match answer {
        Err(CallError::Plugin(error)) if fault.expects(&error) => error.to_string(),
        Err(error) => bail!("expected {}, got {error}", fault.expected()),
        Ok(()) => bail!("expected {}, and it was a success", fault.expected()),
    };
    bench.sweep(Owner::First).await?;
    bench.no_unowned().await?;
    Ok(text)
}

/// Machines of another owner are listed as the other's, and stand when all of the first's go.
pub(super) async fn other_owner(bench: &Bench) -> Result<String> {
    let mut others = Vec::new();
    for owner in [Owner::Alike, Owner::Other] {
        let creation = bench.creation(owner);
        let machine = bench.make(&creation).await?;
        others.push((creation, machine));
    }
    if let Some((_, machine)) = others.last() {
        refused_to(bench, &machine.id).await?;
    }
    let own = bench.creation(Owner::First);
    bench.make(&own).await?;
    bench.only(&own.token).await?;
    let (machines, _) = bench.sweep(Owner::First).await?;
    if machines != 1 {
        bail!("one owner had 1 machine, and its sweep found {machines}");
    }
    if !bench.listed(&own.token).await?.is_empty() {
        bail!("the first owner's own machine was swept and is listed");
    }
    for (creation, made) in &others {
        let listed = bench.only(&creation.token).await;
        let listed = listed.with_context(|| {
            format!(
                "the machine {} of another owner, after the first owner's were removed",
                made.id
            )
        })?;
        same_marks(&listed, creation)?;
        if listed.state != made.state {
            bail!(
                "the machine {} of another owner was {:?} and is {:?}, after the first owner's were removed",
                made.id,
                made.state,
                listed.state
            );
        }
    }
    Ok("2 other owners' stand".into())
}

/// Fails where a grant rules that names are the owner's, and another owner's machine can be destroyed.
async fn refused_to(bench: &Bench, id: &str) -> Result<()> {
    let ruled = |tool: &ToolGrant| !tool.owned.is_empty();
    if !bench.plugin.grants().tools.values().any(ruled) {
        return Ok(());
    }
    match bench.plugin.destroy(&bench.context(Owner::First), id).await {
        Err(CallError::Plugin(PluginError::Denied(_))) => Ok(()),
        Err(error) => bail!("destroying another owner's machine: {error}; say `denied`"),
        Ok(()) => bail!("destroying another owner's machine {id} is a success; say `denied`"),
    }
}

/// Values that break what quotes badly, and what a name may not be.
fn hostile() -> [String; 6] {
    [
        "  two  words ".into(),
        r#"a'b"c`d\e $(id); %s &amp; <x>"#.into(),
        "two\nlines\r\n\tand a tab".into(),
        "--help".into(),
        "größe ✓ \u{202e}".into(),
        "x".repeat(10 << 10),
    ]
}

/// A machine with values nobody expected is made and carries them, or they are `invalid-config`.
pub(super) async fn hostile_values(bench: &Bench) -> Result<String> {
    let (mut kept, mut refused) = (0, 0);
    let mut count = |taken: bool| {
        kept += usize::from(taken);
        refused += usize::from(!taken);
    };
    for value in hostile() {
        let plain = bench.creation(Owner::First);
        let label = |key: &str| KeyValue {
            key: key.into(),
            value: value.clone(),
        };
        let labels = Creation {
            labels: vec![label("purpose"), label("-a key'")],
            manager: value.clone(),
            ..plain.clone()
        };
        count(made_or_refused(bench, &bench.settings, &labels, "labels").await?);
        // What comes back as a mark is a line and no longer than one.
        if value.len() <= 200 && !value.contains(char::is_control) {
            let creation = Creation {
                pool: value.clone(),
                ..bench.creation(Owner::First)
            };
            count(made_or_refused(bench, &bench.settings, &creation, "the pool").await?);
        }
    }
    bench.sweep(Owner::First).await?;
    Ok(format!("{kept} values kept, {refused} refused"))
}

/// Each setting that is a plain text takes any text, or says `invalid-config`.
pub(super) async fn hostile_settings(bench: &Bench) -> Result<String> {
    let schema = bench.plugin.schema();
    let (mut kept, mut refused, mut by_schema) = (0, 0, 0);
    for (name, is_list) in texts(schema.value()) {
        for value in hostile() {
            let mut settings = bench.settings.clone();
            let value = match is_list {
                true => Value::from(vec![value]),
                false => Value::from(value),
            };
            settings.insert(name.clone(), value);
            if schema.validate(&Value::Object(settings.clone())).is_err() {
                by_schema += 1;
                continue;
            }
            let creation = bench.creation(Owner::First);
            match made_or_refused(bench, &settings, &creation, &name).await? {
                true => kept += 1,
                false => refused += 1,
            }
        }
        bench.sweep(Owner::First).await?;
    }
    bench.no_unowned().await?;
    if kept + refused + by_schema == 0 {
        return Ok("no setting is a plain text".into());
    }
    Ok(format!(
        "{kept} values kept, {refused} refused, {by_schema} by the schema"
    ))
}

/// Settings whose values are texts of the operator's own, and whether they are lists of such.
fn texts(schema: &Value) -> Vec<(String, bool)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let plain = |said: &Value| said.get("type") == Some(&"string".into());
    let host = |said: &Value| {
        ["secret", "host-file", "instead", "enum", "const"]
            .iter()
            .any(|mark| said.get(*mark).is_some_and(|value| *value != false))
    };
    properties
        .unwrap_or(&Map::new())
        .iter()
        .filter(|(_, said)| !host(said))
        .filter_map(|(name, said)| {
            let list = said.get("items").is_some_and(plain);
            (plain(said) || list).then(|| (name.clone(), list))
        })
        .collect()
}

/// Whether a machine was made, with all its marks; not, where the driver says that it can't be.
async fn made_or_refused(
    bench: &Bench,
    settings: &Map<String, Value>,
    creation: &Creation,
    what: &str,
) -> Result<bool> {
    let value = |text: &str| {
        let start: String = text.chars().take(40).collect();
        format!("{start:?}, {} bytes", text.len())
    };
    let shown = match (settings.get(what), what) {
        (Some(Value::Array(all)), _) => value(all.first().and_then(Value::as_str).unwrap_or("")),
        (Some(one), _) => value(one.as_str().unwrap_or("")),
        (None, "the pool") => value(&creation.pool),
        (None, _) => value(&creation.manager),
    };
    let during = || format!("{what} with {shown}");
    match bench
        .make_with(&bench.context_with(settings), creation)
        .await
    {
        Ok(machine) => {
            same_marks(&machine, creation)
                .and_then(|()| same_labels(&machine, creation))
                .with_context(during)?;
            let listed = bench.only(&creation.token).await.with_context(during)?;
            same_marks(&listed, creation).with_context(during)?;
            bench.destroy(&machine.id).await.with_context(during)?;
            Ok(true)
        }
        Err(Halt::Call(CallError::Plugin(PluginError::InvalidConfig(_)))) => Ok(false),
        // A grant of the host's may refuse it first: an origin, a file, an argument.
        Err(Halt::Call(CallError::Plugin(PluginError::Denied(_)))) if what != "labels" => Ok(false),
        Err(halt) => {
            Err(anyhow::Error::from(halt).context(format!("{}: say `invalid-config`", during())))
        }
    }
}

/// A label that is shown among a machine's details is shown as it was given.
fn same_labels(machine: &Machine, creation: &Creation) -> Result<()> {
    for label in &creation.labels {
        let shown = machine.details.iter().find(|one| one.key == label.key);
        if let Some(shown) = shown
            && shown.value != label.value
        {
            bail!("its label {:?} came back as {:?}", label.key, shown.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_that_are_plain_texts_are_found() {
        let schema = json!({"properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "size": {"type": "integer"},
            "sizes": {"type": "array", "items": {"type": "integer"}},
            "key": {"type": "string", "secret": true},
            "other-key": {"type": "string", "secret": "aws.secret-access-key"},
            "file": {"type": "string", "host-file": true},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "old": {"type": "string", "instead": "use name instead"},
        }});
        assert_eq!(
            texts(&schema),
            [("name".to_owned(), false), ("tags".to_owned(), true)]
        );
    }
}
