//! A driver's options parted by the marks of its schema: what travels to the driver, what the host
//! keeps as a credential, and what names a file that the host reads.

use crate::problem;
use crate::{Machine, MachineOption, Position, Problem, Severity};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The options of a driver, for a machine of some name.
#[derive(Debug, Default)]
pub struct DriverOptions {
    /// The settings that the driver sees; files it sees the text of are not among them yet.
    pub settings: Map<String, Value>,
    /// Settings whose text came from `MachineOptionsWithName`.
    pub named: BTreeSet<String>,
    /// What stays in the host.
    pub secrets: Vec<SecretOption>,
    /// Files of the host's.
    pub files: Vec<FileOption>,
    /// What does not fit the schema, each at its option.
    pub problems: Vec<Problem>,
}

/// An option that stays in the host: the runner's credential, or a part of it.
#[derive(Clone, Debug)]
pub struct SecretOption {
    /// The option.
    pub option: String,
    /// The credential's name.
    pub credential: String,
    /// Which part it is.
    pub part: SecretPart,
    /// Its value.
    pub value: SecretString,
}

/// A part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretPart {
    /// All of it: a bearer token.
    Bearer,
    /// The id of AWS's access key.
    AccessKeyId,
    /// Its secret part.
    SecretAccessKey,
    /// The session it belongs to.
    SessionToken,
}

/// An option that names a file of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOption {
    /// The option.
    pub option: String,
    /// The file, as it is written: relative ones are beside the configuration.
    pub path: PathBuf,
    /// What it is for.
    pub purpose: FilePurpose,
    /// Where it is named.
    pub at: Position,
}

/// What a file of the host's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePurpose {
    /// The driver sees its text as the option's value.
    Text,
    /// It is part of the user data of machines.
    UserData,
    /// It is the private key that logs in to the runner's machines.
    SshKey,
}

/// The mark of an option in a schema.
enum Mark {
    Secret(&'static str, SecretPart),
    File(FilePurpose),
    Deprecated(String),
}

impl Mark {
    /// A mark that is not known keeps a value in the host: it may be a secret.
    fn of(property: &Value) -> Option<Mark> {
        if let Some(advice) = property.get("instead").and_then(Value::as_str) {
            return Some(Mark::Deprecated(advice.to_owned()));
        }
        match property.get("secret") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::String(part)) => {
                let aws = |part| Some(Mark::Secret("aws", part));
                return match part.as_str() {
                    "aws.access-key-id" => aws(SecretPart::AccessKeyId),
                    "aws.secret-access-key" => aws(SecretPart::SecretAccessKey),
                    "aws.session-token" => aws(SecretPart::SessionToken),
                    _ => Some(Mark::Secret("", SecretPart::Bearer)),
                };
            }
            Some(_) => return Some(Mark::Secret("", SecretPart::Bearer)),
        }
        let purpose = match property.get("host-file")? {
            Value::Bool(true) => FilePurpose::Text,
            Value::String(purpose) if purpose == "user-data" => FilePurpose::UserData,
            Value::String(purpose) if purpose == "ssh-key" => FilePurpose::SshKey,
            _ => return None,
        };
        Some(Mark::File(purpose))
    }
}

impl Machine {
    /// The options of the driver for a machine of this name, by its schema. Options of the host's are
    /// left out.
    #[must_use]
    pub fn driver_options(&self, schema: &Value, machine_name: &str) -> DriverOptions {
        let (all, at, problems) = self.checked_options(schema, machine_name);
        let mut options = DriverOptions {
            problems,
            ..DriverOptions::default()
        };
        let place = |option: &str| at.get(option).copied().unwrap_or(self.machine_driver_at);
        for (option, value) in all {
            let property = schema
                .pointer("/properties")
                .and_then(|all| all.get(&option));
            let mark = property.and_then(Mark::of);
            let text = value.as_str().unwrap_or_default();
            match mark {
                None => {
                    options.settings.insert(option, value);
                }
                // An option that is empty is one that is left out, as of old.
                Some(Mark::Secret(..) | Mark::File(_)) if text.is_empty() => {}
                Some(Mark::Secret(credential, part)) => options.secrets.push(SecretOption {
                    credential: match credential {
                        "" => option.clone(),
                        named => named.to_owned(),
                    },
                    option,
                    part,
                    value: text.to_owned().into(),
                }),
                Some(Mark::File(purpose)) => options.files.push(FileOption {
                    path: PathBuf::from(text),
                    at: place(&option),
                    option,
                    purpose,
                }),
                Some(Mark::Deprecated(advice)) => options.problems.push(Problem::new(
                    Severity::Warning,
                    place(&option),
                    format!("the option {option:?} is not obeyed any more"),
                    advice,
                )),
            }
        }
        options.named = self
            .machine_options_with_name
            .iter()
            .filter(|option| options.settings.contains_key(&option.flag))
            .map(|option| option.flag.clone())
            .collect();
        options.whole_keys(place, schema);
        problem::sort(&mut options.problems);
        options
    }
}

impl DriverOptions {
    /// Half a key of AWS's is none.
    fn whole_keys(&mut self, place: impl Fn(&str) -> Position, schema: &Value) {
        let has = |part| self.secrets.iter().any(|secret| secret.part == part);
        let missing = match (
            has(SecretPart::AccessKeyId),
            has(SecretPart::SecretAccessKey),
        ) {
            (true, false) => "aws.secret-access-key",
            (false, true) => "aws.access-key-id",
            (false, false) if has(SecretPart::SessionToken) => "aws.access-key-id",
            _ => return,
        };
        let Some(given) = self
            .secrets
            .iter()
            .find(|secret| secret.credential == "aws")
        else {
            return;
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let wanted = properties
            .into_iter()
            .flatten()
            .find(|(_, property)| property.get("secret").is_some_and(|mark| mark == missing))
            .map_or(missing, |(name, _)| name.as_str());
        let problem = Problem::new(
            Severity::Error,
            place(&given.option),
            format!(
                "the option {:?} is half a key without {wanted:?}",
                given.option
            ),
            format!(
                "write \"{wanted}=...\" too, or delete both for the role or the profile of this host"
            ),
        );
        self.problems.push(problem);
    }
}

/// Options that came through their types, and where each stands.
pub(crate) type CheckedOptions = (Map<String, Value>, BTreeMap<String, Position>, Vec<Problem>);

/// An option with a machine's name in its value.
pub(crate) fn with_name(option: &MachineOption, machine_name: &str) -> MachineOption {
    let value = option.value.as_ref();
    MachineOption {
        value: value.map(|value| value.replace("%s", machine_name)),
        ..option.clone()
    }
}
