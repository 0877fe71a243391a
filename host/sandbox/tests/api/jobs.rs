//! The payload, the states of a job, two-phase acceptance, cancelling and artifacts.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use springtide_sandbox::{JobSpec, JobStatus, VariableSpec};

use crate::common::*;

#[tokio::test]
async fn the_payload_has_what_was_asked_for_and_what_gitlab_sets() {
    let sandbox = sandbox(|_| {}).await;
    let spec = JobSpec {
        name: Some("build".to_owned()),
        after_script: vec!["echo bye".to_owned()],
        variables: [
            ("PLAIN".to_owned(), "1".into()),
            ("SECRET".to_owned(), VariableSpec::masked("hush-hush")),
        ]
        .into(),
        timeout: Some(60),
        image: Some(json!("ruby:3")),
        services: vec![json!({"name": "redis", "alias": "r"})],
        artifacts: Some(json!({"paths": ["out/"]})),
        cache: Some(json!([{"key": "k", "paths": ["v/"]}])),
        ..job()
    };
    sandbox.submit(spec).expect("a job");
    let job = Runner::of(&sandbox).take().await;
    let payload = &job.payload;
    for (pointer, expected) in [
        ("/job_info/name", json!("build")),
        ("/job_info/project_full_path", json!("sandbox/project")),
        (
            "/job_info/project_jobs_running_on_instance_runners_count",
            json!("1"),
        ),
        ("/runner_info/timeout", json!(60)),
        ("/steps/0/script/0", json!("echo hello")),
        ("/steps/1/name", json!("after_script")),
        ("/steps/1/when", json!("always")),
        ("/image/name", json!("ruby:3")),
        ("/services/0/alias", json!("r")),
        ("/artifacts/0/artifact_format", json!("zip")),
        ("/artifacts/0/paths/0", json!("out/")),
        ("/cache/0/policy", json!("pull-push")),
        ("/features/trace_sections", json!(true)),
        ("/git_info/ref", json!("main")),
    ] {
        assert_eq!(payload.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(payload["job_info"]["time_in_queue_seconds"].is_number());
    let variable = |key: &str| {
        let list = payload["variables"].as_array().expect("variables");
        list.iter()
            .find(|variable| variable["key"] == key)
            .unwrap_or_else(|| panic!("{key}"))
            .clone()
    };
    for (key, value, masked) in [
        ("CI", "true", false),
        ("CI_JOB_ID", "1", false),
        ("CI_JOB_TOKEN", job.token.as_str(), true),
        ("CI_PROJECT_PATH", "sandbox/project", false),
        ("GIT_STRATEGY", "none", false),
        ("PLAIN", "1", false),
        ("SECRET", "hush-hush", true),
    ] {
        let found = variable(key);
        assert_eq!(
            (&found["value"], &found["masked"]),
            (&json!(value), &json!(masked)),
            "{key}"
        );
        assert_eq!(found["public"], !masked, "{key}");
    }
    let repository = variable("CI_REPOSITORY_URL")["value"].clone();
    assert_eq!(repository, payload["git_info"]["repo_url"]);
    assert!(repository.as_str().is_some_and(|url| {
        url.contains(&format!("gitlab-ci-token:{}@", job.token))
            && url.ends_with("sandbox/project.git")
    }));
}

#[tokio::test]
async fn a_job_is_taken_run_and_finished_once() {
    let sandbox = sandbox(|options| options.accepted_first = 1).await;
    let runner = Runner::of(&sandbox);
    for (state, end) in [
        ("success", JobStatus::Success),
        ("failed", JobStatus::Failed),
    ] {
        let id = sandbox.submit(job()).expect("a job");
        let job = runner.take().await;
        assert_eq!(runner.state(&job, "odd").await.status(), 400);
        assert_eq!(runner.state(&job, "pending").await.status(), 409);
        let running = runner.state(&job, "running").await;
        assert_eq!(
            (running.status().as_u16(), header(&running, "job-status")),
            (200, "running")
        );
        assert_eq!(runner.patch(&job, 0, "hello\n").await.status(), 202);
        let kept = runner.finish(&job, state, "hello\n").await;
        assert_eq!(kept.status(), 202);
        assert_eq!(header(&kept, "x-gitlab-trace-update-interval"), "1");
        let done = runner.finish(&job, state, "hello\n").await;
        assert_eq!(
            (done.status().as_u16(), header(&done, "job-status")),
            (200, end.as_str())
        );
        assert_eq!(done.text().await.expect("text"), "200");
        let view = sandbox.job(id).expect("a job");
        assert_eq!(
            (view.status, view.assignments, view.trace_bytes),
            (end, 1, 6)
        );
        let times = view.timings;
        assert!(times.assigned <= times.started && times.started <= times.finished);
        assert!(times.first_trace_byte.is_some());
        let again = runner.finish(&job, state, "hello\n").await;
        assert_eq!(
            (again.status().as_u16(), header(&again, "job-status")),
            (403, end.as_str())
        );
    }
    let failed = sandbox.job(2).expect("a job");
    assert_eq!(failed.exit_code, Some(1));
    assert_eq!(failed.failure_reason.as_deref(), Some("script_failure"));
}

#[tokio::test]
async fn an_offered_job_stays_pending_until_it_is_accepted() {
    let sandbox = sandbox(|options| options.two_phase = true).await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox).with("two_phase_job_commit");
    let job = runner.take().await;
    let view = sandbox.job(id).expect("a job");
    assert!(view.offered && view.status == JobStatus::Pending);
    assert_eq!(runner.ask(None).await.status(), 204);
    for (state, status) in [
        ("pending", 200),
        ("success", 400),
        ("pending", 200),
        ("running", 200),
        ("pending", 409),
    ] {
        assert_eq!(runner.state(&job, state).await.status(), status, "{state}");
    }
    assert_eq!(sandbox.job(id).expect("a job").status, JobStatus::Running);
}

#[tokio::test]
async fn an_offer_that_is_not_accepted_goes_to_the_next_who_asks() {
    let sandbox = sandbox(|options| {
        options.two_phase = true;
        options.offer_expiry = Duration::from_millis(50);
    })
    .await;
    let id = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox).with("two_phase_job_commit");
    let first = runner.take().await;
    sandbox
        .wait_for(|jobs| !jobs[0].offered, PATIENCE)
        .await
        .expect("the offer runs out");
    let second = Runner::of(&sandbox).take().await;
    assert_eq!(
        (second.id, sandbox.job(id).expect("a job").assignments),
        (id, 2)
    );
    for state in ["pending", "running"] {
        assert_eq!(runner.state(&first, state).await.status(), 409, "{state}");
    }
    assert_eq!(runner.state(&second, "running").await.status(), 200);
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_cancel_is_graceful_where_the_runner_can_do_that() {
    let sandbox = sandbox(|_| {}).await;
    for (graceful, while_it_ends, status) in [(false, "canceled", 403), (true, "canceling", 202)] {
        let mut runner = Runner::of(&sandbox);
        if graceful {
            runner = runner.with("cancel_gracefully");
        }
        let id = sandbox.submit(job()).expect("a job");
        let job = runner.take().await;
        runner.state(&job, "running").await;
        assert!(sandbox.cancel(id));
        let response = runner.patch(&job, 0, "x").await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "job-status")),
            (status, while_it_ends)
        );
        if graceful {
            let mut end = last("failed", "x");
            end["failure_reason"] = json!("job_canceled");
            assert_eq!(
                header(&runner.put(&job, end).await, "job-status"),
                "canceled"
            );
        }
        assert_eq!(sandbox.job(id).expect("a job").status, JobStatus::Canceled);
        assert!(!sandbox.cancel(id));
    }
    let waiting = sandbox.submit(job()).expect("a job");
    assert!(sandbox.cancel(waiting));
    assert_eq!(Runner::of(&sandbox).ask(None).await.status(), 204);
    no_violations(&sandbox);
}

#[tokio::test]
async fn artifacts_are_kept_for_the_jobs_after() {
    let sandbox = sandbox(|options| options.artifact_limit = 1000).await;
    let first = sandbox.submit(job()).expect("a job");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    let path = format!("jobs/{first}/artifacts");
    let upload = |token: &str, body: String| {
        runner
            .call(Method::POST, &format!("{path}?artifact_type=archive"))
            .header("job-token", token)
            .header("content-type", "multipart/form-data; boundary=b")
            .body(body)
            .send()
    };
    let body = |name: &str, size: usize| {
        let content = "z".repeat(size);
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.zip\"\r\n\r\n{content}\r\n--b--\r\n"
        )
    };
    for (token, body, status) in [
        ("glcbt-unknown", body("file", 10), 403),
        (&job.token, body("other", 10), 400),
        (&job.token, body("file", 1001), 413),
        (&job.token, body("file", 200_000), 413),
        (&job.token, body("file", 10), 201),
    ] {
        assert_eq!(
            upload(token, body).await.expect("an answer").status(),
            status
        );
    }
    let authorize = |token: &str| {
        runner
            .call(Method::POST, &format!("{path}/authorize"))
            .header("job-token", token)
            .send()
    };
    assert_eq!(
        authorize(&job.token).await.expect("an answer").status(),
        200
    );
    assert_eq!(authorize("x").await.expect("an answer").status(), 403);
    runner.state(&job, "running").await;
    runner.finish(&job, "success", "").await;

    let after = JobSpec {
        dependencies: vec![first],
        ..crate::common::job()
    };
    let second = sandbox.submit(after).expect("a job");
    let next = runner.take().await;
    let dependency = next.payload["dependencies"][0].clone();
    assert_eq!(
        dependency["artifacts_file"],
        json!({"filename": "a.zip", "size": 10})
    );
    let get = |id: u64, token: Option<&str>| {
        let mut call = runner.call(
            Method::GET,
            &format!("jobs/{id}/artifacts?direct_download=true"),
        );
        if let Some(token) = token {
            call = call.header("job-token", token);
        }
        call.send()
    };
    let given = dependency["token"].as_str();
    for (id, token, status) in [
        (first, None, 401),
        (first, Some("x"), 403),
        (second, Some(next.token.as_str()), 404),
        (first, given, 200),
    ] {
        assert_eq!(
            get(id, token).await.expect("an answer").status(),
            status,
            "{id}"
        );
    }
    let bytes = get(first, given)
        .await
        .expect("an answer")
        .bytes()
        .await
        .expect("bytes");
    assert_eq!(&bytes[..], b"zzzzzzzzzz");
    let view: Value = serde_json::to_value(sandbox.job(first)).expect("JSON");
    assert_eq!(view["artifacts"][0]["type"], "archive");
}
