//! The keys that are known: name, type and table.
//!
//! Those of GitLab Runner are known all, obeyed or not, so that a misspelt one is told from one that
//! is merely not for us.

mod autoscaler;
mod docker;
mod machine;
mod others;
mod ours;
mod runner;

pub(crate) use runner::ROOT;

/// The keys of one table.
#[derive(Debug)]
pub(crate) struct Schema {
    /// As it stands in a file: `[runners.machine]`.
    pub(crate) name: &'static str,
    pub(crate) tone: Tone,
    pub(crate) keys: &'static [Key],
}

/// How strictly a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// GitLab Runner's: names in any case, unknown ones are warnings.
    Theirs,
    /// GitLab Runner's, for executors that are not ours: a wrong type is a warning too.
    Lenient,
    /// Ours: names as written, unknown ones are errors.
    Ours,
}

/// A key and what it takes.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) &'static str, pub(crate) Kind);

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    Flag,
    /// A whole number; outside of these it is an error.
    Number(i64, i64),
    /// A whole number; below this GitLab Runner takes its default, and so do we, with a warning.
    OrDefault(i64),
    /// A number from this on. A whole one is an error, as in GitLab Runner.
    Float(f64),
    Floats,
    Text,
    Texts,
    TextOrTexts,
    /// A list of lists of texts.
    TextLists,
    /// `"1h30m"`, or a whole number of nanoseconds.
    Duration,
    /// A time of TOML's, or one in quotes.
    Instant,
    /// A table whose keys are the operator's.
    Map(&'static Kind),
    Table(&'static Schema),
    Tables(&'static Schema),
    /// A table that is handed on as it is.
    Object,
    Anything,
}

/// 0 and up.
const COUNT: Kind = Kind::Number(0, u32::MAX as i64);
/// 1 and up.
const SOME: Kind = Kind::Number(1, u32::MAX as i64);
/// Of 64 bits in GitLab Runner, 0 and up.
const LARGE: Kind = Kind::Number(0, i64::MAX);

impl Schema {
    /// The key of a name, and whether its case had to be overlooked: the exact one first.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        let exact = self.keys.iter().find(|key| key.0 == name);
        exact.or_else(|| {
            let any_case = self.tone != Tone::Ours;
            let mut keys = self.keys.iter();
            keys.find(|key| any_case && key.0.eq_ignore_ascii_case(name))
        })
    }

    /// The key most like a name, if any is like it at all.
    pub(crate) fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.keys.iter().map(|key| key.0))
    }

    /// Another table, this one's or below it, that has a key of this name.
    pub(crate) fn elsewhere(&self, name: &str) -> Option<&'static str> {
        self.keys.iter().find_map(|Key(_, kind)| match kind {
            Kind::Table(below) | Kind::Tables(below) | Kind::Map(Kind::Table(below)) => {
                let here = below
                    .keys
                    .iter()
                    .any(|key| key.0.eq_ignore_ascii_case(name));
                if here {
                    Some(below.name)
                } else {
                    below.elsewhere(name)
                }
            }
            _ => None,
        })
    }
}

/// The name most like another one, case aside; `None` where none is like it.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wanted = name.to_ascii_lowercase();
    names
        .into_iter()
        .map(|known| {
            let distance = strsim::damerau_levenshtein(&wanted, &known.to_ascii_lowercase());
            (distance, known)
        })
        .filter(|(distance, known)| *distance * 3 <= wanted.len().max(known.len()).max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

impl Kind {
    /// What it takes, in words.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Kind::Flag => "true or false",
            Kind::Number(..) | Kind::OrDefault(_) => "a whole number",
            Kind::Float(_) => "a number with a decimal point",
            Kind::Floats => "a list of numbers with decimal points",
            Kind::Text => "a text in quotes",
            Kind::Texts => "a list of texts",
            Kind::TextOrTexts => "a text or a list of texts",
            Kind::TextLists => "a list of lists of texts",
            Kind::Duration => "a duration such as \"1h30m\"",
            Kind::Instant => "a time such as 2026-01-31T12:00:00Z",
            Kind::Map(_) | Kind::Table(_) | Kind::Object => "a table",
            Kind::Tables(_) => "a list of tables",
            Kind::Anything => "anything",
        }
    }
}
