//! A job that is cancelled, or is over at GitLab, or is let go, or whose machine falls silent: in each of
//! its phases, over SSH to a real server, under the machine's shell and in containers.

#[path = "../../machines/tests/support/server.rs"]
mod ssh;
mod support;

use serde_json::{Value, json};
use springtide_cache::{Store, StoreOptions};
use springtide_config::{Cache, CacheStore, S3, S3Endpoint, S3Keys};
use springtide_gitlab::{FailureReason, Final, FinalState, Payload, Remote};
use springtide_jobs::RunOutcome;
use springtide_machines::{SshConnection, SshOptions, SshTimes};
use std::sync::Arc;
use std::time::Duration;
use support::{Bench, engine, job, shows, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Jobs at a time.
const ABREAST: usize = 8;

/// What a job is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    ImagePull,
    Services,
    Prepare,
    Sources,
    Restore,
    Download,
    EntryPoint,
    Script,
    After,
    Keep,
    Upload,
    Cleanup,
}

const IN_CONTAINERS: [Phase; 3] = [Phase::ImagePull, Phase::Services, Phase::EntryPoint];

const ON_ANY: [Phase; 9] = [
    Phase::Prepare,
    Phase::Sources,
    Phase::Restore,
    Phase::Download,
    Phase::Script,
    Phase::After,
    Phase::Keep,
    Phase::Upload,
    Phase::Cleanup,
];

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Somebody cancels it at GitLab.
    Cancel,
    /// It is over at GitLab.
    Abort,
    /// The manager lets it go.
    Abandon,
    /// Its machine says nothing any more.
    Silence,
}

const EVENTS: [Event; 4] = [Event::Cancel, Event::Abort, Event::Abandon, Event::Silence];

/// A server of HTTP that takes requests and answers none before it is told to.
struct Slow {
    port: u16,
    asked: watch::Receiver<bool>,
    answer: watch::Sender<bool>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (ask, asked) = watch::channel(false);
        let answer = watch::Sender::new(false);
        let told = answer.subscribe();
        tokio::spawn(async move {
            let mut requests = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                requests.spawn(hold(stream, ask.clone(), told.clone()));
            }
        });
        Self {
            port,
            asked,
            answer,
        }
    }
}

/// Reads a request, its body too, and says once it may that it was good.
async fn hold(stream: TcpStream, ask: watch::Sender<bool>, mut told: watch::Receiver<bool>) {
    let (mut from, mut to) = stream.into_split();
    let mut bytes = [0; 4096];
    let answer = async {
        let mut method = Vec::new();
        loop {
            tokio::select! {
                read = from.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        if method.is_empty() {
                            method = bytes[..count.min(4)].to_vec();
                        }
                        ask.send_replace(true);
                    }
                },
                go = told.wait_for(|told| *told) => {
                    if go.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
        let status = if method == b"POST" {
            "201 Created"
        } else {
            "200 OK"
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        to.write_all(head.as_bytes()).await.ok();
        to.shutdown().await.ok();
        // What is closed with something unread is reset, and the answer with it.
        while matches!(from.read(&mut bytes).await, Ok(1..)) {}
    };
    answer.await;
}

/// A job, its machine behind SSH, and what it talks to.
struct Stage {
    bench: Bench,
    server: ssh::Server,
    slow: Slow,
}

impl Stage {
    async fn new(in_containers: bool) -> Self {
        let mut bench = match in_containers {
            true => engine::bench(),
            false => Bench::new(),
        };
        // It goes over the connection, and the other is much larger.
        bench.helper = engine::helper();
        bench.settings.lost_after = Duration::from_secs(2);
        bench.settings.grace = Duration::from_secs(20);
        // Volumes that are kept are one system's.
        bench.settings.system_id = format!("s_{}", bench.settings.machine_name);
        // Not what this host's user has in the files of a login shell.
        let server = ssh::Server::start_with("SetEnv HOME=/");
        let times = SshTimes {
            connect: Duration::from_secs(1),
            banner: Duration::from_secs(3),
            login: Duration::from_secs(10),
            open: Duration::from_secs(10),
            keepalive: Duration::from_secs(2),
            ..SshTimes::default()
        };
        let options = SshOptions {
            times,
            homes: vec![bench.machine.path().to_str().expect("UTF-8").to_owned()],
        };
        bench.way = Some(SshConnection::with_options(
            server.target(),
            server.key(),
            server.host_keys(),
            bench.helper.clone(),
            options,
        ));
        let slow = Slow::start().await;
        let host = match in_containers {
            true => engine::host(),
            false => "127.0.0.1".to_owned(),
        };
        let at = format!("{host}:{}", slow.port);
        bench.settings.gitlab_url = format!("http://{at}");
        bench.settings.cache = Some(Arc::new(store(at)));
        Self {
            bench,
            server,
            slow,
        }
    }

    /// A job that stays in a phase, for long or until the server answers.
    fn job(&mut self, phase: Phase, event: Event) -> Payload {
        let long = match event {
            // It may end by itself: nothing ends it from outside.
            Event::Cancel => "sleep 2",
            _ => "sleep 300",
        };
        let mut fields = json!({"steps": [{"name": "script", "script": ["touch made"]}]});
        let more = match phase {
            Phase::ImagePull => {
                json!({"image": {"name": format!("127.0.0.1:{}/a:1", self.slow.port)}})
            }
            Phase::Services => {
                json!({"services": [{"name": "springtide/web:1", "command": ["sleep", "1000"]}]})
            }
            // What comes next has it stay long enough.
            Phase::Prepare | Phase::Sources => json!({"hooks": [
                {"name": "pre_get_sources_script", "script": ["echo hooked", "sleep 300"]},
            ]}),
            Phase::Restore => json!({"cache": [{"key": "k", "paths": ["made"], "policy": "pull"}]}),
            Phase::Download => json!({"dependencies": [
                {"id": 5, "token": "t", "name": "earlier", "artifacts_file": {"filename": "a.zip", "size": 9}},
            ]}),
            Phase::EntryPoint => {
                let ask = format!("wget -q -O - {}; sleep 300", self.bench.settings.gitlab_url);
                json!({"image": {"name": "springtide/tiny:1", "entrypoint": ["sh", "-c", ask]}})
            }
            Phase::Script => json!({"steps": [
                {"name": "script", "script": ["echo in the script", "sleep 300"]},
            ]}),
            Phase::After => json!({"steps": [
                {"name": "script", "script": ["true"]},
                {
                    "name": "after_script", "when": "always", "allow_failure": true,
                    "script": ["echo in the after_script", long, "echo its end"],
                },
            ]}),
            Phase::Keep => json!({"cache": [{"key": "k", "paths": ["made"], "policy": "push"}]}),
            Phase::Upload => json!({"artifacts": [{
                "name": "a", "paths": ["made"], "artifact_type": "archive", "artifact_format": "zip",
            }]}),
            Phase::Cleanup => json!({}),
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        if phase == Phase::Services {
            engine::configure(&mut self.bench, |settings| {
                settings.wait_for_services_timeout = Some(Duration::from_secs(300));
            });
        }
        job(fields)
    }

    /// The phase's sign in the trace; where there is none, the server is asked something.
    fn sign(phase: Phase) -> Option<&'static str> {
        match phase {
            Phase::ImagePull
            | Phase::Restore
            | Phase::Download
            | Phase::EntryPoint
            | Phase::Keep
            | Phase::Upload => None,
            Phase::Services => Some("Waiting for services"),
            Phase::Prepare => Some("Preparing environment"),
            Phase::Sources => Some("\nhooked\n"),
            Phase::Script => Some("\nin the script\n"),
            Phase::After => Some("\nin the after_script\n"),
            Phase::Cleanup => Some("Cleaning up project directory"),
        }
    }

    /// Has it happen in the phase, and says what is not as it should be.
    async fn play(mut self, phase: Phase, event: Event) -> Result<(), String> {
        let payload = self.job(phase, event);
        let (trace, run) = self.bench.begin(&payload, false);
        let mut running = tokio::spawn(run);
        let reached = async {
            match Self::sign(phase) {
                Some(sign) => shows(&trace, sign).await,
                None => {
                    let asked = self.slow.asked.wait_for(|asked| *asked).await;
                    asked.expect("the server is there");
                }
            }
        };
        tokio::select! {
            () = reached => {}
            over = &mut running => return Err(format!("over before: {over:?} {}", text(&trace))),
            () = tokio::time::sleep(Duration::from_secs(60)) => {
                return Err(format!("never there: {}", text(&trace)));
            }
        }
        match event {
            Event::Cancel => {
                self.bench.remote.send_replace(Remote::Canceling);
            }
            Event::Abort => {
                self.bench.remote.send_replace(Remote::Aborted);
            }
            Event::Abandon => self.bench.abandon.cancel(),
            Event::Silence => self.server.silence(),
        }
        if event == Event::Cancel && matches!(phase, Phase::Keep | Phase::Upload) {
            self.slow.answer.send_replace(true);
        }
        let limit = Duration::from_secs(60);
        let Ok(outcome) = tokio::time::timeout(limit, &mut running).await else {
            return Err(format!("it does not end: {}", text(&trace)));
        };
        let outcome = outcome.expect("no panic");
        let trace = text(&trace);
        self.judge(phase, event, &outcome, &trace)
            .await
            .map_err(|wrong| format!("{wrong}\n{outcome:?}\n{trace}"))
    }

    async fn judge(
        &self,
        phase: Phase,
        event: Event,
        outcome: &RunOutcome,
        trace: &str,
    ) -> Result<(), String> {
        let right = match outcome {
            RunOutcome::NeverStarted { .. } => event == Event::Silence && is_before(phase),
            RunOutcome::MachineLost { .. } => event == Event::Silence && phase == Phase::Script,
            RunOutcome::Ended { end, broken } => {
                *end == expected(phase, event) && {
                    // A machine that is silent only while it is tidied may have been tidied before.
                    let unsure = event == Event::Silence && phase == Phase::Cleanup;
                    unsure || *broken == (event == Event::Silence)
                }
            }
        };
        if !right {
            return Err("that is not its end".to_owned());
        }
        if (self.bench.started() > 0) == is_before(phase) {
            return Err(format!(
                "its script was begun {} times",
                self.bench.started()
            ));
        }
        if event == Event::Cancel && phase == Phase::After && !trace.contains("\nits end\n") {
            return Err("after_script did not end by itself".to_owned());
        }
        if event == Event::Silence {
            return Ok(());
        }
        let left = match self.bench.settings.docker {
            Some(_) => engine::left(&self.bench),
            None => match self.bench.client().list().await {
                Ok(works) => works.join(" "),
                Err(error) => error.to_string(),
            },
        };
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("it left {left}")),
        }
    }
}

/// Where its caches would be: at the server.
fn store(address: String) -> Store {
    let config = Cache {
        path: String::new(),
        shared: false,
        max_uploaded_archive_size: 0,
        store: CacheStore::S3(Box::new(S3 {
            endpoint: S3Endpoint::At {
                address,
                insecure: true,
            },
            keys: S3Keys::These {
                access_key: "access".into(),
                secret_key: "secret".into(),
                session_token: None,
            },
            bucket: "ci-cache".to_owned(),
            region: Some("eu-west-1".to_owned()),
            path_style: Some(true),
            encryption: None,
            role: None,
            sessions_at_once: None,
            sessions_kept: true,
        })),
    };
    Store::new(&config, &StoreOptions::default()).expect("a store")
}

/// Whether a phase is before the script's.
fn is_before(phase: Phase) -> bool {
    !matches!(
        phase,
        Phase::Script | Phase::After | Phase::Keep | Phase::Upload | Phase::Cleanup
    )
}

/// What GitLab is told of a job that ends.
fn expected(phase: Phase, event: Event) -> Final {
    let failed = |failure_reason| Final {
        state: FinalState::Failed,
        exit_code: None,
        failure_reason: Some(failure_reason),
    };
    let scripts_are_over = matches!(
        phase,
        Phase::After | Phase::Keep | Phase::Upload | Phase::Cleanup
    );
    match event {
        // What comes after the script is for the job that was cancelled, too.
        Event::Cancel if !scripts_are_over => failed(FailureReason::JobCanceled),
        Event::Abort if phase != Phase::Cleanup => failed(FailureReason::JobCanceled),
        Event::Abandon if phase != Phase::Cleanup => failed(FailureReason::RunnerInterrupted),
        Event::Silence if phase == Phase::Upload => failed(FailureReason::RunnerSystemFailure),
        Event::Cancel | Event::Abort | Event::Abandon | Event::Silence => Final {
            state: FinalState::Success,
            exit_code: Some(0),
            failure_reason: None,
        },
    }
}

/// Plays all, some abreast.
async fn play(in_containers: bool, rows: Vec<(Phase, Event)>) {
    let room = Arc::new(Semaphore::new(ABREAST));
    let mut playing = JoinSet::new();
    for (phase, event) in rows {
        let room = Arc::clone(&room);
        playing.spawn(async move {
            let _room = room.acquire().await.expect("it is never closed");
            let played = Stage::new(in_containers).await.play(phase, event).await;
            played.map_err(|wrong| format!("{event:?} in {phase:?}: {wrong}"))
        });
    }
    let all = playing.join_all().await;
    let wrong: Vec<String> = all.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

fn rows(phases: impl Iterator<Item = Phase> + Clone, events: &[Event]) -> Vec<(Phase, Event)> {
    let of = |event: &Event| {
        let event = *event;
        phases.clone().map(move |phase| (phase, event))
    };
    events.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_well_in_each_phase_under_the_shell() {
    play(false, rows(ON_ANY.into_iter(), &EVENTS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_well_in_each_phase_in_containers() {
    let phases = ON_ANY.into_iter().chain(IN_CONTAINERS);
    let mut all = rows(phases, &[Event::Cancel, Event::Abort, Event::Silence]);
    // It is acted on where an abort is.
    for phase in [
        Phase::Services,
        Phase::Sources,
        Phase::Script,
        Phase::Upload,
    ] {
        all.push((phase, Event::Abandon));
    }
    play(true, all).await;
}
