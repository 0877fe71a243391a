//! A sandbox, a client of it, and a trace in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use springtide_gitlab::{
    Client, ClientOptions, Final, FinalState, Info, JobLine, JobRequestOutcome, Payload,
    RunnerIdentity, SenderOptions, TraceSender, TraceSource,
};
use springtide_sandbox::{JobSpec, Sandbox, SandboxOptions};
use tokio::sync::watch;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TOKEN: &str = "glrt-sandbox-token";
pub const SYSTEM: &str = "s_0123456789ab";

pub async fn sandbox(change: impl FnOnce(&mut SandboxOptions)) -> Sandbox {
    let mut options = SandboxOptions {
        trace_update_interval: 1,
        ..SandboxOptions::default()
    };
    change(&mut options);
    Sandbox::start(options).await.expect("a sandbox")
}

pub fn client(url: &str) -> Client {
    Client::new(ClientOptions::new(url)).expect("a client")
}

pub fn runner() -> RunnerIdentity {
    runner_with(TOKEN)
}

pub fn runner_with(token: &str) -> RunnerIdentity {
    RunnerIdentity {
        token: token.into(),
        system_id: SYSTEM.to_owned(),
        info: Info::new("shell+machine", "bash"),
    }
}

pub fn job() -> JobSpec {
    JobSpec::script(["echo hello"])
}

/// Takes a job that is there.
pub async fn take(client: &Client) -> Payload {
    match client.request_job(&runner(), None, None).await.outcome {
        JobRequestOutcome::Job(job) => *job,
        other => panic!("{other:?}"),
    }
}

pub fn line(client: &Client, job: &Payload) -> JobLine {
    JobLine::new(client.clone(), job.key(), runner().info)
}

pub fn sender(line: JobLine, job: &Payload, trace: &Arc<Trace>) -> TraceSender {
    TraceSender::start(SenderOptions {
        line,
        failure_reasons: job.features.failure_reasons.clone(),
        source: trace.clone(),
        acknowledged: 0,
        debug_trace: false,
    })
}

pub const SUCCESS: Final = Final {
    state: FinalState::Success,
    exit_code: Some(0),
    failure_reason: None,
};

pub fn no_violations(sandbox: &Sandbox) {
    let found = sandbox.violations();
    assert!(found.is_empty(), "{found:#?}");
}

/// Waits for what the other side tells.
pub async fn told<T: Clone + PartialEq + std::fmt::Debug>(
    mut receiver: watch::Receiver<T>,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let news = tokio::time::timeout(PATIENCE, receiver.wait_for(wanted)).await;
    news.expect("in time").expect("a sender").clone()
}

/// A trace in memory.
pub struct Trace {
    bytes: Mutex<Vec<u8>>,
    length: watch::Sender<u64>,
}

impl Trace {
    pub fn new(text: impl AsRef<[u8]>) -> Arc<Self> {
        let trace = Self {
            bytes: Mutex::default(),
            length: watch::channel(0).0,
        };
        trace.write(text);
        Arc::new(trace)
    }

    pub fn write(&self, text: impl AsRef<[u8]>) {
        let mut bytes = self.bytes.lock().expect("a lock");
        bytes.extend_from_slice(text.as_ref());
        self.length.send_replace(bytes.len() as u64);
    }
}

impl TraceSource for Trace {
    fn len(&self) -> u64 {
        self.bytes.lock().expect("a lock").len() as u64
    }

    fn read(&self, from: u64, max: usize) -> std::io::Result<Bytes> {
        let bytes = self.bytes.lock().expect("a lock");
        let from = usize::try_from(from).expect("an offset").min(bytes.len());
        let end = from.saturating_add(max).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[from..end]))
    }

    fn checksum(&self) -> u32 {
        crc32fast::hash(&self.bytes.lock().expect("a lock"))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }
}
