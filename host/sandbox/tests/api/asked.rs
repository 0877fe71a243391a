//! What a job may ask for beyond the usual: all of it is in the payload as GitLab has it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use springtide_sandbox::{JobSpec, JobStatus};

use crate::common::*;

#[tokio::test]
async fn steps_hooks_features_and_a_patch_are_in_the_payload() {
    let sandbox = sandbox(|_| {}).await;
    let spec = json!({
        "script": ["a"], "after_script": ["z"],
        "variables": {"A": "first"},
        "variable_list": [
            {"key": "A", "value": "second"}, {"key": "B\nC", "value": "", "masked": true},
        ],
        "hooks": {"pre_get_sources_script": ["before"]},
        "steps": [{"name": "release", "script": ["r"], "allow_failure": true}],
        "credentials": [{"type": "registry", "password": "x"}],
        "features": {"trace_sections": false},
        "depth": 0,
        "payload": {"runner_info": {"timeout": 0}, "image": null, "secrets": {"S": {"file": true}}},
    });
    let spec: JobSpec = serde_json::from_value(spec).expect("a spec");
    sandbox.submit(spec).expect("a job");
    let payload = Runner::of(&sandbox).take().await.payload;
    for (pointer, expected) in [
        ("/steps/1/name", json!("release")),
        ("/steps/1/when", json!("on_success")),
        ("/steps/1/allow_failure", json!(true)),
        ("/steps/2/name", json!("after_script")),
        (
            "/hooks/0",
            json!({"name": "pre_get_sources_script", "script": ["before"]}),
        ),
        ("/credentials/0/password", json!("x")),
        ("/features/trace_sections", json!(false)),
        ("/features/token_mask_prefixes/0", json!("glpat-")),
        (
            "/git_info/refspecs",
            json!([
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*"
            ]),
        ),
        ("/runner_info/timeout", json!(0)),
        ("/runner_info/uuid", json!("")),
        ("/secrets/S/file", json!(true)),
    ] {
        assert_eq!(payload.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(payload.get("image").is_none());
    let variables = payload["variables"].as_array().expect("variables");
    let last: Vec<&Value> = variables.iter().rev().take(3).collect();
    assert_eq!(last[2]["value"], "first");
    assert_eq!(
        (&last[1]["value"], &last[1]["public"]),
        (&json!("second"), &json!(true))
    );
    assert_eq!(
        (&last[0]["key"], &last[0]["public"]),
        (&json!("B\nC"), &json!(false))
    );
}

#[tokio::test]
async fn run_is_in_place_of_a_script_and_a_text() {
    let sandbox = sandbox(|_| {}).await;
    let spec = JobSpec {
        run: Some(json!([{"name": "a"}])),
        ..JobSpec::default()
    };
    sandbox.submit(spec).expect("a job");
    let payload = Runner::of(&sandbox).take().await.payload;
    assert_eq!(payload["run"], r#"[{"name":"a"}]"#);
    assert_eq!(payload["steps"], json!([]));
}

#[tokio::test]
async fn what_is_told_of_an_upload_is_kept() {
    let sandbox = sandbox(|_| {}).await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    let path =
        format!("jobs/{id}/artifacts?artifact_type=junit&artifact_format=gzip&expire_in=1%20week");
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"j.gz\"\r\n\r\nx\r\n--b--\r\n";
    let answer = runner
        .call(Method::POST, &path)
        .header("job-token", &job.token)
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 201);
    let kept = &sandbox.job(id).expect("a job").artifacts[0];
    let kept = [&kept.kind, &kept.format, &kept.expire_in, &kept.filename];
    assert_eq!(kept, ["junit", "gzip", "1 week", "j.gz"]);
    assert!(!sandbox.job(id).expect("a job").debug_trace);
    let traced = runner
        .call(Method::PATCH, &format!("jobs/{id}/trace?debug_trace=true"))
        .header("job-token", &job.token)
        .header("content-type", "text/plain")
        .header("content-range", "0-0")
        .body("x")
        .send()
        .await
        .expect("an answer");
    assert_eq!(traced.status(), 202);
    assert!(sandbox.job(id).expect("a job").debug_trace);
}

#[tokio::test]
async fn a_cancel_by_force_asks_nobody() {
    let sandbox = sandbox(|_| {}).await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox).with("cancel_gracefully");
    let job = runner.take().await;
    runner.state(&job, "running").await;
    assert!(sandbox.cancel_at_once(id));
    assert!(!sandbox.cancel_at_once(id) && !sandbox.cancel_at_once(id + 1));
    let answer = runner.patch(&job, 0, "x").await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "job-status")),
        (403, "canceled")
    );
    let canceled = sandbox
        .wait_for_job(id, |job, _| job.status.is_final(), Duration::from_secs(5))
        .await;
    assert_eq!(canceled.expect("the job").status, JobStatus::Canceled);
    let never = sandbox.wait_for_job(id + 1, |_, _| true, Duration::from_millis(20));
    assert!(never.await.is_err());
    no_violations(&sandbox);
}
