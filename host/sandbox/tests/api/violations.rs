//! Each rule broken once, and noted as what it is.

use std::future::Future;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use springtide_sandbox::{JobSpec, Rule, Sandbox};

use crate::common::*;

async fn running(sandbox: &Sandbox, runner: &Runner) -> Job {
    sandbox.submit(job()).expect("a job");
    let job = runner.take().await;
    assert_eq!(runner.state(&job, "running").await.status(), 200);
    job
}

/// Breaks a rule against a sandbox of its own; that rule and no other must be noted.
async fn breaks<F: Future<Output = ()>>(
    rule: Rule,
    act: impl FnOnce(std::sync::Arc<Sandbox>, Runner) -> F,
) {
    let sandbox = std::sync::Arc::new(sandbox(|options| options.requests_per_minute = 3).await);
    let runner = Runner::of(&sandbox);
    act(sandbox.clone(), runner).await;
    let found = sandbox.violations();
    assert!(
        found.len() == 1 && found[0].rule == rule,
        "{rule} expected, {found:#?} found"
    );
    let text = serde_json::to_string(&found).expect("JSON");
    assert!(
        !text.contains("glrt-") && !text.contains("glcbt-"),
        "{text}"
    );
}

async fn send(call: RequestBuilder) -> u16 {
    call.send().await.expect("an answer").status().as_u16()
}

fn verify(runner: &Runner, body: &Value) -> RequestBuilder {
    runner
        .call(Method::POST, "runners/verify")
        .header("runner-token", TOKEN)
        .header("content-type", "application/json")
        .body(body.to_string())
}

#[tokio::test]
async fn rules_of_a_runners_requests() {
    let good = json!({"info": info(json!({"a": true})), "token": TOKEN, "system_id": SYSTEM});
    let changed = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let cases = [
        (Rule::SystemId, changed("system_id", Value::Null), 200),
        (
            Rule::SystemId,
            changed("system_id", json!("x_0123456789ab")),
            200,
        ),
        (Rule::SystemId, changed("system_id", json!("s_0123")), 200),
        (Rule::Info, changed("info", Value::Null), 200),
        (
            Rule::Info,
            changed("info", json!({"features": {"a": 1}})),
            200,
        ),
        (Rule::Info, changed("info", json!({})), 200),
        (Rule::BodyNotJson, json!([1]), 400),
    ];
    for (rule, body, status) in cases {
        breaks(rule, |_, runner| async move {
            assert_eq!(send(verify(&runner, &body)).await, status, "{rule}");
        })
        .await;
    }
    let url = "runners/verify";
    let text = good.to_string();
    breaks(Rule::ContentType, |_, runner| async move {
        let call = runner.call(Method::POST, url).header("runner-token", TOKEN);
        assert_eq!(send(call.body(text)).await, 200);
    })
    .await;
    breaks(Rule::RunnerTokenHeader, |_, runner| async move {
        assert_eq!(send(runner.call(Method::POST, url).json(&good)).await, 200);
    })
    .await;
    breaks(Rule::UnknownToken, |_, runner| async move {
        assert_eq!(runner.named("glrt-unknown").ask(None).await.status(), 403);
    })
    .await;
    breaks(Rule::PollTooFast, |_, runner| async move {
        for _ in 0..3 {
            assert_eq!(runner.ask(None).await.status(), 204);
        }
        assert_eq!(runner.ask(None).await.status(), 429);
    })
    .await;
}

#[tokio::test]
async fn rules_of_updates() {
    breaks(Rule::JobTokenHeader, |sandbox, runner| async move {
        let job = running(&sandbox, &runner).await;
        let body = json!({"state": "running", "token": job.token, "info": info(json!({}))});
        let call = runner.call(Method::PUT, &format!("jobs/{}", job.id));
        assert_eq!(send(call.json(&body)).await, 200);
    })
    .await;
    breaks(Rule::NotStarted, |sandbox, runner| async move {
        sandbox.submit(job()).expect("a job");
        let job = runner.take().await;
        assert_eq!(runner.finish(&job, "success", "").await.status(), 200);
    })
    .await;
    breaks(Rule::AfterFinal, |sandbox, runner| async move {
        let job = running(&sandbox, &runner).await;
        runner.finish(&job, "success", "").await;
        assert_eq!(runner.patch(&job, 0, "late").await.status(), 403);
    })
    .await;
    breaks(Rule::ForeignJob, |sandbox, runner| async move {
        let jobs = JobSpec {
            count: Some(2),
            ..job()
        };
        sandbox.submit_all(jobs).expect("jobs");
        let (first, mut second) = (runner.take().await, runner.take().await);
        second.token = first.token;
        assert_eq!(runner.state(&second, "running").await.status(), 403);
    })
    .await;
    let end = |state: &str, key: &str, value: Value| {
        let mut body = last(state, "abc");
        body[key] = value;
        body
    };
    let unsummed = json!({"state": "success", "output": {"bytesize": 3}});
    let cases = [
        (Rule::ChecksumMissing, unsummed),
        (Rule::ChecksumMissing, end("success", "output", json!({}))),
        (Rule::TraceDiffers, last("success", "abd")),
        (Rule::TraceDiffers, last("success", "abcd")),
        (
            Rule::ExitCodeOnSuccess,
            end("success", "exit_code", json!(2)),
        ),
        (
            Rule::FailureReason,
            end("failed", "failure_reason", json!("bad_luck")),
        ),
    ];
    for (rule, body) in cases {
        breaks(rule, |sandbox, runner| async move {
            let job = running(&sandbox, &runner).await;
            assert_eq!(runner.patch(&job, 0, "abc").await.status(), 202);
            assert_eq!(runner.put(&job, body).await.status(), 200);
        })
        .await;
    }
}

#[tokio::test]
async fn rules_of_traces() {
    let cases = [
        (Rule::ContentType, None, Some("0-2"), "abc", 202),
        (Rule::ContentRange, Some("text/plain"), None, "abc", 400),
        (
            Rule::ContentRange,
            Some("text/plain"),
            Some("0-3"),
            "abc",
            202,
        ),
        (Rule::EmptyPatch, Some("text/plain"), Some("0-0"), "", 202),
        (
            Rule::TraceRange,
            Some("text/plain"),
            Some("5-7"),
            "abc",
            416,
        ),
    ];
    for (rule, kind, range, part, status) in cases {
        breaks(rule, |sandbox, runner| async move {
            let job = running(&sandbox, &runner).await;
            let mut call = runner
                .call(Method::PATCH, &format!("jobs/{}/trace", job.id))
                .header("job-token", &job.token)
                .body(part);
            if let Some(kind) = kind {
                call = call.header("content-type", kind);
            }
            if let Some(range) = range {
                call = call.header("content-range", range);
            }
            assert_eq!(send(call).await, status, "{rule} {range:?}");
        })
        .await;
    }
    for start in [1, 0] {
        breaks(Rule::TraceRange, |sandbox, runner| async move {
            let job = running(&sandbox, &runner).await;
            assert_eq!(runner.patch(&job, 0, "abc").await.status(), 202);
            // Beginning again is fine once; ignoring the 416 is not.
            if start == 0 {
                assert_eq!(runner.patch(&job, 0, "abc").await.status(), 416);
            }
            assert_eq!(runner.patch(&job, start, "bcd").await.status(), 416);
        })
        .await;
    }
    breaks(Rule::UnknownToken, |sandbox, runner| async move {
        let mut job = running(&sandbox, &runner).await;
        job.token = "glcbt-unknown".to_owned();
        assert_eq!(runner.patch(&job, 0, "abc").await.status(), 403);
    })
    .await;
}
