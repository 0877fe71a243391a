//! Measures the daemon as it ships: memory and start with all shipped plugins and twenty runners, and
//! what a job waits for on an idle machine. `cargo xtask bench` runs it; no test asserts its figures.

use anyhow::{Context, Result};
use springtide_sandbox::{JobSpec, JobStatus, RunnerSeed, SandboxOptions};
use springtide_tests::{PROJECT, Site, quick};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RUNNERS: usize = 20;
const ROUNDS: usize = 7;

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    twenty_runners().await?;
    one_job().await
}

async fn twenty_runners() -> Result<()> {
    let tokens: Vec<String> = (0..RUNNERS)
        .map(|at| format!("glrt-measured-{at:02}"))
        .collect();
    let site = Site::new(SandboxOptions {
        runner_tokens: tokens
            .iter()
            .map(|token| RunnerSeed::new(token.clone(), Vec::<String>::new()))
            .collect(),
        ..quick()
    })
    .await?;
    let runners: String = tokens
        .iter()
        .enumerate()
        .map(|(at, token)| {
            site.runner(&format!("runner-{at}"), "")
                .replace("glrt-sandbox-token", token)
                .split("  [runners.queue]")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    site.configure(&runners)?;
    let polled = |since: f64| {
        let all = site.sandbox.runners();
        all.iter()
            .flat_map(|runner| runner.managers.values())
            .any(|manager| manager.requests > 0 && manager.last_contact >= since)
    };
    // The first start compiles the plugins and learns who the runners are.
    let daemon = site.start(&[]).await?;
    site.until("a first poll", async || polled(0.0)).await?;
    let status = site.status().await?;
    let plugins = status["plugins"].as_array().map_or(0, Vec::len);
    daemon.finish().await?;
    let mut starts = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        let begun = now();
        let daemon = site.spawn(&[])?;
        while !polled(begun) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        starts.push((now() - begun) * 1000.0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        #[expect(clippy::cast_precision_loss, reason = "memory of one process")]
        resident.push(daemon.resident()? as f64 / 1e6);
        daemon.finish().await?;
    }
    println!(
        "from exec to the first poll, {RUNNERS} runners, warm cache: {:.0} ms",
        median(&mut starts)
    );
    println!(
        "resident memory, {RUNNERS} runners polling, {plugins} plugins: {:.0} MB",
        median(&mut resident)
    );
    Ok(())
}

async fn one_job() -> Result<()> {
    let site = Site::new(quick()).await?;
    let runner = site.runner("measured", "");
    let plain = runner.split("  [runners.queue]").next().unwrap_or_default();
    site.configure(&plain.replace("IdleCount = 0", "IdleCount = 1"))?;
    let daemon = site.start(&[]).await?;
    let ready = async || {
        site.status().await.is_ok_and(|status| {
            let counts = &status["pools"][0]["counts"];
            counts["idle"] == 1 || counts["reserved"] == 1
        })
    };
    let mut waits = Vec::new();
    for _ in 0..ROUNDS {
        site.until("an idle machine", ready).await?;
        let id = site.sandbox.submit(JobSpec {
            repository: Some(PROJECT.to_owned()),
            ..JobSpec::script(["echo \"begun at $(date +%s.%N).\""])
        })?;
        site.jobs(|jobs| jobs.iter().all(|job| job.status == JobStatus::Success))
            .await?;
        let view = site.sandbox.job(id).context("the job")?;
        let trace = String::from_utf8_lossy(&site.sandbox.trace(id)).into_owned();
        let begun: f64 = trace
            .lines()
            .filter_map(|line| line.strip_prefix("begun at "))
            .find_map(|rest| rest.trim_end().trim_end_matches('.').parse().ok())
            .with_context(|| format!("no line of the script in {trace}"))?;
        let assigned = view.timings.assigned.context("it was assigned")?;
        waits.push((
            (begun - view.timings.queued) * 1000.0,
            (begun - assigned) * 1000.0,
        ));
    }
    let mut queued: Vec<f64> = waits.iter().map(|(wait, _)| *wait).collect();
    let mut assigned: Vec<f64> = waits.iter().map(|(_, wait)| *wait).collect();
    println!(
        "a job on an idle machine, from queued to its script's first byte: {:.0} ms",
        median(&mut queued)
    );
    println!(
        "  of that from given by GitLab, so without the poll: {:.0} ms",
        median(&mut assigned)
    );
    daemon.finish().await
}
