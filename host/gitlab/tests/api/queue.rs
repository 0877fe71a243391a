//! Waiting jobs, read from the sandbox and asked for by its webhooks.

use std::sync::Arc;
use std::time::Duration;

use springtide_gitlab::queue::{
    FeedOptions, QueueError, QueueFeed, QueueOptions, QueueSource, QueueState, QueueView,
};
use springtide_gitlab::webhook;
use springtide_sandbox::{Endpoint, Fault, FaultKind, Sandbox, Webhook};
use tokio::sync::Notify;

use crate::common::*;

fn options(sandbox: &Sandbox, token: &str) -> QueueOptions {
    let mut options = QueueOptions::new(sandbox.url(), token.into());
    options.projects = vec!["sandbox/project".to_owned()];
    options
}

fn now() -> Duration {
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    epoch.elapsed().expect("a clock after 1970")
}

#[tokio::test]
async fn jobs_that_wait_are_read_with_their_tags_from_projects_and_groups() {
    let sandbox = sandbox(|o| o.projects = vec!["sandbox/project".into(), "team/app".into()]).await;
    let (plain, docker) = (
        sandbox.submit(job()),
        sandbox.submit(job().tagged(["docker"])),
    );
    let (plain, docker) = (plain.expect("a job"), docker.expect("a job"));
    for by_group in [false, true] {
        let mut options = options(&sandbox, "glpat-sandbox");
        if by_group {
            options.groups = std::mem::take(&mut options.projects);
            options.groups = vec!["sandbox".to_owned()];
        }
        options.tags = vec!["docker".to_owned()];
        let source = QueueSource::new(options.clone()).expect("a source");
        let snapshot = source.refresh().await.expect("a reading");
        let found: Vec<(u64, usize)> = snapshot
            .jobs
            .iter()
            .map(|job| (job.id, job.tags.len()))
            .collect();
        assert_eq!(found, [(plain, 0), (docker, 1)]);
        assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        let mut view = QueueView::of(&options, now());
        assert!(view.apply(&snapshot));
        let summary = view.summary(now());
        assert_eq!((summary.count, summary.state), (2, QueueState::Fresh));
    }
}

#[tokio::test]
async fn what_keeps_the_queue_from_being_read_is_told_apart() {
    let sandbox = sandbox(|o| o.projects = vec!["sandbox/project".into()]).await;
    let refresh = async |token: &str| {
        let source = QueueSource::new(options(&sandbox, token)).expect("a source");
        source.refresh().await
    };
    let error = refresh("glpat-wrong").await.expect_err("401");
    assert!(matches!(error, QueueError::Unauthorized { .. }), "{error}");
    for (kind, status) in [(FaultKind::Status(500), 500), (FaultKind::Status(503), 503)] {
        sandbox.fault(Fault::times(Endpoint::Queue, kind, 1));
        match refresh("glpat-sandbox").await {
            Err(QueueError::Unavailable { status: told, .. }) => assert_eq!(told, status),
            other => panic!("{other:?}"),
        }
    }
    sandbox.fault(Fault::times(Endpoint::Queue, FaultKind::Drop, 1));
    let error = refresh("glpat-sandbox").await.expect_err("no connection");
    assert!(matches!(error, QueueError::Network { .. }), "{error}");
    sandbox.fault(Fault::times(Endpoint::Queue, FaultKind::Malformed, 1));
    let error = refresh("glpat-sandbox").await.expect_err("garbage");
    assert!(matches!(error, QueueError::Malformed { .. }), "{error}");
    let reset = Duration::from_secs(100);
    sandbox.fault(Fault::times(
        Endpoint::Queue,
        FaultKind::RateLimit { reset },
        1,
    ));
    match refresh("glpat-sandbox").await {
        Err(QueueError::RateLimited { wait, .. }) => assert!(wait >= reset, "{wait:?}"),
        other => panic!("{other:?}"),
    }
    refresh("glpat-sandbox").await.expect("a reading");
}

#[tokio::test]
async fn a_webhook_asks_for_a_reading_and_a_wrong_secret_does_not() {
    let notify = Arc::new(Notify::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!(
        "http://{}{}",
        listener.local_addr().expect("address"),
        webhook::PATH
    );
    let router = webhook::router(&"the secret".into(), notify.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let wrong = reqwest_status(&url, "another").await;
    assert_eq!(wrong, 401);
    let sandbox = sandbox(|o| {
        o.projects = vec!["sandbox/project".into()];
        o.webhook = Some(Webhook {
            url,
            secret: "the secret".into(),
        });
    })
    .await;
    let source = QueueSource::new(options(&sandbox, "glpat-sandbox")).expect("a source");
    let feed = FeedOptions {
        debounce: Duration::from_millis(10),
        ..FeedOptions::every(Duration::from_secs(3600))
    };
    let feed = QueueFeed::spawn(Arc::new(source), notify, feed, || 0.5);
    let mut news = feed.subscribe();
    let has =
        async |news: &mut tokio::sync::watch::Receiver<springtide_gitlab::queue::QueueNews>,
               jobs: usize| {
            let read =
                news.wait_for(|news| news.snapshot.as_ref().is_some_and(|s| s.jobs.len() == jobs));
            tokio::time::timeout(PATIENCE, read)
                .await
                .expect("in time")
                .expect("a feed")
                .failures
        };
    assert_eq!(has(&mut news, 0).await, 0);
    sandbox.submit(job()).expect("a job");
    assert_eq!(has(&mut news, 1).await, 0);
}

async fn reqwest_status(url: &str, secret: &str) -> u16 {
    // The client of this crate has chosen the cryptography by then, or does so now.
    drop(client(url));
    let answer = reqwest::Client::new()
        .post(url)
        .header("x-gitlab-token", secret)
        .header("x-gitlab-event", "Job Hook")
        .body("{}")
        .send()
        .await;
    answer.expect("an answer").status().as_u16()
}
