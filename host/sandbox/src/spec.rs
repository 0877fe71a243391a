//! A job as a test or a person asks for it. What is left out is as GitLab has it by default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Jobs one request may make.
pub(crate) const MOST_AT_ONCE: u32 = 100_000;

/// A job to submit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// Its name; `job` where it has none.
    pub name: Option<String>,
    /// Its stage; `test` where it has none.
    pub stage: Option<String>,
    /// Lines of its script.
    pub script: Vec<String>,
    /// Lines that run after it, however it ended.
    pub after_script: Vec<String>,
    /// Tags a runner must have to take it.
    pub tags: Vec<String>,
    /// Variables beside those GitLab sets.
    pub variables: BTreeMap<String, VariableSpec>,
    /// More variables, after those: objects as in the payload, in the order they are sent. A key may
    /// come twice.
    pub variable_list: Vec<Value>,
    /// Seconds it may run; 3600 where it says nothing.
    pub timeout: Option<u64>,
    /// Its image: a name, or an object as in the payload.
    pub image: Option<Value>,
    /// Its services: names, or objects as in the payload.
    pub services: Vec<Value>,
    /// What it uploads: one object or several, as in the payload.
    pub artifacts: Option<Value>,
    /// What it caches: one object or several, as in the payload.
    pub cache: Option<Value>,
    /// Scripts round the getting of its sources, by name (`pre_get_sources_script`).
    pub hooks: BTreeMap<String, Vec<String>>,
    /// Steps between its script and `after_script`, as a release has one: objects as in the payload.
    pub steps: Vec<Value>,
    /// Steps of the step runner, which it has in place of a script.
    pub run: Option<Value>,
    /// Logins it is given: objects as in the payload.
    pub credentials: Vec<Value>,
    /// What GitLab says it understands, over what the sandbox says.
    pub features: Option<Value>,
    /// Laid over the payload as a JSON merge patch (RFC 7396), for what no other field can say.
    pub payload: Option<Value>,
    /// Its project, `group/project`. Without one its sources are not fetched.
    pub repository: Option<String>,
    /// Its branch or tag, or the whole name of another ref, as jobs of merge requests have one
    /// (`refs/merge-requests/1/head`); the repository's own default where it says nothing.
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    /// Its commit; the head of `ref` where it says nothing.
    pub sha: Option<String>,
    /// Commits to fetch, 0 for all; 20 where it says nothing.
    pub depth: Option<u32>,
    /// `clone`, `fetch`, `none` or `empty`, set as `GIT_STRATEGY`.
    pub git_strategy: Option<String>,
    /// Earlier jobs whose artifacts it takes.
    pub dependencies: Vec<u64>,
    /// How many such jobs to make, 1 to 100,000; 1 where it says nothing.
    pub count: Option<u32>,
}

impl JobSpec {
    /// A job of these lines, without tags or sources.
    pub fn script<L: Into<String>>(lines: impl IntoIterator<Item = L>) -> Self {
        Self {
            script: lines.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The same job, for runners that have `tags`.
    #[must_use]
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Whether the sandbox can make a payload of it.
    ///
    /// # Errors
    /// The field that is wrong and what to write instead.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |field, expected| Err(SpecError::Field { field, expected });
        if self.script.is_empty() && self.run.is_none() {
            return wrong("script", "a list of at least one line");
        }
        let keyed = |variable: &Value| variable["key"].is_string();
        if !self.variable_list.iter().all(keyed) {
            return wrong("variable_list", "a list of objects with a `key`");
        }
        if !self.steps.iter().all(named) {
            return wrong("steps", "a list of objects with a `name`");
        }
        if self.count == Some(0) || self.count > Some(MOST_AT_ONCE) {
            return wrong("count", "a number from 1 to 100000");
        }
        if self.image.as_ref().is_some_and(|image| !named(image)) {
            return wrong("image", "a name or an object with a `name`");
        }
        if !self.services.iter().all(named) {
            return wrong("services", "a list of names or of objects with a `name`");
        }
        let objects = |value: &Option<Value>| match value {
            None | Some(Value::Object(_)) => true,
            Some(Value::Array(items)) => items.iter().all(Value::is_object),
            Some(_) => false,
        };
        if !objects(&self.artifacts) {
            return wrong("artifacts", "an object or a list of objects");
        }
        if !objects(&self.cache) {
            return wrong("cache", "an object or a list of objects");
        }
        if let Some(name) = &self.repository
            && !is_project(name)
        {
            return wrong("repository", "`group/project`");
        }
        Ok(())
    }

    pub(crate) fn images(&self) -> (Value, Value) {
        let image = self.image.as_ref().map_or(Value::Null, image);
        (image, self.services.iter().map(self::image).collect())
    }

    pub(crate) fn further_variables(&self) -> impl Iterator<Item = Value> {
        self.variable_list.iter().map(|given| {
            let public = given["masked"] != json!(true);
            let base = json!({
                "key": "", "value": "", "public": public, "file": false, "masked": false, "raw": false,
            });
            over(base, given)
        })
    }

    pub(crate) fn artifact_list(&self) -> Value {
        list(&self.artifacts, |_| {
            json!({
                "name": "", "untracked": false, "paths": [], "exclude": [], "when": "on_success",
                "artifact_type": "archive", "artifact_format": "zip", "expire_in": "",
            })
        })
    }

    pub(crate) fn cache_list(&self) -> Value {
        list(&self.cache, |_| {
            json!({
                "key": "default", "untracked": false, "policy": "pull-push", "paths": [],
                "when": "on_success", "fallback_keys": [],
            })
        })
    }
}

/// Whether `name` can be a project's full path.
pub(crate) fn is_project(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.contains('/') && !name.ends_with(".git") && name.split('/').all(part)
}

fn named(value: &Value) -> bool {
    let name = if value.is_object() {
        &value["name"]
    } else {
        value
    };
    name.as_str().is_some_and(|name| !name.is_empty())
}

fn image(value: &Value) -> Value {
    let base = json!({
        "name": "", "alias": "", "command": [], "entrypoint": [], "ports": [],
        "variables": [], "pull_policy": [], "executor_opts": {},
    });
    match value {
        Value::Object(_) => over(base, value),
        name => over(base, &json!({ "name": name })),
    }
}

fn list(value: &Option<Value>, base: impl Fn(&Value) -> Value) -> Value {
    match value {
        None => json!([]),
        Some(Value::Array(items)) => items.iter().map(|item| over(base(item), item)).collect(),
        Some(one) => json!([over(base(one), one)]),
    }
}

pub(crate) fn over(mut base: Value, given: &Value) -> Value {
    if let (Value::Object(base), Value::Object(given)) = (&mut base, given) {
        base.extend(given.clone());
    }
    base
}

/// A variable's value, with flags where it has any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VariableSpec {
    /// A value anybody may see.
    Plain(String),
    /// A value with flags.
    Full {
        /// The value.
        value: String,
        /// Whether it must not appear in the trace; such a variable is not public either.
        #[serde(default)]
        masked: bool,
        /// Whether the script gets a file's path in place of the value.
        #[serde(default)]
        file: bool,
        /// Whether `$` in it is plain text.
        #[serde(default)]
        raw: bool,
    },
}

impl From<&str> for VariableSpec {
    fn from(value: &str) -> Self {
        Self::Plain(value.to_owned())
    }
}

impl VariableSpec {
    /// A value that must not appear in the trace.
    pub fn masked(value: impl Into<String>) -> Self {
        Self::Full {
            value: value.into(),
            masked: true,
            file: false,
            raw: false,
        }
    }

    pub(crate) fn payload(&self, key: &str) -> Value {
        let (value, masked, file, raw) = match self {
            Self::Plain(value) => (value, false, false, false),
            Self::Full {
                value,
                masked,
                file,
                raw,
            } => (value, *masked, *file, *raw),
        };
        json!({
            "key": key, "value": value, "public": !masked, "file": file, "masked": masked, "raw": raw,
        })
    }
}

/// Why a job, a repository or a runner was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A field has a value that makes no sense.
    #[error("`{field}` cannot be used: write {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What to write instead.
        expected: &'static str,
    },
    /// The project has no repository here.
    #[error("the sandbox has no repository `{0}`: add it first (POST /sandbox/repositories)")]
    NoRepository(String),
    /// The repository cannot be used.
    #[error("`{path}` cannot be served as a repository: {problem}")]
    Repository {
        /// Where it should be.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// git does not find the branch, tag or commit.
    #[error("the repository `{repository}` has no commit at `{revision}`: {problem}")]
    Revision {
        /// The project.
        repository: String,
        /// What was looked for.
        revision: String,
        /// git's own words.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_from_json_and_checked() {
        let cases = [
            (r#"{"script":["a"]}"#, ""),
            (
                r#"{"script":["a"],"image":"x","services":["y",{"name":"z"}],"cache":{},"artifacts":[{}]}"#,
                "",
            ),
            (
                r#"{"script":["a"],"variables":{"A":"1","B":{"value":"2","masked":true}}}"#,
                "",
            ),
            (r#"{}"#, "`script`"),
            (r#"{"script":["a"],"image":5}"#, "`image`"),
            (r#"{"script":["a"],"services":[{}]}"#, "`services`"),
            (r#"{"script":["a"],"artifacts":"x"}"#, "`artifacts`"),
            (r#"{"script":["a"],"cache":["x"]}"#, "`cache`"),
            (r#"{"run":[{"name":"a"}]}"#, ""),
            (r#"{"script":["a"],"variable_list":[{"key":"A"}]}"#, ""),
            (
                r#"{"script":["a"],"variable_list":[{}]}"#,
                "`variable_list`",
            ),
            (r#"{"script":["a"],"steps":[{}]}"#, "`steps`"),
            (r#"{"script":["a"],"count":0}"#, "`count`"),
            (r#"{"script":["a"],"count":100001}"#, "`count`"),
            (r#"{"script":["a"],"repository":"../x"}"#, "`repository`"),
            (r#"{"script":["a"],"repository":"alone"}"#, "`repository`"),
            (r#"{"scripts":["a"]}"#, "unknown field `scripts`"),
        ];
        for (text, problem) in cases {
            let outcome = serde_json::from_str::<JobSpec>(text)
                .map_err(|error| error.to_string())
                .and_then(|spec| spec.check().map_err(|error| error.to_string()));
            match outcome {
                Ok(()) => assert_eq!(problem, "", "{text}"),
                Err(error) => assert!(
                    !problem.is_empty() && error.contains(problem),
                    "{text}: {error}"
                ),
            }
        }
    }
}
