//! `PATCH jobs/:id/trace`: a trace arrives in parts, each where the one before it ended.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use crate::asked::text;
use crate::faults::{Endpoint, FaultKind};
use crate::job::{JobStatus, Phase};
use crate::jobs_api::{Answer, admit};
use crate::ledger::Ledger;
use crate::queue_api::pairs;
use crate::server::Shared;
use crate::violations::{Finding, Rule};

/// Takes a part of a trace.
pub(crate) async fn patch(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let debug = pairs(query.as_deref())
        .iter()
        .any(|(key, value)| key == "debug_trace" && value == "true");
    shared.with(|ledger, now| {
        let mut findings = Vec::new();
        let answer = append(ledger, id, &headers, &body, now, &mut findings);
        if let Some(job) = ledger.jobs.get_mut(&id) {
            job.debug_trace |= debug;
        }
        ledger.note_job(id, &format!("PATCH jobs/{id}/trace"), findings, now);
        answer.into_response()
    })
}

/// The first and last byte's offset, as a runner writes them: `0-99`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

fn append(
    ledger: &mut Ledger,
    id: u64,
    headers: &HeaderMap,
    body: &Bytes,
    now: Duration,
    findings: &mut Vec<Finding>,
) -> Answer {
    let mut note = |rule: Rule, detail: String| findings.push((rule, detail));
    if text(headers, "content-type").is_none() {
        note(Rule::ContentType, "there is no Content-Type".to_owned());
    }
    let token = text(headers, "job-token");
    if token.is_none() {
        note(
            Rule::JobTokenHeader,
            "the header JOB-TOKEN is missing".to_owned(),
        );
        return Answer::new(StatusCode::FORBIDDEN);
    }
    match admit(ledger, id, token, now, &mut note) {
        Ok(Phase::Offered { .. }) => {
            note(
                Rule::NotStarted,
                "a trace of a job that was offered and not accepted".to_owned(),
            );
            return Answer::job(StatusCode::FORBIDDEN, JobStatus::Pending);
        }
        Ok(_) => {}
        Err(answer) => return answer,
    }
    let (limit, interval) = (
        ledger.options.trace_limit,
        ledger.options.trace_update_interval,
    );
    let Some(job) = ledger.jobs.get_mut(&id) else {
        return Answer::new(StatusCode::FORBIDDEN);
    };
    let status = job.status();
    if !job.holder.as_ref().is_some_and(|holder| holder.started) {
        note(Rule::NotStarted, "a trace came before running".to_owned());
    }
    let given = text(headers, "content-range");
    let Some((start, end)) = given.and_then(range) else {
        let given = given.map_or("missing".to_owned(), |given| format!("{given:?}"));
        note(Rule::ContentRange, format!("Content-Range is {given}"));
        return Answer::job(StatusCode::BAD_REQUEST, status);
    };
    let length = body.len() as u64;
    if length == 0 {
        note(Rule::EmptyPatch, "the body is empty".to_owned());
    } else if end.checked_add(1).and_then(|end| end.checked_sub(start)) != Some(length) {
        note(
            Rule::ContentRange,
            format!("Content-Range is {start}-{end}, the body has {length} bytes"),
        );
    }
    let forgot = job.trace.len() > 0
        && ledger.faults.inside(Endpoint::Trace, FaultKind::Truncate)
        && job.trace.forget_tail();
    let stored = job.trace.len();
    let excused = std::mem::take(&mut job.answer_lost) || forgot;
    if start != stored {
        // A manager that was restarted begins at 0 and is told how much there is.
        let again = job.trace.resume == Some(stored);
        if !excused && (start != 0 || again) {
            note(
                Rule::TraceRange,
                format!("the part starts at {start}, the trace ends at {stored}"),
            );
        }
        job.trace.resume = Some(stored);
        return Answer::job(StatusCode::RANGE_NOT_SATISFIABLE, status)
            .with("range", format!("0-{stored}"));
    }
    if stored.saturating_add(length) > limit {
        job.quiet_from = Some(now + Duration::from_secs(5));
        let reason = "trace_size_exceeded".to_owned();
        ledger.end(id, Phase::Failed, Some(reason), now);
        return Answer::job(StatusCode::FORBIDDEN, JobStatus::Failed);
    }
    job.trace.append(body);
    if length > 0 {
        job.times.first_trace_byte.get_or_insert(now);
    }
    let range = format!("0-{}", job.trace.len());
    ledger.revision += 1;
    Answer::job(StatusCode::ACCEPTED, status)
        .with("range", range)
        .with("x-gitlab-trace-update-interval", interval)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_as_runners_write_them() {
        for (text, expected) in [
            ("0-0", Some((0, 0))),
            ("10-19", Some((10, 19))),
            ("bytes 0-9/10", None),
            ("0-9/10", None),
            ("-9", None),
            ("9", None),
            ("", None),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
    }
}
