//! What can go wrong between a runner and GitLab, called up for an endpoint and a count.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::server::Shared;
use crate::stamp::http_date;

/// A part of the API that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// `POST jobs/request`.
    Request,
    /// `PUT jobs/:id`.
    Update,
    /// `PATCH jobs/:id/trace`.
    Trace,
    /// `POST runners/verify`.
    Verify,
    /// Everything under `jobs/:id/artifacts`.
    Artifacts,
    /// The API that lists jobs and projects.
    Queue,
    /// git over HTTP.
    Git,
}

impl Endpoint {
    fn of(method: &Method, path: &str) -> Option<Self> {
        let Some(path) = path.strip_prefix("/api/v4/") else {
            return path.contains(".git/").then_some(Self::Git);
        };
        let parts: Vec<&str> = path.split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["jobs", "request"]) => Some(Self::Request),
            ("PUT", ["jobs", _]) => Some(Self::Update),
            ("PATCH", ["jobs", _, "trace"]) => Some(Self::Trace),
            ("POST", ["runners", "verify"]) => Some(Self::Verify),
            (_, ["jobs", _, "artifacts", ..]) => Some(Self::Artifacts),
            ("GET", ["projects" | "groups", ..]) => Some(Self::Queue),
            _ => None,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection is closed and nothing was done.
    Drop,
    /// Everything was done; the connection is closed in place of the answer.
    LoseAnswer,
    /// The request is done after this long.
    Delay(Duration),
    /// Nothing is done; this status is the answer.
    Status(u16),
    /// 429, with the time at which the limit is lifted.
    RateLimit {
        /// How long the limit holds, at least.
        reset: Duration,
    },
    /// GitLab has forgotten the second half of the trace; for [`Endpoint::Trace`] alone. It
    /// waits for a trace that has something to forget.
    Truncate,
    /// The answer cannot be read: a job without most of its fields, JSON that breaks off elsewhere.
    Malformed,
}

/// A fault, and how often it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// What.
    pub kind: FaultKind,
    /// How many requests it strikes; `None` is every one until the faults are cleared.
    pub count: Option<u32>,
}

impl Fault {
    /// A fault that strikes `count` requests.
    #[must_use]
    pub fn times(endpoint: Endpoint, kind: FaultKind, count: u32) -> Self {
        Self {
            endpoint,
            kind,
            count: Some(count),
        }
    }
}

/// A fault that was asked for in words the sandbox does not know.
#[derive(Debug, thiserror::Error)]
pub enum BadFault {
    /// The name is not one of them.
    #[error(
        "`{0}` is no fault: write drop, lose-answer, delay, truncate, malformed, or a status from 400 to 599"
    )]
    Unknown(String),
    /// A field the fault needs is missing.
    #[error("the fault `{fault}` needs `{field}`, a whole number")]
    Missing {
        /// The fault.
        fault: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A trace is the only thing that can be truncated.
    #[error("only the endpoint `trace` can be truncated")]
    NotATrace,
}

/// A fault as the control API reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSpec {
    endpoint: Endpoint,
    fault: Word,
    ms: Option<u64>,
    reset_s: Option<u64>,
    #[serde(default = "once")]
    count: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u16),
    Text(String),
}

fn once() -> Option<u32> {
    Some(1)
}

impl TryFrom<FaultSpec> for Fault {
    type Error = BadFault;

    fn try_from(spec: FaultSpec) -> Result<Self, BadFault> {
        let word = match spec.fault {
            Word::Number(number) => number.to_string(),
            Word::Text(text) => text,
        };
        let missing = |fault, field| BadFault::Missing { fault, field };
        let kind = match word.as_str() {
            "drop" => FaultKind::Drop,
            "lose-answer" => FaultKind::LoseAnswer,
            "delay" => FaultKind::Delay(Duration::from_millis(
                spec.ms.ok_or_else(|| missing("delay", "ms"))?,
            )),
            "429" => FaultKind::RateLimit {
                reset: Duration::from_secs(spec.reset_s.ok_or_else(|| missing("429", "reset_s"))?),
            },
            "truncate" if spec.endpoint == Endpoint::Trace => FaultKind::Truncate,
            "truncate" => return Err(BadFault::NotATrace),
            "malformed" => FaultKind::Malformed,
            other => match other.parse() {
                Ok(status @ 400..=599) => FaultKind::Status(status),
                _ => return Err(BadFault::Unknown(word)),
            },
        };
        Ok(Self {
            endpoint: spec.endpoint,
            kind,
            count: spec.count,
        })
    }
}

/// The faults that have not struck yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn take(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        self.waiting.retain(|fault| fault.count != Some(0));
        let fault = self.waiting.iter_mut().find(|fault| fits(fault))?;
        if let Some(count) = &mut fault.count {
            *count -= 1;
        }
        Some(fault.kind)
    }

    /// The next fault that strikes before the request is read.
    fn at_the_door(&mut self, endpoint: Endpoint) -> Option<FaultKind> {
        self.take(|fault| {
            fault.endpoint == endpoint
                && fault.kind != FaultKind::Truncate
                && !(endpoint == Endpoint::Request && fault.kind == FaultKind::Malformed)
        })
    }

    /// Whether a fault of this kind strikes inside the request.
    pub(crate) fn inside(&mut self, endpoint: Endpoint, kind: FaultKind) -> bool {
        self.take(|fault| fault.endpoint == endpoint && fault.kind == kind)
            .is_some()
    }
}

/// Lets faults strike before and after the request they are meant for.
pub(crate) async fn strike(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let fault = Endpoint::of(request.method(), &path)
        .and_then(|endpoint| shared.with(|ledger, _| ledger.faults.at_the_door(endpoint)));
    match fault {
        None | Some(FaultKind::Truncate) => next.run(request).await,
        Some(FaultKind::Drop) => broken(),
        Some(FaultKind::LoseAnswer) => {
            // The answer is thrown away on purpose: only what the request did counts.
            drop(next.run(request).await);
            let job = path
                .split('/')
                .find_map(|part| part.parse().ok())
                .filter(|_| path.starts_with("/api/v4/jobs/"));
            if let Some(job) = job {
                shared.with(|ledger, _| ledger.answer_lost(job));
            }
            broken()
        }
        Some(FaultKind::Delay(wait)) => {
            let mut closing = shared.closing();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            next.run(request).await
        }
        Some(FaultKind::Status(status)) => refusal(status),
        Some(FaultKind::RateLimit { reset }) => {
            let token = request
                .headers()
                .get("runner-token")
                .and_then(|token| token.to_str().ok());
            let (until, now) = shared.with(|ledger, now| {
                // Headers carry whole seconds, so the limit ends on one.
                let until = Duration::from_secs((now + reset).as_secs() + 1);
                if let Some(token) = token {
                    ledger.limited(token, until, now);
                }
                (until, now)
            });
            rate_limited(until, now)
        }
        Some(FaultKind::Malformed) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/json")],
            "{\"id\":",
        )
            .into_response(),
    }
}

fn refusal(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(json!({ "message": status.to_string() }))).into_response()
}

/// 429 as GitLab says it, with the time from which requests are taken again.
pub(crate) fn rate_limited(until: Duration, now: Duration) -> Response {
    let mut response = (StatusCode::TOO_MANY_REQUESTS, "Retry later\n").into_response();
    let wait = until.saturating_sub(now).as_secs_f64().ceil() as u64;
    for (name, value) in [
        ("ratelimit-limit", "2000".to_owned()),
        ("ratelimit-remaining", "0".to_owned()),
        ("ratelimit-reset", until.as_secs().to_string()),
        ("ratelimit-resettime", http_date(until)),
        ("retry-after", wait.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A body that fails at once: the server closes the connection before a byte of the answer is sent.
fn broken() -> Response {
    let error = std::io::Error::other("the sandbox drops this connection because a fault says so");
    Response::new(Body::from_stream(futures_util::stream::once(async {
        Err::<Bytes, _>(error)
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_as_the_control_api_reads_them() {
        let cases = [
            (
                r#"{"endpoint":"trace","fault":"drop"}"#,
                Ok((FaultKind::Drop, Some(1))),
            ),
            (
                r#"{"endpoint":"trace","fault":500,"count":3}"#,
                Ok((FaultKind::Status(500), Some(3))),
            ),
            (
                r#"{"endpoint":"queue","fault":"403","count":null}"#,
                Ok((FaultKind::Status(403), None)),
            ),
            (
                r#"{"endpoint":"git","fault":"delay","ms":20}"#,
                Ok((FaultKind::Delay(Duration::from_millis(20)), Some(1))),
            ),
            (
                r#"{"endpoint":"request","fault":429,"reset_s":2}"#,
                Ok((
                    FaultKind::RateLimit {
                        reset: Duration::from_secs(2),
                    },
                    Some(1),
                )),
            ),
            (
                r#"{"endpoint":"trace","fault":"truncate"}"#,
                Ok((FaultKind::Truncate, Some(1))),
            ),
            (
                r#"{"endpoint":"update","fault":"truncate"}"#,
                Err("only the endpoint"),
            ),
            (r#"{"endpoint":"update","fault":"delay"}"#, Err("`ms`")),
            (r#"{"endpoint":"update","fault":"429"}"#, Err("`reset_s`")),
            (
                r#"{"endpoint":"update","fault":200}"#,
                Err("`200` is no fault"),
            ),
            (r#"{"endpoint":"moon","fault":500}"#, Err("moon")),
        ];
        for (text, expected) in cases {
            let fault = serde_json::from_str::<FaultSpec>(text)
                .map_err(|error| error.to_string())
                .and_then(|spec| Fault::try_from(spec).map_err(|error| error.to_string()));
            match (fault, expected) {
                (Ok(fault), Ok(expected)) => {
                    assert_eq!((fault.kind, fault.count), expected, "{text}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (fault, expected) => panic!("{text}: {fault:?}, expected {expected:?}"),
            }
        }
    }
}
