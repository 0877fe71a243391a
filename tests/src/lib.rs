//! A site for end-to-end tests: a sandbox GitLab with a repository, a configuration, and the daemon
//! as a process of its own, as it ships.
//!
//! The programs and the plugins are those `cargo xtask test` has built: a test that does not find
//! them fails and says so.

pub mod compat;
pub mod ec2;
pub mod engine;
mod moto;
pub mod registry;
pub mod vbox;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use springtide_sandbox::{JobSpec, JobStatus, JobView, Sandbox, SandboxOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a test waits for something that should happen at once.
pub const SOON: Duration = Duration::from_secs(60);

/// The project the sandbox serves.
pub const PROJECT: &str = "team/app";

/// A sandbox GitLab and everything a daemon needs beside it, in a directory of its own.
pub struct Site {
    folder: tempfile::TempDir,
    /// The GitLab.
    pub sandbox: Sandbox,
}

/// The directory programs are built into: that of this test.
fn built() -> Result<PathBuf> {
    let test = std::env::current_exe().context("finding this test's own file")?;
    // <target>/<profile>/deps/<test>, or examples/<example>
    let directory = test.ancestors().nth(2);
    Ok(directory
        .context("this test is in no target directory")?
        .to_path_buf())
}

/// Where the real programs are that tests talk to.
///
/// # Errors
/// Where they were not set up.
pub fn peers() -> Result<PathBuf> {
    let peers = std::env::var_os("SPRINGTIDE_PEERS");
    peers
        .map(PathBuf::from)
        .context("SPRINGTIDE_PEERS is not set: run `cargo xtask test`, which sets the peers up")
}

/// A program of the workspace.
///
/// # Errors
/// Where it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    // The helper that goes to machines is built by itself.
    let own = std::env::var_os("SPRINGTIDE_HELPER").filter(|_| name == "springtide-helper");
    let path = match own {
        Some(path) => PathBuf::from(path),
        None => built()?.join(name),
    };
    if !path.exists() {
        bail!("{name} is not built; run `cargo xtask test`, or `cargo build --workspace --bins`");
    }
    Ok(path)
}

/// The directory with the shipped plugins.
///
/// # Errors
/// Where they were not built.
pub fn plugins() -> Result<PathBuf> {
    let path = match std::env::var_os("SPRINGTIDE_PLUGINS") {
        Some(path) => PathBuf::from(path),
        None => built()?.join("../plugins"),
    };
    if !path.join("local.wasm").exists() {
        bail!("the plugins are not built; run `cargo xtask plugins`");
    }
    Ok(path)
}

impl Site {
    /// A site whose GitLab is this.
    ///
    /// # Errors
    /// Where a part of it can't be made.
    pub async fn new(options: SandboxOptions) -> Result<Site> {
        let folder = tempfile::Builder::new()
            .prefix("springtide-site-")
            .tempdir()?;
        let sandbox = Sandbox::start(options).await?;
        let repository = folder.path().join("app");
        repository_at(&repository).await?;
        sandbox.add_repository(PROJECT, &repository)?;
        std::fs::write(folder.path().join("read-api.token"), "glpat-sandbox\n")?;
        let site = Site { folder, sandbox };
        site.configure(&site.runner("elastic", ""))?;
        Ok(site)
    }

    /// The site's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// A runner's entry on the driver `local`, with more lines at its end.
    #[must_use]
    pub fn runner(&self, name: &str, more: &str) -> String {
        let url = self.sandbox.url();
        format!(
            r#"
[[runners]]
name = "{name}"
url = "{url}"
token = "glrt-sandbox-token"
executor = "shell+machine"
limit = 4
request_concurrency = 4
  [runners.machine]
  MachineDriver = "local"
  MachineName = "{name}-%s"
  MachineOptions = ["local-boot-delay=100"]
  IdleCount = 0
  IdleTime = 1
  [runners.queue]
  projects = ["{PROJECT}"]
  run_untagged = true
  token_file = "read-api.token"
  refresh = 1
{more}"#
        )
    }

    /// The same entry with so many idle machines to keep.
    #[must_use]
    pub fn idle(&self, name: &str, machines: u32) -> String {
        self.runner(name, "")
            .replace("IdleCount = 0", &format!("IdleCount = {machines}"))
    }

    /// A plugin directory of the site's own, with what is shipped: what is configured from now on
    /// uses it.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn own_plugins(&self) -> Result<PathBuf> {
        let own = self.path().join("plugins");
        std::fs::create_dir(&own)?;
        for plugin in ["local.wasm", "off-peak.wasm", "queue-depth.wasm"] {
            std::fs::copy(plugins()?.join(plugin), own.join(plugin))?;
        }
        Ok(own)
    }

    /// Writes the configuration with these runners.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn configure(&self, runners: &str) -> Result<()> {
        self.configure_with("concurrent = 8", runners)
    }

    /// Writes the configuration with these lines at its beginning and these runners.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn configure_with(&self, first: &str, runners: &str) -> Result<()> {
        let folder = self.path().display();
        let own = self.path().join("plugins");
        let plugins = if own.exists() { own } else { plugins()? };
        let helper = program("springtide-helper")?;
        let text = format!(
            r#"
check_interval = 1
shutdown_timeout = 5
{first}
[springtide]
plugin_dir = "{}"
helper = "{}"
state = "sqlite:{folder}/state/state.db"
local_root = "{folder}/machines"
{runners}"#,
            plugins.display(),
            helper.display()
        );
        let new = self.path().join("config.new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, self.config())?)
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Daemon> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let child = Command::new(program("springtide")?)
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Daemon { child })
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn start(&self, arguments: &[&str]) -> Result<Daemon> {
        let mut daemon = self.spawn(arguments)?;
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the daemon ended with {status}: {}", self.log());
            }
            if self.status().await.is_ok() {
                return Ok(daemon);
            }
            if begun.elapsed() > SOON {
                bail!("the daemon does not answer: {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log_file(&self) -> PathBuf {
        self.path().join("daemon.log")
    }

    /// What the daemons of this site have logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Runs `springtide` with these words and this site's configuration.
    ///
    /// # Errors
    /// Where it can't be started.
    pub async fn cli(&self, words: &[&str]) -> Result<Output> {
        Ok(Command::new(program("springtide")?)
            .args(words)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .output()
            .await?)
    }

    /// What `springtide status --json` says.
    ///
    /// # Errors
    /// Where no daemon answers.
    pub async fn status(&self) -> Result<Value> {
        let output = self.cli(&["status", "--json"]).await?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Machines that are there: directories with a machine's record.
    #[must_use]
    pub fn machines(&self) -> usize {
        std::fs::read_dir(self.path().join("machines")).map_or(0, |entries| {
            entries
                .filter_map(Result::ok)
                .filter(|entry| entry.path().join("machine.json").exists())
                .count()
        })
    }

    /// What keeps a runner from working as configured; nothing where it works, or is not there.
    pub async fn trouble(&self, runner: &str) -> String {
        let Ok(status) = self.status().await else {
            return String::new();
        };
        let pools = status["pools"].as_array().map_or(&[][..], Vec::as_slice);
        let pool = pools.iter().find(|pool| pool["runner"] == runner);
        let trouble = pool.and_then(|pool| pool["trouble"].as_str());
        trouble.unwrap_or_default().to_owned()
    }

    /// A job's trace as text.
    #[must_use]
    pub fn trace(&self, job: u64) -> String {
        String::from_utf8_lossy(&self.sandbox.trace(job)).into_owned()
    }

    /// Waits until the jobs are as wanted.
    ///
    /// # Errors
    /// Where they don't become so; with the daemon's log.
    pub async fn jobs(&self, wanted: impl FnMut(&[JobView]) -> bool) -> Result<()> {
        let waited = self.sandbox.wait_for(wanted, SOON).await;
        waited.with_context(|| self.log())
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// Where it does not become so; with the daemon's log.
    pub async fn until(&self, what: &str, mut is: impl AsyncFnMut() -> bool) -> Result<()> {
        let begun = tokio::time::Instant::now();
        while !is().await {
            if begun.elapsed() > SOON {
                bail!("never: {what}; {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Fails where the runner broke a rule of the protocol, or told a secret to its log.
    ///
    /// # Errors
    /// With the rule, or the secret.
    pub fn check(&self) -> Result<()> {
        let violations = self.sandbox.violations();
        if !violations.is_empty() {
            bail!("the protocol's rules were broken: {violations:?}");
        }
        let log = self.log();
        for secret in ["glrt-sandbox-token", "glpat-sandbox", "glcbt-"] {
            if log.contains(secret) {
                bail!("the log has the secret {secret}: {log}");
            }
        }
        if log.contains("panicked") {
            bail!("the daemon panicked: {log}");
        }
        Ok(())
    }
}

/// A daemon that runs.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is over.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("the daemon is over")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(SOON, self.child.wait()).await;
        Ok(ended.context("the daemon does not end")??)
    }

    /// Has it finish its jobs and end.
    ///
    /// # Errors
    /// Where it does not end well.
    pub async fn finish(mut self) -> Result<()> {
        self.signal(Signal::QUIT)?;
        let status = self.ended().await?;
        if !status.success() {
            bail!("the daemon ended with {status}");
        }
        Ok(())
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// Where it is over already.
    pub async fn crash(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Bytes of memory it holds.
    ///
    /// # Errors
    /// Where it is over.
    pub fn resident(&self) -> Result<u64> {
        let pid = self.child.id().context("the daemon is over")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

/// A GitLab that is not slow to hear traces, and holds no request for long.
#[must_use]
pub fn quick() -> SandboxOptions {
    SandboxOptions {
        trace_update_interval: 1,
        long_poll: Duration::from_secs(1),
        ..SandboxOptions::default()
    }
}

/// A job with these lines, with the sources of [`PROJECT`].
#[must_use]
pub fn job(lines: &[&str]) -> JobSpec {
    JobSpec {
        repository: Some(PROJECT.to_owned()),
        ..JobSpec::script(lines.iter().copied())
    }
}

/// Whether there are jobs and all are in this state.
pub fn all(status: JobStatus) -> impl Fn(&[JobView]) -> bool {
    move |jobs| !jobs.is_empty() && jobs.iter().all(|job| job.status == status)
}

/// Whether there are jobs and all are final.
#[must_use]
pub fn over(jobs: &[JobView]) -> bool {
    !jobs.is_empty() && jobs.iter().all(|job| job.status.is_final())
}

/// An address of loopback nobody listens at.
///
/// # Errors
/// Where there is none.
pub fn free_address() -> Result<std::net::SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// An HTTP client that encrypts as the daemon does.
fn client() -> Result<reqwest::Client> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another test of this process may have come first, with the same one.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
    }
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

/// A repository with one commit.
async fn repository_at(path: &Path) -> Result<()> {
    std::fs::create_dir(path)?;
    std::fs::write(path.join("README.md"), "# app\n")?;
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all"],
        &["commit", "--quiet", "--message=An app"],
    ];
    for step in steps {
        let done = Command::new("git")
            .args(["-c", "user.name=site", "-c", "user.email=site@example.com"])
            .args(step)
            .current_dir(path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .await?;
        if !done.status.success() {
            bail!("git: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    Ok(())
}
