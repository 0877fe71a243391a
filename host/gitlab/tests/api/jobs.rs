//! Asking for jobs, holding them, accepting them.

use std::time::Duration;

use springtide_gitlab::{GitlabError, Held, HeldJob, JobRequestOutcome};
use springtide_sandbox::{Endpoint, Fault, FaultKind, JobStatus};

use crate::common::*;

#[tokio::test]
async fn a_job_is_asked_for_and_the_next_request_is_held_until_there_is_one() {
    let sandbox = sandbox(|o| o.long_poll = PATIENCE).await;
    let client = client(sandbox.url());
    let first = client.request_job(&runner(), None, None).await;
    assert!(matches!(first.outcome, JobRequestOutcome::Nothing));
    let known = first.last_update.expect("a value");
    let (client2, waiting) = (client.clone(), known.clone());
    let held =
        tokio::spawn(async move { client2.request_job(&runner(), Some(&waiting), None).await });
    let id = sandbox.submit(job()).expect("a job");
    let answer = held.await.expect("an answer");
    // GitLab names no new value with a job; the old one makes it look again.
    assert_eq!(answer.last_update, Some(known));
    let JobRequestOutcome::Job(job) = answer.outcome else {
        panic!("{answer:?}");
    };
    assert_eq!(job.id, id);
    assert!(!job.features.failure_reasons.is_empty());
    no_violations(&sandbox);
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(sandbox.url());
    let ask = async |kind| {
        sandbox.fault(Fault::times(Endpoint::Request, kind, 1));
        client.request_job(&runner(), None, None).await.outcome
    };
    assert!(matches!(
        ask(FaultKind::Status(403)).await,
        JobRequestOutcome::Forbidden(_)
    ));
    assert!(matches!(
        ask(FaultKind::Status(409)).await,
        JobRequestOutcome::Conflict
    ));
    for status in [500, 502, 503] {
        match ask(FaultKind::Status(status)).await {
            JobRequestOutcome::Failed(GitlabError::Unavailable { status: told, .. }) => {
                assert_eq!(told, status);
            }
            other => panic!("{other:?}"),
        }
    }
    for kind in [FaultKind::Drop, FaultKind::LoseAnswer] {
        assert!(matches!(
            ask(kind).await,
            JobRequestOutcome::Failed(GitlabError::Unreachable { .. })
        ));
    }
    let slow = ask(FaultKind::Delay(Duration::from_millis(20))).await;
    assert!(matches!(slow, JobRequestOutcome::Nothing));
    let reset = Duration::from_secs(40);
    match ask(FaultKind::RateLimit { reset }).await {
        JobRequestOutcome::Throttled { wait, .. } => {
            assert!(
                wait >= reset && wait <= reset + Duration::from_secs(2),
                "{wait:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    no_violations(&sandbox);
}

#[tokio::test]
async fn an_unknown_token_is_forbidden() {
    let sandbox = sandbox(|_| {}).await;
    let answer = client(sandbox.url())
        .request_job(&runner_with("glrt-unknown"), None, None)
        .await;
    assert!(matches!(answer.outcome, JobRequestOutcome::Forbidden(_)));
}

#[tokio::test]
async fn where_gitlab_offers_jobs_a_held_one_stays_pending_until_it_is_accepted() {
    let sandbox = sandbox(|o| o.two_phase = true).await;
    let client = client(sandbox.url());
    let id = sandbox.submit(job()).expect("a job");
    let job = take(&client).await;
    let mut held = HeldJob::new(line(&client, &job));
    assert_eq!(held.is_offered(), None);
    for _ in 0..2 {
        assert_eq!(held.keep().await, Ok(Held::Offered));
    }
    assert_eq!(held.is_offered(), Some(true));
    let status = |id| sandbox.job(id).expect("a job").status;
    assert_eq!(status(id), JobStatus::Pending);
    assert_eq!(held.accept().await, Ok(Held::Running));
    assert_eq!(status(id), JobStatus::Running);
    assert_eq!(held.keep().await, Ok(Held::Running));
    no_violations(&sandbox);
}

#[tokio::test]
async fn an_offered_job_that_is_cancelled_or_given_to_another_is_gone() {
    let sandbox = sandbox(|o| {
        o.two_phase = true;
        o.offer_expiry = Duration::from_millis(150);
    })
    .await;
    let client = client(sandbox.url());
    let id = sandbox.submit(job()).expect("a job");
    let mut late = HeldJob::new(line(&client, &take(&client).await));
    sandbox
        .wait_for(|jobs| jobs.iter().all(|job| !job.offered), PATIENCE)
        .await
        .expect("it goes back");
    let mut held = HeldJob::new(line(&client, &take(&client).await));
    assert_eq!(late.keep().await, Ok(Held::Gone { status: None }));
    assert_eq!(late.accept().await, Ok(Held::Gone { status: None }));
    assert_eq!(held.keep().await, Ok(Held::Offered));
    assert!(sandbox.cancel(id));
    let canceled = Some("canceled".to_owned());
    assert_eq!(held.keep().await, Ok(Held::Gone { status: canceled }));
    no_violations(&sandbox);
}

#[tokio::test]
async fn where_gitlab_knows_one_phase_a_held_job_runs_and_its_cancel_is_heard() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(sandbox.url());
    let id = sandbox.submit(job()).expect("a job");
    let mut held = HeldJob::new(line(&client, &take(&client).await));
    assert_eq!(held.keep().await, Ok(Held::Running));
    assert_eq!(held.is_offered(), Some(false));
    sandbox.fault(Fault::times(Endpoint::Update, FaultKind::Drop, 1));
    assert!(held.keep().await.is_err());
    assert!(sandbox.cancel(id));
    assert_eq!(held.keep().await, Ok(Held::Canceling));
    no_violations(&sandbox);
}
