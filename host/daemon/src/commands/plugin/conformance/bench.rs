//! The driver under test with one runner's settings, and what the cases do to it again and again.
//!
//! All machines the kit makes carry owners of its own, so that whatever a driver does, what the kit
//! made can be told from what was there.

use anyhow::{Context, Result, anyhow, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};
use springtide_plugins::contract::{
    CallContext, Creation, Leftover, Machine, MachineState, PluginError,
};
use springtide_plugins::{CallError, Plugin};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The first wait between two looks; each is twice the one before, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// Calls that may fail for now before a case takes it for an answer.
const TRIES: u32 = 5;

/// How long the kit's machines may live if the kit dies: the lease they are made with.
const LEASE: u32 = 3600;

/// A driver under test.
pub(super) struct Bench {
    pub(super) plugin: Plugin,
    pub(super) runner: String,
    pub(super) settings: Map<String, Value>,
    /// How long the driver says a machine may be missing from a list, or still be in it.
    pub(super) list_delay: Duration,
    /// How long a machine may take to be made or to be gone.
    pub(super) patience: Duration,
    mark: String,
    /// Where tokens come from, and how many machines were asked for.
    tokens: Mutex<(StdRng, u32)>,
    /// For each owner, whether it was asked to make a machine since its last sweep.
    asked: [AtomicBool; 3],
    /// Leftovers without an owner that were there before.
    unowned: BTreeSet<String>,
}

/// Whose machines a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The one most cases use.
    First,
    /// One whose mark begins with the first's: a comparison of beginnings takes them for one.
    Alike,
    /// One that has nothing in common with the first.
    Other,
}

impl Owner {
    pub(super) const ALL: [Owner; 3] = [Owner::First, Owner::Alike, Owner::Other];
}

/// Why a machine was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Halt {
    /// The driver's answer, or its failure.
    #[error("create: {0}")]
    Call(CallError),
    /// It is still being made.
    #[error("create: the machine is still `creating` after {} s; --patience gives it longer", .0.as_secs())]
    Late(Duration),
}

/// How often and how long to wait for something.
struct Pace {
    next: Duration,
    begun: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            next: SHORTEST,
            begun: Instant::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
    }
}

impl Bench {
    /// A bench for a driver; asks it what was left behind before.
    ///
    /// # Errors
    /// Where the driver can't be asked with these settings.
    pub(super) async fn new(
        plugin: Plugin,
        runner: String,
        settings: Map<String, Value>,
        patience: Duration,
        list_delay: Option<Duration>,
    ) -> Result<Bench> {
        let stated = plugin.schema().value().get("x-list-delay");
        let list_delay = match (list_delay, stated) {
            (Some(told), _) => told,
            (None, None) => Duration::ZERO,
            (None, Some(seconds)) => seconds
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .with_context(|| {
                    format!("the schema's x-list-delay is {seconds}; write seconds from 0")
                })?,
        };
        let seed = getrandom::u64()
            .map_err(|error| anyhow!("asking the system for randomness: {error}"))?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bench = Bench {
            plugin,
            runner,
            settings,
            list_delay,
            patience,
            mark: format!("kit{:08x}", rng.random::<u32>()),
            tokens: Mutex::new((rng, 0)),
            asked: Default::default(),
            unowned: BTreeSet::new(),
        };
        let before = bench.leftovers().await?;
        bench.unowned = without_owner(before).collect();
        Ok(bench)
    }

    pub(super) fn mark(&self, owner: Owner) -> String {
        match owner {
            Owner::First => format!("{}-a", self.mark),
            Owner::Alike => format!("{}-a-b", self.mark),
            Owner::Other => format!("{}-c", self.mark),
        }
    }

    /// What a call of this owner's pool is made with.
    pub(super) fn context(&self, owner: Owner) -> CallContext {
        self.context_of(&self.settings, &self.mark(owner))
    }

    fn context_of(&self, settings: &Map<String, Value>, owner: &str) -> CallContext {
        CallContext {
            runner: self.runner.clone(),
            settings: Value::Object(settings.clone()).to_string(),
            owner: owner.to_owned(),
        }
    }

    /// The same with other settings.
    pub(super) fn context_with(&self, settings: &Map<String, Value>) -> CallContext {
        self.context_of(settings, &self.mark(Owner::First))
    }

    /// What a new machine is asked for with: a token and a name never used before.
    pub(super) fn creation(&self, owner: Owner) -> Creation {
        self.asked[owner as usize].store(true, Ordering::Relaxed);
        let (token, count) = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.1 += 1;
            (tokens.0.random::<u128>(), tokens.1)
        };
        Creation {
            token: format!("{token:032x}"),
            name: format!("{}-{count}", self.mark(owner)),
            owner: self.mark(owner),
            pool: format!("{}-pool", self.mark),
            manager: "springtide plugin conformance".into(),
            lease_until: now() + LEASE,
            ..Creation::default()
        }
    }

    /// Makes a machine: calls `create` until it is no longer `creating`. What fails for now is tried
    /// again a few times, as the daemon does.
    pub(super) async fn make(&self, creation: &Creation) -> Result<Machine, Halt> {
        let context = self.context_of(&self.settings, &creation.owner);
        self.make_with(&context, creation).await
    }

    /// The same with other settings.
    pub(super) async fn make_with(
        &self,
        context: &CallContext,
        creation: &Creation,
    ) -> Result<Machine, Halt> {
        let mut pace = Pace::new();
        let mut tries = 0;
        loop {
            match self.plugin.create(context, creation).await {
                Ok(machine) if machine.state != MachineState::Creating => return Ok(machine),
                Ok(_) => {}
                Err(CallError::Plugin(PluginError::Throttled(wait))) => {
                    tokio::time::sleep(Duration::from_millis(wait.into())).await;
                }
                Err(CallError::Plugin(PluginError::Transient(_))) if tries < TRIES => tries += 1,
                Err(error) => return Err(Halt::Call(error)),
            }
            if pace.elapsed() > self.patience {
                return Err(Halt::Late(self.patience));
            }
            pace.wait().await;
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Machine>> {
        let listed = self.plugin.list_machines(&self.context(Owner::First)).await;
        listed.context("list-machines")
    }

    pub(super) async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let listed = self
            .plugin
            .list_leftovers(&self.context(Owner::First))
            .await;
        listed.context("list-leftovers")
    }

    pub(super) async fn destroy(&self, id: &str) -> Result<()> {
        let destroyed = self.plugin.destroy(&self.context(Owner::First), id).await;
        destroyed.with_context(|| format!("destroy {id}"))
    }

    /// The machines with a token, once a list has had its stated delay to show all there are.
    pub(super) async fn listed(&self, token: &str) -> Result<Vec<Machine>> {
        tokio::time::sleep(self.list_delay).await;
        let mut all = self.list().await?;
        all.retain(|machine| machine.token == token);
        Ok(all)
    }

    /// The only machine with a token.
    pub(super) async fn only(&self, token: &str) -> Result<Machine> {
        let mut all = self.listed(token).await?;
        match (all.pop(), all.len()) {
            (Some(machine), 0) => Ok(machine),
            (None, _) => bail!(
                "the list does not show the machine{}",
                self.after(self.list_delay)
            ),
            (Some(machine), more) => bail!(
                "{} machines were made with one token: {machine:?} and {more} more",
                more + 1
            ),
        }
    }

    fn after(&self, delay: Duration) -> String {
        if delay.is_zero() {
            return String::new();
        }
        format!(" after its x-list-delay of {} s", delay.as_secs_f64())
    }

    /// Waits until no list shows a machine any more, repeating its removal as the daemon does.
    pub(super) async fn gone(&self, id: &str) -> Result<()> {
        let mut pace = Pace::new();
        loop {
            self.destroy(id).await?;
            if !self.list().await?.iter().any(|machine| machine.id == id) {
                return Ok(());
            }
            if pace.elapsed() > self.patience {
                bail!(
                    "{id} is still listed {} s after destroy said it was done; --patience gives it longer",
                    self.patience.as_secs()
                );
            }
            pace.wait().await;
        }
    }

    /// Removes all machines and leftovers of one owner, as the daemon sweeps: by the marks in the
    /// lists. Answers how many of each there were.
    ///
    /// # Errors
    /// Where something stays, with what and why.
    pub(super) async fn sweep(&self, owner: Owner) -> Result<(usize, usize)> {
        let mark = self.mark(owner);
        // What the list does not show yet comes within its delay.
        let asked = self.asked[owner as usize].load(Ordering::Relaxed);
        let delay = if asked {
            self.list_delay
        } else {
            Duration::ZERO
        };
        let (mut machines, mut leftovers) = (BTreeSet::new(), BTreeSet::new());
        let mut pace = Pace::new();
        let mut clean: Option<Instant> = None;
        let mut refused = String::new();
        loop {
            let context = self.context(owner);
            let mut here = Vec::new();
            match self.list().await {
                Ok(all) => {
                    for machine in all.into_iter().filter(|one| one.owner == mark) {
                        if let Err(error) = self.plugin.destroy(&context, &machine.id).await {
                            refused = format!(": destroy {}: {error}", machine.id);
                        }
                        here.push(machine.id.clone());
                        machines.insert(machine.id);
                    }
                }
                Err(error) => {
                    refused = format!(": {error:#}");
                    here.push("what can't be listed".into());
                }
            }
            match self.leftovers().await {
                Ok(all) => {
                    for leftover in all.into_iter().filter(|one| one.owner == mark) {
                        let removed = self.plugin.destroy_leftover(&context, &leftover.id).await;
                        if let Err(error) = removed {
                            refused = format!(": destroy-leftover {}: {error}", leftover.id);
                        }
                        here.push(format!("{} {}", leftover.sort, leftover.id));
                        leftovers.insert(leftover.id);
                    }
                }
                Err(error) => {
                    refused = format!(": {error:#}");
                    here.push("leftovers that can't be listed".into());
                }
            }
            if here.is_empty() {
                if clean.get_or_insert_with(Instant::now).elapsed() >= delay {
                    self.asked[owner as usize].store(false, Ordering::Relaxed);
                    return Ok((machines.len(), leftovers.len()));
                }
            } else {
                clean = None;
            }
            if pace.elapsed() > self.patience + delay {
                bail!(
                    "after {} s of destroying there is still {}{refused}",
                    self.patience.as_secs(),
                    here.join(", ")
                );
            }
            pace.wait().await;
        }
    }

    /// Fails where leftovers without an owner have appeared: the daemon could not tell whose they
    /// are, and would never remove them.
    pub(super) async fn no_unowned(&self) -> Result<()> {
        let all = without_owner(self.leftovers().await?);
        let new: Vec<String> = all.filter(|id| !self.unowned.contains(id)).collect();
        if !new.is_empty() {
            bail!(
                "leftovers without an owner mark have appeared, which nobody will ever sweep: {}",
                new.join(", ")
            );
        }
        Ok(())
    }
}

fn without_owner(leftovers: Vec<Leftover>) -> impl Iterator<Item = String> {
    let unowned = leftovers.into_iter().filter(|one| one.owner.is_empty());
    unowned.map(|leftover| leftover.id)
}

/// Fails unless a machine carries what it was made with.
pub(super) fn same_marks(machine: &Machine, creation: &Creation) -> Result<()> {
    for (what, found, wanted) in [
        ("token", &machine.token, &creation.token),
        ("name", &machine.name, &creation.name),
        ("owner", &machine.owner, &creation.owner),
        ("pool", &machine.pool, &creation.pool),
    ] {
        if found != wanted {
            bail!("its {what} is {found:?}, and it was made with {wanted:?}");
        }
    }
    if machine.lease_until != creation.lease_until {
        bail!(
            "its lease ends at {}, and it was made with {}",
            machine.lease_until,
            creation.lease_until
        );
    }
    Ok(())
}

/// Seconds since 1970.
pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}
