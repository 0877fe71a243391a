//! The job as GitLab hands it over: what a job needs, typed; everything else kept as it came.
//!
//! Reading is lenient: a field that is missing, null or of an odd type takes its default, because
//! a job refused over a field nobody uses is a job lost. Only `id` and `token` must be there.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(d: D) -> Result<T, D::Error> {
    let value = Value::deserialize(d)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Vec<T>, D::Error> {
    let Value::Array(items) = Value::deserialize(d)? else {
        return Ok(Vec::new());
    };
    Ok(items
        .into_iter()
        .filter_map(|item| serde_json::from_value(item).ok())
        .collect())
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(text_of(Value::deserialize(d)?))
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<SecretString, D::Error> {
    Ok(text_of(Value::deserialize(d)?).into())
}

fn no_secret() -> SecretString {
    SecretString::from("")
}

fn number_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|f| f as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn number<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    Ok(number_of(&Value::deserialize(d)?).unwrap_or(0))
}

fn flag<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::Bool(flag) => flag,
        Value::String(text) => text == "true",
        _ => false,
    })
}

fn strings<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::Array(items) => items.into_iter().map(text_of).collect(),
        Value::String(one) => vec![one],
        _ => Vec::new(),
    })
}

/// A payload that cannot be run, with what is needed to fail it at GitLab rather than lose it.
#[derive(Debug, thiserror::Error)]
#[error("GitLab sent a job that cannot be read: {problem}")]
pub struct PayloadError {
    /// What is wrong; never a part of the payload's text.
    pub problem: &'static str,
    /// The job, where its id and token could be read.
    pub key: Option<JobKey>,
}

/// Which job, and the token that speaks for it.
#[derive(Clone, Debug)]
pub struct JobKey {
    /// The job's id.
    pub id: u64,
    /// The job's token.
    pub token: SecretString,
}

/// One job.
#[derive(Clone)]
pub struct Payload {
    /// The job's id.
    pub id: u64,
    /// The job's token.
    pub token: SecretString,
    /// Everything that has a default.
    body: Body,
    raw: SecretString,
}

/// The fields of a job that may be missing; reached through [`Payload`], which dereferences to it.
#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub struct Body {
    /// Whether the sources may be fetched into an earlier clone.
    #[serde(deserialize_with = "flag")]
    pub allow_git_fetch: bool,
    /// Whose job it is.
    #[serde(deserialize_with = "lenient")]
    pub job_info: JobInfo,
    /// What to check out.
    #[serde(deserialize_with = "lenient")]
    pub git_info: GitInfo,
    /// Limits of the job.
    #[serde(deserialize_with = "lenient")]
    pub runner_info: RunnerInfo,
    /// The job's variables, in order; a later one of the same key wins.
    #[serde(deserialize_with = "list")]
    pub variables: Vec<Variable>,
    /// The scripts, in order.
    #[serde(deserialize_with = "list")]
    pub steps: Vec<Step>,
    /// The image the job names; its name is empty where it names none.
    #[serde(deserialize_with = "lenient")]
    pub image: Image,
    /// Services beside the job.
    #[serde(deserialize_with = "list")]
    pub services: Vec<Image>,
    /// What to upload at the end.
    #[serde(deserialize_with = "list")]
    pub artifacts: Vec<Artifact>,
    /// What to keep between jobs.
    #[serde(deserialize_with = "list")]
    pub cache: Vec<Cache>,
    /// Logins, to registries above all.
    #[serde(deserialize_with = "list")]
    pub credentials: Vec<Credential>,
    /// Earlier jobs whose artifacts this one takes.
    #[serde(deserialize_with = "list")]
    pub dependencies: Vec<Dependency>,
    /// What this GitLab understands.
    #[serde(deserialize_with = "lenient")]
    pub features: JobFeatures,
    /// Scripts round the getting of the sources.
    #[serde(deserialize_with = "list")]
    pub hooks: Vec<Hook>,
    /// Steps of the step runner, as JSON text; empty where there are none.
    #[serde(deserialize_with = "text")]
    pub run: String,
    /// Variables that are to be fetched from an outside store, by name.
    #[serde(deserialize_with = "lenient")]
    pub secrets: serde_json::Map<String, serde_json::Value>,
}

impl std::ops::Deref for Payload {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl std::ops::DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.body
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("id", &self.id)
            .field("job", &self.body.job_info.name)
            .field("project", &self.body.job_info.project_full_path)
            .finish_non_exhaustive()
    }
}

impl Payload {
    /// Reads a job from the JSON text GitLab sent, or that [`Payload::to_secret_json`] gave.
    ///
    /// # Errors
    /// The text is not a JSON object, or has no id or token.
    pub fn from_json(json: &str) -> Result<Self, PayloadError> {
        let fail = |problem, key| PayloadError { problem, key };
        let value: Value =
            serde_json::from_str(json).map_err(|_| fail("the body is not JSON", None))?;
        let id = value
            .get("id")
            .and_then(number_of)
            .and_then(|id| u64::try_from(id).ok());
        let token = value
            .get("token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty());
        let (Some(id), Some(token)) = (id, token) else {
            return Err(fail("it has no usable id or token", None));
        };
        let token = SecretString::from(token);
        let body = serde_json::from_value(value).map_err(|_| {
            fail(
                "a field is of the wrong kind",
                Some(JobKey {
                    id,
                    token: token.clone(),
                }),
            )
        })?;
        Ok(Self {
            id,
            token,
            body,
            raw: json.into(),
        })
    }

    /// The job as GitLab sent it, **secrets included**: for a file that only its owner can read.
    #[must_use]
    pub fn to_secret_json(&self) -> String {
        self.raw.expose_secret().to_owned()
    }

    /// Which job, and the token that speaks for it.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey {
            id: self.id,
            token: self.token.clone(),
        }
    }
}

/// Whose job it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    /// The job's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its stage.
    #[serde(deserialize_with = "text")]
    pub stage: String,
    /// Its pipeline.
    #[serde(deserialize_with = "number")]
    pub pipeline_id: i64,
    /// Its project.
    #[serde(deserialize_with = "number")]
    pub project_id: i64,
    /// The project's short name.
    #[serde(deserialize_with = "text")]
    pub project_name: String,
    /// The project's path with its groups.
    #[serde(deserialize_with = "text")]
    pub project_full_path: String,
    /// Seconds the job waited before it was handed over.
    #[serde(deserialize_with = "lenient")]
    pub time_in_queue_seconds: f64,
    /// Jobs that waited with it for the same runners.
    #[serde(deserialize_with = "number")]
    pub queue_size: i64,
    /// Jobs that waited before it.
    #[serde(deserialize_with = "number")]
    pub queue_depth: i64,
    /// Jobs of its project on instance runners, as GitLab writes it: `3`, or `+Inf`.
    #[serde(
        rename = "project_jobs_running_on_instance_runners_count",
        deserialize_with = "text"
    )]
    pub project_jobs_running: String,
}

/// What to check out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// Where from; holds the job's token.
    #[serde(deserialize_with = "secret")]
    pub repo_url: SecretString,
    /// `sha1` or `sha256`; empty where GitLab does not say.
    #[serde(deserialize_with = "text")]
    pub repo_object_format: String,
    /// The branch or tag.
    #[serde(rename = "ref", deserialize_with = "text")]
    pub ref_name: String,
    /// The commit.
    #[serde(deserialize_with = "text")]
    pub sha: String,
    /// The commit before the push.
    #[serde(deserialize_with = "text")]
    pub before_sha: String,
    /// `branch` or `tag`.
    #[serde(deserialize_with = "text")]
    pub ref_type: String,
    /// What to fetch.
    #[serde(deserialize_with = "strings")]
    pub refspecs: Vec<String>,
    /// How many commits to fetch; 0 is all.
    #[serde(deserialize_with = "number")]
    pub depth: i64,
    /// Whether the branch or tag is protected.
    #[serde(deserialize_with = "flag")]
    pub protected: bool,
}

impl Default for GitInfo {
    fn default() -> Self {
        Self {
            repo_url: no_secret(),
            repo_object_format: String::new(),
            ref_name: String::new(),
            sha: String::new(),
            before_sha: String::new(),
            ref_type: String::new(),
            refspecs: Vec::new(),
            depth: 0,
            protected: false,
        }
    }
}

/// Limits of the job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// Seconds the job may run, as sent; see [`RunnerInfo::timeout_seconds`].
    #[serde(deserialize_with = "number")]
    pub timeout: i64,
}

impl RunnerInfo {
    /// Seconds the job may run: 7200 where GitLab names none.
    #[must_use]
    pub fn timeout_seconds(&self) -> u64 {
        u64::try_from(self.timeout)
            .ok()
            .filter(|seconds| *seconds > 0)
            .unwrap_or(7200)
    }
}

/// One variable. Its value may be a secret and is not in its `Debug`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// Its name.
    #[serde(deserialize_with = "text")]
    pub key: String,
    /// Its value, not expanded.
    #[serde(deserialize_with = "text")]
    pub value: String,
    /// Whether anybody may see it.
    #[serde(deserialize_with = "flag")]
    pub public: bool,
    /// Whether the script gets a file's path in place of the value.
    #[serde(deserialize_with = "flag")]
    pub file: bool,
    /// Whether it must not appear in the trace.
    #[serde(deserialize_with = "flag")]
    pub masked: bool,
    /// Whether `$` in it is plain text.
    #[serde(deserialize_with = "flag")]
    pub raw: bool,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// When a step, artifact or cache counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// After success; also what an empty or unknown word means.
    #[default]
    OnSuccess,
    /// After failure.
    OnFailure,
    /// Either way.
    Always,
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match text(d)?.as_str() {
            "on_failure" => Self::OnFailure,
            "always" => Self::Always,
            _ => Self::OnSuccess,
        })
    }
}

/// One script.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `script`, `after_script`, or a release step's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its lines.
    #[serde(deserialize_with = "strings")]
    pub script: Vec<String>,
    /// Seconds it may run.
    #[serde(deserialize_with = "number")]
    pub timeout: i64,
    /// When it runs.
    pub when: When,
    /// Whether the job succeeds all the same where it fails.
    #[serde(deserialize_with = "flag")]
    pub allow_failure: bool,
}

/// An image, the job's or a service's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Its reference.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Names it is reached by, separated by spaces or commas.
    #[serde(deserialize_with = "text")]
    pub alias: String,
    /// Its command.
    #[serde(deserialize_with = "strings")]
    pub command: Vec<String>,
    /// Its entry point.
    #[serde(deserialize_with = "strings")]
    pub entrypoint: Vec<String>,
    /// Variables of its own.
    #[serde(deserialize_with = "list")]
    pub variables: Vec<Variable>,
    /// When to pull it.
    #[serde(deserialize_with = "strings")]
    pub pull_policy: Vec<String>,
    /// Options of one executor, as they came.
    pub executor_opts: Value,
}

/// What to upload at the end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// The archive's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Whether files git does not know go in.
    #[serde(deserialize_with = "flag")]
    pub untracked: bool,
    /// What goes in.
    #[serde(deserialize_with = "strings")]
    pub paths: Vec<String>,
    /// What stays out.
    #[serde(deserialize_with = "strings")]
    pub exclude: Vec<String>,
    /// When to upload.
    pub when: When,
    /// `archive`, `junit`, ...
    #[serde(deserialize_with = "text")]
    pub artifact_type: String,
    /// `zip`, `gzip`, `raw`, ...
    #[serde(deserialize_with = "text")]
    pub artifact_format: String,
    /// How long GitLab keeps it, in words.
    #[serde(deserialize_with = "text")]
    pub expire_in: String,
}

/// What to keep between jobs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// Its key.
    #[serde(deserialize_with = "text")]
    pub key: String,
    /// Whether files git does not know go in.
    #[serde(deserialize_with = "flag")]
    pub untracked: bool,
    /// ``, `pull-push`, `pull` or `push`.
    #[serde(deserialize_with = "text")]
    pub policy: String,
    /// What goes in.
    #[serde(deserialize_with = "strings")]
    pub paths: Vec<String>,
    /// When to upload.
    pub when: When,
    /// Keys to try where `key` has nothing.
    #[serde(deserialize_with = "strings")]
    pub fallback_keys: Vec<String>,
}

/// A login.
#[derive(Clone, Debug, Deserialize)]
pub struct Credential {
    /// `registry`, above all.
    #[serde(rename = "type", default, deserialize_with = "text")]
    pub kind: String,
    /// Where it holds.
    #[serde(default, deserialize_with = "text")]
    pub url: String,
    /// The user.
    #[serde(default, deserialize_with = "text")]
    pub username: String,
    /// The password.
    #[serde(default = "no_secret", deserialize_with = "secret")]
    pub password: SecretString,
}

/// An earlier job whose artifacts this one takes.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// Its id.
    #[serde(default, deserialize_with = "number")]
    pub id: i64,
    /// Its token.
    #[serde(default = "no_secret", deserialize_with = "secret")]
    pub token: SecretString,
    /// Its name.
    #[serde(default, deserialize_with = "text")]
    pub name: String,
    /// What it left.
    #[serde(default, deserialize_with = "lenient")]
    pub artifacts_file: ArtifactsFile,
}

/// An archive at GitLab.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ArtifactsFile {
    /// Its name; empty where there is none.
    #[serde(deserialize_with = "text")]
    pub filename: String,
    /// Its size in bytes.
    #[serde(deserialize_with = "number")]
    pub size: i64,
}

/// What this GitLab understands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobFeatures {
    /// Collapsible sections in the trace.
    #[serde(deserialize_with = "flag")]
    pub trace_sections: bool,
    /// Prefixes of tokens to mask in the trace.
    #[serde(deserialize_with = "strings")]
    pub token_mask_prefixes: Vec<String>,
    /// Failure reasons it knows.
    #[serde(deserialize_with = "strings")]
    pub failure_reasons: Vec<String>,
}

/// A script round the getting of the sources.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// `pre_get_sources_script` or `post_get_sources_script`.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its lines.
    #[serde(deserialize_with = "strings")]
    pub script: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_fields_take_their_defaults_and_the_job_is_kept() {
        let json = r#"{"id":"7","token":"glcbt-x","job_info":null,"variables":null,
            "steps":[{"name":"script","script":["a"],"timeout":"60","when":null},5],
            "image":"odd","git_info":{"depth":"20","refspecs":null,"repo_url":"http://t:glcbt-x@h/"},
            "runner_info":{"timeout":"90"},"features":{"trace_sections":"true"},"run":null}"#;
        let job = Payload::from_json(json).expect("a job");
        assert_eq!((job.id, job.git_info.depth, job.steps.len()), (7, 20, 1));
        assert_eq!(
            (job.runner_info.timeout_seconds(), job.steps[0].timeout),
            (90, 60)
        );
        assert!(job.features.trace_sections && job.variables.is_empty());
        assert!(!format!("{job:?} {:?}", job.git_info).contains("glcbt"));
        assert_eq!(job.to_secret_json(), json);
    }

    #[test]
    fn a_payload_without_id_or_token_is_an_error_without_its_text() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"id":1}"#,
            r#"{"token":"glcbt-x"}"#,
            r#"{"id":-1,"token":"glcbt-x"}"#,
        ] {
            let error = Payload::from_json(json).expect_err(json);
            assert!(!format!("{error} {error:?}").contains("glcbt"), "{json}");
        }
    }
}
