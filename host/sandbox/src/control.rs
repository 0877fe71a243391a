//! `/sandbox/`: submit jobs, see what became of them, call up faults, read the violations.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::faults::{Fault, FaultSpec};
use crate::job::{Job, JobStatus, JobView};
use crate::options::RunnerSeed;
use crate::queue_api::pairs;
use crate::runner::Runner;
use crate::server::{Shared, add_repository, submit};
use crate::spec::{JobSpec, SpecError};

/// One request of the control API.
pub(crate) struct Route {
    method: &'static str,
    /// Below `/sandbox`.
    pub(crate) path: &'static str,
    /// What it does, for the front page.
    what: &'static str,
    pub(crate) served: MethodRouter<Arc<Shared>>,
}

/// All of the control API: what is served is what the front page lists.
pub(crate) fn routes() -> Vec<Route> {
    let route = |method, path, what, served| Route {
        method,
        path,
        what,
        served,
    };
    vec![
        route(
            "POST",
            "/jobs",
            "submit jobs: script, tags, variables, timeout, image, artifacts, cache, repository, count",
            post(submit_jobs),
        ),
        route(
            "GET",
            "/jobs",
            "all jobs with their state and times; ?status=pending for some",
            get(list_jobs),
        ),
        route("GET", "/jobs/{id}", "one job", get(show_job)),
        route(
            "GET",
            "/jobs/{id}/trace",
            "its trace as it arrived",
            get(show_trace),
        ),
        route("POST", "/jobs/{id}/cancel", "cancel it", post(cancel_job)),
        route(
            "POST",
            "/faults",
            "drop, delay, refuse or cut what an endpoint answers, so many times",
            post(add_fault),
        ),
        route("DELETE", "/faults", "no more faults", delete(clear_faults)),
        route(
            "GET",
            "/violations",
            "what runners did against the protocol",
            get(list_violations),
        ),
        route(
            "GET",
            "/runners",
            "all runners and their managers",
            get(list_runners),
        ),
        route(
            "POST",
            "/runners",
            "make a runner: token, tags, run_untagged, paused",
            post(add_runner),
        ),
        route(
            "POST",
            "/runners/{id}/pause",
            "give it no jobs",
            post(pause),
        ),
        route(
            "POST",
            "/runners/{id}/resume",
            "give it jobs again",
            post(resume),
        ),
        route(
            "POST",
            "/repositories",
            "serve a git repository as a project: name, path",
            post(give_repository),
        ),
    ]
}

/// A control request that cannot be done as it stands: 422 and what to write instead.
pub(crate) struct Refused(String);

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.0 }));
        (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
    }
}

fn unknown(what: &str, id: u64) -> Response {
    let body = Json(json!({ "error": format!("there is no {what} {id}") }));
    (StatusCode::NOT_FOUND, body).into_response()
}

/// Reads a body as JSON whatever its Content-Type, so that `curl -d` will do.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    Ok(serde_json::from_slice(body)?)
}

/// Work with git and the file system, off the threads that serve.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpecError> + Send + 'static,
) -> Result<T, Refused> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// `POST /sandbox/jobs`.
pub(crate) async fn submit_jobs(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<impl IntoResponse, Refused> {
    let spec: JobSpec = read(&body)?;
    let ids = aside(move || submit(&shared, spec)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "ids": ids }))))
}

/// `GET /sandbox/jobs`, or those of one state with `?status=`.
pub(crate) async fn list_jobs(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Json<Vec<JobView>> {
    let query = pairs(query.as_deref());
    let wanted = |status: JobStatus| {
        query
            .iter()
            .all(|(key, value)| key != "status" || value == status.as_str())
    };
    let found = shared.with(|ledger, _| {
        let jobs = ledger.jobs.values();
        jobs.filter(|job| wanted(job.status()))
            .map(Job::view)
            .collect()
    });
    Json(found)
}

/// `GET /sandbox/jobs/{id}`.
pub(crate) async fn show_job(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    match shared.with(|ledger, _| ledger.jobs.get(&id).map(Job::view)) {
        Some(job) => Json(job).into_response(),
        None => unknown("job", id),
    }
}

/// `GET /sandbox/jobs/{id}/trace`.
pub(crate) async fn show_trace(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    let trace = shared.with(|ledger, _| ledger.jobs.get(&id).map(|job| job.trace.bytes.clone()));
    match trace {
        Some(trace) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (kind, trace).into_response()
        }
        None => unknown("job", id),
    }
}

/// `POST /sandbox/jobs/{id}/cancel`.
pub(crate) async fn cancel_job(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    let job = shared.with(|ledger, now| {
        ledger.cancel(id, now);
        ledger.jobs.get(&id).map(Job::view)
    });
    match job {
        Some(job) => Json(job).into_response(),
        None => unknown("job", id),
    }
}

/// `POST /sandbox/faults`.
pub(crate) async fn add_fault(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<impl IntoResponse, Refused> {
    let spec: FaultSpec = read(&body)?;
    let fault = Fault::try_from(spec)?;
    shared.with(|ledger, _| ledger.faults.add(fault));
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /sandbox/faults`.
pub(crate) async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.with(|ledger, _| ledger.faults.clear());
    StatusCode::NO_CONTENT
}

/// `GET /sandbox/violations`.
pub(crate) async fn list_violations(State(shared): State<Arc<Shared>>) -> Response {
    shared.with(|ledger, _| {
        let (list, dropped) = (ledger.violations.all(), ledger.violations.dropped());
        Json(json!({ "violations": list, "dropped": dropped })).into_response()
    })
}

/// `GET /sandbox/runners`.
pub(crate) async fn list_runners(State(shared): State<Arc<Shared>>) -> Response {
    let list: Vec<_> = shared.with(|ledger, _| ledger.runners.values().map(Runner::view).collect());
    Json(list).into_response()
}

/// A runner as the control API takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunnerSpec {
    token: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default = "yes")]
    run_untagged: bool,
    #[serde(default)]
    paused: bool,
}

fn yes() -> bool {
    true
}

/// `POST /sandbox/runners`.
pub(crate) async fn add_runner(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<impl IntoResponse, Refused> {
    let spec: RunnerSpec = read(&body)?;
    let seed = RunnerSeed {
        token: spec.token,
        tags: spec.tags,
        run_untagged: spec.run_untagged,
        paused: spec.paused,
    };
    let added = shared.with(|ledger, _| {
        let free = ledger.runner_of(&seed.token).is_none() && !seed.token.is_empty();
        free.then(|| ledger.add_runner(seed, String::new()))
    });
    let taken = "the token is empty or another runner has it: choose another";
    let id = added.ok_or_else(|| Refused(taken.to_owned()))?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

/// `POST /sandbox/runners/{id}/pause`.
pub(crate) async fn pause(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    set_paused(&shared, id, true)
}

/// `POST /sandbox/runners/{id}/resume`.
pub(crate) async fn resume(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    set_paused(&shared, id, false)
}

fn set_paused(shared: &Shared, id: u64, paused: bool) -> Response {
    let known = shared.with(|ledger, _| {
        let runner = ledger.runners.get_mut(&id)?;
        runner.paused = paused;
        ledger.tick(id);
        Some(())
    });
    match known {
        Some(()) => StatusCode::NO_CONTENT.into_response(),
        None => unknown("runner", id),
    }
}

/// A repository as the control API takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositorySpec {
    name: String,
    path: PathBuf,
}

/// `POST /sandbox/repositories`.
pub(crate) async fn give_repository(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<impl IntoResponse, Refused> {
    let spec: RepositorySpec = read(&body)?;
    aside(move || add_repository(&shared, &spec.name, &spec.path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /`: the state in a few lines, for a person.
pub(crate) async fn front(State(shared): State<Arc<Shared>>) -> Html<String> {
    let rows = shared.with(|ledger, _| {
        let count = |wanted: JobStatus| {
            let jobs = ledger.jobs.values();
            jobs.filter(|job| job.status() == wanted).count()
        };
        let mut rows: Vec<(&str, usize)> = [
            JobStatus::Pending,
            JobStatus::Running,
            JobStatus::Canceling,
            JobStatus::Success,
            JobStatus::Failed,
            JobStatus::Canceled,
        ]
        .map(|status| (status.as_str(), count(status)))
        .to_vec();
        rows.push(("runners", ledger.runners.len()));
        rows.push(("violations", ledger.violations.all().len()));
        rows
    });
    let rows: String = rows
        .iter()
        .map(|(name, count)| format!("<tr><td>{name}<td>{count}"))
        .collect();
    let requests: String = routes().iter().map(row).collect();
    Html(format!(
        "<!doctype html><title>Springtide sandbox</title><h1>Springtide sandbox</h1>\
         <p>A GitLab to test runners against.</p><table>{rows}</table>\
         <h2>Control</h2><table>{requests}</table>\n"
    ))
}

/// A request on the front page; one that only reads is a link.
fn row(route: &Route) -> String {
    let Route {
        method, path, what, ..
    } = route;
    let path = format!("/sandbox{path}");
    let shown = match *method == "GET" && !path.contains('{') {
        true => format!("<a href={path}>{path}</a>"),
        false => path,
    };
    format!("<tr><td>{method}<td>{shown}<td>{what}\n")
}
