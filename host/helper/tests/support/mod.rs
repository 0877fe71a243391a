//! A machine of its own for each test, and calls to it.
#![allow(dead_code)]

use springtide_machines::{
    Follow, HelperClient, Output, ProcessConnection, Work, WorkEnd, WorkSignal,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const HELPER: &str = env!("CARGO_BIN_EXE_springtide-helper");

/// A directory as a machine. Dropped, all its work is killed.
pub struct Bench {
    pub folder: TempDir,
    pub client: HelperClient,
}

impl Bench {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub fn at(folder: TempDir) -> Self {
        let connection = ProcessConnection::new(HELPER, folder.path());
        let client = HelperClient::new(Arc::new(connection));
        Self { folder, client }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A shell script as work.
    pub fn script(&self, id: &str, script: &str) -> Work {
        Work {
            id: id.into(),
            program: vec!["sh".into(), "-c".into(), script.into()],
            directory: self.path().join("builds").to_str().unwrap().into(),
            environment: Default::default(),
            stdin: Vec::new(),
            files: Vec::new(),
            spool_limit: 1 << 30,
        }
    }

    pub async fn start(&self, id: &str, script: &str) {
        self.client.start(&self.script(id, script)).await.unwrap();
    }

    /// All output from an offset, and the end.
    pub async fn output(&self, id: &str, from: u64) -> (Vec<u8>, WorkEnd) {
        let follow = self.client.follow(id, from).await.unwrap();
        collect(follow, from).await
    }

    /// The supervisor's process id.
    pub fn supervisor(&self, id: &str) -> i32 {
        let path = self.path().join("work").join(id).join("processes.json");
        let text = std::fs::read_to_string(path).unwrap();
        let processes: serde_json::Value = serde_json::from_str(&text).unwrap();
        processes["supervisor"]
            .as_i64()
            .unwrap()
            .try_into()
            .unwrap()
    }

    pub async fn kill(&self, id: &str) {
        self.client.signal(id, WorkSignal::Kill).await.unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let works = std::fs::read_dir(self.path().join("work"));
        for work in works.into_iter().flatten().flatten() {
            let removed = std::process::Command::new(HELPER)
                .arg("--root")
                .arg(self.path())
                .arg("remove")
                .arg(work.file_name())
                .output();
            assert!(removed.is_ok_and(|removed| removed.status.success()));
        }
    }
}

pub async fn collect(mut follow: Follow, from: u64) -> (Vec<u8>, WorkEnd) {
    let mut all = Vec::new();
    while let Some(output) = follow.next().await.unwrap() {
        match output {
            Output::Bytes { offset, bytes } => {
                assert_eq!(offset, from + all.len() as u64);
                all.extend_from_slice(&bytes);
            }
            Output::Ended(end) => return (all, end),
        }
    }
    panic!("the follow ended without an end");
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "not so after 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process lives; one that is dead and not yet taken away does not.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with('Z'))
}

/// A process id that a script wrote into a file.
pub async fn pid_in(path: PathBuf) -> i32 {
    let read = || -> Option<i32> { std::fs::read_to_string(&path).ok()?.trim().parse().ok() };
    until("the script wrote its process id", || read().is_some()).await;
    read().unwrap()
}
