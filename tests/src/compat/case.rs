//! What a case of the suite says: the jobs as GitLab sends them, and what has to come of each.
//!
//! Cases are data, `tests/compat/*.toml`. A key nobody knows is an error, so a case can't say
//! something that is then not looked at.

use super::values::{Part, Text, Variable, variables};
use anyhow::{Context, Result, bail};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What runs a job's scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// The machine's own shell: `shell+machine`.
    Shell,
    /// Containers of the machine's engine: `docker+machine`.
    Docker,
}

/// One or several jobs, one after the other.
#[derive(Debug)]
pub struct Case {
    /// What it shows, in words; no two have the same.
    pub name: String,
    /// The file it is in, without `.toml`.
    pub file: String,
    /// The executors it is for.
    executors: Vec<Executor>,
    open: Option<Open>,
    /// Programs it needs on this machine beside those every job needs.
    pub needs: Vec<String>,
    /// Its jobs, in order.
    pub jobs: Vec<Job>,
}

/// Why a case is not right yet: with any executor, or with some.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Open {
    Everywhere(String),
    Somewhere(BTreeMap<Executor, String>),
}

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// What of a case is not its first job.
#[derive(Deserialize)]
struct Head {
    name: String,
    #[serde(default = "both")]
    executors: Vec<Executor>,
    open: Option<Open>,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    then: Vec<Job>,
}

fn both() -> Vec<Executor> {
    vec![Executor::Shell, Executor::Docker]
}

impl<'de> Deserialize<'de> for Case {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut first = toml::Table::deserialize(deserializer)?;
        let mut head = toml::Table::new();
        for key in ["name", "executors", "open", "needs", "then"] {
            if let Some(value) = first.remove(key) {
                head.insert(key.to_owned(), value);
            }
        }
        let named = format!("{:?}", head.get("name").map(ToString::to_string));
        let wrong = |error: toml::de::Error| D::Error::custom(format!("case {named}: {error}"));
        let head: Head = head.try_into().map_err(wrong)?;
        let mut jobs: Vec<Job> = vec![first.try_into().map_err(wrong)?];
        jobs.extend(head.then);
        Ok(Self {
            name: head.name,
            file: String::new(),
            executors: head.executors,
            open: head.open,
            needs: head.needs,
            jobs,
        })
    }
}

impl Case {
    /// Whether it is for this executor.
    #[must_use]
    pub fn is_for(&self, executor: Executor) -> bool {
        self.executors.contains(&executor)
    }

    /// Why it is not right yet with this executor, if it is not.
    #[must_use]
    pub fn open(&self, executor: Executor) -> Option<&str> {
        match self.open.as_ref()? {
            Open::Everywhere(why) => Some(why),
            Open::Somewhere(of) => of.get(&executor).map(String::as_str),
        }
    }
}

/// What GitLab sends for one job, and what has to come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Job {
    /// The job's name; `job` where it has none.
    pub job: Option<String>,
    /// The runner of the suite that takes it; `plain` where it names none.
    pub runner: Option<String>,
    /// Lines of its script, `before_script` among them, as GitLab merges the two.
    pub script: Vec<Text>,
    /// Lines of `after_script`.
    pub after_script: Vec<Text>,
    /// Its variables, in order.
    #[serde(deserialize_with = "variables")]
    pub variables: Vec<Variable>,
    /// Seconds it may run.
    pub timeout: Option<u64>,
    /// Its image: a name, or an object as in the payload.
    pub image: Option<Value>,
    /// Its services: names, or objects as in the payload.
    pub services: Vec<Value>,
    /// What it uploads: an object or a list, as in the payload.
    pub artifacts: Option<Value>,
    /// What it caches: an object or a list, as in the payload.
    pub cache: Option<Value>,
    /// Earlier jobs of this case whose artifacts it takes, by name.
    pub dependencies: Vec<String>,
    /// Scripts round the getting of the sources, by name.
    pub hooks: BTreeMap<String, Vec<String>>,
    /// Steps between the script and `after_script`, as in the payload.
    pub steps: Vec<Value>,
    /// Steps of the step runner, in place of a script.
    pub run: Option<Value>,
    /// Logins it is given, as in the payload.
    pub credentials: Vec<Value>,
    /// What GitLab says it understands, over what the sandbox says.
    pub features: Option<Value>,
    /// Laid over the payload as a merge patch.
    pub payload: Option<Value>,
    /// Whether its sources are got as the project has it. Where neither this nor `git_strategy` is
    /// there the strategy is `empty`: most cases are about something else, and begin in an empty
    /// directory.
    pub sources: bool,
    /// How sources are got, in place of how the project has it.
    pub git_strategy: Option<String>,
    /// Its branch or tag, or a ref's whole name; `main` where it says nothing.
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    /// Its commit; the ref's where it says nothing.
    pub sha: Option<String>,
    /// Commits to fetch.
    pub depth: Option<u32>,
    /// Objects that are in the bucket before it, by name.
    pub stored: BTreeMap<String, String>,
    /// When it is cancelled, if it is.
    pub cancel: Option<Cancel>,
    /// What has to come of it.
    pub expect: Expect,
}

/// A cancel at GitLab.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Once this is in the trace; at once where it is empty.
    pub at: String,
    /// Whether by force: nobody is asked to tidy up.
    #[serde(default)]
    pub force: bool,
}

/// What has to come of a job. What is left out is that of a job that succeeds and leaves nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Its state at GitLab.
    pub state: String,
    /// The exit code GitLab is told; none where it says nothing.
    pub exit_code: Option<i64>,
    /// The failure reason GitLab is told; none where it says nothing.
    pub reason: Option<String>,
    /// What is in the trace, in this order, without colours and marks of sections.
    pub trace: Vec<Part>,
    /// What is not in the trace, with or without colours.
    pub never: Vec<String>,
    /// What is in the trace as it came, in this order, colours and all.
    pub raw: Vec<String>,
    /// How often a text is in the trace.
    pub times: BTreeMap<String, usize>,
    /// The sections, all of them in order, each closed before the next one.
    pub sections: Option<Vec<String>>,
    /// Fewest and most bytes of the trace.
    pub bytes: Option<[u64; 2]>,
    /// Fewest and most seconds from the job's start to its end.
    pub seconds: Option<[f64; 2]>,
    /// Whether its trace is marked as one that only developers may read.
    pub debug_trace: bool,
    /// What is at the artifacts endpoint, all of it.
    pub uploads: Vec<Upload>,
    /// Objects that are in the bucket.
    pub bucket: Vec<Object>,
    /// Objects that are not.
    pub not_in_bucket: Vec<String>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            state: "success".to_owned(),
            exit_code: None,
            reason: None,
            trace: Vec::new(),
            never: Vec::new(),
            raw: Vec::new(),
            times: BTreeMap::new(),
            sections: None,
            bytes: None,
            seconds: None,
            debug_trace: false,
            uploads: Vec::new(),
            bucket: Vec::new(),
            not_in_bucket: Vec::new(),
        }
    }
}

/// A file at the artifacts endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// `archive`, `junit`, ...
    #[serde(rename = "type", default = "archive")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `zip`, `gzip` or `raw`.
    #[serde(default = "zip")]
    pub format: String,
    /// How long it is kept.
    #[serde(default)]
    pub expire_in: String,
    /// The files in the zip, all of them, links too; sorted. They are not looked at where it says
    /// nothing.
    pub files: Option<Vec<String>>,
    /// Those of them that are symbolic links.
    #[serde(default)]
    pub links: Vec<String>,
    /// What is in a file that is no zip, unpacked.
    pub text: Option<String>,
}

fn archive() -> String {
    "archive".to_owned()
}

fn zip() -> String {
    "zip".to_owned()
}

/// An object in the bucket: a zip.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its name.
    pub key: String,
    /// The files in it, all of them, sorted.
    pub files: Vec<String>,
}

/// Reads all cases of a directory.
///
/// # Errors
/// The file and what is wrong with it.
pub fn load(directory: &Path) -> Result<Vec<Case>> {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .with_context(|| format!("listing {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_none_or(|end| end != "toml") || stem == super::runners::FILE {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        all.extend(file.case.into_iter().map(|case| Case {
            file: stem.clone().into_owned(),
            ..case
        }));
    }
    let mut names = BTreeSet::new();
    for case in &all {
        if !names.insert(&case.name) {
            bail!("two cases have the name {:?}", case.name);
        }
        for job in &case.jobs {
            checked(job).with_context(|| format!("{}: case {:?}", case.file, case.name))?;
        }
    }
    Ok(all)
}

/// Whether what is expected makes sense: a job that fails does so for a reason.
fn checked(job: &Job) -> Result<()> {
    let expect = &job.expect;
    match (expect.state.as_str(), &expect.reason, expect.exit_code) {
        ("success", None, None) | ("canceled", _, _) => {}
        ("success", _, _) => bail!("a job that succeeds has no reason and no exit code"),
        ("failed", None, _) => bail!("`reason` is missing of a job that fails"),
        // An older GitLab is told this reason for want of a better one.
        ("failed", Some(reason), None) if reason == "script_failure" && job.features.is_none() => {
            bail!("`exit_code` is missing of a script that fails")
        }
        ("failed", Some(_), _) => {}
        (other, _, _) => bail!("{other:?} is no state: write success, failed or canceled"),
    }
    if job.cancel.is_some() && expect.state == "success" && expect.trace.is_empty() {
        bail!("a job that is cancelled and succeeds has to show that it ran");
    }
    Ok(())
}
