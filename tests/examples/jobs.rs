//! Measures jobs: what a trivial one in containers spends in each of its phases, and 100 MB of output
//! from a script to GitLab. `cargo xtask bench` runs it; no test asserts its figures.

use anyhow::{Context, Result, bail};
use springtide_sandbox::{JobSpec, JobStatus, SandboxOptions, VariableSpec};
use springtide_tests::{PROJECT, Site, engine, quick};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// Lines of output, of ten bytes each: numbers that go on from this one.
const LINES: usize = 10_000_000;
const FIRST: usize = 100_000_000;

/// Where a phase begins: what is in its first line, and its name.
const PHASES: [(&str, &str); 7] = [
    ("Running with", "containers, network, volumes, services"),
    ("Preparing environment", "directories and variables"),
    ("Getting source", "sources"),
    ("Executing \"step_script\"", "script"),
    ("Cleaning up", "removing it all"),
    ("Job succeeded", "last words to GitLab"),
    ("", ""),
];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    in_containers().await?;
    much_output().await
}

fn runner(site: &Site, more: &str) -> String {
    let whole = site.runner("measured", more);
    let (first, last) = whole
        .split_once("  [runners.queue]")
        .unwrap_or((&whole, ""));
    let last = last
        .split_once("refresh = 1\n")
        .map_or("", |(_, last)| last);
    format!("{}{last}", first.replace("IdleCount = 0", "IdleCount = 1"))
}

async fn idle(site: &Site) -> Result<()> {
    let ready = async || {
        site.status().await.is_ok_and(|status| {
            let counts = &status["pools"][0]["counts"];
            counts["idle"] == 1 || counts["reserved"] == 1
        })
    };
    site.until("an idle machine", ready).await
}

async fn in_containers() -> Result<()> {
    let site = Site::new(quick()).await?;
    let docker = format!(
        "  [runners.docker]\n  host = \"unix://{}\"\n  image = \"springtide/tiny:1\"\n  helper_image = \"springtide/base:1\"\n  pull_policy = \"if-not-present\"\n",
        engine::socket()?.display()
    );
    let entry = runner(&site, &docker).replace("shell+machine", "docker+machine");
    site.configure(&entry)?;
    let daemon = site.start(&[]).await?;
    let mut phases: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut whole = Vec::new();
    for _ in 0..ROUNDS {
        idle(&site).await?;
        let id = site.sandbox.submit(JobSpec {
            repository: Some(PROJECT.to_owned()),
            // Its containers don't reach the loopback this GitLab listens on.
            git_strategy: Some("none".to_owned()),
            variables: [(
                "FF_TIMESTAMPS".to_owned(),
                VariableSpec::Plain("true".to_owned()),
            )]
            .into(),
            ..JobSpec::script(["true"])
        })?;
        site.jobs(|jobs| jobs.iter().all(|job| job.status.is_final()))
            .await?;
        let view = site.sandbox.job(id).context("the job")?;
        let trace = site.trace(id);
        if view.status != JobStatus::Success {
            bail!("the job did not succeed: {trace}");
        }
        let assigned = view.timings.assigned.context("it was assigned")?;
        let finished = view.timings.finished.context("it is over")?;
        let mut marks = vec![assigned];
        for (words, _) in PHASES.iter().filter(|(words, _)| !words.is_empty()) {
            let line = trace.lines().find(|line| line.contains(words));
            let stamp = line.and_then(|line| line.split(' ').next());
            let stamp = stamp.with_context(|| format!("no line with {words:?} in {trace}"))?;
            marks.push(seconds(stamp)?);
        }
        marks.push(finished);
        for (at, pair) in marks.windows(2).enumerate() {
            let took = (pair[1] - pair[0]) * 1000.0;
            phases.entry(at).or_default().push(took);
        }
        whole.push((finished - assigned) * 1000.0);
    }
    println!(
        "a trivial job in containers, image present, assigned to finished: {:.0} ms",
        median(&mut whole)
    );
    let names = ["to its first line"].into_iter();
    let names = names.chain(PHASES.iter().map(|(_, name)| *name));
    for (mut took, name) in phases.into_values().zip(names) {
        println!("  {name}: {:.0} ms", median(&mut took));
    }
    daemon.finish().await
}

/// A timestamp of a trace's line as seconds since the epoch.
fn seconds(stamp: &str) -> Result<f64> {
    let stamp: jiff::Timestamp = stamp
        .parse()
        .with_context(|| format!("reading {stamp:?}"))?;
    Ok(stamp.as_duration().as_secs_f64())
}

async fn much_output() -> Result<()> {
    let site = Site::new(SandboxOptions {
        trace_limit: 1 << 30,
        ..quick()
    })
    .await?;
    let entry = runner(&site, "").replace("limit = 4", "limit = 4\noutput_limit = 1000000");
    site.configure(&entry)?;
    let daemon = site.start(&[]).await?;
    idle(&site).await?;
    let before = daemon.resident()?;
    let begun = Instant::now();
    let id = site.sandbox.submit(JobSpec {
        repository: Some(PROJECT.to_owned()),
        ..JobSpec::script([format!(
            "echo begin; seq {FIRST} {}; echo end",
            FIRST + LINES - 1
        )])
    })?;
    let mut most = before;
    loop {
        let view = site.sandbox.job(id).context("the job")?;
        most = most.max(daemon.resident()?);
        if view.status.is_final() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    let trace = site.sandbox.trace(id);
    let start = find(&trace, b"\nbegin\n").context("the output has no beginning")? + 7;
    let mut lines = trace[start..].split(|byte| *byte == b'\n');
    for number in FIRST..FIRST + LINES {
        if lines.next() != Some(number.to_string().as_bytes()) {
            bail!("the line {number} is not where it should be");
        }
    }
    if lines.next() != Some(b"end") {
        bail!("there is more than was put out");
    }
    #[expect(clippy::cast_precision_loss, reason = "memory of one process")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{} MB of output, whole and in order at GitLab, from submitted to finished: {:.1} s",
        LINES / 100_000,
        took.as_secs_f64()
    );
    println!(
        "  resident memory of the daemon: {:.0} MB before, {:.0} MB at most",
        megabytes(before),
        megabytes(most)
    );
    daemon.finish().await
}

fn find(all: &[u8], wanted: &[u8]) -> Option<usize> {
    all.windows(wanted.len()).position(|part| part == wanted)
}
