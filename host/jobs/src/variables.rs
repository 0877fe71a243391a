//! A job's variables: in GitLab Runner's order, expanded as it does, the later of one name winning.

use crate::expand::expand;
use springtide_gitlab::Variable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Names a shell does not let a script set, or that end it when set to what they can't be.
const READ_ONLY: [&str; 8] = [
    "BASHOPTS",
    "BASH_VERSINFO",
    "EUID",
    "OPTIND",
    "PPID",
    "SHELLOPTS",
    "UID",
    "_",
];

/// A job's variables, expanded.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    list: Vec<Variable>,
    /// Where the files of file variables are.
    files: String,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.list.iter().map(|one| &one.key))
            .finish()
    }
}

/// A value that is yes or no, in the words Go's `strconv.ParseBool` knows.
pub(crate) fn is_on(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A variable the runner sets itself.
pub(crate) fn own(key: &str, value: impl Into<String>) -> Variable {
    Variable {
        key: key.to_owned(),
        value: value.into(),
        public: true,
        ..Variable::default()
    }
}

impl Variables {
    /// Expands variables, in the order in which they count; the files of file variables will be in
    /// the directory `files`.
    pub(crate) fn expanded(list: Vec<Variable>, files: &str) -> Self {
        let unexpanded = Self {
            list,
            files: files.to_owned(),
        };
        let list = unexpanded
            .list
            .iter()
            .map(|one| Variable {
                value: if one.raw {
                    one.value.clone()
                } else {
                    unexpanded.expand(&one.value)
                },
                ..one.clone()
            })
            .collect();
        Self { list, ..unexpanded }
    }

    fn find(&self, key: &str) -> Option<&Variable> {
        self.list.iter().rev().find(|one| one.key == key)
    }

    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.files)
    }

    /// A variable's value; empty where there is none. A file variable's is the file's path.
    pub(crate) fn get(&self, key: &str) -> String {
        match self.find(key) {
            Some(one) if one.file => self.path(key),
            Some(one) => one.value.clone(),
            None => String::new(),
        }
    }

    /// What is in a variable, also where it is a file variable.
    pub(crate) fn content(&self, key: &str) -> String {
        self.find(key)
            .map(|one| one.value.clone())
            .unwrap_or_default()
    }

    /// A text with the values of variables put in.
    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name)).into_owned()
    }

    /// Whether a variable is set to `true` or `1`; nothing where it is not set to anything that
    /// says yes or no.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        is_on(&self.get(key))
    }

    /// Whether a script is traced line by line. A runner may forbid it.
    pub(crate) fn is_debug_traced(&self, forbidden: bool) -> bool {
        !forbidden && self.flag("CI_DEBUG_TRACE") == Some(true)
    }

    /// A variable that holds a whole number.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.get(key).trim().parse().ok()
    }

    /// A variable that holds a duration such as `1h30m`.
    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        duration(self.get(key).trim())
    }

    /// What a script has in its environment, each name once.
    pub(crate) fn environment(&self) -> BTreeMap<&str, String> {
        let names: BTreeSet<&str> = self.list.iter().map(|one| one.key.as_str()).collect();
        names
            .into_iter()
            .filter(|name| is_settable(name))
            .map(|name| (name, self.get(name).replace('\0', "")))
            .collect()
    }

    /// Those of these that are set.
    pub(crate) fn some(&self, names: &[&str]) -> BTreeMap<String, String> {
        let set = names.iter().filter(|name| self.find(name).is_some());
        set.map(|name| ((*name).to_owned(), self.get(name).replace('\0', "")))
            .collect()
    }

    /// Names that no shell can have, each once.
    pub(crate) fn unusable(&self) -> BTreeSet<&str> {
        self.list
            .iter()
            .map(|one| one.key.as_str())
            .filter(|name| !is_settable(name))
            .collect()
    }

    /// The files of file variables: name and content.
    pub(crate) fn files(&self) -> Vec<(&str, &str)> {
        let names: BTreeSet<&str> = self.list.iter().map(|one| one.key.as_str()).collect();
        names
            .into_iter()
            .filter(|name| is_settable(name))
            .filter_map(|name| self.find(name))
            .filter(|one| one.file)
            .map(|one| (one.key.as_str(), one.value.as_str()))
            .collect()
    }

    /// The values that must not appear in the trace, of every variable of a name.
    pub(crate) fn masked(&self) -> impl Iterator<Item = &str> {
        self.list
            .iter()
            .filter(|one| one.masked)
            .map(|one| one.value.as_str())
    }
}

fn is_settable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !READ_ONLY.contains(&name)
}

/// A duration in Go's notation (`90s`, `1h30m`, `1.5h`), as the variables that hold one have it.
/// Zero and less are nothing.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|found| !found.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> Variable {
        own(key, value)
    }

    #[test]
    fn the_later_of_one_name_wins_and_values_are_expanded_once() {
        let raw = Variable {
            raw: true,
            ..variable("RAW", "$A")
        };
        let file = Variable {
            file: true,
            ..variable("KEY", "content of $A")
        };
        let list = vec![
            variable("A", "old"),
            variable("FROM_LATER", "<$B>"),
            variable("B", "[$A]"),
            raw,
            file,
            variable("TO_FILE", "${KEY}"),
            variable("A", "new"),
            variable("not-a-name", "x"),
            variable("UID", "0"),
        ];
        let all = Variables::expanded(list, "/tmp/p.tmp");
        let found: Vec<(&str, String)> = all.environment().into_iter().collect();
        let expected = [
            ("A", "new"),
            ("B", "[new]"),
            ("FROM_LATER", "<[$A]>"),
            ("KEY", "/tmp/p.tmp/KEY"),
            ("RAW", "$A"),
            ("TO_FILE", "/tmp/p.tmp/KEY"),
        ]
        .map(|(key, value)| (key, value.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(all.files(), [("KEY", "content of new")]);
        assert_eq!(
            all.unusable().into_iter().collect::<Vec<_>>(),
            ["UID", "not-a-name"]
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5m", Some(90_000)),
            ("250ms", Some(250)),
            ("0s", None),
            ("", None),
            ("30", None),
            ("5 m", None),
            ("-1s", None),
            ("1d", None),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
