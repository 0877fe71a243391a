//! How a daemon learns of waiting jobs: webhooks, a token that comes late, runners that share the
//! last slot, jobs that are offered twice.

use anyhow::Result;
use rustix::process::Signal;
use springtide_sandbox::{JobStatus, RunnerSeed, RunnerView, SandboxOptions, Webhook};
use springtide_tests::{Site, all, free_address, job, quick};
use std::time::Duration;

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_webhook_has_the_queue_read_and_one_without_the_secret_does_not() -> Result<()>
{
    let address = free_address()?;
    let at = format!("http://{address}/webhooks/gitlab");
    let site = Site::new(SandboxOptions {
        webhook: Some(Webhook {
            url: at.clone(),
            secret: "not-for-logs".into(),
        }),
        ..quick()
    })
    .await?;
    std::fs::write(site.path().join("webhook.secret"), "not-for-logs\n")?;
    let webhook =
        format!("[springtide.webhook]\nlisten = \"{address}\"\nsecret_file = \"webhook.secret\"\n");
    // Without events the queue would not be read again while this test waits.
    let runner = site
        .runner("elastic", "  stale_after = 7200\n")
        .replace("refresh = 1", "refresh = 3600");
    site.configure(&(webhook + &runner))?;
    let daemon = site.start(&[]).await?;
    site.until("the queue is known", async || {
        site.status()
            .await
            .is_ok_and(|status| status["pools"][0]["queue"].to_string().contains("fresh"))
    })
    .await?;
    let refused = reqwest::Client::new()
        .post(&at)
        .header("X-Gitlab-Token", "a guess")
        .header("X-Gitlab-Event", "Job Hook")
        .body(r#"{"object_kind":"build"}"#)
        .send()
        .await?;
    assert_eq!(refused.status(), 401);
    let id = site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("it works"));
    daemon.finish().await?;
    assert!(!site.log().contains("not-for-logs"), "{}", site.log());
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queues_token_may_come_late_and_be_replaced() -> Result<()> {
    let site = Site::new(quick()).await?;
    let token = site.path().join("read-api.token");
    std::fs::remove_file(&token)?;
    let daemon = site.start(&[]).await?;
    site.until("its absence is said", async || {
        site.trouble("elastic").await.contains("read-api.token")
    })
    .await?;
    std::fs::write(&token, "glpat-of-another-site\n")?;
    site.until("it is refused, and that is said", async || {
        let trouble = site.trouble("elastic").await;
        trouble.contains("can't be read") && trouble.contains("401")
    })
    .await?;
    std::fs::write(&token, "glpat-sandbox\n")?;
    site.until("the queue is read", async || {
        site.status().await.is_ok_and(|status| {
            status["pools"][0]["queue"].to_string().contains("fresh")
                && status["pools"][0]["trouble"].is_null()
        })
    })
    .await?;
    site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    daemon.finish().await?;
    assert!(!site.log().contains("glpat-of-another-site"));
    site.check()
}

/// Two runners without a queue source, each for jobs of its own tag.
async fn two_that_share(long_poll: Duration) -> Result<Site> {
    let site = Site::new(SandboxOptions {
        long_poll,
        runner_tokens: ["one", "two"]
            .map(|tag| RunnerSeed {
                run_untagged: false,
                ..RunnerSeed::new(format!("glrt-sandbox-token-{tag}"), [tag])
            })
            .into(),
        ..quick()
    })
    .await?;
    Ok(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_slot_is_not_held_by_a_request_that_waits_while_another_runner_has_a_job()
-> Result<()> {
    let site = two_that_share(NEVER).await?;
    let runners: Vec<String> = ["one", "two"]
        .map(|tag| {
            let runner = site
                .runner(tag, "")
                .replace("glrt-sandbox-token", &format!("glrt-sandbox-token-{tag}"));
            let plain = runner.split("  [runners.queue]").next();
            plain.unwrap_or_default().to_owned()
        })
        .into();
    site.configure_with("concurrent = 1", &runners.concat())?;
    let daemon = site.start(&[]).await?;
    for tag in ["one", "two"] {
        site.sandbox.submit(job(&["true"]).tagged([tag]))?;
        site.jobs(all(JobStatus::Success)).await?;
    }
    // From the second of these on a runner knows the latest news, and could be held with them.
    let before = requests(&site);
    site.until("both ask again and again", async || {
        let now = requests(&site);
        now.iter()
            .zip(&before)
            .all(|(now, before)| *now > before + 4)
    })
    .await?;
    daemon.finish().await?;
    site.check()
}

/// How often each runner has asked for a job.
fn requests(site: &Site) -> Vec<u64> {
    let runners = site.sandbox.runners();
    let asked = |runner: &RunnerView| runner.managers.values().map(|at| at.requests).sum();
    runners.iter().map(asked).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_gitlab_holds_ends_with_its_runner_and_takes_no_job_afterwards() -> Result<()>
{
    let site = Site::new(SandboxOptions {
        long_poll: NEVER,
        ..quick()
    })
    .await?;
    let runner = site.runner("plain", "");
    let plain = runner.split("  [runners.queue]").next().unwrap_or_default();
    site.configure(plain)?;
    let daemon = site.start(&[]).await?;
    site.sandbox.submit(job(&["true"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    // It is asked until GitLab holds it: then there is no next one for a while.
    let mut seen = (requests(&site), tokio::time::Instant::now());
    site.until("a request is held", async || {
        let now = requests(&site);
        if now != seen.0 {
            seen = (now, tokio::time::Instant::now());
        }
        seen.1.elapsed() > Duration::from_secs(4)
    })
    .await?;
    site.configure("")?;
    daemon.signal(Signal::HUP)?;
    site.until("its pool is over", async || {
        let status = site.status().await;
        status.is_ok_and(|status| status["pools"].as_array().is_some_and(Vec::is_empty))
    })
    .await?;
    site.sandbox.submit(job(&["echo it works"]))?;
    let taken = site.sandbox.wait_for(
        |jobs| jobs.iter().all(|job| job.status != JobStatus::Pending),
        Duration::from_secs(2),
    );
    assert!(taken.await.is_err(), "a job was taken for nobody");
    site.configure(plain)?;
    daemon.signal(Signal::HUP)?;
    site.jobs(all(JobStatus::Success)).await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_offered_a_second_time_while_its_machine_boots_runs_once() -> Result<()> {
    let site = Site::new(SandboxOptions {
        two_phase: true,
        // Far below the time between two signs of a runner that holds it.
        offer_expiry: Duration::from_secs(1),
        ..quick()
    })
    .await?;
    let runner = site.runner("plain", "");
    let plain = runner.split("  [runners.queue]").next().unwrap_or_default();
    site.configure(&plain.replace("local-boot-delay=100", "local-boot-delay=6000"))?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo once upon a time"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    let view = site.sandbox.job(id).ok_or(anyhow::anyhow!("no job"))?;
    assert!(view.assignments > 1, "{view:?}");
    let text = site.trace(id);
    let printed = text
        .lines()
        .filter(|line| line.trim() == "once upon a time");
    assert_eq!(printed.count(), 1, "{text}");
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}
