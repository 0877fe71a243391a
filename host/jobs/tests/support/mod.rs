//! A machine, a job's directory on the host, and jobs as GitLab hands them over.
#![allow(dead_code)]

#[path = "../../../helper/tests/support/built.rs"]
mod built;
pub mod engine;

pub use built::helper;
use serde_json::{Value, json};
use springtide_gitlab::{Payload, Remote, TraceSource};
use springtide_jobs::{Door, JobRun, JobSettings, JobTrace, RunOutcome, TraceOptions, run};
use springtide_machines::{Connection, HelperClient, ProcessConnection};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The token of every job here.
pub const TOKEN: &str = "glcbt-1_this-is-the-jobs-token";

/// A machine and a job's directory. Dropped, everything on the machine is killed.
pub struct Bench {
    pub machine: TempDir,
    pub helper: PathBuf,
    /// The way to the machine, where it is another than a process on this host.
    pub way: Option<Arc<dyn Connection>>,
    pub job: TempDir,
    pub remote: watch::Sender<Remote>,
    pub abandon: CancellationToken,
    pub door: Door,
    pub settings: JobSettings,
    pub options: TraceOptions,
    pub started: Arc<AtomicUsize>,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            machine: tempfile::tempdir().expect("a directory"),
            helper: helper().to_owned(),
            way: None,
            job: tempfile::tempdir().expect("a directory"),
            remote: watch::Sender::new(Remote::Running),
            abandon: CancellationToken::new(),
            door: Door::default(),
            settings: JobSettings {
                runner_name: "elastic".into(),
                runner_short_token: "abcdefgh".into(),
                system_id: "s_0123456789ab".into(),
                machine_name: "ci-1".into(),
                version: "0.1.0".into(),
                grace: Duration::from_millis(500),
                lost_after: Duration::from_millis(300),
                ..JobSettings::default()
            },
            options: TraceOptions::default(),
            started: Arc::default(),
        }
    }

    pub fn trace(&self, payload: &Payload) -> Arc<JobTrace> {
        let trace = JobTrace::open(self.job.path(), payload, self.options);
        Arc::new(trace.expect("a trace"))
    }

    /// A run, and the trace it writes.
    pub fn begin(
        &self,
        payload: &Payload,
        resume: bool,
    ) -> (
        Arc<JobTrace>,
        impl Future<Output = RunOutcome> + Send + 'static,
    ) {
        let trace = self.trace(payload);
        let started = Arc::clone(&self.started);
        let connection = match &self.way {
            Some(way) => Arc::clone(way),
            None => Arc::new(ProcessConnection::new(&self.helper, self.machine.path())),
        };
        let job = JobRun {
            payload: payload.clone(),
            directory: self.job.path().to_owned(),
            connection,
            settings: self.settings.clone(),
            trace: Arc::clone(&trace),
            remote: self.remote.subscribe(),
            abandon: self.abandon.clone(),
            door: Some(self.door.clone()),
            resume,
        };
        let count = move || {
            started.fetch_add(1, Ordering::SeqCst);
        };
        (trace, run(job, count))
    }

    /// Runs a job to its end.
    pub async fn run(&self, payload: &Payload) -> (RunOutcome, String) {
        let (trace, run) = self.begin(payload, false);
        let outcome = run.await;
        (outcome, text(&trace))
    }

    pub fn client(&self) -> HelperClient {
        HelperClient::new(Arc::new(ProcessConnection::new(
            helper(),
            self.machine.path(),
        )))
    }

    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Makes a job that was begun as much older.
    pub fn age(&self, by: Duration) {
        let file = self.job.path().join("progress.json");
        let text = std::fs::read_to_string(&file).expect("progress");
        let mut progress: Value = serde_json::from_str(&text).expect("JSON");
        let by = u64::try_from(by.as_millis()).expect("not too long");
        for key in ["began", "stage_began"] {
            let at = progress[key].as_u64().expect("a time");
            progress[key] = (at - by).into();
        }
        std::fs::write(&file, progress.to_string()).expect("written");
    }

    /// The directory the job's sources are in.
    pub fn project(&self) -> PathBuf {
        self.machine.path().join("builds/team/app")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.settings.docker.is_some() && !std::thread::panicking() {
            engine::tidy(self);
        }
        let works = std::fs::read_dir(self.machine.path().join("work"));
        for work in works.into_iter().flatten().flatten() {
            let removed = Command::new(helper())
                .arg("--root")
                .arg(self.machine.path())
                .arg("remove")
                .arg(work.file_name())
                .output();
            if let Err(error) = removed {
                eprintln!("{error}");
            }
        }
    }
}

pub fn text(trace: &JobTrace) -> String {
    let all = trace.read(0, 64 << 20).expect("readable");
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until a trace has a text.
pub async fn shows(trace: &JobTrace, wanted: &str) {
    let mut changed = trace.changed();
    while !text(trace).contains(wanted) {
        changed.changed().await.expect("the trace is open");
    }
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "not so after 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A job of these fields over those every job has.
pub fn job(fields: Value) -> Payload {
    let mut all = json!({
        "id": 17, "token": TOKEN, "allow_git_fetch": true,
        "job_info": {"name": "test", "project_id": 3, "project_full_path": "team/app"},
        "runner_info": {"timeout": 3600},
        "features": {"trace_sections": true},
        "variables": [],
        "steps": [{"name": "script", "script": ["true"]}],
    });
    let mut variables = json!([
        {"key": "GIT_STRATEGY", "value": "none"},
        {"key": "CI_JOB_TOKEN", "value": TOKEN, "masked": true},
    ]);
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        for (key, value) in fields {
            if key == "variables" {
                let more = value.as_array().cloned().unwrap_or_default();
                variables.as_array_mut().expect("a list").extend(more);
            } else {
                all.insert(key, value);
            }
        }
        all.insert("variables".into(), variables);
    }
    Payload::from_json(&all.to_string()).expect("a job")
}

/// A job of these lines.
pub fn script(lines: &[&str]) -> Payload {
    job(json!({"steps": [{"name": "script", "script": lines}]}))
}

/// A job of these lines and an `after_script` of those.
pub fn with_after(lines: &[&str], after: &[&str], fields: Value) -> Payload {
    let mut all = json!({"steps": [
        {"name": "script", "script": lines},
        {"name": "after_script", "script": after, "when": "always", "allow_failure": true},
    ]});
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    job(all)
}

pub fn variable(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value})
}

/// Runs git in a directory and gives what it printed.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
