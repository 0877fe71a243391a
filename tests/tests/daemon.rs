//! The daemon as it ships, against the sandbox GitLab and machines of the driver `local`.

use anyhow::Result;
use rustix::process::Signal;
use springtide_sandbox::{
    Endpoint, Fault, FaultKind, JobSpec, JobStatus, RunnerSeed, SandboxOptions,
};
use springtide_tests::{Site, all, job, over, quick};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_and_machines_go() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let good = site
        .sandbox
        .submit(job(&["test -f README.md", "echo it works"]))?;
    let bad = site.sandbox.submit(job(&["echo before", "exit 7"]))?;
    site.jobs(over).await?;
    assert!(
        site.trace(good).contains("it works"),
        "{}",
        site.trace(good)
    );
    assert!(site.trace(good).contains("Job succeeded"));
    let failed = site.sandbox.job(bad).unwrap();
    assert_eq!(failed.status, JobStatus::Failed);
    assert_eq!(failed.exit_code, Some(7));
    assert_eq!(failed.failure_reason.as_deref(), Some("script_failure"));
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_in_two_phases_and_its_clock_does_not_run_while_a_machine_boots()
-> Result<()> {
    let site = Site::new(SandboxOptions {
        two_phase: true,
        ..quick()
    })
    .await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo two phases"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("two phases"));
    assert_eq!(site.sandbox.job(id).unwrap().assignments, 1);
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_source_jobs_are_asked_for_before_there_is_a_machine() -> Result<()> {
    let site = Site::new(quick()).await?;
    let runner = site.runner("plain", "");
    let plain = runner.split("  [runners.queue]").next().unwrap();
    site.configure(plain)?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo as before"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("as before"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_crashes_finds_its_job_again_and_nothing_is_lost_or_doubled() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&[
        "for number in 1 2 3 4 5 6 7 8; do echo \"line $number of 8\"; sleep 0.5; done",
    ]))?;
    site.until("the job writes", async || {
        site.trace(id).contains("line 2 of 8")
    })
    .await?;
    daemon.crash().await?;
    let daemon = site.start(&[]).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let text = site.trace(id);
    for number in 1..=8 {
        let line = format!("line {number} of 8");
        // Once as the job wrote it; the command itself has no number in it.
        assert_eq!(text.matches(&line).count(), 1, "{line} in {text}");
    }
    assert_eq!(site.sandbox.job(id).unwrap().assignments, 1);
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_its_after_script_runs() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let spec = JobSpec {
        after_script: vec!["echo tidied up".into()],
        ..job(&["echo it begins", "sleep 300"])
    };
    let id = site.sandbox.submit(spec)?;
    site.until("the job runs", async || {
        site.trace(id).contains("it begins")
    })
    .await?;
    assert!(site.sandbox.cancel(id));
    site.jobs(over).await?;
    assert_eq!(site.sandbox.job(id).unwrap().status, JobStatus::Canceled);
    assert!(site.trace(id).contains("tidied up"), "{}", site.trace(id));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_a_daemon_ends_jobs_after_its_timeout_and_tells_gitlab() -> Result<()> {
    let site = Site::new(quick()).await?;
    let mut daemon = site.start(&["--remove-machines"]).await?;
    let id = site.sandbox.submit(job(&["echo it begins", "sleep 300"]))?;
    site.until("the job runs", async || {
        site.trace(id).contains("it begins")
    })
    .await?;
    daemon.signal(Signal::TERM)?;
    assert!(daemon.ended().await?.success(), "{}", site.log());
    let ended = site.sandbox.job(id).unwrap();
    assert_eq!(ended.status, JobStatus::Failed);
    assert_eq!(site.machines(), 0);
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_finish_a_daemon_finishes_and_asked_twice_to_stop_it_ends_at_once() -> Result<()> {
    let site = Site::new(quick()).await?;
    let mut daemon = site.start(&[]).await?;
    let id = site
        .sandbox
        .submit(job(&["echo it begins", "sleep 3", "echo it ends"]))?;
    let begun = async |id| {
        site.until("the job runs", async || {
            site.trace(id).contains("it begins")
        })
        .await
    };
    begun(id).await?;
    daemon.signal(Signal::QUIT)?;
    site.until("no more jobs are taken", async || {
        site.log().contains("no more jobs are taken")
    })
    .await?;
    let late = site.sandbox.submit(job(&[
        "echo it begins",
        "for number in 1 2 3 4 5 6; do echo \"line $number of 6\"; sleep 0.5; done",
    ]))?;
    assert!(daemon.ended().await?.success(), "{}", site.log());
    let status = |id| site.sandbox.job(id).map(|job| job.status);
    assert_eq!(status(id), Some(JobStatus::Success));
    assert_eq!(status(late), Some(JobStatus::Pending));

    let mut daemon = site.start(&[]).await?;
    begun(late).await?;
    daemon.signal(Signal::TERM)?;
    site.until("it stops", async || {
        site.log().matches("no more jobs are taken").count() == 2
    })
    .await?;
    daemon.signal(Signal::INT)?;
    assert!(daemon.ended().await?.success(), "{}", site.log());
    assert_eq!(status(late), Some(JobStatus::Running));
    // The job goes on without it, and the next one brings its end.
    let daemon = site.start(&[]).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let text = site.trace(late);
    for number in 1..=6 {
        let line = format!("line {number} of 6");
        assert_eq!(text.matches(&line).count(), 1, "{line} in {text}");
    }
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_read_without_dropping_a_job_and_a_removed_runners_machines_go()
-> Result<()> {
    let site = Site::new(quick()).await?;
    site.configure(&site.idle("elastic", 2))?;
    let daemon = site.start(&[]).await?;
    let id = site
        .sandbox
        .submit(job(&["echo it begins", "sleep 4", "echo it ends"]))?;
    site.until("the job runs", async || {
        site.trace(id).contains("it begins")
    })
    .await?;
    site.configure("")?;
    daemon.signal(Signal::HUP)?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("it ends"));
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    site.configure(&site.runner("elastic", ""))?;
    daemon.signal(Signal::HUP)?;
    let again = site.sandbox.submit(job(&["echo once more"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(again).contains("once more"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_left_the_file_while_no_daemon_ran_leaks_nothing() -> Result<()> {
    let site = Site::new(quick()).await?;
    site.configure(&site.idle("elastic", 2))?;
    let daemon = site.start(&[]).await?;
    site.until("two machines are there", async || site.machines() == 2)
        .await?;
    daemon.finish().await?;
    assert_eq!(site.machines(), 2, "they stay for the next start");
    site.configure("")?;
    let daemon = site.start(&[]).await?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_that_fails_now_and_then_loses_no_job() -> Result<()> {
    let site = Site::new(quick()).await?;
    let kinds = [
        Fault::times(Endpoint::Request, FaultKind::Status(500), 2),
        Fault::times(Endpoint::Trace, FaultKind::Status(503), 2),
        Fault::times(Endpoint::Trace, FaultKind::Drop, 1),
        Fault::times(Endpoint::Update, FaultKind::Status(502), 2),
        Fault::times(Endpoint::Update, FaultKind::LoseAnswer, 1),
        Fault::times(Endpoint::Queue, FaultKind::Status(500), 2),
    ];
    let daemon = site.start(&[]).await?;
    for fault in kinds {
        site.sandbox.fault(fault);
    }
    for _ in 0..4 {
        site.sandbox
            .submit(job(&["echo some output", "echo the last line"]))?;
    }
    site.jobs(all(JobStatus::Success)).await?;
    for view in site.sandbox.jobs() {
        assert!(site.trace(view.id).contains("the last line"), "{}", view.id);
    }
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_may_print_binary_or_nothing_and_masked_values_do_not_get_out() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let silent = site.sandbox.submit(job(&["true"]))?;
    let binary = site
        .sandbox
        .submit(job(&["head -c 100000 /dev/urandom", "echo the last line"]))?;
    let masked = JobSpec {
        variables: BTreeMap::from([(
            "PASSWORD".to_owned(),
            springtide_sandbox::VariableSpec::masked("correct-horse-battery"),
        )]),
        ..job(&["echo \"it is $PASSWORD.\""])
    };
    let masked = site.sandbox.submit(masked)?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(silent).contains("Job succeeded"));
    assert!(site.trace(binary).contains("the last line"));
    let text = site.trace(masked);
    assert!(text.contains("it is [MASKED]."), "{text}");
    assert!(!text.contains("correct-horse-battery"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_replays_to_the_same_decisions() -> Result<()> {
    let site = Site::new(quick()).await?;
    site.configure(&site.idle("elastic", 1))?;
    let daemon = site.start(&[]).await?;
    site.until("a machine is ready", async || {
        site.status().await.is_ok_and(|status| {
            status["pools"][0]["counts"]["idle"] == 1
                || status["pools"][0]["counts"]["reserved"] == 1
        })
    })
    .await?;
    let snapshot = site.cli(&["status", "--snapshot"]).await?;
    assert!(snapshot.status.success());
    let file = site.path().join("snapshot.json");
    std::fs::write(&file, &snapshot.stdout)?;
    let replay = || {
        std::process::Command::new(springtide_tests::program("springtide").unwrap())
            .args(["pool", "step"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let (one, two) = (replay(), replay());
    assert!(
        one.status.success(),
        "{}",
        String::from_utf8_lossy(&one.stderr)
    );
    assert!(!one.stdout.is_empty());
    assert_eq!(one.stdout, two.stdout);
    let listed = site.cli(&["machine", "ls"]).await?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("elastic-"), "{text}");
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_with_an_executor_that_has_no_machines_stops_alone_and_says_so() -> Result<()> {
    let site = Site::new(quick()).await?;
    let none: [&str; 0] = [];
    site.sandbox
        .add_runner(RunnerSeed::new("glrt-another-token", none));
    let other = site
        .runner("pods", "")
        .replace("shell+machine", "kubernetes")
        .replace("glrt-sandbox-token", "glrt-another-token");
    site.configure(&(site.runner("elastic", "") + &other))?;
    let daemon = site.start(&[]).await?;
    site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    let status = site.status().await?;
    let pools = status["pools"].as_array().unwrap();
    let stopped = pools.iter().find(|pool| pool["runner"] == "pods").unwrap();
    let trouble = stopped["trouble"].as_str().unwrap();
    assert!(
        trouble.contains("\"kubernetes\" has no machines"),
        "{trouble}"
    );
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_is_refused_and_a_bad_file_is_named() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let second = site.cli(&["run"]).await?;
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another springtide"), "{said}");
    daemon.finish().await?;
    std::fs::write(site.config(), "concurrent = \"many\"\n[[runners]]\n")?;
    let bad = site.cli(&["run"]).await?;
    assert!(!bad.status.success());
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(
        said.contains("line 1") && said.contains("concurrent"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn boots_that_never_end_and_creations_that_fail_cost_no_job() -> Result<()> {
    let site = Site::new(quick()).await?;
    let runner = site
        .runner(
            "unlucky",
            "  [runners.pool]\n  boot_timeout = 2\n  create_timeout = 3\n",
        )
        .replace(
            r#"["local-boot-delay=100"]"#,
            r#"["local-boot-delay=100", "local-fail-create=30", "local-fail-boot=30"]"#,
        );
    site.configure(&runner)?;
    let daemon = site.start(&[]).await?;
    for _ in 0..6 {
        site.sandbox.submit(job(&["echo it works"]))?;
    }
    site.jobs(all(JobStatus::Success)).await?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}
