//! What a runner does before it has a job: register, verify, leave, and ask for one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::asked::{Asked, refuse};
use crate::faults::{Endpoint, FaultKind, rate_limited};
use crate::ledger::Ledger;
use crate::options::RunnerSeed;
use crate::payload::{malformed, payload};
use crate::server::Shared;
use crate::violations::Rule;

/// The largest request for a job GitLab's front server lets through, in bytes.
const REQUEST_LIMIT: usize = 32 * 1024;
/// Requests that cross the answer of 429 on their way are not held against the runner.
const CROSSING: Duration = Duration::from_millis(250);

fn credentials(status: StatusCode, id: u64, token: &str) -> Response {
    let body = json!({ "id": id, "token": token, "token_expires_at": null });
    (status, Json(body)).into_response()
}

/// `POST runners`: a runner with a registration token.
pub(crate) async fn register(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut asked = Asked::read("POST runners", &headers, &body);
    let token = asked.runner_token();
    if asked.is_json() {
        asked.check_info();
    }
    shared.with(|ledger, now| {
        let known = ledger.options.registration_token.clone();
        let response = match (known, token) {
            _ if !asked.is_json() => refuse(StatusCode::BAD_REQUEST),
            (None, _) => refuse(StatusCode::GONE),
            (_, None) => refuse(StatusCode::BAD_REQUEST),
            (Some(known), Some(token)) if known == token => {
                let seed = RunnerSeed {
                    token: ledger.token("sandbox-"),
                    tags: tags(asked.body().get("tag_list")),
                    run_untagged: asked.body().get("run_untagged") != Some(&Value::Bool(false)),
                    paused: asked.body().get("paused") == Some(&Value::Bool(true)),
                };
                let token = seed.token.clone();
                let description = asked.str("description").unwrap_or_default().to_owned();
                let id = ledger.add_runner(seed, description);
                credentials(StatusCode::CREATED, id, &token)
            }
            (Some(_), Some(_)) => {
                asked.note(Rule::UnknownToken, "the registration token is not known");
                refuse(StatusCode::FORBIDDEN)
            }
        };
        ledger.note_runner(None, &asked.what, asked.findings, now);
        response
    })
}

fn tags(list: Option<&Value>) -> Vec<String> {
    let owned = |text: &str| Some(text.trim().to_owned()).filter(|tag| !tag.is_empty());
    match list {
        Some(Value::String(text)) => text.split(',').filter_map(owned).collect(),
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| item.as_str().and_then(owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// Reads a request with a runner's token and does `act` for the runner it belongs to.
fn for_runner(
    shared: &Shared,
    mut asked: Asked,
    act: impl FnOnce(&mut Ledger, u64, &mut Asked, Duration) -> Response,
) -> Response {
    let token = asked.runner_token();
    shared.with(|ledger, now| {
        let runner = token.and_then(|token| ledger.runner_of(&token));
        let response = match runner {
            _ if !asked.is_json() => refuse(StatusCode::BAD_REQUEST),
            None => {
                asked.note(Rule::UnknownToken, "the runner's token is not known");
                refuse(StatusCode::FORBIDDEN)
            }
            Some(runner) => act(ledger, runner, &mut asked, now),
        };
        ledger.note_runner(runner, &asked.what, asked.findings, now);
        response
    })
}

/// `POST runners/verify`.
pub(crate) async fn verify(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::read("POST runners/verify", &headers, &body);
    for_runner(&shared, asked, |ledger, runner, asked, now| {
        asked.check_info();
        let system_id = asked.system_id();
        ledger.heard(runner, &system_id, asked.body().get("info"), false, now);
        let token = ledger.runners.get(&runner).map(|runner| &runner.token);
        credentials(StatusCode::OK, runner, token.map_or("", String::as_str))
    })
}

/// `DELETE runners`.
pub(crate) async fn unregister(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::read("DELETE runners", &headers, &body);
    for_runner(&shared, asked, |ledger, runner, _, _| {
        ledger.tick(runner);
        ledger.runners.remove(&runner);
        StatusCode::NO_CONTENT.into_response()
    })
}

/// `DELETE runners/managers`.
pub(crate) async fn unregister_manager(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::read("DELETE runners/managers", &headers, &body);
    for_runner(&shared, asked, |ledger, runner, asked, _| {
        let system_id = asked.system_id();
        if system_id.is_empty() {
            return refuse(StatusCode::BAD_REQUEST);
        }
        let gone = ledger
            .runners
            .get_mut(&runner)
            .and_then(|runner| runner.managers.remove(&system_id));
        match gone {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => refuse(StatusCode::NOT_FOUND),
        }
    })
}

fn new_token(ledger: &mut Ledger, runner: u64) -> Response {
    let token = ledger.token("glrt-");
    match ledger.runners.get_mut(&runner) {
        Some(runner) => {
            runner.token.clone_from(&token);
            let body = json!({ "token": token, "token_expires_at": null });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        None => refuse(StatusCode::NOT_FOUND),
    }
}

/// `POST runners/reset_authentication_token`.
pub(crate) async fn reset(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::read("POST runners/reset_authentication_token", &headers, &body);
    for_runner(&shared, asked, |ledger, runner, _, _| {
        new_token(ledger, runner)
    })
}

/// `POST runners/:id/reset_authentication_token`, with an API token.
pub(crate) async fn reset_by_id(
    State(shared): State<Arc<Shared>>,
    Path(runner): Path<u64>,
    headers: HeaderMap,
) -> Response {
    shared.with(|ledger, _| {
        if crate::queue_api::may_read(ledger, &headers) {
            new_token(ledger, runner)
        } else {
            refuse(StatusCode::UNAUTHORIZED)
        }
    })
}

/// `GET runners/router/discovery`: there is no job router.
pub(crate) async fn discovery() -> Response {
    refuse(StatusCode::NOT_IMPLEMENTED)
}

/// What becomes of a request for a job.
enum Turn {
    Answer(Response),
    /// The runner knows the queue's present value: held until it changes.
    Hold {
        runner: u64,
        value: String,
    },
}

/// `POST jobs/request`.
pub(crate) async fn request(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut asked = Asked::read("POST jobs/request", &headers, &body);
    if body.len() > REQUEST_LIMIT {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let token = asked.runner_token();
    let system_id = if asked.is_json() {
        asked.check_info();
        asked.system_id()
    } else {
        String::new()
    };
    let mut queue = shared.queue();
    let turn = shared.with(|ledger, now| first(ledger, &mut asked, token, &system_id, now));
    let (runner, value) = match turn {
        Turn::Answer(response) => return response,
        Turn::Hold { runner, value } => (runner, value),
    };
    let mut closing = shared.closing();
    let give_up = tokio::time::sleep(shared.long_poll);
    tokio::pin!(give_up);
    let held = |ledger: &mut Ledger| {
        ledger
            .runners
            .get(&runner)
            .is_some_and(|runner| runner.queue_value == value)
    };
    while shared.with(|ledger, _| held(ledger)) {
        tokio::select! {
            () = &mut give_up => return nothing(&value),
            _ = closing.wait_for(|closing| *closing) => return nothing(&value),
            _ = queue.changed() => {}
        }
    }
    shared.with(|ledger, now| take(ledger, &asked, runner, &system_id, now))
}

fn nothing(value: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert("x-gitlab-last-update", value);
    }
    response
}

fn first(
    ledger: &mut Ledger,
    asked: &mut Asked,
    token: Option<String>,
    system_id: &str,
    now: Duration,
) -> Turn {
    let runner = token.as_deref().and_then(|token| ledger.runner_of(token));
    let mut refusal = None;
    match (&token, runner) {
        _ if !asked.is_json() => refusal = Some(refuse(StatusCode::BAD_REQUEST)),
        (Some(token), Some(runner)) => {
            ledger.heard(runner, system_id, asked.body().get("info"), true, now);
            if let Some(limit) = ledger.limit_of(token, now) {
                if now > limit.told + CROSSING {
                    let early = (limit.until - now).as_secs_f64();
                    asked.note(
                        Rule::PollWhileLimited,
                        format!("{early:.1} s before the time that came with 429"),
                    );
                }
                refusal = Some(rate_limited(limit.until, now));
            } else if !ledger.may_ask(runner, now) {
                let most = ledger.options.requests_per_minute;
                asked.note(
                    Rule::PollTooFast,
                    format!("more than {most} requests in a minute"),
                );
                let until = Duration::from_secs(now.as_secs() + 2);
                ledger.limited(token, until, now);
                refusal = Some(rate_limited(until, now));
            }
        }
        _ => {
            asked.note(Rule::UnknownToken, "the runner's token is not known");
            refusal = Some(refuse(StatusCode::FORBIDDEN));
        }
    }
    let findings = std::mem::take(&mut asked.findings);
    ledger.note_runner(runner, &asked.what, findings, now);
    if let Some(response) = refusal {
        return Turn::Answer(response);
    }
    let Some(known) = runner.and_then(|id| ledger.runners.get(&id)) else {
        return Turn::Answer(refuse(StatusCode::FORBIDDEN));
    };
    let (runner, value) = (known.id, known.queue_value.clone());
    if asked.str("last_update") == Some(value.as_str()) {
        return Turn::Hold { runner, value };
    }
    Turn::Answer(take(ledger, asked, runner, system_id, now))
}

/// Gives the runner a job if there is one for it.
fn take(
    ledger: &mut Ledger,
    asked: &Asked,
    runner: u64,
    system_id: &str,
    now: Duration,
) -> Response {
    let Some(known) = ledger.runners.get(&runner) else {
        return refuse(StatusCode::FORBIDDEN);
    };
    let value = known.queue_value.clone();
    if known.paused {
        return nothing(&value);
    }
    let graceful = asked.feature("cancel_gracefully");
    let two_phase = asked.feature("two_phase_job_commit");
    let job = ledger
        .assign(runner, system_id, graceful, two_phase, now)
        .and_then(|job| {
            let session = asked.body().get("session").cloned();
            if let Some(taken) = ledger.jobs.get_mut(&job) {
                taken.session = session.and_then(|session| serde_json::from_value(session).ok());
            }
            payload(ledger, job, now)
        });
    let Some(mut job) = job else {
        return nothing(&value);
    };
    if ledger
        .faults
        .inside(Endpoint::Request, FaultKind::Malformed)
    {
        job = malformed(job);
    }
    (StatusCode::CREATED, Json(job)).into_response()
}
