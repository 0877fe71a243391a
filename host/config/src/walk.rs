//! From TOML to values of known keys: what is unknown or of a wrong type is reported and left out.

use crate::report::{Report, Span};
use crate::schema::{Kind, Schema, Tone, nearest};
use crate::{Severity, duration};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table's values by the names of the schema.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The table's header or its braces.
    pub(crate) at: Span,
    /// Errors found in it and below it while it was read.
    pub(crate) errors: usize,
    /// Where keys are that were written, whether or not their values could be used.
    written: BTreeMap<&'static str, Span>,
    items: BTreeMap<&'static str, Item>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key_at: Span,
    pub(crate) at: Span,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Flag(bool),
    Number(i64),
    Float(f64),
    Text(String),
    Texts(Vec<Text>),
    Duration(Duration),
    /// Seconds since 1970; `None` is Go's zero time, which means no time at all.
    Instant(Option<i64>),
    Map(Vec<(String, Item)>),
    Table(Found),
    Tables(Vec<Found>),
    /// A value that is handed on, and where the keys of a table are.
    Free(Json, Vec<(String, Span)>),
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) at: Span,
}

/// Reads a table by its schema.
pub(crate) fn table(
    table: &DeTable,
    at: Span,
    schema: &'static Schema,
    report: &mut Report,
) -> Found {
    let before = report.errors();
    let mut found = Found {
        at,
        errors: 0,
        written: BTreeMap::new(),
        items: BTreeMap::new(),
    };
    for (name, value) in table {
        let Some(key) = schema.find(name.get_ref()) else {
            unknown(name, schema, report);
            continue;
        };
        if let Some(first) = found.written.insert(key.0, name.span()) {
            report.error(
                &name.span(),
                format!(
                    "`{}` is written twice, in two spellings, and either might count",
                    key.0
                ),
                format!(
                    "delete this one or that of line {}",
                    report.position(&first).line
                ),
            );
        }
        if let Some(item) = read(name.span(), value, key.0, &key.1, schema.tone, report) {
            found.items.insert(key.0, item);
        }
    }
    found.errors = report.errors() - before;
    found
}

fn unknown(name: &Spanned<std::borrow::Cow<str>>, schema: &'static Schema, report: &mut Report) {
    let written = name.get_ref();
    let (severity, done) = match schema.tone {
        Tone::Ours => (Severity::Error, ""),
        Tone::Theirs | Tone::Lenient => (Severity::Warning, ", and is ignored"),
    };
    let text = format!("`{written}` is no key of {}{done}", schema.name);
    let near = schema.nearest(written);
    let elsewhere = crate::schema::ROOT.elsewhere(written);
    let advice = match (near, elsewhere) {
        (Some(near), _) if near.eq_ignore_ascii_case(written) => format!("write {near}"),
        (_, Some(table)) => format!("write it in {table}, or delete it"),
        (Some(near), None) => format!("write {near}, or delete it"),
        (None, None) => "delete it".to_owned(),
    };
    report.add(severity, &name.span(), text, advice);
}

/// Reads a value by its kind; what does not fit is reported.
fn read(
    key_at: Span,
    value: &Spanned<DeValue>,
    name: &str,
    kind: &'static Kind,
    tone: Tone,
    report: &mut Report,
) -> Option<Item> {
    let at = value.span();
    let mut cell = Cell {
        name,
        kind,
        at: at.clone(),
        wrong: match tone {
            Tone::Lenient => Severity::Warning,
            Tone::Theirs | Tone::Ours => Severity::Error,
        },
        report,
    };
    // A table's place is its header; that of `[a.b]` is the key in it.
    let table_at = if at.is_empty() {
        key_at.clone()
    } else {
        at.clone()
    };
    let value = match (kind, value.get_ref()) {
        (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
        (Kind::Number(..) | Kind::OrDefault(_), DeValue::Integer(number)) => {
            cell.number(i64::from_str_radix(number.as_str(), number.radix()).ok())?
        }
        (Kind::Float(least), DeValue::Float(float)) => cell.float(float.as_str(), *least)?,
        (Kind::Text, DeValue::String(text)) => Value::Text(text.clone().into_owned()),
        (Kind::Texts | Kind::TextOrTexts, DeValue::Array(_)) => Value::Texts(cell.texts(value)?),
        (Kind::TextOrTexts, DeValue::String(text)) => Value::Texts(vec![Text {
            text: text.clone().into_owned(),
            at: at.clone(),
        }]),
        (Kind::TextLists, DeValue::Array(lists)) => {
            for list in lists.iter() {
                cell.texts(list)?;
            }
            Value::Free(json(value.get_ref()), Vec::new())
        }
        (Kind::Floats, DeValue::Array(list)) => {
            if list.iter().any(|one| !one.get_ref().is_float()) {
                return cell.wrong_type(value.get_ref());
            }
            Value::Free(json(value.get_ref()), Vec::new())
        }
        (Kind::Duration, DeValue::String(text)) => cell.duration(text)?,
        (Kind::Duration, DeValue::Integer(nanos)) => {
            let nanos = u64::from_str_radix(nanos.as_str(), nanos.radix()).ok();
            cell.nanos(nanos)?
        }
        (Kind::Instant, DeValue::String(text)) => cell.instant(text)?,
        (Kind::Instant, DeValue::Datetime(time)) => cell.instant(&time.to_string())?,
        (Kind::Map(each), DeValue::Table(table)) => Value::Map(map(table, each, tone, cell.report)),
        (Kind::Table(schema), DeValue::Table(inner)) => {
            Value::Table(self::table(inner, table_at, schema, report))
        }
        (Kind::Tables(schema), DeValue::Array(list)) => {
            let mut tables = Vec::new();
            for one in list.iter() {
                match one.get_ref() {
                    DeValue::Table(inner) => {
                        tables.push(self::table(inner, one.span(), schema, report));
                    }
                    other => {
                        let text = format!("`{name}` has {} among its tables", words(other));
                        report.error(&one.span(), text, format!("write {} instead", schema.name));
                    }
                }
            }
            Value::Tables(tables)
        }
        (Kind::Object, DeValue::Table(table)) => {
            let keys = table
                .keys()
                .map(|key| (key.get_ref().clone().into_owned(), key.span()))
                .collect();
            Value::Free(json(value.get_ref()), keys)
        }
        (Kind::Anything, any) => Value::Free(json(any), Vec::new()),
        (_, other) => return cell.wrong_type(other),
    };
    Some(Item { key_at, at, value })
}

/// Reads a table whose keys are the operator's.
fn map(
    table: &DeTable,
    each: &'static Kind,
    tone: Tone,
    report: &mut Report,
) -> Vec<(String, Item)> {
    let mut items = Vec::new();
    for (key, value) in table {
        if let Some(item) = read(key.span(), value, key.get_ref(), each, tone, report) {
            items.push((key.get_ref().clone().into_owned(), item));
        }
    }
    items
}

/// One value being read.
struct Cell<'r, 's> {
    name: &'r str,
    kind: &'static Kind,
    at: Span,
    wrong: Severity,
    report: &'r mut Report<'s>,
}

impl Cell<'_, '_> {
    fn fault<T>(&mut self, text: String, advice: String) -> Option<T> {
        self.report.add(self.wrong, &self.at, text, advice);
        None
    }

    fn wrong_type<T>(&mut self, value: &DeValue) -> Option<T> {
        let name = self.name;
        let advice = match (self.kind, value) {
            (Kind::Number(..) | Kind::OrDefault(_), DeValue::String(text))
                if text.parse::<i64>().is_ok() =>
            {
                format!("write {name} = {text}, without quotes")
            }
            (Kind::Number(..) | Kind::OrDefault(_), _) => {
                format!("write {name} = and a whole number")
            }
            (Kind::Flag, DeValue::String(text)) if text == "true" || text == "false" => {
                format!("write {name} = {text}, without quotes")
            }
            (Kind::Flag, _) => format!("write {name} = true or {name} = false"),
            (Kind::Float(_), DeValue::Integer(number)) => {
                format!("write {name} = {number}.0: GitLab Runner refuses a whole number here")
            }
            (Kind::Float(_), DeValue::String(text)) if text.parse::<f64>().is_ok() => {
                format!("write {name} = {text}, without quotes and with a decimal point")
            }
            (Kind::Float(_), _) => format!("write {name} = and a number such as 1.5"),
            (Kind::Text, _) => format!("write {name} = \"...\""),
            (Kind::Texts, _) => format!("write {name} = [\"...\"]"),
            (Kind::Tables(schema), DeValue::Table(_)) => {
                format!("write {} with two brackets on each side", schema.name)
            }
            (Kind::Tables(schema) | Kind::Table(schema), _) => format!("write {}", schema.name),
            (kind, _) => format!("write {}", kind.words()),
        };
        let text = format!(
            "`{name}` is {}, and has to be {}",
            words(value),
            self.kind.words()
        );
        self.fault(text, advice)
    }

    fn number(&mut self, number: Option<i64>) -> Option<Value> {
        let name = self.name;
        let most = match self.kind {
            Kind::Number(_, most) => *most,
            _ => i64::from(u32::MAX),
        };
        let Some(number) = number.filter(|number| *number <= most) else {
            return self.fault(
                format!("`{name}` is too large"),
                format!("write {most} at most"),
            );
        };
        match self.kind {
            Kind::Number(least, _) if number < *least => {
                let or_none = if *least == 0 && name == "limit" {
                    "; 0 is no limit"
                } else {
                    ""
                };
                self.fault(
                    format!("`{name}` is {number}"),
                    format!("write {least} or more{or_none}"),
                )
            }
            Kind::OrDefault(least) if number < *least => {
                self.report.warning(
                    &self.at,
                    format!("`{name}` is {number}, and the default is taken, as by GitLab Runner"),
                    "write a number above 0, or delete it",
                );
                None
            }
            _ => Some(Value::Number(number)),
        }
    }

    fn float(&mut self, text: &str, least: f64) -> Option<Value> {
        let name = self.name;
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() && float >= least => Some(Value::Float(float)),
            _ => self.fault(
                format!("`{name}` is {text}"),
                format!("write {least:.1} or a larger number"),
            ),
        }
    }

    /// The texts of a list; those that are none are reported.
    fn texts(&mut self, value: &Spanned<DeValue>) -> Option<Vec<Text>> {
        let DeValue::Array(list) = value.get_ref() else {
            self.at = value.span();
            return self.wrong_type(value.get_ref());
        };
        let mut texts = Vec::new();
        let mut whole = true;
        for one in list.iter() {
            match one.get_ref() {
                DeValue::String(text) => texts.push(Text {
                    text: text.clone().into_owned(),
                    at: one.span(),
                }),
                other => {
                    whole = false;
                    let text = format!("`{}` has {} among its texts", self.name, words(other));
                    self.report
                        .add(self.wrong, &one.span(), text, "write it in quotes");
                }
            }
        }
        whole.then_some(texts)
    }

    fn duration(&mut self, text: &str) -> Option<Value> {
        match duration::parse(text) {
            Some(duration) => Some(Value::Duration(duration)),
            None => {
                let name = self.name;
                self.fault(
                    format!("`{name}` is {text:?}, which is no duration"),
                    "write numbers with their units, such as \"1h30m\", \"90s\" or \"500ms\""
                        .into(),
                )
            }
        }
    }

    fn nanos(&mut self, nanos: Option<u64>) -> Option<Value> {
        let name = self.name;
        let Some(nanos) = nanos else {
            return self.fault(
                format!("`{name}` is no duration: it is below 0, or too large"),
                "write a duration such as \"1h30m\"".into(),
            );
        };
        // GitLab Runner reads a bare number so, and hardly anybody means it.
        if (1..1_000_000).contains(&nanos) {
            self.report.warning(
                &self.at,
                format!(
                    "`{name}` is {nanos} nanoseconds, for that is what a bare number means here"
                ),
                format!("write {name} = \"{nanos}s\" for seconds"),
            );
        }
        Some(Value::Duration(Duration::from_nanos(nanos)))
    }

    fn instant(&mut self, text: &str) -> Option<Value> {
        let seconds = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| {
                text.parse::<jiff::civil::DateTime>()
                    .and_then(|civil| jiff::tz::TimeZone::system().to_timestamp(civil))
            })
            .map(|instant| instant.as_second());
        match seconds {
            // Go's zero time, the first second of the year 1.
            Ok(seconds) if seconds <= -62_135_510_400 => Some(Value::Instant(None)),
            Ok(seconds) => Some(Value::Instant(Some(seconds))),
            Err(_) => {
                let name = self.name;
                self.fault(
                    format!("`{name}` is no time"),
                    format!("write {name} = 2026-01-31T12:00:00Z"),
                )
            }
        }
    }
}

/// A value's type, in words.
fn words(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value as JSON; what JSON can't say is a text.
fn json(value: &DeValue) -> Json {
    match value {
        DeValue::String(text) => Json::String(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Json::String(number.to_string()), Json::from),
        DeValue::Float(float) => float
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Json::String(float.to_string()), Json::Number),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(list) => list.iter().map(|one| json(one.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().clone().into_owned(), json(value.get_ref())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

impl Found {
    pub(crate) fn item(&self, name: &str) -> Option<&Item> {
        self.items.get(name)
    }

    /// Where a key's value is, or the table where there is none.
    pub(crate) fn at(&self, name: &str) -> Span {
        self.item(name).map_or(&self.at, |item| &item.at).clone()
    }

    /// Where a key itself is, or the table where there is none.
    pub(crate) fn key_at(&self, name: &str) -> Span {
        self.written.get(name).unwrap_or(&self.at).clone()
    }

    /// Whether any of its texts has something in it.
    pub(crate) fn says_anything(&self) -> bool {
        let mut items = self.items.values();
        items.any(|item| matches!(&item.value, Value::Text(text) if !text.is_empty()))
    }

    /// Whether a key is written, with a value that can be used or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.written.contains_key(name)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.item(name)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A count; the schema keeps it in range.
    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        match self.item(name)?.value {
            Value::Number(number) => u32::try_from(number).ok(),
            _ => None,
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match self.item(name)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        match self.item(name)?.value {
            Value::Float(float) => Some(float),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.item(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text that is not empty: GitLab Runner takes an empty one for a missing one.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn texts(&self, name: &str) -> &[Text] {
        match self.item(name).map(|item| &item.value) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        let texts = self.texts(name).iter();
        texts.map(|text| text.text.clone()).collect()
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        match self.item(name)?.value {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub(crate) fn instant(&self, name: &str) -> Option<i64> {
        match self.item(name)?.value {
            Value::Instant(instant) => instant,
            _ => None,
        }
    }

    pub(crate) fn table(&self, name: &str) -> Option<&Found> {
        match &self.item(name)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn tables(&self, name: &str) -> &[Found] {
        match self.item(name).map(|item| &item.value) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    pub(crate) fn map(&self, name: &str) -> &[(String, Item)] {
        match self.item(name).map(|item| &item.value) {
            Some(Value::Map(items)) => items,
            _ => &[],
        }
    }

    /// Everything that was read, as JSON by the names of the schema.
    pub(crate) fn json(&self) -> serde_json::Map<String, Json> {
        let items = self.items.iter();
        items
            .map(|(name, item)| ((*name).to_owned(), item.value.json()))
            .collect()
    }
}

impl Value {
    fn json(&self) -> Json {
        match self {
            Value::Flag(flag) => (*flag).into(),
            Value::Number(number) => (*number).into(),
            Value::Float(float) => (*float).into(),
            Value::Text(text) => text.clone().into(),
            Value::Texts(texts) => texts.iter().map(|text| text.text.clone()).collect(),
            Value::Duration(duration) => duration.as_secs_f64().into(),
            Value::Instant(instant) => (*instant).into(),
            Value::Map(items) => items
                .iter()
                .map(|(name, item)| (name.clone(), item.value.json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Table(table) => table.json().into(),
            Value::Tables(tables) => tables
                .iter()
                .map(|table| Json::from(table.json()))
                .collect(),
            Value::Free(value, _) => value.clone(),
        }
    }
}

/// The choice of several that a text names, or what is wrong with it.
pub(crate) fn choose<T: Copy>(
    found: &Found,
    name: &str,
    choices: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let text = found.filled(name)?;
    let chosen = choices.iter().find(|(known, _)| *known == text);
    if chosen.is_none() {
        let names = choices.iter().map(|(known, _)| *known);
        let advice = match nearest(text, names.clone()) {
            Some(near) => format!("write {name} = \"{near}\""),
            None => format!("write one of {}", names.collect::<Vec<_>>().join(", ")),
        };
        report.error(
            &found.at(name),
            format!("{text:?} is no `{name}` that is known"),
            advice,
        );
    }
    chosen.map(|(_, choice)| *choice)
}
