//! The loop with machines and a GitLab that live in this process, and its state in a real file.

use super::*;
use springtide_control::{Options, SeenState, SqliteStore};
use springtide_pool::{Limits, Millis, RetireCause, Targets};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
struct World {
    machines: Mutex<BTreeMap<String, String>>,
    most: AtomicU32,
    panics: AtomicU32,
    waiting: Mutex<Vec<u64>>,
    ran: Mutex<Vec<u64>>,
    final_: Mutex<Vec<u64>>,
    resumed: AtomicU32,
}

fn seen(token: &str, name: &str) -> Seen {
    Seen {
        id: format!("id-{token}"),
        name: name.into(),
        token: token.into(),
        owner: "owner".into(),
        pool: "pool".into(),
        state: SeenState::Running,
        reach: None,
        scope: None,
    }
}

#[async_trait]
impl Machines for World {
    async fn create(&self, record: &MachineRecord) -> Result<Seen, DriverFailure> {
        if self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        {
            panic!("a driver call that dies");
        }
        let mut machines = self.machines.lock().unwrap();
        machines.insert(record.token.clone(), record.name.clone());
        let count = u32::try_from(machines.len()).unwrap();
        self.most.fetch_max(count, Ordering::SeqCst);
        Ok(seen(&record.token, &record.name))
    }

    async fn list(&self) -> Result<Listing, DriverFailure> {
        let machines = self.machines.lock().unwrap();
        Ok(Listing {
            seen: machines
                .iter()
                .map(|(token, name)| seen(token, name))
                .collect(),
            unlisted: BTreeSet::new(),
        })
    }

    async fn destroy(&self, record: &MachineRecord) -> Result<(), DriverFailure> {
        self.machines.lock().unwrap().remove(&record.token);
        Ok(())
    }

    async fn renew(&self, _: &[MachineRecord], _: Time) -> Result<(), DriverFailure> {
        Ok(())
    }

    async fn look(&self, _: &MachineRecord, _: &Passing) -> Look {
        Look {
            ready: true,
            reach: None,
        }
    }
}

#[async_trait]
impl Jobs for World {
    async fn request(&self, cancel: CancellationToken) -> RequestEnd {
        tokio::time::sleep(Duration::from_millis(10)).await;
        match self.waiting.lock().unwrap().pop() {
            Some(job) => RequestEnd::Job(JobId(job)),
            None if cancel.is_cancelled() => RequestEnd::Failed,
            None => RequestEnd::NoJob,
        }
    }

    async fn run(
        &self,
        job: JobRecord,
        _: &MachineRecord,
        resume: bool,
        started: Started,
        abandon: CancellationToken,
    ) -> RunEnd {
        started.now();
        if resume {
            self.resumed.fetch_add(1, Ordering::SeqCst);
        } else if job.id.0 == 999 {
            abandon.cancelled().await;
        }
        self.ran.lock().unwrap().push(job.id.0);
        RunEnd::Ran { broken: false }
    }

    async fn finish(&self, job: JobId, _: Ending) {
        self.final_.lock().unwrap().push(job.0);
    }
}

fn controller(
    path: &std::path::Path,
    targets: Targets,
    seed: u64,
) -> (Controller<SqliteStore>, Vec<Effect>) {
    let limits = Limits {
        limit: 3,
        request_concurrency: 3,
        ..Limits::default()
    };
    let options = Options {
        list_busy: Millis(50),
        list_calm: Millis(200),
        probe: Millis(10),
        grace: Millis(200),
        ..Options::new("owner", "pool", "scope", "ci-%s", limits)
    };
    let store = SqliteStore::open(path, "pool").unwrap();
    Controller::start(store, options, targets, seed, now()).unwrap()
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn idle(idle_count: u32) -> Targets {
    Targets {
        idle_count,
        ..Targets::default()
    }
}

#[tokio::test]
async fn jobs_run_machines_stay_within_the_limit_and_all_go() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    world.panics.store(2, Ordering::SeqCst);
    *world.waiting.lock().unwrap() = (1..=20).collect();
    let (controller, effects) = controller(&folder.path().join("state.db"), idle(2), 1);
    let pool = PoolLoop::new(controller, world.clone(), world.clone());
    let tell = pool.teller();
    let running = tokio::spawn(pool.run(effects));
    until("20 jobs final", || world.final_.lock().unwrap().len() == 20).await;
    assert!(!world.machines.lock().unwrap().is_empty(), "two are kept");
    tell.send(Happening::Leave(RetireCause::Shutdown)).unwrap();
    let controller = running.await.unwrap().unwrap();
    assert_eq!(controller.jobs().count(), 0);
    assert_eq!(controller.machines().count(), 0);
    assert!(world.machines.lock().unwrap().is_empty());
    let mut ran = world.ran.lock().unwrap().clone();
    ran.sort_unstable();
    assert_eq!(ran, (1..=20).collect::<Vec<_>>(), "each job ran once");
    assert!(world.most.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn a_manager_that_dies_finds_its_job_and_its_machine_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let world = Arc::new(World::default());
    *world.waiting.lock().unwrap() = vec![999];
    let (first, effects) = controller(&path, idle(1), 1);
    let pool = PoolLoop::new(first, world.clone(), world.clone());
    let running = tokio::spawn(pool.run(effects));
    until("the job started", || {
        SqliteStore::open(&path, "pool")
            .unwrap()
            .load()
            .unwrap()
            .jobs
            .iter()
            .any(|job| job.started)
    })
    .await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let before = world.machines.lock().unwrap().clone();

    let (second, effects) = controller(&path, idle(1), 2);
    let pool = PoolLoop::new(second, world.clone(), world.clone());
    let tell = pool.teller();
    let running = tokio::spawn(pool.run(effects));
    until("the job is final", || {
        *world.final_.lock().unwrap() == [999]
    })
    .await;
    assert_eq!(world.resumed.load(Ordering::SeqCst), 1);
    let after = world.machines.lock().unwrap().clone();
    assert!(
        before.keys().any(|token| after.contains_key(token)),
        "its machine was adopted"
    );
    tell.send(Happening::Close).unwrap();
    running.await.unwrap().unwrap();
}
