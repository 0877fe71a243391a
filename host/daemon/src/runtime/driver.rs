//! Machines through a driver component. Each call goes to the driver, and with the settings, that the
//! machine was made with; a list is of every scope the pool has machines in, or it is none.

use super::boots::{self, Boots};
use super::policies::Find;
use super::reach::{self, NotWound, Ways};
use super::scope::Scope;
use super::setup::Setup;
use crate::metrics::Metrics;
use crate::pool_loop::{Listing, Look, Machines, Passing, now};
use async_trait::async_trait;
use futures_util::StreamExt;
use springtide_control::{DriverFailure, MachineRecord, Seen, SeenState, Stage};
use springtide_plugins::contract::{CallContext, Creation, Machine, MachineState, PluginError};
use springtide_plugins::{Breaker, CallError, Outcome, Plugin};
use springtide_pool::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Machines whose leases are wound at once.
const WINDING: usize = 16;

/// Whose machines these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The owner.
    pub owner: String,
    /// The pool's key.
    pub pool: String,
    /// Who makes them, for people.
    pub manager: String,
}

/// The machines of one pool.
pub struct DriverMachines {
    plugins: Arc<dyn Find>,
    marks: Marks,
    ways: Ways,
    boots: Boots,
    setup: watch::Receiver<Arc<Setup>>,
    metrics: Metrics,
    known: Mutex<Known>,
}

/// What the machines of a pool are made and reached with, beside their driver.
pub struct Means {
    /// The ways to machines.
    pub ways: Ways,
    /// The user data of those that are there.
    pub boots: Boots,
    /// The runner's entry as it is now.
    pub setup: watch::Receiver<Arc<Setup>>,
    /// What becomes of calls is counted here.
    pub metrics: Metrics,
}

/// The scopes with machines in them, and which machine is in which.
#[derive(Debug, Default)]
struct Known {
    scopes: BTreeSet<String>,
    by_id: BTreeMap<String, String>,
    /// One for each scope and function: creations that fail hold up no removal.
    breakers: BTreeMap<(String, &'static str), Breaker>,
    /// Machines that have no timer, and of which that was said.
    untimed: BTreeSet<String>,
}

impl DriverMachines {
    async fn list_scope(&self, scope: &str) -> Result<Vec<(Arc<str>, Machine)>, DriverFailure> {
        let call = self.call(scope, None)?;
        let listed = call.plugin.list_machines(&call.context);
        let machines = self.through(scope, &call, "list-machines", listed).await?;
        let driver = Arc::clone(&call.plugin.info().id);
        let named = |machine| (Arc::clone(&driver), machine);
        Ok(machines.into_iter().map(named).collect())
    }

    /// The machines of a pool whose state holds machines of these scopes, with their ids.
    #[must_use]
    pub fn new(
        plugins: Arc<dyn Find>,
        marks: Marks,
        means: Means,
        records: &[MachineRecord],
    ) -> DriverMachines {
        let machines = DriverMachines {
            plugins,
            marks,
            ways: means.ways,
            boots: means.boots,
            setup: means.setup,
            metrics: means.metrics,
            known: Mutex::default(),
        };
        for record in records {
            machines.note(&record.scope, record.provider_id.as_deref());
        }
        machines
    }

    /// New machines are made in this scope: it is listed from now on.
    pub fn note_scope(&self, scope: &str) {
        self.note(scope, None);
    }

    fn note(&self, scope: &str, id: Option<&str>) {
        let mut known = self.known();
        if !scope.is_empty() && !known.scopes.contains(scope) {
            known.scopes.insert(scope.to_owned());
            if let Ok(scope) = Scope::read(scope) {
                self.plugins.note_scope(&scope, &self.marks.owner);
            }
        }
        if let Some(id) = id {
            known.by_id.insert(id.to_owned(), scope.to_owned());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, scope: &str, machine: Option<&str>) -> Result<Call, DriverFailure> {
        let scope =
            Scope::read(scope).map_err(|error| DriverFailure::Refused(error.to_string()))?;
        let plugin = self.plugins.find(&scope.driver).ok_or_else(|| {
            DriverFailure::Transient(format!(
                "the driver {} is not installed; put its file into the plugin directory",
                scope.driver
            ))
        })?;
        let context = CallContext {
            settings: scope.settings_for(machine).to_string(),
            runner: scope.runner,
            owner: self.marks.owner.clone(),
        };
        Ok(Call { plugin, context })
    }

    /// Makes a call unless it has failed too often of late, and says what a failure means to the pool.
    async fn through<T>(
        &self,
        scope: &str,
        call: &Call,
        function: &'static str,
        answer: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, DriverFailure> {
        let at = (scope.to_owned(), function);
        let open = self
            .known()
            .breakers
            .entry(at.clone())
            .or_default()
            .ask(clock());
        if let Err(wait) = open {
            return Err(DriverFailure::Throttled(millis(wait)));
        }
        let answer = answer.await;
        let opened = self
            .known()
            .breakers
            .entry(at)
            .or_default()
            .tell(Outcome::from(&answer), clock());
        if opened {
            tracing::error!(
                driver = %call.plugin.info().id,
                function,
                runner = call.context.runner,
                "a driver fails again and again: it is left alone for a while"
            );
        }
        answer.map_err(|error| self.failed(call, function, error))
    }

    /// What a failure means to the pool, and to the metrics.
    fn failed(&self, call: &Call, function: &str, error: CallError) -> DriverFailure {
        if !error.is_answer() {
            self.metrics.plugin_failed(&call.plugin.info().id, function);
        }
        let text = error.to_string();
        match error {
            CallError::Plugin(PluginError::Throttled(wait)) => {
                DriverFailure::Throttled(u64::from(wait))
            }
            CallError::Plugin(PluginError::Transient(_) | PluginError::Other(_)) => {
                DriverFailure::Transient(text)
            }
            CallError::Plugin(_) => DriverFailure::Refused(text),
            _ => DriverFailure::Unknown(text),
        }
    }

    fn seen(&self, machine: Machine, scope: &str) -> Seen {
        self.note(scope, Some(&machine.id));
        match machine.state {
            MachineState::Stopped | MachineState::Removing => {
                self.ways.set_off(&machine.name, true)
            }
            MachineState::Running => self.ways.set_off(&machine.name, false),
            MachineState::Creating | MachineState::Interrupted | MachineState::Unknown => {}
        }
        Seen {
            state: match machine.state {
                MachineState::Creating => SeenState::Creating,
                MachineState::Running => SeenState::Running,
                MachineState::Stopped => SeenState::Stopped,
                MachineState::Interrupted => SeenState::Interrupted,
                MachineState::Removing => SeenState::Removing,
                MachineState::Unknown => SeenState::Unknown,
            },
            reach: machine.reach.as_ref().and_then(|at| reach::text(at).ok()),
            id: machine.id,
            name: machine.name,
            token: machine.token,
            owner: machine.owner,
            pool: machine.pool,
            scope: Some(scope.to_owned()),
        }
    }

    /// Removes what machines of this owner left behind, where a look a while ago saw it too.
    /// Answers what is there now, for the next look.
    pub async fn sweep_leftovers(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        let scopes: Vec<String> = self.known().scopes.iter().cloned().collect();
        let mut there = BTreeSet::new();
        for scope in scopes {
            let Ok(call) = self.call(&scope, None) else {
                continue;
            };
            let asked = call.plugin.list_leftovers(&call.context);
            let leftovers = match self.through(&scope, &call, "list-leftovers", asked).await {
                Ok(leftovers) => leftovers,
                Err(failure) => {
                    tracing::warn!(?failure, "leftovers could not be listed");
                    continue;
                }
            };
            for leftover in leftovers {
                if leftover.owner != self.marks.owner {
                    continue;
                }
                if !before.contains(&leftover.id) {
                    there.insert(leftover.id);
                    continue;
                }
                tracing::info!(
                    what = leftover.sort,
                    id = leftover.id,
                    "a leftover is removed"
                );
                let done = call.plugin.destroy_leftover(&call.context, &leftover.id);
                let done = self.through(&scope, &call, "destroy-leftover", done).await;
                if let Err(failure) = done {
                    tracing::warn!(
                        id = leftover.id,
                        ?failure,
                        "a leftover could not be removed"
                    );
                    there.insert(leftover.id);
                }
            }
        }
        there
    }
}

impl DriverMachines {
    /// What is asked for: the same each time for one record.
    async fn creation(
        &self,
        record: &MachineRecord,
        call: &Call,
    ) -> Result<Creation, DriverFailure> {
        // Files of ours may be back at the next try.
        let wanting = |why: String| DriverFailure::Transient(why);
        let key = self.ways.public_key(&record.scope).await;
        let key = key.map_err(|error| wanting(error.to_string()))?;
        let scope = Scope::read(&record.scope).ok();
        let user = scope.and_then(|scope| boots::ssh_user(&scope, call.plugin.schema().value()));
        let setup = self.setup.borrow().clone();
        let user_data = self
            .boots
            .user_data(record, &setup, user, key.clone())
            .await
            .map_err(wanting)?;
        Ok(Creation {
            token: record.token.clone(),
            name: record.name.clone(),
            owner: self.marks.owner.clone(),
            pool: self.marks.pool.clone(),
            manager: self.marks.manager.clone(),
            lease_until: record.lease_until.whole_seconds(),
            user_data: Some(user_data),
            ssh_key: Some(key),
            ..Creation::default()
        })
    }

    /// Tells providers of the new end of leases.
    async fn renew_leases(
        &self,
        records: &[MachineRecord],
        until: Time,
    ) -> Result<(), DriverFailure> {
        let mut by_scope: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for record in records {
            if let Some(id) = &record.provider_id {
                by_scope
                    .entry(record.scope.as_str())
                    .or_default()
                    .push(id.clone());
            }
        }
        for (scope, ids) in by_scope {
            let call = self.call(scope, None)?;
            let renewed = call
                .plugin
                .renew_leases(&call.context, &ids, until.whole_seconds());
            self.through(scope, &call, "renew-leases", renewed).await?;
        }
        Ok(())
    }

    /// Winds the timers on machines: one that can't be reached now is wound the next time.
    async fn wind(&self, records: &[MachineRecord], until: Time) {
        let seconds = until.since(now()).0 / 1000;
        let booted = records.iter().filter(|at| at.boot.at(Stage::Ssh).is_some());
        let winding: Vec<_> = booted
            .map(|record| self.wind_one(record, seconds))
            .collect();
        let mut winding = futures_util::stream::iter(winding).buffer_unordered(WINDING);
        while winding.next().await.is_some() {}
    }

    async fn wind_one(&self, record: &MachineRecord, seconds: u64) {
        let Err(error) = self.ways.wind(record, seconds).await else {
            return;
        };
        let name = &record.name;
        if matches!(error, NotWound::NoTimer) && !self.known().untimed.insert(name.clone()) {
            return;
        }
        tracing::warn!(machine = name, %error, "a machine's own timer could not be wound");
    }
}

/// A clock that does not jump, for what must only pass.
fn clock() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

struct Call {
    plugin: Arc<Plugin>,
    context: CallContext,
}

#[async_trait]
impl Machines for DriverMachines {
    async fn create(&self, record: &MachineRecord) -> Result<Seen, DriverFailure> {
        self.note_scope(&record.scope);
        let call = self.call(&record.scope, Some(&record.name))?;
        let creation = self.creation(record, &call).await?;
        let made = call.plugin.create(&call.context, &creation);
        let machine = self.through(&record.scope, &call, "create", made).await?;
        Ok(self.seen(machine, &record.scope))
    }

    async fn list(&self) -> Result<Listing, DriverFailure> {
        let scopes: Vec<String> = self.known().scopes.iter().cloned().collect();
        let mut listing = Listing::default();
        let mut failure = None;
        let mut known = BTreeSet::new();
        for scope in &scopes {
            let machines = match self.list_scope(scope).await {
                Ok(machines) => machines,
                Err(error) => {
                    tracing::warn!(?error, scope, "a scope can't be listed");
                    listing.unlisted.insert(scope.clone());
                    failure = Some(error);
                    continue;
                }
            };
            for (driver, machine) in machines {
                let ours = machine.owner == self.marks.owner && machine.pool == self.marks.pool;
                // Scopes of one account with other settings show the same machines.
                if ours && known.insert((driver, machine.id.clone())) {
                    let made_in = self.known().by_id.get(&machine.id).cloned();
                    let made_in = made_in.as_deref().unwrap_or(scope);
                    listing.seen.push(self.seen(machine, made_in));
                }
            }
        }
        if listing.unlisted.is_empty() {
            let there: BTreeSet<&str> = listing.seen.iter().map(|at| at.id.as_str()).collect();
            self.known()
                .by_id
                .retain(|id, _| there.contains(id.as_str()));
        }
        match failure {
            Some(failure) if listing.unlisted.len() == scopes.len() => Err(failure),
            _ => Ok(listing),
        }
    }

    async fn destroy(&self, record: &MachineRecord) -> Result<(), DriverFailure> {
        let Some(id) = &record.provider_id else {
            return Err(DriverFailure::Transient(
                "the machine's id at its provider is not known yet".into(),
            ));
        };
        let call = self.call(&record.scope, Some(&record.name))?;
        let gone = async {
            match call.plugin.destroy(&call.context, id).await {
                Err(CallError::Plugin(PluginError::NotFound(_))) => Ok(()),
                answer => answer,
            }
        };
        self.through(&record.scope, &call, "destroy", gone).await
    }

    async fn renew(&self, records: &[MachineRecord], until: Time) -> Result<(), DriverFailure> {
        // A machine that no provider can be told of is looked after all the same.
        let (renewed, ()) =
            tokio::join!(self.renew_leases(records, until), self.wind(records, until));
        renewed
    }

    async fn look(&self, record: &MachineRecord, passing: &Passing) -> Look {
        let command = self.setup.borrow().runner.pool.ready_command.clone();
        if record.reach.is_some() {
            return Look {
                ready: self.ways.ready(record, command.as_deref(), passing).await,
                reach: None,
            };
        }
        // A provider may say the address some time after it made the machine.
        let Some(id) = &record.provider_id else {
            return Look::default();
        };
        let Ok(call) = self.call(&record.scope, Some(&record.name)) else {
            return Look::default();
        };
        let got = call.plugin.get(&call.context, id);
        let machine = self.through(&record.scope, &call, "get", got).await.ok();
        let reach = machine
            .and_then(|machine| machine.reach)
            .and_then(|at| reach::text(&at).ok());
        if reach.is_none() {
            return Look::default();
        }
        let record = MachineRecord {
            reach: reach.clone(),
            ..record.clone()
        };
        Look {
            ready: self.ways.ready(&record, command.as_deref(), passing).await,
            reach,
        }
    }

    async fn forget(&self, record: &MachineRecord) {
        self.known().untimed.remove(&record.name);
        self.ways.forget(&record.name).await;
        self.boots.forget(&record.token).await;
    }
}
