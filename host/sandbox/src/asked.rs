//! A request of a runner, read once: its JSON body, its tokens, and what is wrong with its form.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::violations::{Finding, Rule};

/// What a JSON request said.
pub(crate) struct Asked {
    /// The request in a few words, `PUT jobs/7`.
    pub(crate) what: String,
    /// The body; `None` where it is not a JSON object.
    body: Option<Map<String, Value>>,
    runner_token: Option<String>,
    job_token: Option<String>,
    /// What was wrong so far.
    pub(crate) findings: Vec<Finding>,
}

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl Asked {
    pub(crate) fn read(what: impl Into<String>, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut findings = Vec::new();
        match text(headers, "content-type") {
            None => findings.push((Rule::ContentType, "there is no Content-Type".to_owned())),
            Some(kind) if !kind.starts_with("application/json") => findings.push((
                Rule::ContentType,
                format!("Content-Type is {kind:?}, not application/json"),
            )),
            Some(_) => {}
        }
        let body = match serde_json::from_slice(body) {
            Ok(Value::Object(body)) => Some(body),
            Ok(_) => {
                findings.push((Rule::BodyNotJson, "the body is not an object".to_owned()));
                None
            }
            Err(error) => {
                findings.push((Rule::BodyNotJson, error.to_string()));
                None
            }
        };
        Self {
            what: what.into(),
            body,
            runner_token: text(headers, "runner-token").map(str::to_owned),
            job_token: text(headers, "job-token").map(str::to_owned),
            findings,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.body.is_some()
    }

    pub(crate) fn body(&self) -> &Map<String, Value> {
        self.body.as_ref().unwrap_or(&NOTHING)
    }

    pub(crate) fn str(&self, key: &str) -> Option<&str> {
        self.body()
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    pub(crate) fn note(&mut self, rule: Rule, detail: impl Into<String>) {
        self.findings.push((rule, detail.into()));
    }

    /// The runner's token; notes where its header is missing or differs.
    pub(crate) fn runner_token(&mut self) -> Option<String> {
        let header = self.runner_token.clone();
        self.token(header, Rule::RunnerTokenHeader, "RUNNER-TOKEN")
    }

    /// The job's token; notes where its header is missing or differs.
    pub(crate) fn job_token(&mut self) -> Option<String> {
        let header = self.job_token.clone();
        self.token(header, Rule::JobTokenHeader, "JOB-TOKEN")
    }

    fn token(&mut self, header: Option<String>, rule: Rule, name: &str) -> Option<String> {
        let body = self.str("token").map(str::to_owned);
        match (&header, &body) {
            (None, _) => self.note(rule, format!("the header {name} is missing")),
            (Some(header), Some(body)) if header != body => {
                self.note(rule, format!("{name} is not the token of the body"));
            }
            _ => {}
        }
        body.or(header)
    }

    /// The manager's id; notes where it is missing or not of its form.
    pub(crate) fn system_id(&mut self) -> String {
        let id = self.str("system_id").unwrap_or_default().to_owned();
        let formed = id
            .strip_prefix("s_")
            .or_else(|| id.strip_prefix("r_"))
            .is_some_and(|rest| {
                rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
            });
        if id.is_empty() {
            self.note(Rule::SystemId, "system_id is missing");
        } else if !formed {
            self.note(
                Rule::SystemId,
                format!("system_id {id:?} is not s_ or r_ and 12 letters or digits"),
            );
        }
        id
    }

    /// Notes what is wrong with `info`.
    pub(crate) fn check_info(&mut self) {
        let problem = match self.body().get("info") {
            None | Some(Value::Null) => Some("info is missing".to_owned()),
            Some(Value::Object(info)) => match info.get("features") {
                Some(Value::Object(features)) => features
                    .iter()
                    .find(|(_, value)| !value.is_boolean())
                    .map(|(name, value)| format!("the feature {name} is {value}, not a boolean")),
                _ => Some("info has no features".to_owned()),
            },
            Some(_) => Some("info is not an object".to_owned()),
        };
        if let Some(problem) = problem {
            self.note(Rule::Info, problem);
        }
    }

    /// Whether the runner says that it can do this.
    pub(crate) fn feature(&self, name: &str) -> bool {
        self.body()
            .get("info")
            .is_some_and(|info| info["features"][name] == Value::Bool(true))
    }
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty())
}

/// An error as GitLab says it: the status, and a JSON message with the same.
pub(crate) fn refuse(status: StatusCode) -> Response {
    let message = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    (status, axum::Json(json!({ "message": message }))).into_response()
}
