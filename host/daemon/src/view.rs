//! What a pool's loop shows of itself after each step: for policies, `status`, metrics and the demo.

use crate::snapshot::words;
use serde::{Deserialize, Serialize};
use springtide_control::{Controller, MachineRecord, Stage, Store};
use springtide_pool::{
    Counts, JobPhase, Limits, MachineId, Millis, Phase, Pool, Reason, Targets, Time,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Decisions kept for people to look at.
const KEPT: usize = 100;
/// A machine that takes longer to remove is shown as stuck.
const STUCK: Millis = Millis::seconds(600);

/// One pool at one moment.
#[derive(Clone, Debug, Default)]
pub struct PoolView {
    /// When, in milliseconds since the epoch.
    pub now: Time,
    /// What the next step looks at.
    pub pool: Pool,
    /// What the policies want.
    pub targets: Targets,
    /// What the operator allows.
    pub limits: Limits,
    /// Machines by phase.
    pub counts: Counts,
    /// How long recent machines took from asked for to ready, newest last.
    pub boot_times: Vec<Millis>,
    /// Machines as a person wants them listed.
    pub machines: Vec<MachineRow>,
    /// The latest decisions, newest last; the same one over and over is kept once.
    pub decisions: Arc<VecDeque<Said>>,
    /// Sums since the daemon started.
    pub totals: Totals,
}

/// A decision as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Said {
    /// When it was made first, in milliseconds since the epoch.
    pub at: Time,
    /// What is done, in words; `hold` where nothing is.
    pub action: String,
    /// Why, with the numbers.
    pub reason: String,
}

/// Sums since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Totals {
    /// Machines that were made.
    pub made: u64,
    /// Machines that are gone.
    pub removed: u64,
    /// Creations that failed.
    pub failed: u64,
    /// Machine-milliseconds without a job: ready and free.
    pub idle: Millis,
    /// Machine-milliseconds with a job.
    pub busy: Millis,
    /// Jobs taken.
    pub jobs: u64,
}

/// A machine as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineRow {
    /// Its number in this pool.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// The provider's id, once known.
    pub id: Option<String>,
    /// Its phase, in a word.
    pub phase: String,
    /// Seconds since its creation was decided.
    pub age: u64,
    /// Jobs it was given.
    pub builds: u32,
    /// The job it runs.
    pub job: Option<u64>,
}

/// Follows a controller and keeps what the view adds to it.
#[derive(Debug, Default)]
pub struct Watcher {
    decisions: Arc<VecDeque<Said>>,
    totals: Totals,
    last: Option<(Time, Counts)>,
    known: BTreeMap<MachineId, Known>,
    names: BTreeMap<MachineId, String>,
    passages: Vec<Passage>,
}

/// How far a machine was the last time it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Not seen to exist.
    Asked(Time),
    /// It exists.
    Made(Time),
    /// It was ready once.
    Ready,
    /// It is being removed, since then.
    Goes(Time),
}

/// What became of a machine between two looks, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It exists.
    Made,
    /// It is ready, so long after it was asked for.
    Ready(Millis),
    /// It passed a stage of its boot, so long after the one before; told once it is ready.
    Stage(Stage, Millis),
    /// It was given a job.
    Used,
    /// It is gone, so long after its removal was decided.
    Removed(Millis),
    /// A creation failed, so long after the machine was asked for.
    NotMade(Millis),
    /// A request for a job was held back, for `request_concurrency` of them were under way.
    RequestHeld,
}

impl Watcher {
    /// A job was taken.
    pub fn job_taken(&mut self) {
        self.totals.jobs += 1;
    }

    /// A creation failed, so long after the machine was asked for.
    pub fn not_made(&mut self, after: Millis) {
        self.totals.failed += 1;
        self.passages.push(Passage::NotMade(after));
    }

    /// A machine was given a job.
    pub fn used(&mut self) {
        self.passages.push(Passage::Used);
    }

    /// Time passed in which the pool stood as the last look found it.
    pub fn look<S: Store>(&mut self, controller: &Controller<S>, now: Time) -> PoolView {
        let pool = controller.pool();
        let counts = Counts::of(&pool.machines);
        if let Some((at, before)) = self.last {
            let passed = now.since(at).0;
            let free = u64::from(before.idle) + u64::from(before.reserved);
            self.totals.idle.0 += passed * free;
            self.totals.busy.0 += passed * u64::from(before.in_use());
        }
        let first = self.last.is_none();
        self.last = Some((now, counts));
        let ready = self.follow(&pool, first, now);
        let booted = controller
            .machines()
            .filter(|at| ready.contains(&at.machine.id));
        for record in booted {
            let lengths = record.boot.lengths(record.machine.made);
            let stages = lengths.map(|(stage, length)| Passage::Stage(stage, length));
            self.passages.extend(stages);
        }
        self.names = controller
            .machines()
            .map(|at| (at.machine.id, at.name.clone()))
            .collect();
        PoolView {
            now,
            targets: *controller.targets(),
            limits: *controller.limits(),
            counts,
            boot_times: controller.boot_times().to_vec(),
            machines: controller.machines().map(|at| row(at, now)).collect(),
            decisions: Arc::clone(&self.decisions),
            totals: self.totals,
            pool,
        }
    }

    /// What became of machines since this was asked last.
    pub fn passages(&mut self) -> Vec<Passage> {
        std::mem::take(&mut self.passages)
    }

    /// Machines the state held already when the daemon started are not counted as made.
    /// Answers which are ready now and were not before.
    fn follow(&mut self, pool: &Pool, first: bool, now: Time) -> Vec<MachineId> {
        let mut ready = Vec::new();
        let mut known = BTreeMap::new();
        for machine in &pool.machines {
            let before = self.known.remove(&machine.id);
            let next = next(before, &machine.phase, machine.made);
            known.insert(machine.id, next);
            if first {
                continue;
            }
            let was_made = matches!(before, None | Some(Known::Asked(_)));
            if was_made && !matches!(next, Known::Asked(_)) {
                self.totals.made += 1;
                self.passages.push(Passage::Made);
            }
            if next == Known::Ready && before != Some(Known::Ready) {
                self.passages.push(Passage::Ready(now.since(machine.made)));
                ready.push(machine.id);
            }
        }
        for gone in std::mem::replace(&mut self.known, known).into_values() {
            match gone {
                Known::Asked(_) => {}
                Known::Goes(since) => {
                    self.totals.removed += 1;
                    self.passages.push(Passage::Removed(now.since(since)));
                }
                Known::Made(_) | Known::Ready => {
                    self.totals.removed += 1;
                    self.passages.push(Passage::Removed(Millis(0)));
                }
            }
        }
        ready
    }

    /// What a machine is called; one that was dropped since the last look still has its name.
    #[must_use]
    pub fn called<S: Store>(&self, controller: &Controller<S>, id: MachineId) -> Option<String> {
        let record = controller.machine(id).map(|record| &record.name);
        record.or_else(|| self.names.get(&id)).cloned()
    }

    /// Keeps what the last step decided; what it decided already the time before is not kept twice.
    pub fn decided<S: Store>(&mut self, controller: &Controller<S>, now: Time) {
        let decisions = controller.decisions();
        for decision in decisions {
            if let Reason::RequestsAtLimit { .. } = decision.reason {
                self.passages.push(Passage::RequestHeld);
            }
            let action = words(decision, |id| self.called(controller, id));
            let reason = decision.reason.to_string();
            let kept = Arc::make_mut(&mut self.decisions);
            let latest = kept.iter_mut().rev().take(decisions.len());
            let same = |said: &&mut Said| {
                said.action == action && but_for_numbers(&said.reason).eq(but_for_numbers(&reason))
            };
            if decision.action.is_none()
                && let Some(said) = latest.into_iter().find(same)
            {
                said.reason = reason;
                continue;
            }
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Said {
                at: now,
                action,
                reason,
            });
        }
    }
}

/// A reason without its numbers: one that holds on with other numbers is the same.
fn but_for_numbers(reason: &str) -> impl Iterator<Item = char> {
    reason.chars().filter(|c| !c.is_ascii_digit() && *c != '.')
}

fn next(before: Option<Known>, phase: &Phase, asked: Time) -> Known {
    match (phase, before) {
        (Phase::Intended { .. } | Phase::Creating { .. }, _) => Known::Asked(asked),
        (Phase::Booting { .. }, _) => Known::Made(asked),
        // Given up before it was seen to exist: whether it does is not known.
        (Phase::Retiring { .. }, Some(Known::Asked(_))) => Known::Asked(asked),
        (Phase::Retiring { since, .. }, _) => Known::Goes(*since),
        (Phase::Missing { .. } | Phase::Held { .. } | Phase::Gone { .. }, Some(before)) => before,
        _ => Known::Ready,
    }
}

fn row(record: &MachineRecord, now: Time) -> MachineRow {
    MachineRow {
        number: record.machine.id.0,
        name: record.name.clone(),
        id: record.provider_id.clone(),
        phase: record.machine.phase.name().to_owned(),
        age: now.since(record.machine.made).0 / 1000,
        builds: record.machine.builds,
        job: record.machine.phase.job().map(|job| job.0),
    }
}

impl PoolView {
    /// Machines whose removal has been tried for ten minutes without success.
    #[must_use]
    pub fn stuck(&self) -> u32 {
        let stuck = |phase: &Phase| matches!(phase, Phase::Retiring { since, .. } if self.now.since(*since) > STUCK);
        let count = self
            .pool
            .machines
            .iter()
            .filter(|at| stuck(&at.phase))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Jobs this pool runs, and jobs it holds until a machine is ready.
    #[must_use]
    pub fn jobs(&self) -> (usize, usize) {
        let running = self
            .pool
            .jobs
            .iter()
            .filter(|job| matches!(job.phase, JobPhase::Running { .. }))
            .count();
        (running, self.pool.jobs.len() - running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use springtide_control::{DriverFailure, Happening, MemoryStore, Options, Seen, SeenState};

    #[test]
    fn machines_are_counted_once_and_time_goes_to_the_phase_it_was_spent_in() {
        let targets = Targets {
            idle_count: 1,
            idle_time: 3600,
            ..Targets::default()
        };
        let options = Options::new("owner", "pool", "", "ci-%s", Limits::default());
        let started = Controller::start(MemoryStore::default(), options, targets, 1, Time(0));
        let (mut controller, _) = started.unwrap();
        let mut watcher = Watcher::default();
        let mut at = |controller: &mut Controller<MemoryStore>, ms: u64| {
            controller.step(Time(ms)).unwrap();
            watcher.decided(controller, Time(ms));
            watcher.look(controller, Time(ms));
            watcher.passages()
        };
        assert_eq!(at(&mut controller, 0), []);
        let record = controller.machines().next().unwrap().clone();
        let seen = Seen {
            id: "i-1".into(),
            name: record.name.clone(),
            token: record.token.clone(),
            owner: "owner".into(),
            pool: "pool".into(),
            state: SeenState::Running,
            reach: None,
            scope: None,
        };
        let id = record.machine.id;
        controller
            .handle(Happening::Created(id, Ok(seen)), Time(1000))
            .unwrap();
        assert_eq!(at(&mut controller, 1000), [Passage::Made]);
        controller
            .handle(Happening::Probed(id, true), Time(3000))
            .unwrap();
        assert_eq!(
            at(&mut controller, 3000),
            [
                Passage::Ready(Millis(3000)),
                Passage::Stage(Stage::Exists, Millis(1000)),
                Passage::Stage(Stage::Ready, Millis(2000)),
            ]
        );
        assert_eq!(at(&mut controller, 8000), []);
        controller
            .handle(Happening::Remove(id), Time(8000))
            .unwrap();
        at(&mut controller, 8000);
        let view = watcher.look(&controller, Time(9000));
        assert_eq!(view.totals.made, 1);
        assert_eq!(view.totals.idle, Millis(5000));
        assert_eq!(view.totals.busy, Millis(0));
        assert!(
            view.decisions
                .iter()
                .any(|said| said.action == "create a machine")
        );
        let asked = format!("request a job for {}", record.name);
        assert!(view.decisions.iter().any(|said| said.action == asked));
        assert_eq!(view.stuck(), 0);
        assert_eq!(watcher.look(&controller, Time(700_000)).stuck(), 1);
    }

    #[test]
    fn machines_are_named_also_once_their_records_are_dropped() {
        let targets = Targets {
            idle_count: 1,
            ..Targets::default()
        };
        let options = Options::new("owner", "pool", "", "ci-%s", Limits::default());
        let started = Controller::start(MemoryStore::default(), options, targets, 1, Time(0));
        let (mut controller, _) = started.unwrap();
        let mut watcher = Watcher::default();
        controller.step(Time(0)).unwrap();
        let record = controller.machines().next().unwrap().clone();
        let id = record.machine.id;
        assert_eq!(
            watcher.called(&controller, id).as_ref(),
            Some(&record.name),
            "one that was not looked at yet"
        );
        watcher.look(&controller, Time(0));
        let refused = Err(DriverFailure::Refused("no such image".into()));
        controller
            .handle(Happening::Created(id, refused), Time(1000))
            .unwrap();
        assert!(controller.machine(id).is_none());
        assert_eq!(watcher.called(&controller, id), Some(record.name));
        watcher.look(&controller, Time(1000));
        assert_eq!(watcher.called(&controller, id), None);
    }
}
