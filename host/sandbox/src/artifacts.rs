//! `jobs/:id/artifacts`: files a job leaves, and the jobs after it take. Kept in memory.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::asked::{refuse, text};
use crate::job::Artifact;
use crate::jobs_api::{Answer, admit};
use crate::ledger::{Bearer, Ledger};
use crate::queue_api::pairs;
use crate::server::Shared;
use crate::violations::{Finding, Rule};

/// What the envelope of a multipart body may take beside the file, in bytes.
const ENVELOPE: usize = 64 * 1024;

/// Whether the request may leave files for the job.
fn may_upload(shared: &Shared, id: u64, headers: &HeaderMap, what: &str) -> Result<usize, Answer> {
    shared.with(|ledger, now| {
        let mut findings: Vec<Finding> = Vec::new();
        let token = text(headers, "job-token");
        if token.is_none() {
            findings.push((
                Rule::JobTokenHeader,
                "the header JOB-TOKEN is missing".to_owned(),
            ));
        }
        let admitted = match token {
            None => Err(Answer::new(StatusCode::FORBIDDEN)),
            Some(_) => admit(ledger, id, token, now, |rule, detail| {
                findings.push((rule, detail));
            })
            .map(|_| ledger.options.artifact_limit),
        };
        ledger.note_job(id, what, findings, now);
        admitted
    })
}

/// `POST jobs/:id/artifacts/authorize`.
pub(crate) async fn authorize(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Response {
    match may_upload(
        &shared,
        id,
        &headers,
        &format!("POST jobs/{id}/artifacts/authorize"),
    ) {
        Ok(limit) => Json(json!({ "TempPath": "", "MaximumSize": limit })).into_response(),
        Err(answer) => answer.into_response(),
    }
}

/// `POST jobs/:id/artifacts`.
pub(crate) async fn upload(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let what = format!("POST jobs/{id}/artifacts");
    let limit = match may_upload(&shared, id, &headers, &what) {
        Ok(limit) => limit,
        Err(answer) => return answer.into_response(),
    };
    let Ok(body) = to_bytes(body, limit.saturating_add(ENVELOPE)).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let kind = text(&headers, "content-type").unwrap_or_default();
    let Some((filename, bytes)) = boundary(kind).and_then(|boundary| file_part(&body, boundary))
    else {
        shared.with(|ledger, now| {
            let problem = (
                Rule::ContentType,
                format!("no part `file` in a body of type {kind:?}"),
            );
            ledger.note_job(id, &what, vec![problem], now);
        });
        return refuse(StatusCode::BAD_REQUEST);
    };
    if bytes.len() > limit {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let query = pairs(query.as_deref());
    let value = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let kind = value("artifact_type").unwrap_or_else(|| "archive".to_owned());
    let format = value("artifact_format").unwrap_or_default();
    let expire_in = value("expire_in").unwrap_or_default();
    shared.with(|ledger, _| {
        let Some(job) = ledger.jobs.get_mut(&id) else {
            return refuse(StatusCode::FORBIDDEN);
        };
        job.artifacts.retain(|artifact| artifact.kind != kind);
        job.artifacts.push(Artifact {
            kind,
            format,
            expire_in,
            filename,
            bytes,
        });
        ledger.revision += 1;
        (StatusCode::CREATED, "201").into_response()
    })
}

/// `GET jobs/:id/artifacts`, with the token of that job.
pub(crate) async fn download(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Response {
    shared.with(|ledger, _| found(ledger, id, text(&headers, "job-token")))
}

fn found(ledger: &Ledger, id: u64, token: Option<&str>) -> Response {
    match ledger.bearer(id, token) {
        Bearer::Holder => {}
        Bearer::Unknown if token.is_none() => return refuse(StatusCode::UNAUTHORIZED),
        _ => return refuse(StatusCode::FORBIDDEN),
    }
    let archive = ledger.jobs.get(&id).and_then(|job| {
        job.artifacts
            .iter()
            .find(|artifact| artifact.kind == "archive")
    });
    let Some(archive) = archive else {
        return refuse(StatusCode::NOT_FOUND);
    };
    let name: String = archive
        .filename
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != '"')
        .collect();
    (
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"{name}\""),
            ),
        ],
        archive.bytes.clone(),
    )
        .into_response()
}

fn boundary(content_type: &str) -> Option<&str> {
    let rest = content_type.strip_prefix("multipart/form-data")?;
    let value = rest
        .split(';')
        .find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"')).filter(|value| !value.is_empty())
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The name and content of the part called `file`.
fn file_part(body: &Bytes, boundary: &str) -> Option<(String, Bytes)> {
    let mark = format!("--{boundary}");
    let end = format!("\r\n--{boundary}");
    let mut at = position(body, mark.as_bytes())? + mark.len();
    loop {
        let head = at + position(&body[at..], b"\r\n")? + 2;
        let content = head + position(&body[head..], b"\r\n\r\n")? + 4;
        let close = content + position(&body[content..], end.as_bytes())?;
        let headers = String::from_utf8_lossy(&body[head..content]);
        if let Some(filename) = file_name(&headers) {
            return Some((filename, body.slice(content..close)));
        }
        at = close + end.len();
        if body[at..].starts_with(b"--") {
            return None;
        }
    }
}

fn file_name(headers: &str) -> Option<String> {
    let line = headers.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("content-disposition:")
    })?;
    let value = |key: &str| {
        line.split(';').find_map(|part| {
            let value = part.trim().strip_prefix(key)?.strip_prefix('=')?;
            Some(value.trim_matches('"').to_owned())
        })
    };
    (value("name")? == "file").then(|| value("filename").unwrap_or_else(|| "file".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_among_the_parts() {
        let part = |name: &str, extra: &str, content: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n{content}\r\n"
            )
        };
        let file = part("file", "; filename=\"a.zip\"", "PK\r\n--x");
        let found = Some(("a.zip".to_owned(), Bytes::from("PK\r\n--x")));
        for (body, expected) in [
            (format!("{file}--b--\r\n"), found.clone()),
            (format!("{}{file}--b--\r\n", part("other", "", "x")), found),
            (format!("{}--b--\r\n", part("other", "", "x")), None),
            (file.trim_end().to_owned(), None),
            ("--b".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(
                file_part(&Bytes::from(body.clone()), "b"),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn the_boundary_of_a_type() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "multipart/form-data; charset=x; boundary=\"a b\"",
                Some("a b"),
            ),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data", None),
            ("application/zip; boundary=abc", None),
        ] {
            assert_eq!(boundary(kind), expected, "{kind}");
        }
    }
}
