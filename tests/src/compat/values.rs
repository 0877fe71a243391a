//! Values that cases are written with: long texts, variables, parts of a trace.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A text, or one so often: `{n}` in it is the number of the time, from 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it is.
    Plain(String),
    /// So often.
    Repeated {
        /// What is repeated.
        repeat: String,
        /// How often.
        times: usize,
    },
}

impl Default for Text {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

impl Text {
    /// The whole text.
    #[must_use]
    pub fn whole(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Repeated { repeat, times } => (1..=*times)
                .map(|n| repeat.replace("{n}", &n.to_string()))
                .collect(),
        }
    }
}

/// A variable, or several of one sort: `{n}` in key and value is the number, from 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    #[serde(default)]
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: Text,
    /// Whether it must not appear in the trace.
    #[serde(default)]
    pub masked: bool,
    /// Whether the script gets a file's path in place of the value.
    #[serde(default)]
    pub file: bool,
    /// Whether `$` in it is plain text.
    #[serde(default)]
    pub raw: bool,
    /// How many of them there are.
    pub times: Option<usize>,
}

/// Reads variables: a table, or a list where the order or a name that comes twice counts.
pub(super) fn variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Variable>, D::Error> {
    let read = |value: toml::Value| value.try_into().map_err(D::Error::custom);
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Array(list) => list.into_iter().map(read).collect(),
        // The table is in the order of the file, and that is the order they are sent in.
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| {
                let mut one: Variable = match value {
                    toml::Value::String(text) => {
                        read(toml::Table::from_iter([("value".to_owned(), text.into())]).into())?
                    }
                    value => read(value)?,
                };
                one.key = key;
                Ok(one)
            })
            .collect(),
        _ => Err(D::Error::custom("`variables` is a table or a list")),
    }
}

/// A part of the trace: a text, or a regular expression.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// This text.
    Text(String),
    /// What a regular expression matches.
    Like {
        /// The expression.
        like: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(deserialize_with = "variables")]
        variables: Vec<Variable>,
    }

    #[test]
    fn variables_are_a_table_or_a_list_and_keep_their_order() {
        let table = "[variables]\nZ = 'last'\nA = { value = 'x', masked = true }\nM = { value = { repeat = '{n},', times = 3 } }\n";
        let list = "variables = [{ key = 'Z' }, { key = 'Z', value = 'again', times = 2 }]";
        let read = |text: &str| toml::from_str::<Holder>(text).map(|holder| holder.variables);
        let found = read(table).expect("variables");
        let keys: Vec<&str> = found.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["Z", "A", "M"]);
        assert!(found[1].masked && !found[0].masked);
        assert_eq!(found[2].value.whole(), "1,2,3,");
        let found = read(list).expect("variables");
        assert_eq!((found[0].times, found[1].times), (None, Some(2)));
        for wrong in [
            "variables = 5",
            "[variables]\nA = { text = 'x' }",
            "[variables]\nA = 5",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
