//! One pool from its entry in the configuration to its end: who the runner is, its driver, its state
//! taken up, its loop and what advises it.

mod claim;
mod orphan;

pub use orphan::start_orphan;

use super::advice::Adviser;
use super::boots::Boots;
use super::driver::{DriverMachines, Marks, Means};
use super::identity::{Identities, Identity, Kept};
use super::job_dir::JobDirs;
use super::jobs::{PoolJobs, Shared};
use super::plugins::Installed;
use super::policies::{self, Policies};
use super::pools::{PoolHandle, Pools};
use super::reach::Ways;
use super::sessions::Sessions;
use super::setup::Setup;
use super::slots::{Slots, Turns};
use super::troubles::Troubles;
use crate::metrics::{Metrics, RunnerLabels};
use crate::pool_loop::{PoolLoop, now};
use crate::view::PoolView;
use claim::Claim;
use springtide_config::Machine;
use springtide_control::{
    Controller, Effect, Happening, MachineRecord, Options, SqliteStore, Store, StoreError,
};
use springtide_pool::{Counts, Limits, Millis, RetireCause, Source, Targets};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Between two tries to learn from GitLab which runner this is.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks for what machines left behind.
const LEFTOVERS: Duration = Duration::from_secs(300);

/// Between two signs of life to GitLab.
const ONLINE: Duration = Duration::from_secs(1800);

/// What all pools of a daemon share.
pub struct Common {
    /// The state's file.
    pub state: PathBuf,
    /// Its directory.
    pub directory: PathBuf,
    /// The directory relative paths of the configuration are in.
    pub beside: PathBuf,
    /// The manager's id at GitLab.
    pub system_id: String,
    /// The plugins.
    pub plugins: Arc<Installed>,
    /// The metrics.
    pub metrics: Metrics,
    /// The pools that are shown.
    pub pools: Pools,
    /// `concurrent`.
    pub slots: Slots,
    /// When runners ask.
    pub turns: Turns,
    /// The ways to machines.
    pub ways: Ways,
    /// Where terminals of jobs are served, if they are.
    pub sessions: Option<Sessions>,
    /// The user data of machines.
    pub boots: Boots,
    /// No more time: jobs that run are ended.
    pub interrupt: CancellationToken,
    /// The pools of the state that are taken up, by their keys.
    pub claims: Mutex<BTreeSet<String>>,
}

/// What a pool is told by the daemon.
#[derive(Clone)]
pub enum Order {
    /// The entry has changed.
    Reconfigure(Arc<Setup>),
    /// Take no more jobs, finish those there are, leave the machines.
    Close,
    /// The same, and take the machines along.
    Leave(RetireCause),
    /// No more time for jobs that wait.
    EndHeld,
}

/// A pool that was started.
pub struct Started {
    /// Its key among the pools that are shown.
    pub entry: String,
    /// The runner's name and GitLab.
    pub runner: (String, String),
    /// Where to tell it something.
    pub orders: mpsc::UnboundedSender<Order>,
    /// The entry it was started with, or last changed to.
    pub fingerprint: String,
    /// It was told to leave: an entry that comes back has to wait for its end.
    pub leaving: bool,
    /// The limits without a share of `concurrent`; the share is the daemon's.
    pub limits: watch::Receiver<Limits>,
    /// Woken by webhooks.
    pub notify: Arc<Notify>,
    /// Its end.
    pub end: tokio::task::JoinHandle<Result<(), StoreError>>,
}

/// Starts a pool. It works as soon as it can.
#[must_use]
pub fn start(common: Arc<Common>, setup: Arc<Setup>) -> Started {
    let (orders, from) = mpsc::unbounded_channel();
    let (limits, seen) = watch::channel(setup.runner.limits());
    let notify = Arc::new(Notify::new());
    let fingerprint = setup.runner.fingerprint.clone();
    let entry = setup.runner.key.clone();
    let runner = (setup.runner.name.clone(), setup.runner.url.to_string());
    let starting = Starting {
        entry: setup.runner.key.clone(),
        common,
        setup: watch::Sender::new(setup),
        orders: Orders::new(from),
        limits,
        notify: Arc::clone(&notify),
        troubles: Troubles::default(),
    };
    Started {
        entry,
        runner,
        orders,
        fingerprint,
        leaving: false,
        limits: seen,
        notify,
        end: tokio::spawn(starting.run()),
    }
}

/// What the daemon says, heard from a pool that is looked at elsewhere meanwhile.
type Orders = tokio::sync::Mutex<mpsc::UnboundedReceiver<Order>>;

/// The next order; none where the daemon wants no more of the pool.
async fn next(orders: &Orders) -> Option<Order> {
    orders.lock().await.recv().await
}

struct Starting {
    entry: String,
    common: Arc<Common>,
    setup: watch::Sender<Arc<Setup>>,
    orders: Orders,
    limits: watch::Sender<Limits>,
    notify: Arc<Notify>,
    troubles: Troubles,
}

/// A state taken up: its controller, what it wants done, and the machines it had.
type Taken = (Controller<SqliteStore>, Vec<Effect>, Vec<MachineRecord>);

/// What is needed before a pool can be taken up.
struct Known {
    key: String,
    _claim: Claim,
    /// Why it can make no machines, where it can't.
    unfit: Option<String>,
    marks: Marks,
    scope: String,
    machine_name: String,
}

impl Starting {
    async fn run(self) -> Result<(), StoreError> {
        self.show(None);
        let mut swapped = self.common.plugins.swapped();
        let known = loop {
            swapped.mark_unchanged();
            // What the daemon wants is heard also while GitLab is slow to say who the runner is.
            let order = tokio::select! {
                learned = self.learn() => match learned {
                    Ok(known) => break known,
                    Err(why) => {
                        let runner = self.setup.borrow().runner.name.clone();
                        tracing::warn!(runner, why, "a runner can't work");
                        self.troubles.set("start", Some(why));
                        None
                    }
                },
                order = next(&self.orders) => Some(order),
            };
            let order = match order {
                Some(order) => order,
                None => tokio::select! {
                    order = next(&self.orders) => order,
                    _ = swapped.changed() => continue,
                    () = tokio::time::sleep(AGAIN) => continue,
                },
            };
            match order {
                Some(Order::Reconfigure(setup)) => self.reconfigured(setup),
                Some(Order::EndHeld) => {}
                Some(Order::Close | Order::Leave(_)) | None => {
                    self.common.pools.remove(&self.entry);
                    return Ok(());
                }
            }
        };
        self.troubles.set("start", None);
        let (common, entry) = (Arc::clone(&self.common), self.entry.clone());
        let end = self.take_up(known).await;
        common.pools.remove(&entry);
        end
    }

    fn reconfigured(&self, setup: Arc<Setup>) {
        self.limits.send_replace(setup.runner.limits());
        self.setup.send_replace(setup);
    }

    async fn learn(&self) -> Result<Known, String> {
        let setup = self.setup.borrow().clone();
        // Who it is comes first, and is known whatever else is wrong.
        let identity = self.identity(&setup).await.map_err(|why| {
            let also = machine_of(&setup).err().map(|also| format!("; {also}"));
            why + &also.unwrap_or_default()
        })?;
        let key = identity.key();
        self.show(Some(key.clone()));
        let fit = machine_of(&setup).and_then(|machine| {
            let scope = self.common.plugins.scope(&setup.runner, machine)?;
            Ok((scope, machine.machine_name.clone()))
        });
        let (scope, machine_name, unfit) = match fit {
            Ok((scope, machine_name)) => (scope, machine_name, None),
            // Its machines and jobs are looked after all the same.
            Err(why) if self.has_state(&key) => (String::new(), "none-%s".to_owned(), Some(why)),
            Err(why) => return Err(why),
        };
        let claim = Claim::new(&self.common, &key).ok_or_else(|| {
            format!(
                "another pool is the same runner, number {} of GitLab: keep one entry of it, or wait until a removed one is wound up",
                identity.runner
            )
        })?;
        let owner = setup.runner.pool.owner.clone();
        Ok(Known {
            _claim: claim,
            unfit,
            scope,
            machine_name,
            marks: Marks {
                owner: owner.unwrap_or_else(|| identity.owner()),
                pool: key.clone(),
                manager: self.common.system_id.clone(),
            },
            key,
        })
    }

    fn has_state(&self, key: &str) -> bool {
        let pools = SqliteStore::open(&self.common.state, "").and_then(|store| store.pools());
        pools.is_ok_and(|pools| pools.iter().any(|pool| pool == key))
    }

    /// GitLab's number of the runner: what it told once is kept.
    async fn identity(&self, setup: &Setup) -> Result<Identity, String> {
        use secrecy::ExposeSecret;
        let token = setup.runner.token.expose_secret();
        let url = setup.runner.url.as_str();
        let identities = Identities::of(&self.common.directory);
        let broken = |error: std::io::Error| {
            format!("the runners known to the state can't be read or written: {error}")
        };
        if let Some(identity) = identities.get(url, token).map_err(broken)? {
            return Ok(identity);
        }
        let verified = setup.client.verify(&setup.identity).await;
        let runner = match verified {
            Ok(verified) => match (verified.id, setup.runner.id) {
                (0, Some(id)) => id,
                (0, None) => {
                    return Err("this GitLab does not tell the runner's number: write it as `id` into the runner's entry".into());
                }
                (id, _) => id,
            },
            Err(error) => return Err(error.to_string()),
        };
        let identity = Identity {
            url: url.to_owned(),
            runner,
        };
        identities.put(token, &identity).map_err(broken)?;
        Ok(identity)
    }

    /// Takes up the pool's state and runs its loop to its end.
    async fn take_up(self, known: Known) -> Result<(), StoreError> {
        let common = Arc::clone(&self.common);
        let setup = self.setup.borrow().clone();
        let labels = RunnerLabels::of(&setup.runner, &common.system_id);
        let (taken, taken_from) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            setup: self.setup.clone(),
            slots: common.slots.clone(),
            turns: common.turns.clone(),
            ways: common.ways.clone(),
            sessions: common.sessions.clone(),
            metrics: common.metrics.clone(),
            labels: labels.clone(),
            taken,
            troubles: self.troubles.clone(),
            interrupt: common.interrupt.clone(),
        });
        let jobs_in = common.directory.join("jobs").join(&known.key);
        let jobs = JobDirs::open(jobs_in.clone())
            .and_then(|dirs| PoolJobs::new(Arc::clone(&shared), dirs))
            .map_err(|error| unreadable(&jobs_in, &error))?;
        let kept = Kept {
            name: setup.runner.name.clone(),
            url: setup.runner.url.to_string(),
            owner: known.marks.owner.clone(),
        };
        Identities::of(&common.directory)
            .keep(&known.key, &kept)
            .map_err(|error| unreadable(&common.directory, &error))?;
        let (controller, effects, records) = self.controller(&known, &jobs, &jobs_in)?;
        let machines = Arc::new(DriverMachines::new(
            Arc::clone(&common.plugins) as Arc<_>,
            known.marks.clone(),
            Means {
                ways: common.ways.clone(),
                boots: common.boots.clone(),
                setup: self.setup.subscribe(),
                metrics: common.metrics.clone(),
            },
            &records,
        ));
        machines.note_scope(&known.scope);
        let pool = PoolLoop::new(
            controller,
            Arc::clone(&machines) as Arc<_>,
            Arc::new(jobs.clone()),
        )
        .counted_in(common.metrics.clone(), labels.clone());
        let (tell, view) = (pool.teller(), pool.view());
        jobs.tell(tell.clone());
        let heard = watch::Sender::new(Vec::new());
        common.pools.insert(
            self.entry.clone(),
            PoolHandle {
                name: setup.runner.name.clone(),
                pool: Some(known.key.clone()),
                notify: Arc::clone(&self.notify),
                labels,
                view: view.clone(),
                tell: Some(tell.clone()),
                trouble: self.troubles.shown(),
                heard: heard.subscribe(),
            },
        );
        let adviser = Adviser {
            shared: Arc::clone(&shared),
            plugins: Arc::clone(&common.plugins) as Arc<_>,
            swapped: common.plugins.swapped(),
            view,
            tell: tell.clone(),
            taken: taken_from,
            notify: Arc::clone(&self.notify),
            heard,
            beside: common.beside.clone(),
        };
        let mut helpers = vec![
            tokio::spawn(adviser.run()),
            tokio::spawn(sweep(Arc::clone(&machines))),
        ];
        // A pool without a runner has no token to show.
        if !known.scope.is_empty() {
            helpers.push(tokio::spawn(stay_online(Arc::clone(&shared))));
        }
        tracing::info!(
            runner = setup.runner.name,
            pool = known.key,
            "a runner works"
        );
        let mut swapped = common.plugins.swapped();
        let mut unfit = known.unfit.is_some();
        self.troubles.set("configuration", known.unfit);
        let mut running = tokio::spawn(pool.run(effects));
        let end = loop {
            tokio::select! {
                end = &mut running => break end,
                Some(order) = next(&self.orders) => unfit = self.obey(order, &tell, &machines, unfit),
                Ok(()) = swapped.changed(), if unfit => {
                    swapped.mark_unchanged();
                    let again = Order::Reconfigure(self.setup.borrow().clone());
                    unfit = self.obey(again, &tell, &machines, unfit);
                }
            }
        };
        jobs.over();
        for helper in helpers {
            helper.abort();
        }
        match end {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(StoreError {
                attempt: "writing",
                location: common.state.display().to_string(),
                why: format!("the loop of {} died: {error}", setup.runner.name),
            }),
        }
    }

    /// The state taken up, and told all that is known before its first step.
    fn controller(
        &self,
        known: &Known,
        jobs: &PoolJobs,
        jobs_in: &std::path::Path,
    ) -> Result<Taken, StoreError> {
        let setup = self.setup.borrow().clone();
        let mut store = SqliteStore::open(&self.common.state, &known.key)?;
        let records = store.load()?.machines;
        let limits = setup.runner.limits();
        let targets = self.first_targets(&setup, &records, limits);
        let options = Options::new(
            &known.marks.owner,
            &known.key,
            &known.scope,
            &known.machine_name,
            limits,
        );
        let seed = getrandom::u64().map_err(|error| StoreError {
            attempt: "reading",
            location: "the system's randomness".into(),
            why: error.to_string(),
        })?;
        let (mut controller, mut effects) =
            Controller::start(store, options, targets, seed, now())?;
        if known.unfit.is_some() {
            effects.extend(controller.handle(Happening::Pause(true), now())?);
        }
        if setup.runner.queue.is_some() {
            let unread = Source::Stale { age: Millis(0) };
            effects.extend(controller.handle(Happening::Source(unread), now())?);
        }
        let on_disk = jobs
            .on_disk()
            .map_err(|error| unreadable(jobs_in, &error))?;
        for job in on_disk {
            effects.extend(controller.handle(Happening::Found(job), now())?);
        }
        Ok((controller, effects, records))
    }

    /// What the policies want before the first step: without it a pool would begin with the idle
    /// machines of the day in the middle of the night.
    fn first_targets(&self, setup: &Setup, records: &[MachineRecord], limits: Limits) -> Targets {
        let machines: Vec<_> = records
            .iter()
            .map(|record| record.machine.clone())
            .collect();
        let pool = PoolView {
            counts: Counts::of(&machines),
            limits,
            ..PoolView::default()
        };
        let view = policies::view(&pool, None, now());
        let mut chain = Policies::new(&setup.runner.name, &setup.runner.policy_chain());
        let start = setup.runner.targets();
        let (targets, _) = chain.ask(&*self.common.plugins, &view, start, now());
        targets
    }

    fn obey(
        &self,
        order: Order,
        tell: &mpsc::UnboundedSender<Happening>,
        machines: &DriverMachines,
        unfit: bool,
    ) -> bool {
        let mut unfit = unfit;
        let what = match order {
            Order::Close => Happening::Close,
            Order::Leave(cause) => Happening::Leave(cause),
            Order::EndHeld => Happening::EndHeld,
            Order::Reconfigure(setup) => {
                let made = machine_of(&setup).and_then(|machine| {
                    let scope = self.common.plugins.scope(&setup.runner, machine)?;
                    Ok((scope, machine.machine_name.clone()))
                });
                self.reconfigured(setup);
                match made {
                    Ok((scope, machine_name)) => {
                        machines.note_scope(&scope);
                        self.troubles.set("configuration", None);
                        unfit = false;
                        // A loop that is over obeys no more.
                        tell.send(Happening::Pause(false)).ok();
                        Happening::Made {
                            scope,
                            machine_name,
                        }
                    }
                    Err(why) => {
                        self.troubles.set("configuration", Some(why));
                        unfit = true;
                        Happening::Pause(true)
                    }
                }
            }
        };
        tell.send(what).ok();
        unfit
    }

    fn show(&self, pool: Option<String>) {
        let setup = self.setup.borrow().clone();
        self.common.pools.insert(
            self.entry.clone(),
            PoolHandle {
                name: setup.runner.name.clone(),
                pool,
                notify: Arc::clone(&self.notify),
                labels: RunnerLabels::of(&setup.runner, &self.common.system_id),
                view: watch::Sender::new(PoolView::default()).subscribe(),
                tell: None,
                trouble: self.troubles.shown(),
                heard: watch::Sender::new(Vec::new()).subscribe(),
            },
        );
    }
}

/// The part of an entry that pools are made of.
fn machine_of(setup: &Setup) -> Result<&Machine, String> {
    use springtide_config::Executor;
    match &setup.runner.executor {
        Executor::ShellMachine | Executor::DockerMachine => {}
        Executor::Other(name) => {
            return Err(format!(
                "the executor {name:?} has no machines: leave this runner to GitLab Runner, or write executor = \"docker+machine\" or \"shell+machine\""
            ));
        }
    }
    setup
        .runner
        .machine
        .as_ref()
        .ok_or_else(|| "there is no [runners.machine]".to_owned())
}

/// A pool that knows that no job waits asks for none, and GitLab would show its runner as offline
/// after two hours.
async fn stay_online(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ONLINE).await;
        let setup = shared.setup();
        if let Err(error) = setup.client.verify(&setup.identity).await {
            tracing::warn!(runner = setup.runner.name, %error, "GitLab could not be told that a runner is there");
        }
    }
}

/// Removes what machines left behind, seen twice, for as long as the pool lives.
async fn sweep(machines: Arc<DriverMachines>) {
    let mut before = BTreeSet::new();
    loop {
        before = machines.sweep_leftovers(&before).await;
        tokio::time::sleep(LEFTOVERS).await;
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> StoreError {
    StoreError {
        attempt: "reading",
        location: path.display().to_string(),
        why: error.to_string(),
    }
}
