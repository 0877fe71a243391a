//! The compatibility suite: jobs as GitLab sends them, and what has to come of each.
//!
//! Cases are data (`tests/compat/*.toml`, see `docs/testing.md`). All of them are given to one daemon
//! at once, and run as machines are free. A case that is known not to be right yet says why in
//! `open`; it runs all the same, and fails the suite once it is right, so that nobody forgets to
//! delete that line.

pub mod case;
pub mod compare;
pub mod report;
pub mod repositories;
pub mod runners;
pub mod trace;
pub mod values;
pub mod zip;

mod bucket;
mod send;

use crate::{Daemon, Site, engine};
use anyhow::{Context, Result, bail};
use bucket::Bucket;
use case::{Case, Executor, Job};
use compare::{Difference, Seen, compare};
use futures_util::future::join_all;
use report::{Outcome, Report, Verdict, Wrong};
use springtide_sandbox::{JobView, SandboxOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// When the suite is given up, whatever still runs.
const DEADLINE: Duration = Duration::from_secs(600);

/// Bytes an upload may have: a case goes beyond it.
const ARTIFACT_LIMIT: usize = 4 * 1024 * 1024;

/// The variable that has a part of the names of the only cases to run.
pub const ONLY: &str = "SPRINGTIDE_COMPAT";

/// Where the cases are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// Runs the suite on an executor and prints its report.
///
/// # Errors
/// With the report, where a case is not as expected; where the daemon broke a rule of the protocol.
pub async fn run(executor: Executor) -> Result<()> {
    let runners = runners::load(&directory())?;
    let mut cases = case::load(&directory())?;
    cases.retain(|case| case.is_for(executor));
    if let Ok(only) = std::env::var(ONLY) {
        cases.retain(|case| format!("{}: {}", case.file, case.name).contains(&only));
        if cases.is_empty() {
            bail!("no case for this executor has {only:?} in its name");
        }
    }
    // Where machines and, on the Docker executor, containers reach GitLab and the bucket.
    let host = match executor {
        Executor::Shell => Ipv4Addr::LOCALHOST,
        Executor::Docker => bridge()?,
    };
    let site = Site::new(SandboxOptions {
        listen: SocketAddr::new(host.into(), 0),
        runner_tokens: runners.iter().map(runners::Runner::seed).collect(),
        group_reads: true,
        artifact_limit: ARTIFACT_LIMIT,
        ..crate::quick()
    })
    .await?;
    let repositories = site.path().join("repositories");
    repositories::make(&repositories)?;
    for (project, folder) in repositories::PROJECTS {
        site.sandbox
            .add_repository(project, &repositories.join(folder))?;
    }
    let bucket = match executor {
        Executor::Shell => Bucket::of_moto(host).await?,
        Executor::Docker => Bucket::verifying(host).await?,
    };
    runners::configure(&site, &runners, executor, &bucket.host())?;
    let daemon = site.start(&[]).await?;
    let suite = Suite {
        site: &site,
        bucket: &bucket,
        executor,
        begun: Instant::now(),
        turns: runners
            .iter()
            .filter(|runner| runner.machines == 1)
            .map(|runner| (runner.name.clone(), Mutex::new(())))
            .collect(),
    };
    let outcomes = join_all(cases.iter().map(|case| suite.case(case))).await;
    let report = Report {
        outcomes: outcomes.into_iter().collect::<Result<_>>()?,
        jobs: site.sandbox.jobs().len(),
        took: suite.begun.elapsed(),
    };
    println!("{report}");
    if !report.is_good() {
        bail!("cases are not as expected: {report}");
    }
    finish(&site, daemon).await
}

async fn finish(site: &Site, daemon: Daemon) -> Result<()> {
    if site.sandbox.jobs().iter().all(|job| job.status.is_final()) {
        daemon.finish().await?;
    }
    site.check()
}

/// One run of the suite.
struct Suite<'a> {
    site: &'a Site,
    bucket: &'a Bucket,
    executor: Executor,
    begun: Instant,
    /// Runners of one machine, which cases have one after the other: what a job leaves there, the
    /// case's next one finds.
    turns: BTreeMap<String, Mutex<()>>,
}

impl Suite<'_> {
    fn left(&self) -> Duration {
        DEADLINE.saturating_sub(self.begun.elapsed())
    }

    async fn case<'c>(&self, case: &'c Case) -> Result<Outcome<'c>> {
        let verdict = match missing(&case.needs) {
            Some(program) => Verdict::LeftOut(format!("{program} is not installed")),
            None => {
                let runners = case.jobs.iter().filter_map(|job| job.runner.as_deref());
                let runners: BTreeSet<&str> = runners.collect();
                let mut turns = Vec::new();
                for turn in runners.iter().filter_map(|name| self.turns.get(*name)) {
                    turns.push(turn.lock().await);
                }
                let wrong = self.jobs(case).await.with_context(|| case.name.clone())?;
                match (case.open(self.executor), wrong) {
                    (None, None) => Verdict::Right,
                    (None, Some(wrong)) => Verdict::Wrong(vec![wrong]),
                    (Some(why), None) => Verdict::NoLongerOpen(why.to_owned()),
                    (Some(why), Some(_)) => Verdict::Open(why.to_owned()),
                }
            }
        };
        Ok(Outcome { case, verdict })
    }

    /// Runs a case's jobs up to the first that is not as expected, which is given.
    async fn jobs(&self, case: &Case) -> Result<Option<Wrong>> {
        let mut ids = BTreeMap::new();
        for job in &case.jobs {
            for (key, text) in &job.stored {
                self.bucket.put(key, text.clone().into_bytes()).await?;
            }
            let id = self.site.sandbox.submit(send::spec(job, &ids)?)?;
            let ended = self.ended(id, job).await;
            let view = self.site.sandbox.job(id).context("the job is gone")?;
            ids.insert(view.name.clone(), id);
            let seen = self.seen(view, job).await?;
            let mut differences = compare(&job.expect, &seen);
            if !ended {
                differences.insert(0, late());
            }
            if !differences.is_empty() {
                return Ok(Some(Wrong {
                    job: seen.job.name,
                    id,
                    differences,
                    trace: trace::plain(&seen.trace),
                }));
            }
        }
        Ok(None)
    }

    /// Waits for a job's end, and cancels it before where that is asked for; false where it did not
    /// end in time.
    async fn ended(&self, id: u64, job: &Job) -> bool {
        let sandbox = &self.site.sandbox;
        let over = |job: &JobView| job.status.is_final();
        if let Some(cancel) = &job.cancel {
            let at = cancel.at.as_bytes();
            let there =
                |trace: &[u8]| at.is_empty() || trace.windows(at.len()).any(|part| part == at);
            let wanted = |job: &JobView, trace: &[u8]| over(job) || there(trace);
            if sandbox.wait_for_job(id, wanted, self.left()).await.is_err() {
                return false;
            }
            match cancel.force {
                true => sandbox.cancel_at_once(id),
                false => sandbox.cancel(id),
            };
        }
        let wanted = |job: &JobView, _: &[u8]| over(job);
        sandbox.wait_for_job(id, wanted, self.left()).await.is_ok()
    }

    async fn seen(&self, view: JobView, job: &Job) -> Result<Seen> {
        let sandbox = &self.site.sandbox;
        let uploads = view.artifacts.iter().filter_map(|one| {
            let bytes = sandbox.artifact(view.id, &one.kind)?;
            Some((one.kind.clone(), bytes.to_vec()))
        });
        let mut objects = BTreeMap::new();
        let mut keys = Vec::new();
        let named = job.expect.bucket.iter().map(|object| &object.key);
        for key in named.chain(&job.expect.not_in_bucket) {
            keys = self.bucket.keys().await?;
            if let Some(bytes) = self.bucket.get(key).await? {
                objects.insert(key.clone(), bytes);
            }
        }
        Ok(Seen {
            uploads: uploads.collect(),
            trace: self.site.trace(view.id),
            bucket: objects,
            keys,
            job: view,
        })
    }
}

/// This host's address on the network of the peers' engine.
fn bridge() -> Result<Ipv4Addr> {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let words = ["network", "inspect", "bridge", "--format", format];
    let said = engine::docker(&engine::socket()?, &words)?;
    let address = said.trim().parse();
    address.with_context(|| format!("the engine says of its network: {said}"))
}

fn late() -> Difference {
    Difference {
        what: "end",
        expected: "that it ends".to_owned(),
        actual: "it runs on".to_owned(),
    }
}

/// The first of some programs that is not on this machine.
fn missing(programs: &[String]) -> Option<&String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &String| std::env::split_paths(&path).any(|at| at.join(name).exists());
    programs.iter().find(|name| !there(name))
}
