//! Whether what a plugin says of itself can be.

use super::error::LoadError;
use crate::contract::{Description, Kind};
use crate::schema::Schema;
use semver::Version;
use std::collections::BTreeSet;

/// Bytes of a name.
const NAME: usize = 64;
/// Bytes of a settings schema.
const SCHEMA: usize = 256 << 10;
/// Entries of each list.
const ENTRIES: usize = 100;

/// The functions a plugin of a kind may set a deadline for.
fn functions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Policy => &["evaluate"],
        Kind::Driver => &[
            "create",
            "list-machines",
            "get",
            "destroy",
            "renew-leases",
            "list-leftovers",
            "destroy-leftover",
        ],
    }
}

/// The host's ceiling of a deadline in seconds.
pub(crate) fn ceiling(kind: Kind) -> u32 {
    match kind {
        Kind::Policy => 5,
        Kind::Driver => 300,
    }
}

/// The deadline of a function nothing is said of, in seconds.
pub(crate) fn default_deadline(kind: Kind) -> u32 {
    match kind {
        Kind::Policy => 1,
        Kind::Driver => 30,
    }
}

/// A description that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) version: Version,
    pub(super) schema: Schema,
    pub(super) warnings: Vec<String>,
}

/// Checks all of a description; `id` is what the host knows the plugin by, `exported` what it does.
pub(super) fn check(
    description: &Description,
    exported: Kind,
    id: &str,
) -> Result<Checked, LoadError> {
    if description.kind != exported {
        return Err(LoadError::Kind {
            said: description.kind,
            exported,
        });
    }
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let name = &description.name;
    if !is_name(name) {
        let shown: String = name.chars().take(NAME).collect();
        problems.push(format!(
            "its name is {shown:?}: write 1 to {NAME} lower-case letters, digits and dashes"
        ));
    } else if name != id {
        warnings.push(format!(
            "it says that its name is {name}, and its file's is {id}; the file's counts"
        ));
    }
    let version = Version::parse(&description.version);
    if let Err(error) = &version {
        let shown: String = description.version.chars().take(NAME).collect();
        problems.push(format!(
            "its version is {shown:?}: {error}; write a semantic version, such as 1.0.0"
        ));
    }
    if description.settings_schema.len() > SCHEMA {
        problems.push(format!(
            "its settings schema has {} bytes, and may have {SCHEMA}",
            description.settings_schema.len()
        ));
    }
    let schema = Schema::new(&description.settings_schema);
    if let Err(error) = &schema {
        problems.push(format!("its settings schema {error}"));
    }
    if description.requests.len() > ENTRIES || description.deadlines.len() > ENTRIES {
        problems.push(format!("it has more than {ENTRIES} requests or deadlines"));
    }
    deadlines(description, &mut problems);
    match (version, schema) {
        (Ok(version), Ok(schema)) if problems.is_empty() => Ok(Checked {
            version,
            schema,
            warnings,
        }),
        _ => Err(LoadError::Description(problems)),
    }
}

fn deadlines(description: &Description, problems: &mut Vec<String>) {
    let kind = description.kind;
    let mut seen = BTreeSet::new();
    for deadline in description.deadlines.iter().take(ENTRIES) {
        let function: String = deadline.function.chars().take(NAME).collect();
        if !functions(kind).contains(&function.as_str()) {
            problems.push(format!(
                "it sets a deadline for {function:?}, and a {kind} has {}",
                functions(kind).join(", ")
            ));
        } else if !seen.insert(function.clone()) {
            problems.push(format!("it sets two deadlines for {function}"));
        }
        if deadline.limit == 0 || deadline.limit > ceiling(kind) {
            problems.push(format!(
                "its deadline for {function} is {} s: write 1 to {}",
                deadline.limit,
                ceiling(kind)
            ));
        }
    }
}

/// Whether a plugin may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME).contains(&name.len()) && name.bytes().all(plain)
}
