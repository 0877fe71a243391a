//! Parts of a trace, and how sender and receiver find together again.

use reqwest::Method;
use springtide_sandbox::{Endpoint, Fault, FaultKind, JobStatus};

use crate::common::*;

#[tokio::test]
async fn parts_are_taken_where_the_last_one_ended() {
    let sandbox = sandbox(|options| options.trace_update_interval = 7).await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    for (start, part, status, range) in [
        (0, "abc", 202, "0-3"),
        (3, "def", 202, "0-6"),
        // A manager that was restarted knows nothing of what was sent.
        (0, "abc", 416, "0-6"),
        (6, "g", 202, "0-7"),
    ] {
        let response = runner.patch(&job, start, part).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "range")),
            (status, range),
            "{start} {part}"
        );
        assert_eq!(header(&response, "job-status"), "running");
        let interval = if status == 202 { "7" } else { "" };
        assert_eq!(
            header(&response, "x-gitlab-trace-update-interval"),
            interval
        );
    }
    assert_eq!(&sandbox.trace(id)[..], b"abcdefg");
    assert_eq!(
        runner.finish(&job, "success", "abcdefg").await.status(),
        200
    );
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_forgotten_tail_is_sent_again_and_the_trace_is_whole() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.fault(Fault::times(Endpoint::Trace, FaultKind::Truncate, 1));
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    assert_eq!(runner.patch(&job, 0, "abcdef").await.status(), 202);
    let behind = runner.patch(&job, 6, "gh").await;
    assert_eq!(
        (behind.status().as_u16(), header(&behind, "range")),
        (416, "0-3")
    );
    assert_eq!(runner.patch(&job, 3, "defgh").await.status(), 202);
    runner.finish(&job, "success", "abcdefgh").await;
    assert_eq!(&sandbox.trace(id)[..], b"abcdefgh");
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_part_is_refused_without_its_range_or_token() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    let path = format!("jobs/{}/trace", job.id);
    for (token, range, status) in [
        (Some(job.token.as_str()), None, 400),
        (Some(job.token.as_str()), Some("bytes 0-2/3"), 400),
        (Some("glcbt-unknown"), Some("0-2"), 403),
        (None, Some("0-2"), 403),
        (Some(job.token.as_str()), Some("0-2"), 202),
    ] {
        let mut call = runner
            .call(Method::PATCH, &path)
            .header("content-type", "text/plain")
            .body("abc");
        if let Some(token) = token {
            call = call.header("job-token", token);
        }
        if let Some(range) = range {
            call = call.header("content-range", range);
        }
        let response = call.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{range:?}");
    }
}

#[tokio::test]
async fn a_trace_beyond_the_limit_fails_the_job() {
    let sandbox = sandbox(|options| options.trace_limit = 4).await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    assert_eq!(runner.patch(&job, 0, "abcd").await.status(), 202);
    let beyond = runner.patch(&job, 4, "e").await;
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, "job-status")),
        (403, "failed")
    );
    let view = sandbox.job(id).expect("a job");
    assert_eq!(view.status, JobStatus::Failed);
    assert_eq!(view.failure_reason.as_deref(), Some("trace_size_exceeded"));
}
