//! Registering, verifying, leaving, and asking for jobs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use springtide_sandbox::{JobSpec, RunnerSeed};

use crate::common::*;

#[tokio::test]
async fn each_request_of_a_runners_life_has_its_statuses() {
    let sandbox = sandbox(|_| {}).await;
    let good = Runner::of(&sandbox);
    let bad = Runner::of(&sandbox).named("glrt-unknown");
    let about = || json!({"info": info(json!({})), "system_id": SYSTEM});
    let (post, delete) = (Method::POST, Method::DELETE);
    let cases = [
        (&good, &post, "runners/verify", 200),
        (&bad, &post, "runners/verify", 403),
        (&bad, &post, "runners", 403),
        (&bad, &post, "jobs/request", 403),
        (&good, &post, "jobs/request", 204),
        (&bad, &delete, "runners/managers", 403),
        (&good, &delete, "runners/managers", 204),
        (&good, &delete, "runners/managers", 404),
        (&bad, &post, "runners/reset_authentication_token", 403),
        (&bad, &delete, "runners", 403),
        (&good, &delete, "runners", 204),
        (&good, &post, "runners/verify", 403),
    ];
    for (runner, method, path, status) in cases {
        let response = runner.say(method.clone(), path, about()).await;
        assert_eq!(response.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_runner_registers_with_the_registration_token_and_takes_jobs_of_its_tags() {
    let open = sandbox(|options| options.runner_tokens.clear()).await;
    let mut runner = Runner::of(&open).named("sandbox-registration");
    let body = json!({"info": info(json!({})), "description": "d", "tag_list": "a, b", "run_untagged": false});
    let response = runner.say(Method::POST, "runners", body.clone()).await;
    assert_eq!(response.status(), 201);
    let registered: Value = response.json().await.expect("JSON");
    runner.token = registered["token"].as_str().expect("a token").to_owned();
    assert_eq!(registered["token_expires_at"], Value::Null);
    open.submit(job()).expect("a job");
    let fitting = open.submit(job().tagged(["b"])).expect("a job");
    open.submit(job().tagged(["b", "c"])).expect("a job");
    assert_eq!(runner.take().await.id, fitting);
    assert_eq!(runner.ask(None).await.status(), 204);
    let reset = runner
        .say(
            Method::POST,
            "runners/reset_authentication_token",
            json!({}),
        )
        .await;
    assert_eq!(reset.status(), 201);
    assert_eq!(runner.ask(None).await.status(), 403);

    let closed = sandbox(|options| options.registration_token = None).await;
    let runner = Runner::of(&closed).named("sandbox-registration");
    assert_eq!(
        runner.say(Method::POST, "runners", body).await.status(),
        410
    );
}

#[tokio::test]
async fn a_held_request_wakes_on_a_new_job_and_not_on_one_of_other_tags() {
    let sandbox = sandbox(|options| options.long_poll = PATIENCE).await;
    let runner = Runner::of(&sandbox);
    let empty = runner.ask(None).await;
    assert_eq!(empty.status(), 204);
    let value = header(&empty, "x-gitlab-last-update").to_owned();
    assert!(!value.is_empty());
    let held = tokio::spawn(runner.asking(Some(&value)).send());
    sandbox.submit(job().tagged(["other"])).expect("a job");
    sandbox
        .wait_for(
            |_| sandbox.runners()[0].managers[SYSTEM].requests == 2,
            PATIENCE,
        )
        .await
        .expect("the second request");
    assert!(!held.is_finished());
    let wanted = sandbox.submit(job()).expect("a job");
    let response = held.await.expect("no panic").expect("an answer");
    assert_eq!(response.status(), 201);
    let payload: Value = response.json().await.expect("JSON");
    assert_eq!(payload["id"], wanted);
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_held_request_ends_with_the_same_value_when_its_time_is_over_or_the_server_closes() {
    for (long_poll, close) in [(Duration::from_millis(50), false), (PATIENCE, true)] {
        let sandbox = sandbox(|options| options.long_poll = long_poll).await;
        let runner = Runner::of(&sandbox);
        let value = header(&runner.ask(None).await, "x-gitlab-last-update").to_owned();
        let held = tokio::spawn(runner.asking(Some(&value)).send());
        if close {
            sandbox
                .wait_for(
                    |_| sandbox.runners()[0].managers[SYSTEM].requests == 2,
                    PATIENCE,
                )
                .await
                .expect("the second request");
            sandbox.shutdown().await;
        }
        let response = held.await.expect("no panic").expect("an answer");
        assert_eq!(response.status(), 204);
        assert_eq!(header(&response, "x-gitlab-last-update"), value);
    }
}

#[tokio::test]
async fn a_paused_runner_is_given_nothing_until_it_goes_on() {
    let sandbox = sandbox(|options| options.runner_tokens[0].paused = true).await;
    let runner = Runner::of(&sandbox);
    sandbox.submit(job()).expect("a job");
    let response = runner.ask(None).await;
    assert_eq!(response.status(), 204);
    assert!(!header(&response, "x-gitlab-last-update").is_empty());
    assert!(sandbox.pause(1, false));
    runner.take().await;
}

#[tokio::test]
async fn two_runners_never_get_the_same_job() {
    let sandbox = sandbox(|options| {
        options
            .runner_tokens
            .push(RunnerSeed::new("glrt-two", ["x"]))
    })
    .await;
    let spec = JobSpec {
        count: Some(1000),
        ..job()
    };
    assert_eq!(sandbox.submit_all(spec).expect("jobs").len(), 1000);
    let runners = [Runner::of(&sandbox), Runner::of(&sandbox).named("glrt-two")];
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..20 {
        let runner = &runners[number % 2];
        let (client, url, token) = (
            runner.client.clone(),
            runner.url.clone(),
            runner.token.clone(),
        );
        let features = runner.features.clone();
        asking.spawn(async move {
            let runner = Runner {
                client,
                url,
                token,
                features,
            };
            let mut ids = Vec::new();
            for _ in 0..50 {
                ids.push(runner.take().await.id);
            }
            ids
        });
    }
    let mut ids: Vec<u64> = asking.join_all().await.concat();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    no_violations(&sandbox);
}
