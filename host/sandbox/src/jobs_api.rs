//! What a runner says of a job it has: it is still preparing, it runs it, it is over.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use crate::asked::{Asked, refuse};
use crate::job::{Job, JobStatus, Phase};
use crate::ledger::{Bearer, Ledger};
use crate::payload::FAILURE_REASONS;
use crate::server::Shared;
use crate::violations::Rule;

/// A runner may have sent a word or two before it heard that the job is over.
const CROSSING: Duration = Duration::from_secs(5);

/// An answer about a job: the status as text, and the headers a runner acts on.
pub(crate) struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
        }
    }

    pub(crate) fn job(status: StatusCode, job: JobStatus) -> Self {
        Self::new(status).with("job-status", job.as_str())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = if self.status.is_success() {
            (self.status, self.status.as_u16().to_string()).into_response()
        } else {
            refuse(self.status)
        };
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Whether a token may speak for a job that is not over, and what to answer where not. The rule
/// that was broken goes to `broken`.
pub(crate) fn admit(
    ledger: &mut Ledger,
    id: u64,
    token: Option<&str>,
    now: Duration,
    mut broken: impl FnMut(Rule, String),
) -> Result<Phase, Answer> {
    let forbidden = || Answer::new(StatusCode::FORBIDDEN);
    match ledger.bearer(id, token) {
        Bearer::Holder => {}
        Bearer::Former => return Err(Answer::new(StatusCode::CONFLICT)),
        Bearer::Stranger => {
            broken(
                Rule::ForeignJob,
                "the token is another job's token".to_owned(),
            );
            return Err(forbidden());
        }
        Bearer::Unknown => {
            broken(
                Rule::UnknownToken,
                "the job's token is not known".to_owned(),
            );
            return Err(forbidden());
        }
    }
    let Some(job) = ledger.jobs.get_mut(&id) else {
        return Err(forbidden());
    };
    let status = job.status();
    if !status.is_final() {
        return Ok(job.phase);
    }
    let excused = std::mem::take(&mut job.answer_lost);
    if !excused && job.quiet_from.is_some_and(|from| now >= from) {
        broken(
            Rule::AfterFinal,
            format!("the job is over, its state is {}", status.as_str()),
        );
    }
    job.quiet_from.get_or_insert(now + CROSSING);
    Err(Answer::job(StatusCode::FORBIDDEN, status))
}

/// `PUT jobs/:id`.
pub(crate) async fn update(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut asked = Asked::read(format!("PUT jobs/{id}"), &headers, &body);
    let token = asked.job_token();
    if asked.is_json() {
        asked.check_info();
    }
    shared.with(|ledger, now| {
        let answer = if asked.is_json() {
            put(ledger, id, token.as_deref(), &mut asked, now)
        } else {
            Answer::new(StatusCode::BAD_REQUEST)
        };
        ledger.note_job(id, &asked.what, asked.findings, now);
        answer.into_response()
    })
}

fn put(
    ledger: &mut Ledger,
    id: u64,
    token: Option<&str>,
    asked: &mut Asked,
    now: Duration,
) -> Answer {
    let phase = match admit(ledger, id, token, now, |rule, detail| {
        asked.note(rule, detail);
    }) {
        Ok(phase) => phase,
        Err(answer) => return answer,
    };
    let state = asked.str("state").unwrap_or_default().to_owned();
    let ok = |status: JobStatus| Answer::job(StatusCode::OK, status);
    match (state.as_str(), phase) {
        ("pending", Phase::Offered { .. }) => {
            ledger.keep_offer(id, now);
            ok(JobStatus::Pending)
        }
        ("pending", _) => Answer::job(StatusCode::CONFLICT, phase.status()),
        ("running", _) => {
            ledger.start(id, now);
            let status = ledger.jobs.get(&id).map_or(JobStatus::Running, Job::status);
            ok(status)
        }
        ("success" | "failed", Phase::Offered { .. }) => {
            asked.note(
                Rule::NotStarted,
                format!("{state} of a job that was offered and not accepted"),
            );
            Answer::job(StatusCode::BAD_REQUEST, JobStatus::Pending)
        }
        ("success" | "failed", _) => finish(ledger, id, &state, asked, now),
        _ => Answer::job(StatusCode::BAD_REQUEST, phase.status()),
    }
}

fn finish(ledger: &mut Ledger, id: u64, state: &str, asked: &mut Asked, now: Duration) -> Answer {
    let Some(job) = ledger.jobs.get_mut(&id) else {
        return Answer::new(StatusCode::FORBIDDEN);
    };
    let output = asked.body().get("output").cloned().unwrap_or_default();
    let checksum = output["checksum"]
        .as_str()
        .or(asked.str("checksum"))
        .map(str::to_owned);
    if checksum.is_some() && job.accepted_left > 0 {
        job.accepted_left -= 1;
        return Answer::job(StatusCode::ACCEPTED, job.status())
            .with("x-gitlab-trace-update-interval", 1);
    }
    if !job.holder.as_ref().is_some_and(|holder| holder.started) {
        asked.note(Rule::NotStarted, format!("{state} came before running"));
    }
    match (checksum, output["bytesize"].as_u64()) {
        (Some(checksum), Some(size)) => {
            let (stored, length) = (job.trace.checksum(), job.trace.len());
            if checksum != stored || size != length {
                asked.note(
                    Rule::TraceDiffers,
                    format!("{checksum} of {size} bytes was sent, {stored} of {length} bytes came"),
                );
            }
        }
        (checksum, _) => {
            let missing = match checksum {
                None => "output.checksum",
                Some(_) => "output.bytesize",
            };
            asked.note(Rule::ChecksumMissing, format!("{missing} is missing"));
        }
    }
    let exit_code = asked.body().get("exit_code").and_then(Value::as_i64);
    job.exit_code = exit_code;
    job.quiet_from = Some(now);
    let canceling = job.phase == Phase::Canceling;
    let mut reason = None;
    if state == "success" {
        if let Some(code) = exit_code.filter(|code| *code != 0) {
            asked.note(Rule::ExitCodeOnSuccess, format!("the exit code is {code}"));
        }
    } else {
        let given = asked.str("failure_reason").unwrap_or("unknown_failure");
        let given = given.to_owned();
        if !FAILURE_REASONS.contains(&given.as_str()) {
            asked.note(
                Rule::FailureReason,
                format!("{given:?} is not among those the job offered"),
            );
        }
        reason = Some(given);
    }
    let phase = match state {
        _ if canceling => Phase::Canceled,
        "success" => Phase::Success,
        _ => Phase::Failed,
    };
    ledger.end(id, phase, reason, now);
    Answer::job(StatusCode::OK, phase.status())
}
