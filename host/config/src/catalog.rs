//! What a file says of plugins, against those that are installed.
//!
//! `MachineOptions` were flags of a command line and are the settings of a driver here: their types
//! are in the driver's schema.

use crate::options::{self, CheckedOptions};
use crate::problem;
use crate::schema::nearest;
use crate::{Config, Machine, MachineOption, PolicyEntry, Position, Problem, Runner, Severity};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The plugins that are installed, by id.
pub trait Catalog {
    /// The schema of a driver's settings; `None` where no such driver is installed.
    fn driver(&self, id: &str) -> Option<Value>;
    /// The schema of a policy's settings; `None` where no such policy is installed.
    fn policy(&self, id: &str) -> Option<Value>;
    /// The drivers there are.
    fn drivers(&self) -> Vec<String>;
    /// The policies there are.
    fn policies(&self) -> Vec<String>;
    /// Why a plugin that is there can't be used.
    fn refused(&self, _id: &str) -> Option<String> {
        None
    }
}

impl Config {
    /// Checks what the runners say of plugins. A driver that is not installed is a warning: it stops
    /// its runner alone.
    #[must_use]
    pub fn check_plugins(&self, catalog: &dyn Catalog) -> Vec<Problem> {
        let with_machines = |runner: &&Runner| runner.executor.has_machines();
        let mut problems: Vec<Problem> = self
            .runners
            .iter()
            .filter(with_machines)
            .flat_map(|runner| runner.check_plugins(catalog))
            .collect();
        for entry in &self.unusable {
            let machine = entry.machine.as_ref();
            problems.extend(machine.iter().flat_map(|machine| machine.check(catalog)));
            problems.extend(check_policies(&entry.policies, catalog));
        }
        problem::sort(&mut problems);
        problems
    }
}

impl Runner {
    /// Checks what this runner says of plugins.
    #[must_use]
    pub fn check_plugins(&self, catalog: &dyn Catalog) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(machine) = &self.machine {
            problems.extend(machine.check(catalog));
        }
        for link in self.policy_chain().iter().filter(|link| link.implied) {
            if catalog.policy(&link.plugin).is_none() {
                let why = match catalog.refused(&link.plugin) {
                    Some(why) => format!("can't be used: {why}"),
                    None => "is not installed".to_owned(),
                };
                problems.push(Problem::new(
                    Severity::Warning,
                    self.at,
                    format!(
                        "the policy {:?}, which this runner needs, {why}",
                        link.plugin
                    ),
                    format!("put {}.wasm into the plugin directory", link.plugin),
                ));
            }
        }
        problems.extend(check_policies(&self.policies, catalog));
        problems
    }
}

fn check_policies(policies: &[PolicyEntry], catalog: &dyn Catalog) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in policies {
        let Some(schema) = catalog.policy(&entry.plugin) else {
            problems.push(missing_policy(entry.at, &entry.plugin, catalog));
            continue;
        };
        let settings = Value::Object(entry.settings.clone());
        let name = format!("the policy {:?}", entry.plugin);
        problems.extend(check(&name, &schema, &settings, |key| {
            entry.settings_at.get(key).copied().unwrap_or(entry.at)
        }));
    }
    problems
}

fn missing_driver(machine: &Machine, catalog: &dyn Catalog) -> Problem {
    let id = &machine.machine_driver;
    if let Some(why) = catalog.refused(id) {
        return Problem::new(
            Severity::Warning,
            machine.machine_driver_at,
            format!("the driver {id:?} can't be used, and this runner takes no jobs: {why}"),
            "",
        );
    }
    if catalog.policies().contains(id) {
        return Problem::new(
            Severity::Error,
            machine.machine_driver_at,
            format!("{id:?} is a policy, and no driver"),
            "write MachineDriver = and the name of a driver; `springtide plugin list` shows them",
        );
    }
    let advice = match nearest(id, catalog.drivers().iter().map(String::as_str)) {
        Some(near) => format!("write MachineDriver = {near:?}"),
        None => format!(
            "put {id}.wasm into the plugin directory; `springtide plugin list` shows what is there"
        ),
    };
    Problem::new(
        Severity::Warning,
        machine.machine_driver_at,
        format!("the driver {id:?} is not installed, and this runner takes no jobs"),
        advice,
    )
}

fn missing_policy(at: Position, id: &str, catalog: &dyn Catalog) -> Problem {
    if let Some(why) = catalog.refused(id) {
        let text = format!("the policy {id:?} can't be used: {why}");
        return Problem::new(Severity::Error, at, text, "");
    }
    if catalog.drivers().iter().any(|driver| driver == id) {
        let text = format!("{id:?} is a driver, and no policy");
        let advice = "write plugin = and the name of a policy; `springtide plugin list` shows them";
        return Problem::new(Severity::Error, at, text, advice);
    }
    let advice = match nearest(id, catalog.policies().iter().map(String::as_str)) {
        Some(near) => format!("write plugin = {near:?}"),
        None => format!("put {id}.wasm into the plugin directory, or delete the table"),
    };
    Problem::new(
        Severity::Error,
        at,
        format!("the policy {id:?} is not installed"),
        advice,
    )
}

impl Machine {
    fn check(&self, catalog: &dyn Catalog) -> Vec<Problem> {
        match catalog.driver(&self.machine_driver) {
            Some(schema) => self.driver_options(&schema, "name").problems,
            None => vec![missing_driver(self, catalog)],
        }
    }

    /// The options of the driver for a machine of this name in the types of its schema, marks aside,
    /// and what does not fit it.
    pub(crate) fn checked_options(&self, schema: &Value, machine_name: &str) -> CheckedOptions {
        let driver = format!("the driver {:?}", self.machine_driver);
        let with_name = self.machine_options_with_name.iter();
        let with_name = with_name.map(|option| options::with_name(option, machine_name));
        let options = self.machine_options.iter().cloned().chain(with_name);
        let mut settings = Map::new();
        let mut at: BTreeMap<String, Position> = BTreeMap::new();
        let mut problems = Vec::new();
        for option in options.filter(|option| !option.is_host()) {
            let property = schema
                .pointer("/properties")
                .and_then(|all| all.get(&option.flag));
            if property.is_none() && schema.get("additionalProperties") == Some(&Value::Bool(false))
            {
                problems.push(unknown(&driver, "option", &option.flag, option.at, schema));
                continue;
            }
            match typed(&option, property) {
                Ok(Value::Array(one)) => {
                    if let Value::Array(all) = settings
                        .entry(option.flag.clone())
                        .or_insert_with(|| Value::Array(Vec::new()))
                    {
                        all.extend(one);
                    }
                }
                Ok(value) => {
                    if settings.insert(option.flag.clone(), value).is_some() {
                        problems.push(Problem::new(
                            Severity::Warning,
                            option.at,
                            format!(
                                "the option {:?} stands twice, and this one counts",
                                option.flag
                            ),
                            "delete the other one",
                        ));
                    }
                }
                Err((text, advice)) => {
                    problems.push(Problem::new(Severity::Error, option.at, text, advice));
                    // Its fault is told; the schema would tell it again as a missing one.
                    at.insert(option.flag, option.at);
                    continue;
                }
            }
            at.insert(option.flag, option.at);
        }
        if problems.iter().all(|problem| !problem.is_error()) {
            let value = Value::Object(settings.clone());
            problems.extend(check(&driver, schema, &value, |key| {
                at.get(key).copied().unwrap_or(self.machine_driver_at)
            }));
        }
        (settings, at, problems)
    }
}

/// An option's value in the type that the schema gives it. The value is shown to nobody.
fn typed(option: &MachineOption, property: Option<&Value>) -> Result<Value, (String, String)> {
    let flag = &option.flag;
    let kind = property.map_or("", kind);
    let Some(text) = &option.value else {
        return match kind {
            "boolean" | "" => Ok(Value::Bool(true)),
            _ => Err((
                format!("the option {flag:?} has no value"),
                format!("write \"{flag}=value\""),
            )),
        };
    };
    if kind == "array" {
        let items = property.and_then(|property| property.get("items"));
        return Ok(Value::Array(vec![scalar(
            flag,
            text,
            items.map_or("", self::kind),
        )?]));
    }
    scalar(flag, text, kind)
}

fn scalar(flag: &str, text: &str, kind: &str) -> Result<Value, (String, String)> {
    let wrong = |what: &str, example: &str| {
        (
            format!("the option {flag:?} has to be {what}"),
            format!("write \"{flag}={example}\""),
        )
    };
    match kind {
        "integer" => text
            .trim()
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| wrong("a whole number", "10")),
        "number" => text
            .trim()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| wrong("a number", "1.5")),
        // As Go reads a flag.
        "boolean" => match text.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false", "true")),
        },
        _ => Ok(Value::from(text)),
    }
}

/// The type a schema gives, the first where it gives several.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or_default(),
        _ => "",
    }
}

fn unknown(plugin: &str, what: &str, name: &str, at: Position, schema: &Value) -> Problem {
    let known = schema.get("properties").and_then(Value::as_object);
    let names = known
        .into_iter()
        .flat_map(|known| known.keys().map(String::as_str));
    let advice = match nearest(name, names.clone()) {
        Some(near) => format!("write {near}, or delete it"),
        None if known.is_none_or(Map::is_empty) => "delete it: it has none".to_owned(),
        None => format!(
            "write one of {}, or delete it",
            names.collect::<Vec<_>>().join(", ")
        ),
    };
    Problem::new(
        Severity::Error,
        at,
        format!("{plugin} has no {what} {name:?}"),
        advice,
    )
}

/// What does not fit a schema, at the place of the key it is in.
fn check(
    plugin: &str,
    schema: &Value,
    settings: &Value,
    at: impl Fn(&str) -> Position,
) -> Vec<Problem> {
    let validator = match jsonschema::draft202012::options().build(schema) {
        Ok(validator) => validator,
        // The plugin was loaded with this schema; where it is no schema, that is told there.
        Err(_) => return Vec::new(),
    };
    let mut problems = Vec::new();
    for error in validator.iter_errors(settings) {
        if let jsonschema::error::ValidationErrorKind::AdditionalProperties { unexpected } =
            error.kind()
            && error.instance_path().as_str().is_empty()
        {
            let unknown = unexpected.iter();
            problems.extend(
                unknown.map(|name| self::unknown(plugin, "setting", name, at(name), schema)),
            );
            continue;
        }
        let path = error.instance_path().as_str().to_owned();
        let key = path.split('/').nth(1).unwrap_or_default();
        let what = path.trim_start_matches('/').replace('/', ".");
        // A value may be secret.
        let text = error.masked_with("its value").to_string();
        let text = if what.is_empty() {
            format!("{plugin} can't work with these settings: {text}")
        } else {
            format!("{plugin} can't work with `{what}`: {text}")
        };
        problems.push(Problem::new(
            Severity::Error,
            at(key),
            text,
            "write what `springtide plugin inspect` says it takes",
        ));
    }
    problems
}
