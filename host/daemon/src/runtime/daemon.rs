//! The whole daemon: its configuration read and read again, its pools, its signals, its end.

use super::answers::{Behind, answer};
use super::boots::Boots;
use super::identity::Identities;
use super::plugins::Installed;
use super::pool::{self, Common, Order, Started};
use super::pools::Pools;
use super::reach::Ways;
use super::sessions::Sessions;
use super::setup::Setup;
use super::share::{Demand, shares};
use super::slots::{Slots, Turns};
use super::{exporter, paths, socket};
use crate::logging;
use crate::metrics::Metrics;
use crate::signals::{self, Asked};
use anyhow::{Context, Result, bail};
use springtide_config::{Config, LogFormat, LogLevel, Problem, Runner, Severity};
use springtide_control::{Happening, SqliteStore, StoreError};
use springtide_pool::{Limits, RetireCause, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two looks whether the file has changed: GitLab Runner's.
const FILE: Duration = Duration::from_secs(3);
/// Between two looks at what each pool may have of `concurrent`.
const SHARE: Duration = Duration::from_millis(200);
/// Between two looks for pools whose runner is gone from the file.
const ORPHANS: Duration = Duration::from_secs(10);
/// How long jobs have to be told to GitLab once there is no more time for them.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The configuration.
    pub config: PathBuf,
    /// Machines go with the daemon.
    pub remove_machines: bool,
    /// Stronger than the file's level.
    pub log_level: Option<String>,
    /// Stronger than the file's format.
    pub log_format: Option<logging::Format>,
}

/// Runs until it is told to end.
///
/// # Errors
/// Where it can't start, or its state can't be written any more.
pub async fn run(start: Start) -> Result<()> {
    let (config, problems) = springtide_config::load(&start.config);
    let Some(config) = config else {
        bail!("{}", listed(&start.config, &problems));
    };
    begin_log(&start, &config);
    tell(&start.config, &problems);
    // Before anybody can know that the daemon is there: a signal that nobody hears kills it.
    let signals = signals::listen().context("listening to signals")?;
    let mut daemon = Daemon::start(start, &config).await?;
    daemon.whole = !problems.iter().any(Problem::is_error);
    daemon.apply(&config);
    daemon.metrics().loaded(true);
    let end = daemon.serve(signals).await;
    tracing::info!("the daemon ends");
    end
}

struct Daemon {
    start: Start,
    /// The configuration in force.
    config: Config,
    common: Arc<Common>,
    /// By the keys of the file's entries, and of pools without one.
    pools: BTreeMap<String, Started>,
    /// What each pool was told last of its limits.
    told: BTreeMap<String, Limits>,
    seen: Option<Stamp>,
    turn: usize,
    /// Every entry of the file in force is a pool: only then is a pool without an entry an orphan.
    whole: bool,
    ending: bool,
    /// A pool whose state can't be written ends the daemon.
    failed: Option<StoreError>,
}

/// What tells a file that was changed.
type Stamp = (SystemTime, u64);

impl Daemon {
    async fn start(start: Start, config: &Config) -> Result<Daemon> {
        let state = match &config.springtide.state {
            Some(state) => paths::state_file(state)?,
            None => paths::default_state(),
        };
        let config_file = std::path::absolute(&start.config)
            .with_context(|| format!("finding {}", start.config.display()))?;
        let beside = config_file
            .parent()
            .map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let directory = paths::make_state_directory(&state)?;
        let listener = socket::open(&directory).await?;
        // The tables are there before pools open the file side by side.
        drop(SqliteStore::open(&state, "")?);
        let slots = Slots::new(config.concurrent);
        let metrics = Metrics::new()
            .and_then(|metrics| metrics.with_slots(&slots))
            .context("preparing the metrics")?;
        let pools = Pools::default();
        if let Some(address) = &config.listen_address {
            exporter::serve(address, metrics.clone(), pools.clone(), slots.clone()).await?;
        }
        let plugins = Installed::start(config, &directory, beside.clone(), metrics.clone()).await?;
        let sessions = match &config.sessions {
            Some(settings) => Some(Sessions::serve(settings).await?),
            None => None,
        };
        let helper = match &config.springtide.helper {
            Some(helper) => helper.clone(),
            None => paths::shipped("springtide-helper"),
        };
        let ssh = directory.join("ssh");
        let ways = tokio::task::spawn_blocking(move || Ways::new(&helper, &ssh))
            .await?
            .context("preparing the ways to machines")?;
        let behind = Arc::new(Behind {
            pools: pools.clone(),
            plugins: Arc::clone(&plugins) as Arc<_>,
            state: state.clone(),
            ways: ways.clone(),
        });
        tokio::spawn(socket::serve(listener, move |ask| {
            let behind = Arc::clone(&behind);
            async move { answer(ask, &behind).await }
        }));
        let system_id =
            springtide_config::system_id(&start.config).context("making this manager's id")?;
        if let Some(error) = &system_id.unsaved {
            tracing::warn!(
                %error,
                "the id of this manager can't be written beside the configuration, so GitLab may list it twice after a restart"
            );
        }
        let common = Arc::new(Common {
            state,
            boots: Boots::of(&directory, &beside),
            directory,
            beside,
            system_id: system_id.id,
            plugins,
            metrics,
            pools,
            slots,
            turns: Turns::default(),
            ways,
            sessions,
            interrupt: CancellationToken::new(),
            claims: std::sync::Mutex::default(),
        });
        let daemon = Daemon {
            seen: stamp(&start.config),
            start,
            common,
            pools: BTreeMap::new(),
            told: BTreeMap::new(),
            config: config.clone(),
            turn: 0,
            whole: false,
            ending: false,
            failed: None,
        };
        if let Some(webhook) = &config.springtide.webhook {
            daemon.listen_to_webhooks(webhook).await?;
        }
        Ok(daemon)
    }

    fn metrics(&self) -> &Metrics {
        &self.common.metrics
    }

    /// Starts, changes and ends pools as the file says.
    fn apply(&mut self, config: &Config) {
        let old = std::mem::replace(&mut self.config, config.clone());
        // Part of what a runner goes by is said once for all of them.
        let shaken = old.check_interval != config.check_interval
            || old.connection_max_age != config.connection_max_age;
        self.common.slots.set(config.concurrent);
        self.metrics().concurrent(config.concurrent);
        let there: BTreeSet<String> = config.runners.iter().map(|at| at.key.clone()).collect();
        for runner in &config.runners {
            self.follow_token(runner, &there);
            self.call_back(runner);
            let setup = match Setup::new(config, runner, &self.common.system_id, self.metrics()) {
                Ok(setup) => Arc::new(setup),
                Err(why) => {
                    tracing::error!(runner = runner.name, why, "a runner can't be used");
                    self.whole = false;
                    continue;
                }
            };
            match self.pools.get_mut(&runner.key) {
                // Its machines stay, for the pool that is started once this one is over.
                Some(pool) if pool.leaving => {
                    pool.orders.send(Order::Close).ok();
                }
                Some(pool) if pool.fingerprint == runner.fingerprint && !shaken => {}
                Some(pool) => {
                    tracing::info!(runner = runner.name, "a runner's entry has changed");
                    pool.fingerprint.clone_from(&runner.fingerprint);
                    // A pool that is over takes no orders.
                    pool.orders.send(Order::Reconfigure(setup)).ok();
                }
                None => {
                    let pool = pool::start(Arc::clone(&self.common), setup);
                    self.pools.insert(runner.key.clone(), pool);
                }
            }
        }
        for (key, pool) in &mut self.pools {
            if !there.contains(key) && !pool.leaving {
                tracing::info!(
                    pool = key,
                    "a runner is gone from the file: its machines go"
                );
                pool.leaving = true;
                pool.orders.send(Order::Leave(RetireCause::Orphaned)).ok();
            }
        }
    }

    /// An entry whose token alone was changed is the same runner as before.
    fn follow_token(&mut self, runner: &Runner, there: &BTreeSet<String>) {
        if self.pools.contains_key(&runner.key) {
            return;
        }
        let named = (runner.name.clone(), runner.url.to_string());
        let before = self
            .pools
            .iter()
            .find(|(key, pool)| !there.contains(*key) && !pool.leaving && pool.runner == named)
            .map(|(key, _)| key.clone());
        if let Some(pool) = before.and_then(|key| self.pools.remove(&key)) {
            self.pools.insert(runner.key.clone(), pool);
        }
    }

    /// A pool that is wound up as an orphan whose runner is in the file again: its machines stay.
    fn call_back(&self, runner: &Runner) {
        let named = (runner.name.as_str(), runner.url.as_str());
        for pool in self.pools.values() {
            let orphan = pool.fingerprint.is_empty();
            if orphan && (pool.runner.0.as_str(), pool.runner.1.as_str()) == named {
                pool.orders.send(Order::Close).ok();
            }
        }
    }

    async fn serve(&mut self, mut signals: mpsc::UnboundedReceiver<Asked>) -> Result<()> {
        let mut file = every(FILE);
        let mut share = every(SHARE);
        let mut orphans = every(ORPHANS);
        let mut deadline = None;
        let mut asked_to_stop = false;
        loop {
            tokio::select! {
                Some(asked) = signals.recv() => match asked {
                    Asked::Reload => self.reload(),
                    Asked::Finish => self.end(),
                    Asked::Stop if asked_to_stop => {
                        tracing::warn!("asked twice: ends at once; jobs that run are followed again by the next start");
                        return Ok(());
                    }
                    Asked::Stop => {
                        asked_to_stop = true;
                        deadline = Some(Instant::now() + self.config.shutdown_timeout);
                        self.end();
                    }
                },
                _ = file.tick() => self.reload_if_changed(),
                _ = share.tick() => self.share(),
                _ = orphans.tick() => self.adopt_orphans(),
                () = until(deadline) => {
                    if self.common.interrupt.is_cancelled() {
                        tracing::error!("GitLab could not be told of all jobs in time; the next start tells it");
                        return Ok(());
                    }
                    tracing::warn!("the time for running jobs is over: they are ended");
                    self.common.interrupt.cancel();
                    for pool in self.pools.values() {
                        pool.orders.send(Order::EndHeld).ok();
                    }
                    deadline = Some(Instant::now() + LAST_WORDS);
                }
            }
            self.bury().await;
            if let Some(error) = self.failed.take() {
                return Err(error).context(
                    "the state can't be trusted any more, so nothing more is done; machines and jobs stay as they are",
                );
            }
            if self.ending && self.pools.is_empty() {
                return Ok(());
            }
        }
    }

    fn end(&mut self) {
        if self.ending {
            return;
        }
        self.ending = true;
        tracing::info!("no more jobs are taken; those that run are finished");
        let order = if self.start.remove_machines {
            Order::Leave(RetireCause::Shutdown)
        } else {
            Order::Close
        };
        for pool in self.pools.values() {
            pool.orders.send(order.clone()).ok();
        }
    }

    /// Forgets pools that are over.
    async fn bury(&mut self) {
        let over: Vec<String> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.end.is_finished())
            .map(|(key, _)| key.clone())
            .collect();
        let some = !over.is_empty();
        for key in over {
            let Some(pool) = self.pools.remove(&key) else {
                continue;
            };
            self.told.remove(&key);
            match pool.end.await {
                Ok(Ok(())) => tracing::info!(pool = key, "a pool is over"),
                Ok(Err(error)) => self.failed = Some(error),
                Err(error) => {
                    self.failed = Some(StoreError {
                        attempt: "writing",
                        location: self.common.state.display().to_string(),
                        why: format!("a pool died: {error}"),
                    });
                }
            }
        }
        // A runner that came back into the file meanwhile waited for this.
        if some && !self.ending {
            let config = self.config.clone();
            self.apply(&config);
        }
    }

    fn reload_if_changed(&mut self) {
        let now = stamp(&self.start.config);
        if now.is_some() && now != self.seen {
            self.reload();
        }
    }

    /// A file with an error in it changes nothing.
    fn reload(&mut self) {
        if self.ending {
            return;
        }
        self.seen = stamp(&self.start.config);
        let (config, problems) = springtide_config::load(&self.start.config);
        tell(&self.start.config, &problems);
        let Some(config) = config.filter(|_| !problems.iter().any(Problem::is_error)) else {
            tracing::error!("the configuration has errors: the one before stays in force");
            self.metrics().loaded(false);
            return;
        };
        tracing::info!("the configuration was read again");
        self.warn_of_late_changes(&config);
        self.metrics().loaded(true);
        self.common.plugins.reconfigure(&config);
        self.whole = true;
        self.apply(&config);
    }

    /// What is only looked at when the daemon starts.
    fn warn_of_late_changes(&self, config: &Config) {
        let old = &self.config;
        let changed = [
            (
                "listen_address",
                old.listen_address != config.listen_address,
            ),
            ("log_level", old.log_level != config.log_level),
            ("log_format", old.log_format != config.log_format),
            ("[springtide]", old.springtide != config.springtide),
        ];
        for (key, _) in changed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this change takes effect at the next start");
        }
    }

    /// Gives each pool its share of `concurrent`.
    fn share(&mut self) {
        let views = self.common.pools.all();
        let demand = |key: &str| {
            views.iter().find(|(at, _)| at == key).map(|(_, pool)| {
                let view = pool.view.borrow();
                let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                Demand {
                    used: count(view.pool.jobs.len() + view.pool.requests.len()),
                    waiting: match view.pool.source {
                        Source::Fresh { waiting, .. } => waiting,
                        _ => 0,
                    },
                    limit: view.limits.limit,
                }
            })
        };
        let pools: Vec<(&String, Demand)> = self
            .pools
            .iter()
            .map(|(key, pool)| (key, demand(&pool.entry).unwrap_or_default()))
            .collect();
        let demands: Vec<Demand> = pools.iter().map(|(_, demand)| *demand).collect();
        self.turn = self.turn.wrapping_add(1);
        let shares = shares(
            self.config.concurrent,
            &demands,
            self.turn % demands.len().max(1),
        );
        for ((key, _), share) in pools.into_iter().zip(shares) {
            let Some(pool) = self.pools.get(key) else {
                continue;
            };
            let limits = Limits {
                max_jobs: Some(share),
                ..*pool.limits.borrow()
            };
            if self.told.get(key) == Some(&limits) {
                continue;
            }
            let tell = views
                .iter()
                .find(|(at, _)| *at == pool.entry)
                .and_then(|(_, pool)| pool.tell.clone());
            if let Some(tell) = tell {
                tell.send(Happening::Limits(limits)).ok();
                self.told.insert(key.clone(), limits);
            }
        }
    }

    /// Pools in the state whose runner is in the file no more. Only once it is known which pool each
    /// runner of the file is.
    fn adopt_orphans(&mut self) {
        if self.ending || !self.whole {
            return;
        }
        if let Err(error) = self.try_to_adopt_orphans() {
            tracing::warn!(
                error = format!("{error:#}"),
                "pools without a runner can't be looked for"
            );
        }
    }

    fn try_to_adopt_orphans(&mut self) -> Result<()> {
        let handles = self.common.pools.all();
        let mut claimed = BTreeSet::new();
        for (key, pool) in &self.pools {
            if pool.fingerprint.is_empty() {
                claimed.insert(key.clone());
                continue;
            }
            let handle = handles.iter().find(|(at, _)| *at == pool.entry);
            match handle.and_then(|(_, handle)| handle.pool.clone()) {
                Some(pool) => claimed.insert(pool),
                None => return Ok(()),
            };
        }
        let kept = Identities::of(&self.common.directory).pools()?;
        let all = SqliteStore::open(&self.common.state, "")?.pools()?;
        for key in all {
            if claimed.contains(&key) {
                continue;
            }
            let Some(kept) = kept.get(&key) else {
                tracing::warn!(
                    pool = key,
                    "the state has a pool of which nothing else is known"
                );
                continue;
            };
            match pool::start_orphan(Arc::clone(&self.common), &key, kept) {
                Ok(pool) => {
                    tracing::info!(
                        pool = key,
                        runner = kept.name,
                        "a pool without a runner is wound up"
                    );
                    self.pools.insert(key, pool);
                }
                Err(why) => tracing::error!(pool = key, why, "a pool can't be wound up"),
            }
        }
        Ok(())
    }

    async fn listen_to_webhooks(&self, webhook: &springtide_config::Webhook) -> Result<()> {
        let file = self.common.beside.join(&webhook.secret_file);
        let secret = std::fs::read_to_string(&file)
            .with_context(|| format!("reading the secret of webhooks from {}", file.display()))?;
        let woken = Arc::new(Notify::new());
        let router = springtide_gitlab::webhook::router(
            &secret.trim().to_owned().into(),
            Arc::clone(&woken),
        );
        let listener = tokio::net::TcpListener::bind(&webhook.listen)
            .await
            .with_context(|| {
                format!(
                    "listening to webhooks at {}; give [springtide.webhook] another `listen`",
                    webhook.listen
                )
            })?;
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "webhooks are no longer heard");
            }
        });
        tracing::info!(
            "webhooks are heard at http://{}{}",
            webhook.listen,
            springtide_gitlab::webhook::PATH
        );
        let pools = self.common.pools.clone();
        tokio::spawn(async move {
            loop {
                woken.notified().await;
                for (_, pool) in pools.all() {
                    pool.notify.notify_one();
                }
            }
        });
        Ok(())
    }
}

fn every(length: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(length);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

fn begin_log(start: &Start, config: &Config) {
    let level = match config.log_level {
        LogLevel::Error => "error",
        LogLevel::Warning => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let format = match config.log_format {
        LogFormat::Json => logging::Format::Json,
        LogFormat::Runner | LogFormat::Text => logging::Format::Text,
    };
    logging::start(
        start.log_level.as_deref().or(Some(level)),
        start.log_format.unwrap_or(format),
    );
}

fn listed(file: &Path, problems: &[Problem]) -> String {
    let mut text = format!("{} can't be used", file.display());
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        match problem.at.line {
            0 => text.push_str(&format!("\n  {}", problem.text)),
            line => text.push_str(&format!(
                "\n  line {line}, column {}: {}",
                problem.at.column, problem.text
            )),
        }
        if !problem.advice.is_empty() {
            text.push_str(&format!("; {}", problem.advice));
        }
    }
    text
}

fn tell(file: &Path, problems: &[Problem]) {
    for problem in problems {
        let file = file.display();
        let (line, advice) = (problem.at.line, &problem.advice);
        match problem.severity {
            Severity::Error => tracing::error!(%file, line, advice, "{}", problem.text),
            Severity::Warning => tracing::warn!(%file, line, advice, "{}", problem.text),
            Severity::Note => tracing::info!(%file, line, advice, "{}", problem.text),
        }
    }
}
