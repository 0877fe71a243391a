//! `springtide demo`: the whole of it on one machine, in less than a minute, against a sandbox
//! GitLab: thirty jobs in two bursts.

mod scene;
mod table;

use crate::runtime::socket::{Ask, ask};
use crate::table::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use scene::Scene;
use springtide_sandbox::{JobSpec, JobStatus, Sandbox, SandboxOptions};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use table::Outcome;
use tokio::process::{Child, Command};

/// Jobs of a burst.
const BURST: u32 = 15;
/// Between the two bursts: long enough for the tide to go out in part.
const BETWEEN: Duration = Duration::from_secs(6);
/// How long all jobs may take, and how long machines may take to go.
const PATIENCE: Duration = Duration::from_secs(120);
/// The project whose sources the jobs fetch.
const PROJECT: &str = "demo/app";

/// Show it all on this machine: a sandbox GitLab, the daemon, thirty jobs, and no machine left.
///
/// Starts a sandbox GitLab and the daemon with examples/demo/config.toml, on free ports and in a
/// directory of its own, submits two bursts of jobs against a small git repository, and shows the
/// pool as it grows and shrinks. A machine is a directory and processes on this host.
///
/// Ends with 0 only if every job succeeded, its trace arrived whole, and no machine is left.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  springtide demo --json")]
pub struct Arguments {
    /// Print the table at the end as one JSON object, and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// The configuration; its `url`, directories and token file are replaced.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the plugins are.
    #[arg(long, value_name = "DIRECTORY")]
    plugin_dir: Option<PathBuf>,
    /// Where springtide-helper is.
    #[arg(long, value_name = "FILE")]
    helper: Option<PathBuf>,
    /// Keep the directory with the state, the traces and the daemon's log.
    #[arg(long)]
    keep: bool,
}

/// Runs the demo; `false` where something is not as it should be.
///
/// # Errors
/// Where a part of it can't be started.
pub async fn run(arguments: Arguments) -> Result<bool> {
    let folder = tempfile::Builder::new()
        .prefix("springtide-demo-")
        .tempdir()
        .context("making a directory for the demo")?;
    let outcome = play(&arguments, folder.path()).await;
    let kept = match &outcome {
        Ok(outcome) => arguments.keep || !outcome.good(),
        Err(_) => true,
    };
    if kept {
        eprintln!(
            "State, log and repository are in {}",
            folder.keep().display()
        );
    }
    let outcome = outcome?;
    if arguments.json {
        say(&(serde_json::to_string_pretty(&outcome)? + "\n"))?;
    } else {
        say(&outcome.to_string())?;
    }
    Ok(outcome.good())
}

async fn play(arguments: &Arguments, folder: &std::path::Path) -> Result<Outcome> {
    let repository = scene::repository(folder).await?;
    let sandbox = Sandbox::start(SandboxOptions {
        trace_update_interval: 1,
        long_poll: Duration::from_secs(2),
        ..SandboxOptions::default()
    })
    .await?;
    sandbox.add_repository(PROJECT, &repository)?;
    let scene = Scene::set(
        folder,
        sandbox.url(),
        arguments.config.as_deref(),
        arguments.plugin_dir.as_deref(),
        arguments.helper.as_deref(),
    )?;
    let mut daemon = start(&scene)?;
    let show = Show::new(!arguments.json);
    let played = tokio::select! {
        played = perform(&sandbox, &scene, &mut daemon, show) => played,
        () = crate::signals::asked_to_stop() => Err(anyhow::anyhow!("stopped by a signal")),
    };
    let ended = end(&mut daemon).await;
    let (jobs, totals) = played?;
    ended?;
    Ok(Outcome::new(
        &sandbox,
        &jobs,
        totals,
        scene.machines_left()?,
        sandbox.violations().len(),
    ))
}

fn start(scene: &Scene) -> Result<Child> {
    let log = std::fs::File::create(&scene.log)
        .with_context(|| format!("writing the log {}", scene.log.display()))?;
    let program = std::env::current_exe().context("finding this program's own file")?;
    Command::new(program)
        .arg("run")
        .arg("--config")
        .arg(&scene.config)
        .arg("--remove-machines")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        // A signal of the terminal's is ours to pass on, once machines have gone.
        .process_group(0)
        .spawn()
        .context("starting the daemon")
}

/// Submits the jobs and shows the pool until all of them are over and the pool has shrunk back.
async fn perform(
    sandbox: &Sandbox,
    scene: &Scene,
    daemon: &mut Child,
    mut show: Show,
) -> Result<(Vec<u64>, table::Totals)> {
    let mut jobs = Vec::new();
    let begun = tokio::time::Instant::now();
    let mut second = None;
    let mut over = None;
    loop {
        if let Some(status) = daemon.try_wait()? {
            bail!(
                "the daemon ended ({status}); its log is {}",
                scene.log.display()
            );
        }
        let status = ask(&scene.state, &Ask::Status).await.ok();
        let now = tokio::time::Instant::now();
        if jobs.is_empty() && status.is_some() {
            jobs.extend(sandbox.submit_all(burst(1))?);
            second = Some(now + BETWEEN);
        }
        if second.is_some_and(|at| now >= at) {
            jobs.extend(sandbox.submit_all(burst(2))?);
            second = None;
        }
        let views = sandbox.jobs();
        let count = |is: fn(&JobStatus) -> bool| views.iter().filter(|job| is(&job.status)).count();
        let done = count(|status| status.is_final());
        let pending = count(|status| *status == JobStatus::Pending);
        if let Some(status) = &status {
            show.frame(&scene::Frame {
                all: 2 * BURST as usize,
                waiting: pending,
                running: views.len() - pending - done,
                done,
                status,
            });
        }
        let all = second.is_none() && !jobs.is_empty() && done == jobs.len();
        if all && over.is_none() {
            over = Some(now);
        }
        // A look at the tide going out, then the curtain.
        if over.is_some_and(|at| now >= at + Duration::from_secs(3)) {
            show.close();
            let status = status.context("the daemon does not answer")?;
            return Ok((jobs, scene::totals(&status)));
        }
        if now > begun + PATIENCE {
            show.close();
            bail!(
                "{done} of {} jobs were over after {} s; the daemon's log is {}",
                2 * BURST,
                PATIENCE.as_secs(),
                scene.log.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn burst(number: u32) -> JobSpec {
    JobSpec {
        name: Some(format!("burst {number}")),
        repository: Some(PROJECT.to_owned()),
        count: Some(BURST),
        ..JobSpec::script([
            "sh ./test.sh",
            "echo \"job $CI_JOB_ID saw commit $CI_COMMIT_SHORT_SHA\"",
            "echo springtide-demo-last-line",
        ])
    }
}

/// Asks the daemon to end, which takes its machines with it.
async fn end(daemon: &mut Child) -> Result<()> {
    if let Some(pid) = daemon.id().and_then(|pid| i32::try_from(pid).ok()) {
        let pid = rustix::process::Pid::from_raw(pid).context("the daemon has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT)
            .context("asking the daemon to end")?;
    }
    let ended = tokio::time::timeout(PATIENCE, daemon.wait())
        .await
        .context("the daemon did not end in two minutes")??;
    if !ended.success() {
        bail!("the daemon ended with {ended}");
    }
    Ok(())
}

/// Shows frames: in place on a terminal, a line now and then elsewhere.
struct Show {
    on: bool,
    terminal: bool,
    lines: usize,
    said: String,
    next: Option<tokio::time::Instant>,
}

impl Show {
    fn new(on: bool) -> Show {
        Show {
            on,
            terminal: std::io::stdout().is_terminal(),
            lines: 0,
            said: String::new(),
            next: None,
        }
    }

    fn frame(&mut self, frame: &scene::Frame<'_>) {
        if !self.on {
            return;
        }
        if self.terminal {
            let text = frame.large();
            if self.lines > 0 {
                print!("\x1b[{}A\x1b[J", self.lines);
            }
            print!("{text}");
            self.lines = text.lines().count();
        } else {
            let line = frame.line();
            let now = tokio::time::Instant::now();
            if line != self.said && self.next.is_none_or(|next| now >= next) {
                println!("{line}");
                self.said = line;
                self.next = Some(now + Duration::from_secs(1));
            }
        }
    }

    fn close(&mut self) {
        self.lines = 0;
    }
}
