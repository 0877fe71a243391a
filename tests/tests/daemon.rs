//! The daemon as it ships, against the sandbox GitLab and machines of the driver `local`.

use anyhow::Result;
use rustix::process::Signal;
use springtide_sandbox::{
    Endpoint, Fault, FaultKind, JobSpec, JobStatus, JobView, RunnerSeed, SandboxOptions,
};
use springtide_tests::{PROJECT, Site};
use std::collections::BTreeMap;

fn all(status: JobStatus) -> impl Fn(&[JobView]) -> bool {
    move |jobs| !jobs.is_empty() && jobs.iter().all(|job| job.status == status)
}

fn over(jobs: &[JobView]) -> bool {
    !jobs.is_empty() && jobs.iter().all(|job| job.status.is_final())
}

fn job(lines: &[&str]) -> JobSpec {
    JobSpec {
        repository: Some(PROJECT.to_owned()),
        ..JobSpec::script(lines.iter().copied())
    }
}

fn trace(site: &Site, id: u64) -> String {
    String::from_utf8_lossy(&site.sandbox.trace(id)).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_and_machines_go() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    let daemon = site.start(&[]).await?;
    let good = site
        .sandbox
        .submit(job(&["test -f README.md", "echo it works"]))?;
    let bad = site.sandbox.submit(job(&["echo before", "exit 7"]))?;
    site.jobs(over).await?;
    assert!(
        trace(&site, good).contains("it works"),
        "{}",
        trace(&site, good)
    );
    assert!(trace(&site, good).contains("Job succeeded"));
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
        ..SandboxOptions::default()
    })
    .await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo two phases"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(trace(&site, id).contains("two phases"));
    assert_eq!(site.sandbox.job(id).unwrap().assignments, 1);
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_source_jobs_are_asked_for_before_there_is_a_machine() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    let runner = site.runner("plain", "");
    let plain = runner.split("  [runners.queue]").next().unwrap();
    site.configure(plain)?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo as before"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(trace(&site, id).contains("as before"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_crashes_finds_its_job_again_and_nothing_is_lost_or_doubled() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&[
        "for number in 1 2 3 4 5 6 7 8; do echo \"line $number of 8\"; sleep 0.5; done",
    ]))?;
    site.until("the job writes", async || {
        trace(&site, id).contains("line 2 of 8")
    })
    .await?;
    daemon.crash().await?;
    let daemon = site.start(&[]).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let text = trace(&site, id);
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
    let site = Site::new(SandboxOptions::default()).await?;
    let daemon = site.start(&[]).await?;
    let spec = JobSpec {
        after_script: vec!["echo tidied up".into()],
        ..job(&["echo it begins", "sleep 300"])
    };
    let id = site.sandbox.submit(spec)?;
    site.until("the job runs", async || {
        trace(&site, id).contains("it begins")
    })
    .await?;
    assert!(site.sandbox.cancel(id));
    site.jobs(over).await?;
    assert_eq!(site.sandbox.job(id).unwrap().status, JobStatus::Canceled);
    assert!(
        trace(&site, id).contains("tidied up"),
        "{}",
        trace(&site, id)
    );
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_a_daemon_ends_jobs_after_its_timeout_and_tells_gitlab() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    let mut daemon = site.start(&["--remove-machines"]).await?;
    let id = site.sandbox.submit(job(&["echo it begins", "sleep 300"]))?;
    site.until("the job runs", async || {
        trace(&site, id).contains("it begins")
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
async fn a_changed_file_is_read_without_dropping_a_job_and_a_removed_runners_machines_go()
-> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    site.configure(
        &site
            .runner("elastic", "")
            .replace("IdleCount = 0", "IdleCount = 2"),
    )?;
    let daemon = site.start(&[]).await?;
    let id = site
        .sandbox
        .submit(job(&["echo it begins", "sleep 4", "echo it ends"]))?;
    site.until("the job runs", async || {
        trace(&site, id).contains("it begins")
    })
    .await?;
    site.configure("")?;
    daemon.signal(Signal::HUP)?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(trace(&site, id).contains("it ends"));
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    site.configure(&site.runner("elastic", ""))?;
    daemon.signal(Signal::HUP)?;
    let again = site.sandbox.submit(job(&["echo once more"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(trace(&site, again).contains("once more"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_left_the_file_while_no_daemon_ran_leaks_nothing() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    site.configure(
        &site
            .runner("elastic", "")
            .replace("IdleCount = 0", "IdleCount = 2"),
    )?;
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
    let site = Site::new(SandboxOptions::default()).await?;
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
        assert!(
            trace(&site, view.id).contains("the last line"),
            "{}",
            view.id
        );
    }
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_may_print_binary_or_nothing_and_masked_values_do_not_get_out() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
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
    assert!(trace(&site, silent).contains("Job succeeded"));
    assert!(trace(&site, binary).contains("the last line"));
    let text = trace(&site, masked);
    assert!(text.contains("it is [MASKED]."), "{text}");
    assert!(!text.contains("correct-horse-battery"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_replays_to_the_same_decisions() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    site.configure(
        &site
            .runner("elastic", "")
            .replace("IdleCount = 0", "IdleCount = 1"),
    )?;
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
async fn a_runner_with_an_executor_that_is_not_there_yet_stops_alone_and_says_so() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
    let none: [&str; 0] = [];
    site.sandbox
        .add_runner(RunnerSeed::new("glrt-another-token", none));
    let other = site
        .runner("containers", "")
        .replace("shell+machine", "docker+machine")
        .replace("glrt-sandbox-token", "glrt-another-token")
        + "  [runners.docker]\n  image = \"alpine\"\n";
    site.configure(&(site.runner("elastic", "") + &other))?;
    let daemon = site.start(&[]).await?;
    site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    let status = site.status().await?;
    let pools = status["pools"].as_array().unwrap();
    let stopped = pools
        .iter()
        .find(|pool| pool["runner"] == "containers")
        .unwrap();
    let trouble = stopped["trouble"].as_str().unwrap();
    assert!(trouble.contains("Docker executor"), "{trouble}");
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_is_refused_and_a_bad_file_is_named() -> Result<()> {
    let site = Site::new(SandboxOptions::default()).await?;
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
    let site = Site::new(SandboxOptions::default()).await?;
    let runner = site
        .runner("unlucky", "  [runners.pool]\n  boot_timeout = 2\n")
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
