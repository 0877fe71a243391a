//! Events of jobs arrive at a receiver, in order.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use springtide_sandbox::Webhook;
use tokio::sync::mpsc;

use crate::common::*;

#[tokio::test]
async fn each_state_of_a_job_is_posted_with_the_secret_in_order() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let receive = move |headers: HeaderMap, Json(event): Json<Value>| async move {
        let sent = sender.send((headers, event));
        // The first answer is an error, and the next event comes all the same.
        assert!(sent.is_ok());
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let router = axum::Router::new().route("/hook", post(receive));
    let receiver = tokio::spawn(async move { axum::serve(listener, router).await });
    let sandbox = sandbox(|options| {
        options.webhook = Some(Webhook {
            url,
            secret: "hook-secret".to_owned(),
        });
    })
    .await;
    let id = sandbox.submit(job().tagged(["a"])).expect("a job");
    sandbox.add_runner(springtide_sandbox::RunnerSeed::new("glrt-a", ["a"]));
    let runner = Runner::of(&sandbox).named("glrt-a");
    let job = runner.take().await;
    runner.state(&job, "running").await;
    runner.finish(&job, "failed", "").await;
    for status in ["pending", "running", "failed"] {
        let next = tokio::time::timeout(PATIENCE, events.recv()).await;
        let (headers, event) = next.expect("in time").expect("an event");
        assert_eq!(headers["x-gitlab-token"], "hook-secret");
        assert_eq!(headers["x-gitlab-event"], "Job Hook");
        assert_eq!(event["object_kind"], "build");
        assert_eq!(
            (&event["build_status"], &event["build_id"]),
            (&status.into(), &id.into())
        );
        assert!(!event.to_string().contains(&job.token));
    }
    receiver.abort();
}
