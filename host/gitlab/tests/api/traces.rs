//! Traces on their way, and the ends of jobs.

use std::sync::Arc;
use std::time::Duration;

use springtide_gitlab::{
    Client, Delivered, FailureReason, Final, FinalState, Held, HeldJob, Payload, Remote,
    SenderOptions, TraceSender, TraceSource,
};
use springtide_sandbox::{Endpoint, Fault, FaultKind, JobStatus, Sandbox};

use crate::common::*;

async fn running(sandbox: &Sandbox) -> (Client, Payload) {
    sandbox.submit(job()).expect("a job");
    let client = client(sandbox.url());
    let job = take(&client).await;
    let mut held = HeldJob::new(line(&client, &job));
    assert_eq!(held.accept().await, Ok(Held::Running));
    (client, job)
}

async fn finish(sender: TraceSender, end: Final) -> Delivered {
    let delivered = tokio::time::timeout(PATIENCE, sender.finish(end)).await;
    delivered.expect("in time")
}

#[tokio::test]
async fn a_trace_is_sent_while_the_job_runs_and_its_end_after_all_of_it() {
    let sandbox = sandbox(|_| {}).await;
    let (client, job) = running(&sandbox).await;
    let trace = Trace::new("one\n");
    let sender = sender(line(&client, &job), &job, &trace);
    assert_eq!(told(sender.acknowledged(), |sent| *sent == 4).await, 4);
    trace.write("two\n");
    assert_eq!(finish(sender, SUCCESS).await, Delivered::Accepted);
    let view = sandbox.job(job.id).expect("a job");
    assert_eq!((view.status, view.exit_code), (JobStatus::Success, Some(0)));
    assert_eq!(sandbox.trace(job.id), "one\ntwo\n");
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_failure_has_its_exit_code_and_a_reason_gitlab_knows() {
    for (reason, code, told) in [
        (FailureReason::ScriptFailure, Some(3), "script_failure"),
        (
            FailureReason::RunnerSystemFailure,
            None,
            "runner_system_failure",
        ),
        (
            FailureReason::JobExecutionTimeout,
            None,
            "job_execution_timeout",
        ),
    ] {
        let sandbox = sandbox(|_| {}).await;
        let (client, job) = running(&sandbox).await;
        let sender = sender(line(&client, &job), &job, &Trace::new(""));
        let end = Final {
            state: FinalState::Failed,
            exit_code: code,
            failure_reason: Some(reason),
        };
        assert_eq!(finish(sender, end).await, Delivered::Accepted);
        let view = sandbox.job(job.id).expect("a job");
        assert_eq!(view.status, JobStatus::Failed);
        assert_eq!(view.exit_code, code.map(i64::from));
        assert_eq!(view.failure_reason.as_deref(), Some(told));
        no_violations(&sandbox);
    }
}

#[tokio::test]
async fn each_fault_of_a_trace_is_survived_and_all_of_it_arrives() {
    for kind in [
        FaultKind::Drop,
        FaultKind::LoseAnswer,
        FaultKind::Delay(Duration::from_millis(50)),
        FaultKind::Status(500),
        FaultKind::Status(404),
        FaultKind::RateLimit {
            reset: Duration::ZERO,
        },
        FaultKind::Truncate,
        FaultKind::Malformed,
    ] {
        let sandbox = sandbox(|_| {}).await;
        let (client, job) = running(&sandbox).await;
        let trace = Trace::new("the first part\n");
        let sender = sender(line(&client, &job), &job, &trace);
        let length = trace.len();
        told(sender.acknowledged(), |sent| *sent == length).await;
        sandbox.fault(Fault::times(Endpoint::Trace, kind, 1));
        trace.write("the second part\n");
        assert_eq!(
            finish(sender, SUCCESS).await,
            Delivered::Accepted,
            "{kind:?}"
        );
        let text = "the first part\nthe second part\n";
        assert_eq!(sandbox.trace(job.id), text, "{kind:?}");
        no_violations(&sandbox);
    }
}

#[tokio::test]
async fn each_fault_of_the_final_update_is_survived() {
    for kind in [
        FaultKind::Drop,
        FaultKind::LoseAnswer,
        FaultKind::Status(500),
        FaultKind::Status(412),
        FaultKind::Malformed,
    ] {
        let sandbox = sandbox(|_| {}).await;
        let (client, job) = running(&sandbox).await;
        let sender = sender(line(&client, &job), &job, &Trace::new("all of it"));
        sandbox.fault(Fault::times(Endpoint::Update, kind, 1));
        assert_eq!(
            finish(sender, SUCCESS).await,
            Delivered::Accepted,
            "{kind:?}"
        );
        assert_eq!(sandbox.trace(job.id), "all of it");
        no_violations(&sandbox);
    }
}

#[tokio::test]
async fn a_final_update_that_is_accepted_only_is_repeated() {
    let sandbox = sandbox(|o| o.accepted_first = 2).await;
    let (client, job) = running(&sandbox).await;
    let sender = sender(line(&client, &job), &job, &Trace::new("x"));
    assert_eq!(finish(sender, SUCCESS).await, Delivered::Accepted);
    assert_eq!(
        sandbox.job(job.id).expect("a job").status,
        JobStatus::Success
    );
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_big_trace_arrives_whole_in_parts() {
    let sandbox = sandbox(|_| {}).await;
    let (client, job) = running(&sandbox).await;
    let bytes: Vec<u8> = (0..3_500_000_u32).map(|n| (n % 251) as u8).collect();
    let sender = sender(line(&client, &job), &job, &Trace::new(&bytes));
    assert_eq!(finish(sender, SUCCESS).await, Delivered::Accepted);
    assert_eq!(sandbox.trace(job.id), bytes);
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_manager_that_was_restarted_goes_on_where_it_was_or_where_gitlab_is() {
    for known in [0, 4] {
        let sandbox = sandbox(|_| {}).await;
        let (client, job) = running(&sandbox).await;
        let trace = Trace::new("one\n");
        let first = sender(line(&client, &job), &job, &trace);
        told(first.acknowledged(), |sent| *sent == 4).await;
        drop(first);
        trace.write("two\n");
        let second = TraceSender::start(SenderOptions {
            line: line(&client, &job),
            failure_reasons: Vec::new(),
            source: trace.clone() as Arc<dyn TraceSource>,
            acknowledged: known,
            debug_trace: true,
        });
        assert_eq!(finish(second, SUCCESS).await, Delivered::Accepted);
        assert_eq!(sandbox.trace(job.id), "one\ntwo\n", "{known}");
        no_violations(&sandbox);
    }
}

#[tokio::test]
async fn a_cancel_is_heard_with_the_next_part_and_the_job_ends_as_canceled() {
    let sandbox = sandbox(|_| {}).await;
    let (client, job) = running(&sandbox).await;
    let trace = Trace::new("one\n");
    let sender = sender(line(&client, &job), &job, &trace);
    told(sender.acknowledged(), |sent| *sent == 4).await;
    assert!(sandbox.cancel(job.id));
    trace.write("two\n");
    let remote = told(sender.remote(), |remote| *remote != Remote::Running).await;
    assert_eq!(remote, Remote::Canceling);
    trace.write("after\n");
    let end = Final {
        state: FinalState::Failed,
        exit_code: None,
        failure_reason: Some(FailureReason::JobCanceled),
    };
    assert_eq!(finish(sender, end).await, Delivered::Accepted);
    assert_eq!(
        sandbox.job(job.id).expect("a job").status,
        JobStatus::Canceled
    );
    assert_eq!(sandbox.trace(job.id), "one\ntwo\nafter\n");
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_job_that_is_over_at_gitlab_is_aborted_and_nothing_more_is_said() {
    let sandbox = sandbox(|o| o.trace_limit = 6).await;
    let (client, job) = running(&sandbox).await;
    let trace = Trace::new("one\n");
    let sender = sender(line(&client, &job), &job, &trace);
    told(sender.acknowledged(), |sent| *sent == 4).await;
    trace.write("too much\n");
    told(sender.remote(), |remote| *remote == Remote::Aborted).await;
    trace.write("more\n");
    let status = Some("failed".to_owned());
    assert_eq!(finish(sender, SUCCESS).await, Delivered::Over { status });
    no_violations(&sandbox);
}
