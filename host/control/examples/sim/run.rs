//! One seed's run: the loop as it ships, against [`World`], and what must hold afterwards.

use super::world::{Faults, GitlabJob, Item, OWNER, POOL, World};
use rand::{Rng, SeedableRng, rngs::StdRng};
use springtide_control::{
    Controller, Effect, Happening, MemoryStore, Options, RequestEnd, StoreError,
};
use springtide_pool::{JobId, Limits, Millis, Targets, Time};

const HOUR: u64 = 3_600_000;

/// What a seed's run came to.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub jobs: usize,
    pub machines: u64,
    pub most: usize,
    pub limit: u32,
    pub crashes: u32,
    pub hours: f64,
    pub log: Vec<String>,
    pub violations: Vec<String>,
}

struct Scenario {
    limits: Limits,
    targets: Targets,
    faults: Faults,
    source: bool,
    jobs: Vec<GitlabJob>,
    crashes: Vec<u64>,
    /// Whether the disk is lost at the first death.
    lose_state: bool,
}

fn scenario(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let limit = rng.random_range(1..12);
    let window = |rng: &mut StdRng, length: u64| {
        let from = rng.random_range(0..2 * HOUR);
        (Time(from), Time(from + length))
    };
    let share = |rng: &mut StdRng| {
        if rng.random_bool(0.5) {
            rng.random_range(0.0..0.3)
        } else {
            0.0
        }
    };
    let times = |rng: &mut StdRng, most: usize| {
        let count = rng.random_range(0..=most);
        (0..count)
            .map(|_| Time(rng.random_range(0..2 * HOUR)))
            .collect()
    };
    let limits = Limits {
        limit,
        max_growth_rate: rng.random_range(0..4),
        max_builds: rng.random_range(0..4),
        request_concurrency: rng.random_range(1..4),
        boot_timeout: Millis::seconds(300),
        missing_grace: Millis::seconds(120),
        ..Limits::default()
    };
    let source = rng.random_bool(0.6);
    Scenario {
        targets: Targets {
            idle_count: rng.random_range(0..4),
            idle_time: rng.random_range(0..600),
            ..Targets::default()
        },
        faults: Faults {
            create_lost: share(&mut rng),
            create_fails: share(&mut rng),
            create_refused: share(&mut rng),
            never_boots: share(&mut rng),
            list_fails: share(&mut rng),
            no_removal: window(&mut rng, HOUR),
            gitlab_down: window(&mut rng, 600_000),
            vanish: times(&mut rng, 5),
            cancel: times(&mut rng, 5),
        },
        source,
        jobs: (0..rng.random_range(1..60))
            .map(|_| GitlabJob {
                queued: Time(rng.random_range(0..2 * HOUR)),
                assigned: None,
                heard: Time(0),
                length: rng.random_range(100..900_000),
                finals: 0,
            })
            .collect(),
        crashes: (0..rng.random_range(0..6))
            .map(|_| rng.random_range(1..400))
            .collect(),
        lose_state: rng.random_bool(0.1),
        limits,
    }
}

struct Run {
    world: World,
    manager: Option<Controller<MemoryStore>>,
    disk: Option<MemoryStore>,
    life: u64,
    crashes: Vec<u64>,
    crashed: u32,
    lose_state: bool,
    options: Options,
    targets: Targets,
    wake: Option<Time>,
    seed: u64,
}

/// Runs a seed to its end.
pub fn run(seed: u64) -> Report {
    let scenario = scenario(seed);
    let limit = scenario.limits.limit;
    let mut world = World::new(seed, scenario.faults.clone(), scenario.source);
    for (number, job) in scenario.jobs.iter().enumerate() {
        world.jobs.insert(JobId(number as u64 + 1), *job);
    }
    for at in &scenario.faults.vanish {
        world.at(*at, Item::Vanish);
    }
    for at in &scenario.faults.cancel {
        world.at(*at, Item::Cancel);
    }
    world.at(Time(0), Item::Restart);
    world.at(Time(1), Item::Source);
    world.at(Time(1), Item::Stuck);
    let mut run = Run {
        world,
        manager: None,
        disk: Some(MemoryStore::default()),
        life: 0,
        crashes: scenario.crashes,
        crashed: 0,
        lose_state: scenario.lose_state,
        options: Options::new(OWNER, POOL, "scope", "sim-%s", scenario.limits),
        targets: scenario.targets,
        wake: None,
        seed,
    };
    run.go();
    let world = run.world;
    Report {
        seed,
        jobs: world.jobs.len(),
        machines: world.made,
        most: world.most,
        limit,
        crashes: run.crashed,
        hours: world.now.0 as f64 / HOUR as f64,
        log: world.log,
        violations: world.violations,
    }
}

impl Run {
    fn go(&mut self) {
        let horizon = Time(16 * HOUR);
        while let Some((&(at, serial), _)) = self.world.queue.first_key_value() {
            if at > horizon {
                self.unfinished();
                return;
            }
            let Some(item) = self.world.queue.remove(&(at, serial)) else {
                return;
            };
            self.world.now = at;
            self.item(item);
            self.check();
            if !self.world.violations.is_empty() || self.done() {
                return;
            }
        }
    }

    fn done(&mut self) -> bool {
        if self.world.now < Time(2 * HOUR) || self.world.jobs.values().any(|job| job.finals == 0) {
            return false;
        }
        // All jobs are final: nothing is kept idle any more, and all must go.
        self.world.faults = Faults::none();
        self.targets = Targets::default();
        self.world.sweep_gone();
        self.world.ours() == 0
            && self.manager.as_ref().is_some_and(|manager| {
                manager.machines().next().is_none() && manager.jobs().next().is_none()
            })
    }

    fn unfinished(&mut self) {
        let left = self.world.ours();
        let open: Vec<_> = self
            .world
            .jobs
            .iter()
            .filter(|(_, job)| job.finals == 0)
            .collect();
        let records: Vec<_> = self.manager.iter().flat_map(|at| at.machines()).collect();
        let jobs: Vec<_> = self.manager.iter().flat_map(|at| at.jobs()).collect();
        let told = format!(
            "after 16 hours: {left} machines left, open jobs {open:?}, records {records:?}, {jobs:?}"
        );
        self.world.violations.push(told);
    }

    fn check(&mut self) {
        let limit = self.options.limits.limit as usize;
        if self.world.ours() > limit && !self.world.state_lost {
            let told = format!(
                "{} machines exist and the limit is {limit}",
                self.world.ours()
            );
            self.world.violations.push(told);
        }
        if !self.world.cloud.contains_key("theirs") {
            self.world
                .violations
                .push("another owner's machine is gone".into());
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Serve(life, effect) => {
                // A finish is sent by the manager again and again; a dead one sends nothing more.
                if life == self.life || !matches!(effect, Effect::Finish(..)) {
                    self.world.serve(life, effect);
                }
            }
            Item::Answer(life, what) if life == self.life => self.tell(what),
            Item::Follow(life, job, id) if life == self.life => {
                self.world.follow(life, job, id);
            }
            Item::Answer(..) | Item::Follow(..) => {}
            Item::Step(life) => {
                if life == self.life && self.wake == Some(self.world.now) {
                    self.wake = None;
                    self.step();
                }
            }
            Item::Restart => self.restart(),
            Item::Vanish => self.world.vanish(),
            Item::Cancel => {
                let held = self
                    .world
                    .jobs
                    .iter()
                    .find(|(_, job)| job.assigned.is_some() && job.finals == 0);
                if let Some((&id, _)) = held {
                    self.tell(Happening::Canceled(id));
                }
            }
            Item::Source => {
                let (source, waiting) = self.world.waiting();
                let targets = Targets {
                    wanted: waiting,
                    ..self.targets
                };
                self.tell(Happening::Source(source));
                self.tell(Happening::Targets(targets));
                self.world.soon(5_000, 6_000, Item::Source);
            }
            Item::Stuck => {
                self.world.stuck();
                self.world.soon(600_000, 600_000, Item::Stuck);
            }
        }
    }

    fn tell(&mut self, what: Happening) {
        let now = self.world.now;
        if let Happening::Requested(_, end) = what
            && let Some(manager) = &mut self.manager
            && !matches!(end, RequestEnd::Job(_))
        {
            manager.set_request_not_before(now.after(Millis::seconds(3)));
        }
        let Some(manager) = &mut self.manager else {
            return;
        };
        self.world
            .log
            .push(format!("{} {} {what:?}", now.0, self.life));
        let answer = manager.handle(what, now);
        self.answered(answer);
        self.wake_at(now.after(Millis(50)));
    }

    fn step(&mut self) {
        let now = self.world.now;
        let Some(manager) = &mut self.manager else {
            return;
        };
        let answer = manager.step(now);
        self.answered(answer);
        let Some(manager) = &self.manager else {
            return;
        };
        for job in manager.jobs() {
            if let Some(at) = self.world.jobs.get_mut(&job.id) {
                at.heard = now;
            }
        }
        if let Some(at) = manager.next_wake(now) {
            self.wake_at(at.max(now.after(Millis(50))));
        }
    }

    fn wake_at(&mut self, at: Time) {
        if self.manager.is_some() && self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.world.at(at, Item::Step(self.life));
        }
    }

    fn answered(&mut self, answer: Result<Vec<Effect>, StoreError>) {
        match answer {
            // Dead before the write, or after it and before anything was done.
            Err(_) => self.crash(),
            Ok(effects) if self.dies_after_write() => {
                drop(effects);
                self.crash();
            }
            Ok(effects) => {
                for effect in effects {
                    self.world.carry_out(self.life, effect);
                }
            }
        }
    }

    /// Every second death comes after the write.
    fn dies_after_write(&mut self) -> bool {
        let Some(&next) = self.crashes.last() else {
            return false;
        };
        let lived = self.manager.as_ref().map_or(0, Controller::commits);
        self.crashes.len().is_multiple_of(2) && lived >= next
    }

    fn crash(&mut self) {
        self.crashed += 1;
        self.crashes.pop();
        self.disk = self.manager.take().map(Controller::into_store);
        if std::mem::take(&mut self.lose_state) {
            self.disk = Some(MemoryStore::default());
            self.world.state_lost = true;
        }
        self.life += 1;
        self.wake = None;
        self.world
            .log
            .push(format!("{} the manager dies", self.world.now.0));
        self.world.soon(100, 300_000, Item::Restart);
    }

    fn restart(&mut self) {
        let Some(mut disk) = self.disk.take() else {
            return;
        };
        disk.commits = 0;
        disk.die_at = self
            .crashes
            .last()
            .filter(|_| self.crashes.len() % 2 == 1)
            .copied();
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(self.life);
        let now = self.world.now;
        let started = Controller::start(disk, self.options.clone(), self.targets, seed, now);
        match started {
            Ok((manager, effects)) => {
                self.manager = Some(manager);
                self.answered(Ok(effects));
                self.wake_at(now.after(Millis(50)));
            }
            Err(error) => self
                .world
                .violations
                .push(format!("it did not start: {error}")),
        }
    }
}
