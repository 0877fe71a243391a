//! The server: its routes, its state behind one lock, and the handle a test or a program holds.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, patch, post, put};
use axum::serve::ListenerExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::faults::{Fault, strike};
use crate::job::{Job, JobView};
use crate::ledger::Ledger;
use crate::options::{RunnerSeed, SandboxOptions};
use crate::runner::{Runner, RunnerView};
use crate::spec::{JobSpec, SpecError, is_project};
use crate::stamp::Clock;
use crate::violations::Violation;
use crate::{artifacts, control, git, jobs_api, queue_api, runner_api, trace, webhooks};

/// Bytes a request may have where its own limit is not smaller.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// How long requests under way may take once the server closes.
const CLOSING: Duration = Duration::from_secs(5);

/// What all requests share.
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    clock: Clock,
    pub(crate) events: watch::Sender<u64>,
    queue: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    hooks: Option<mpsc::UnboundedSender<Value>>,
    pub(crate) long_poll: Duration,
}

impl Shared {
    /// Reads or changes the state, and wakes those who wait for what changed.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Ledger, Duration) -> T) -> T {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let outcome = act(&mut ledger, now);
        for event in std::mem::take(&mut ledger.outbox) {
            if let Some(hooks) = &self.hooks
                && hooks.send(event).is_err()
            {
                tracing::debug!("an event came after the webhooks were closed");
            }
        }
        let moved = |to: u64| {
            move |seen: &mut u64| {
                let newer = to > *seen;
                *seen = to.max(*seen);
                newer
            }
        };
        self.events.send_if_modified(moved(ledger.revision));
        self.queue.send_if_modified(moved(ledger.queue_revision));
        outcome
    }

    pub(crate) fn queue(&self) -> watch::Receiver<u64> {
        self.queue.subscribe()
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let jobs = Router::new()
        .route("/request", post(runner_api::request))
        .route("/{id}", put(jobs_api::update))
        .route("/{id}/trace", patch(trace::patch))
        .route(
            "/{id}/artifacts",
            post(artifacts::upload).get(artifacts::download),
        )
        .route("/{id}/artifacts/authorize", post(artifacts::authorize));
    let runners = Router::new()
        .route(
            "/",
            post(runner_api::register).delete(runner_api::unregister),
        )
        .route("/verify", post(runner_api::verify))
        .route("/managers", delete(runner_api::unregister_manager))
        .route("/reset_authentication_token", post(runner_api::reset))
        .route(
            "/{id}/reset_authentication_token",
            post(runner_api::reset_by_id),
        )
        .route("/router/discovery", get(runner_api::discovery));
    let sandbox = control::routes()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.served)
        });
    Router::new()
        .route("/", get(control::front))
        .nest("/sandbox", sandbox)
        .nest("/api/v4/jobs", jobs)
        .nest("/api/v4/runners", runners)
        .route("/api/v4/projects/{id}", get(queue_api::show_project))
        .route("/api/v4/projects/{id}/jobs", get(queue_api::jobs))
        .route("/api/v4/groups/{id}", get(queue_api::show_group))
        .route(
            "/api/v4/groups/{id}/projects",
            get(queue_api::group_projects),
        )
        .fallback(git::serve)
        .layer(middleware::from_fn_with_state(shared.clone(), strike))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}

/// Makes jobs; git is asked for the commit where the spec names a repository.
pub(crate) fn submit(shared: &Shared, spec: JobSpec) -> Result<Vec<u64>, SpecError> {
    spec.check()?;
    let (ref_name, sha) = (spec.ref_name.as_deref(), spec.sha.as_deref());
    let head = match &spec.repository {
        None => git::nowhere(ref_name, sha),
        Some(name) => {
            let repository = shared
                .with(|ledger, _| ledger.projects.get(name)?.repository.clone())
                .ok_or_else(|| SpecError::NoRepository(name.clone()))?;
            git::resolve(name, &repository, ref_name, sha)?
        }
    };
    let (first, count) = shared.with(|ledger, now| ledger.create(spec, head, now));
    Ok((first..first + u64::from(count)).collect())
}

/// Serves a repository as the project `name`.
pub(crate) fn add_repository(shared: &Shared, name: &str, path: &Path) -> Result<(), SpecError> {
    if !is_project(name) {
        return Err(SpecError::Field {
            field: "name",
            expected: "`group/project`",
        });
    }
    // A checkout is meant as often as its `.git`.
    let inside = path.join(".git");
    let (path, branch) = git::check(if inside.exists() { &inside } else { path })?;
    shared.with(|ledger, _| {
        let project = ledger.project(name);
        project.repository = Some(path);
        project.default_branch = branch;
        ledger.revision += 1;
    });
    Ok(())
}

/// Takes back offers of jobs that ran out, until the sandbox closes.
async fn take_back(shared: Arc<Shared>) {
    let (mut events, mut closing) = (shared.events.subscribe(), shared.closing());
    loop {
        events.borrow_and_update();
        let wait = shared.with(|ledger, now| {
            let next = ledger.expire(now)?;
            Some(next.saturating_sub(now))
        });
        let expiry = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = expiry => {}
            _ = events.changed() => {}
            _ = closing.wait_for(|closing| *closing) => return,
        }
    }
}

/// A sandbox GitLab that runs. It closes when it is dropped, or with [`Sandbox::shutdown`].
pub struct Sandbox {
    pub(crate) shared: Arc<Shared>,
    addr: SocketAddr,
    url: String,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Sandbox {
    /// Opens the server.
    ///
    /// # Errors
    /// The address cannot be listened on, or no client for webhooks can be made.
    pub async fn start(options: SandboxOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            let listen = options.listen;
            let advice = "choose another address or port 0";
            io::Error::new(
                error.kind(),
                format!("the sandbox cannot listen on {listen}: {error}; {advice}"),
            )
        })?;
        let addr = listener.local_addr()?;
        let url =
            options
                .external_url
                .clone()
                .unwrap_or_else(|| match addr.ip().is_unspecified() {
                    true => format!("http://127.0.0.1:{}", addr.port()),
                    false => format!("http://{addr}"),
                });
        let url = url.trim_end_matches('/').to_owned();
        let closing = watch::Sender::new(false);
        let hooks = match options.webhook.clone() {
            None => None,
            Some(hook) => {
                let (sender, events) = mpsc::unbounded_channel();
                let client = client()?;
                tokio::spawn(webhooks::deliver(client, hook, events, closing.subscribe()));
                Some(sender)
            }
        };
        let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(one.as_bytes());
        seed[16..].copy_from_slice(two.as_bytes());
        let long_poll = options.long_poll;
        let ledger = Ledger::new(options, url.clone(), StdRng::from_seed(seed));
        let shared = Arc::new(Shared {
            ledger: Mutex::new(ledger),
            clock: Clock::start(),
            events: watch::Sender::new(0),
            queue: watch::Sender::new(0),
            closing,
            hooks,
            long_poll,
        });
        tokio::spawn(take_back(shared.clone()));
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps its delay");
            }
        });
        let mut closing = shared.closing();
        let server =
            axum::serve(listener, router(shared.clone())).with_graceful_shutdown(async move {
                if closing.wait_for(|closing| *closing).await.is_err() {
                    tracing::debug!("the sandbox was let go");
                }
            });
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        });
        Ok(Self {
            shared,
            addr,
            url,
            server: Mutex::new(Some(server)),
        })
    }

    /// The address runners and machines use, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the server: held requests are answered, others get five seconds.
    pub async fn shutdown(&self) {
        self.shared.closing.send_replace(true);
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut server) = server
            && tokio::time::timeout(CLOSING, &mut server).await.is_err()
        {
            server.abort();
        }
    }

    /// Serves until `end` is ready, then closes.
    pub async fn serve_until(self, end: impl Future<Output = ()>) {
        end.await;
        self.shutdown().await;
    }

    /// Submits a job and gives its id, the first one's where [`JobSpec::count`] makes several.
    ///
    /// # Errors
    /// The spec has a field that makes no sense, or names a repository or a commit that is not there.
    pub fn submit(&self, spec: JobSpec) -> Result<u64, SpecError> {
        Ok(self.submit_all(spec)?.first().copied().unwrap_or_default())
    }

    /// Submits as many jobs as [`JobSpec::count`] says and gives their ids.
    ///
    /// # Errors
    /// As [`Sandbox::submit`].
    pub fn submit_all(&self, spec: JobSpec) -> Result<Vec<u64>, SpecError> {
        submit(&self.shared, spec)
    }

    /// The job of this id.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<JobView> {
        self.shared
            .with(|ledger, _| ledger.jobs.get(&id).map(Job::view))
    }

    /// All jobs, oldest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        self.shared
            .with(|ledger, _| ledger.jobs.values().map(Job::view).collect())
    }

    /// The trace of a job as it came; empty for a job that is not known.
    #[must_use]
    pub fn trace(&self, id: u64) -> Bytes {
        self.shared.with(|ledger, _| {
            let job = ledger.jobs.get(&id);
            job.map_or_else(Bytes::new, |job| Bytes::copy_from_slice(&job.trace.bytes))
        })
    }

    /// An uploaded file of a job, by its type (`archive`, `junit`, ...).
    #[must_use]
    pub fn artifact(&self, id: u64, kind: &str) -> Option<Bytes> {
        self.shared.with(|ledger, _| {
            let artifacts = &ledger.jobs.get(&id)?.artifacts;
            let found = artifacts.iter().find(|artifact| artifact.kind == kind)?;
            Some(found.bytes.clone())
        })
    }

    /// Cancels a job, as a person does at GitLab; false where it is over already or not known.
    pub fn cancel(&self, id: u64) -> bool {
        self.shared.with(|ledger, now| ledger.cancel(id, now))
    }

    /// Cancels a job by force, as a person may whose first cancel took too long: the runner is not
    /// asked to run `after_script`, and what it sends is refused. False where it is over already or not
    /// known.
    pub fn cancel_at_once(&self, id: u64) -> bool {
        self.shared
            .with(|ledger, now| ledger.cancel_at_once(id, now))
    }

    /// What runners did against the rules, the first thousand.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared
            .with(|ledger, _| ledger.violations.all().to_vec())
    }

    /// Calls up a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.with(|ledger, _| ledger.faults.add(fault));
    }

    /// Calls off all faults.
    pub fn clear_faults(&self) {
        self.shared.with(|ledger, _| ledger.faults.clear());
    }

    /// Serves a repository (bare, a checkout, or its `.git`) as the project `name`, `group/project`.
    ///
    /// # Errors
    /// The name is not a project's, or git does not know the directory as a repository.
    pub fn add_repository(&self, name: &str, path: &Path) -> Result<(), SpecError> {
        add_repository(&self.shared, name, path)
    }

    /// Adds a runner and gives its id.
    pub fn add_runner(&self, seed: RunnerSeed) -> u64 {
        self.shared
            .with(|ledger, _| ledger.add_runner(seed, String::new()))
    }

    /// Pauses a runner or lets it go on; false where it is not known.
    pub fn pause(&self, runner: u64, paused: bool) -> bool {
        self.shared.with(|ledger, _| {
            let Some(known) = ledger.runners.get_mut(&runner) else {
                return false;
            };
            known.paused = paused;
            ledger.tick(runner);
            true
        })
    }

    /// All runners.
    #[must_use]
    pub fn runners(&self) -> Vec<RunnerView> {
        self.shared
            .with(|ledger, _| ledger.runners.values().map(Runner::view).collect())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

fn client() -> io::Result<reqwest::Client> {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::debug!("another part of the program chose the cryptography first");
    }
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|error| io::Error::other(format!("no client for webhooks can be made: {error}")))
}
