//! Each fault strikes where and as often as it was called up.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use springtide_sandbox::{Endpoint, Fault, FaultKind, JobStatus, Rule};

use crate::common::*;

#[tokio::test]
async fn a_status_strikes_as_often_as_it_should_and_other_endpoints_go_on() {
    let sandbox = sandbox(|_| {}).await;
    let runner = Runner::of(&sandbox);
    sandbox.submit(job()).expect("a job");
    for status in [500, 403, 409, 503] {
        sandbox.fault(Fault::times(
            Endpoint::Request,
            FaultKind::Status(status),
            2,
        ));
        for _ in 0..2 {
            assert_eq!(runner.ask(None).await.status(), status);
        }
    }
    let job = runner.take().await;
    for endpoint in [Endpoint::Update, Endpoint::Trace] {
        sandbox.fault(Fault {
            endpoint,
            kind: FaultKind::Status(502),
            count: None,
        });
    }
    for _ in 0..3 {
        assert_eq!(runner.state(&job, "running").await.status(), 502);
        assert_eq!(runner.patch(&job, 0, "x").await.status(), 502);
    }
    assert_eq!(runner.ask(None).await.status(), 204);
    sandbox.clear_faults();
    assert_eq!(runner.state(&job, "running").await.status(), 200);
    no_violations(&sandbox);
}

#[tokio::test]
async fn every_endpoint_can_be_struck() {
    let sandbox = sandbox(|_| {}).await;
    let runner = Runner::of(&sandbox);
    for (endpoint, method, path) in [
        (Endpoint::Request, Method::POST, "api/v4/jobs/request"),
        (Endpoint::Update, Method::PUT, "api/v4/jobs/1"),
        (Endpoint::Trace, Method::PATCH, "api/v4/jobs/1/trace"),
        (Endpoint::Verify, Method::POST, "api/v4/runners/verify"),
        (Endpoint::Artifacts, Method::POST, "api/v4/jobs/1/artifacts"),
        (Endpoint::Queue, Method::GET, "api/v4/projects/1/jobs"),
        (Endpoint::Git, Method::GET, "g/p.git/info/refs"),
    ] {
        sandbox.fault(Fault::times(endpoint, FaultKind::Status(599), 1));
        let url = format!("{}/{path}", sandbox.url());
        let response = runner.client.request(method, url).send().await;
        assert_eq!(response.expect("an answer").status(), 599, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_dropped_request_did_nothing_and_a_lost_answer_did_all() {
    let sandbox = sandbox(|_| {}).await;
    let runner = Runner::of(&sandbox);
    let id = sandbox.submit(job()).expect("a job");
    sandbox.fault(Fault::times(Endpoint::Request, FaultKind::Drop, 1));
    assert!(runner.asking(None).send().await.is_err());
    assert_eq!(sandbox.job(id).expect("a job").status, JobStatus::Pending);
    let job = runner.take().await;
    runner.state(&job, "running").await;
    sandbox.fault(Fault::times(Endpoint::Trace, FaultKind::LoseAnswer, 1));
    let lost = runner
        .call(Method::PATCH, &format!("jobs/{id}/trace"))
        .header("job-token", &job.token)
        .header("content-type", "text/plain")
        .header("content-range", "0-2")
        .body("abc");
    assert!(lost.send().await.is_err());
    assert_eq!(&sandbox.trace(id)[..], b"abc");
    let again = runner.patch(&job, 0, "abc").await;
    assert_eq!(
        (again.status().as_u16(), header(&again, "range")),
        (416, "0-3")
    );
    sandbox.fault(Fault::times(Endpoint::Update, FaultKind::LoseAnswer, 1));
    let end = runner
        .call(Method::PUT, &format!("jobs/{id}"))
        .header("job-token", &job.token)
        .json(&{
            let mut body = last("success", "abc");
            body["token"] = job.token.clone().into();
            body["info"] = info(serde_json::json!({}));
            body
        });
    assert!(end.send().await.is_err());
    assert_eq!(sandbox.job(id).expect("a job").status, JobStatus::Success);
    let retry = runner.finish(&job, "success", "abc").await;
    assert_eq!(
        (retry.status().as_u16(), header(&retry, "job-status")),
        (403, "success")
    );
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_delay_holds_the_request() {
    let sandbox = sandbox(|_| {}).await;
    let wait = Duration::from_millis(80);
    sandbox.fault(Fault::times(Endpoint::Request, FaultKind::Delay(wait), 1));
    let before = Instant::now();
    assert_eq!(Runner::of(&sandbox).ask(None).await.status(), 204);
    assert!(before.elapsed() >= wait);
}

#[tokio::test]
async fn a_rate_limit_tells_its_end_and_coming_back_before_it_is_a_violation() {
    let sandbox = sandbox(|_| {}).await;
    let runner = Runner::of(&sandbox);
    let reset = Duration::from_secs(30);
    sandbox.fault(Fault::times(
        Endpoint::Request,
        FaultKind::RateLimit { reset },
        1,
    ));
    let told = runner.ask(None).await;
    assert_eq!(told.status(), 429);
    let date = header(&told, "ratelimit-resettime").to_owned();
    let at = jiff::fmt::rfc2822::parse(&date).expect(&date).timestamp();
    let seconds = at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((29..=31).contains(&seconds), "{date}");
    let after: i64 = header(&told, "retry-after").parse().expect("a number");
    assert!((30..=31).contains(&after));
    // What crossed the first 429 on its way is excused; what keeps coming is not.
    let asking = async {
        while sandbox.violations().is_empty() {
            assert_eq!(runner.ask(None).await.status(), 429);
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("a violation");
    assert_eq!(sandbox.violations()[0].rule, Rule::PollWhileLimited);
}

#[tokio::test]
async fn a_malformed_job_still_has_its_id_and_token_and_is_running() {
    let sandbox = sandbox(|_| {}).await;
    let runner = Runner::of(&sandbox);
    sandbox.fault(Fault::times(Endpoint::Request, FaultKind::Malformed, 1));
    assert_eq!(runner.ask(None).await.status(), 204);
    let id = sandbox.submit(job()).expect("a job");
    let job = runner.take().await;
    assert_eq!((job.id, &job.payload["steps"]), (id, &Value::Null));
    assert_eq!(runner.state(&job, "running").await.status(), 200);
    sandbox.fault(Fault::times(Endpoint::Verify, FaultKind::Malformed, 1));
    let broken = runner
        .say(Method::POST, "runners/verify", serde_json::json!({}))
        .await;
    assert!(broken.json::<Value>().await.is_err());
}
