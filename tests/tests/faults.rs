//! What may be wrong around a daemon: entries with errors, plugins that are changed, missing or
//! broken, a GitLab that refuses for long, output without end.

use anyhow::{Context, Result};
use rustix::process::Signal;
use springtide_sandbox::{Endpoint, Fault, FaultKind, JobSpec, JobStatus, RunnerSeed};
use springtide_tests::{Site, all, job, over, quick};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_an_error_beside_good_ones_keeps_its_machines() -> Result<()> {
    let site = Site::new(quick()).await?;
    site.sandbox
        .add_runner(RunnerSeed::new("glrt-another-token", ["other"]));
    let other = site
        .idle("other", 1)
        .replace("glrt-sandbox-token", "glrt-another-token");
    site.configure(&(site.runner("elastic", "") + &other))?;
    let daemon = site.start(&[]).await?;
    site.until("the other's machine is there", async || {
        site.machines() == 1
    })
    .await?;
    daemon.finish().await?;
    let bad = other.replace("other-%s", "other");
    site.configure(&(site.runner("elastic", "") + &bad))?;
    let daemon = site.start(&[]).await?;
    // Pools without a runner are looked for every ten seconds: this job outlasts that.
    site.sandbox.submit(job(&["sleep 12"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    let log = site.log();
    assert!(log.contains("MachineName"), "{log}");
    assert!(
        !log.contains("a pool without a runner is wound up"),
        "{log}"
    );
    site.until("only the other's machine is left", async || {
        site.machines() == 1
    })
    .await?;
    site.configure(
        &(site.runner("elastic", "") + &other.replace("IdleCount = 1", "IdleCount = 0")),
    )?;
    daemon.signal(Signal::HUP)?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_comes_back_while_its_machines_go_works_as_before() -> Result<()> {
    let site = Site::new(quick()).await?;
    let slow = site.idle("elastic", 2).replace(
        r#"["local-boot-delay=100"]"#,
        r#"["local-boot-delay=100", "local-destroy-delay=3000"]"#,
    );
    site.configure(&slow)?;
    let daemon = site.start(&[]).await?;
    site.until("two machines are there", async || site.machines() == 2)
        .await?;
    daemon.finish().await?;
    site.configure("")?;
    let daemon = site.start(&[]).await?;
    site.until("its machines go", async || {
        site.log().contains("a pool without a runner is wound up")
    })
    .await?;
    site.configure(&slow.replace("IdleCount = 2", "IdleCount = 0"))?;
    daemon.signal(Signal::HUP)?;
    site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_settings_that_were_changed_are_neither_lost_nor_left() -> Result<()> {
    let site = Site::new(quick()).await?;
    site.configure(&site.idle("elastic", 2))?;
    let daemon = site.start(&[]).await?;
    site.until("two machines are ready", async || {
        let status = site.status().await;
        status.is_ok_and(|status| status["pools"][0]["counts"]["idle"] == 2)
    })
    .await?;
    site.configure(&site.runner("elastic", "").replace("delay=100", "delay=101"))?;
    daemon.signal(Signal::HUP)?;
    site.sandbox.submit(job(&["echo it works"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    let log = site.log();
    assert!(!log.contains("vanished"), "{log}");
    site.check()
}

/// The digest of a plugin in use, as `status` shows it.
async fn digest(site: &Site, plugin: &str) -> Result<String> {
    let status = site.status().await?;
    let all = status["plugins"].as_array().context("no plugins")?;
    let one = all.iter().find(|one| one["id"] == plugin);
    Ok(one.context("no such plugin")?["digest"].to_string())
}

/// The same component with one more custom section: another file that does the same.
fn another(component: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend([0, 4, 1, b'x', 0, 0]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_swapped_under_a_running_daemon_and_a_broken_file_changes_nothing() -> Result<()>
{
    let site = Site::new(quick()).await?;
    let file = site.own_plugins()?.join("queue-depth.wasm");
    site.configure(&site.runner("elastic", ""))?;
    let daemon = site.start(&[]).await?;
    let shipped = digest(&site, "queue-depth").await?;
    let component = std::fs::read(&file)?;

    std::fs::write(&file, &component[..component.len() / 2])?;
    site.until("the broken file is named", async || {
        site.status().await.is_ok_and(|status| {
            let all = status["plugins"].as_array().cloned().unwrap_or_default();
            all.iter()
                .any(|one| one["id"] == "queue-depth" && one["trouble"].is_string())
        })
    })
    .await?;
    assert_eq!(digest(&site, "queue-depth").await?, shipped);
    site.sandbox.submit(job(&["echo with the old one"]))?;
    site.jobs(all(JobStatus::Success)).await?;

    std::fs::write(&file, another(&component))?;
    site.until("the new one is in use", async || {
        digest(&site, "queue-depth")
            .await
            .is_ok_and(|digest| digest != shipped)
    })
    .await?;
    site.sandbox.submit(job(&["echo with the new one"]))?;
    site.jobs(all(JobStatus::Success)).await?;

    std::fs::write(&file, &component)?;
    let reloaded = site.cli(&["plugin", "reload", "queue-depth"]).await?;
    assert!(
        reloaded.status.success(),
        "{}",
        String::from_utf8_lossy(&reloaded.stderr)
    );
    assert_eq!(digest(&site, "queue-depth").await?, shipped);
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_missing_at_a_start_stops_no_job_and_takes_its_machines_once_it_is_back()
-> Result<()> {
    let site = Site::new(quick()).await?;
    let driver = site.own_plugins()?.join("local.wasm");
    site.configure(&site.runner("elastic", ""))?;
    let daemon = site.start(&[]).await?;
    let id = site
        .sandbox
        .submit(job(&["echo it begins", "sleep 4", "echo it ends"]))?;
    site.until("the job runs", async || {
        site.trace(id).contains("it begins")
    })
    .await?;
    daemon.crash().await?;
    let component = std::fs::read(&driver)?;
    std::fs::remove_file(&driver)?;
    let daemon = site.start(&[]).await?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("it ends"));
    let trouble = site.trouble("elastic").await;
    assert!(trouble.contains("local"), "{trouble}");
    assert_eq!(site.machines(), 1, "nobody can remove it yet");
    std::fs::write(&driver, component)?;
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    site.sandbox.submit(job(&["echo once more"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_directory_that_cannot_be_used_is_named() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new(quick()).await?;
    let own = site.own_plugins()?;
    site.configure(&site.runner("elastic", ""))?;
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777))?;
    let open = site.cli(&["run"]).await?;
    let said = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(!open.status.success() && said.contains("plugins"), "{said}");
    assert!(said.contains("writ"), "{said}");
    // A file in place of the directory can't be read as one, whoever asks.
    std::fs::remove_dir_all(&own)?;
    std::fs::write(&own, "")?;
    let unreadable = site.cli(&["run"]).await?;
    let said = String::from_utf8_lossy(&unreadable.stderr).into_owned();
    assert!(
        !unreadable.status.success() && said.contains("plugins"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_that_refuses_a_runner_for_long_is_left_alone_and_then_asked_again() -> Result<()>
{
    let site = Site::new(quick()).await?;
    let runner = site.runner("elastic", "").replace(
        "limit = 4",
        "limit = 4\nunhealthy_requests_limit = 3\nunhealthy_interval = \"4s\"",
    );
    site.configure(&runner)?;
    site.sandbox.fault(Fault {
        endpoint: Endpoint::Request,
        kind: FaultKind::Status(403),
        count: None,
    });
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo at last"]))?;
    site.until("that is said", async || {
        site.trouble("elastic").await.contains("403")
    })
    .await?;
    site.sandbox.clear_faults();
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("at last"));
    site.until("it is in order again", async || {
        site.trouble("elastic").await.is_empty()
    })
    .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_that_limits_its_rate_is_obeyed_and_no_runner_is_switched_off() -> Result<()> {
    let site = Site::new(quick()).await?;
    for endpoint in [Endpoint::Request, Endpoint::Trace, Endpoint::Queue] {
        let reset = Duration::from_secs(2);
        site.sandbox
            .fault(Fault::times(endpoint, FaultKind::RateLimit { reset }, 4));
    }
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo at last"]))?;
    site.jobs(all(JobStatus::Success)).await?;
    assert!(site.trace(id).contains("at last"));
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_prints_a_gigabyte_is_cut_at_the_limit_and_costs_little_memory() -> Result<()>
{
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(JobSpec {
        after_script: vec!["echo it ended".into()],
        ..job(&["head -c 1073741824 /dev/zero | tr '\\0' x"])
    })?;
    let mut most = 0;
    site.until("the job is over", async || {
        most = most.max(daemon.resident().unwrap_or(0));
        over(&site.sandbox.jobs())
    })
    .await?;
    assert_eq!(
        site.sandbox.job(id).map(|job| job.status),
        Some(JobStatus::Success)
    );
    let text = site.trace(id);
    assert!(
        text.contains("exceeded limit of 4194304 bytes"),
        "{}",
        &text[text.len() - 500..]
    );
    assert!(text.len() < 4200 * 1024, "{}", text.len());
    assert!(most < 200 << 20, "the daemon had {most} bytes");
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_that_is_slow_or_says_what_cannot_be_read_loses_no_job() -> Result<()> {
    let site = Site::new(quick()).await?;
    let daemon = site.start(&[]).await?;
    // A payload without most of its fields: that job is failed at GitLab, for nobody can run it.
    let nothing = Fault::times(Endpoint::Request, FaultKind::Malformed, 1);
    site.sandbox.fault(nothing);
    let odd = site.sandbox.submit(job(&["echo never"]))?;
    site.jobs(over).await?;
    let ended = site.sandbox.job(odd).context("no job")?;
    assert_eq!(ended.status, JobStatus::Failed);
    let reason = ended.failure_reason.unwrap_or_default();
    assert_eq!(reason, "runner_system_failure");
    for (endpoint, kind) in [
        (Endpoint::Request, FaultKind::Delay(Duration::from_secs(3))),
        (Endpoint::Trace, FaultKind::Delay(Duration::from_secs(3))),
        (Endpoint::Update, FaultKind::Delay(Duration::from_secs(3))),
        (Endpoint::Queue, FaultKind::Malformed),
        (Endpoint::Trace, FaultKind::Truncate),
    ] {
        site.sandbox.fault(Fault::times(endpoint, kind, 2));
    }
    let ids: Vec<u64> = (0..3)
        .map(|_| {
            site.sandbox
                .submit(job(&["echo the first", "sleep 3", "echo the last"]))
        })
        .collect::<Result<_, _>>()?;
    site.jobs(over).await?;
    for id in ids {
        assert_eq!(
            site.sandbox.job(id).map(|job| job.status),
            Some(JobStatus::Success)
        );
        let text = site.trace(id);
        assert!(
            text.contains("the first") && text.contains("the last"),
            "{text}"
        );
    }
    site.until("no machine is left", async || site.machines() == 0)
        .await?;
    daemon.finish().await?;
    site.check()
}
