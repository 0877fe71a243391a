//! A machine is judged by a list of its own scope: one that could not be listed says nothing.

use springtide_control::{
    Boot, Change, Controller, Effect, Happening, MachineRecord, MemoryStore, Options, Seen,
    SeenState, Store,
};
use springtide_pool::{Limits, Machine, MachineId, Phase, Targets, Time};
use std::collections::BTreeSet;

fn idle(id: u64, scope: &str) -> MachineRecord {
    MachineRecord {
        machine: Machine {
            id: MachineId(id),
            phase: Phase::Idle { since: Time(1) },
            builds: 0,
            made: Time(1),
            interrupted: false,
        },
        name: format!("ci-{id}"),
        token: format!("token-{id}"),
        provider_id: Some(format!("i-{id}")),
        scope: scope.into(),
        reach: None,
        lease_until: Time(u64::MAX),
        removal_accepted: false,
        boot: Boot::default(),
        keep: false,
    }
}

fn seen(record: &MachineRecord) -> Seen {
    Seen {
        id: record.provider_id.clone().unwrap_or_default(),
        name: record.name.clone(),
        token: record.token.clone(),
        owner: "owner".into(),
        pool: "pool".into(),
        state: SeenState::Running,
        reach: None,
        scope: Some(record.scope.clone()),
    }
}

/// Has the controller list, with these machines there and these scopes unlisted.
fn list(
    controller: &mut Controller<MemoryStore>,
    now: &mut Time,
    there: &[&MachineRecord],
    unlisted: &[&str],
) {
    loop {
        let effects = controller.step(*now).unwrap();
        if effects.contains(&Effect::List) {
            break;
        }
        *now = Time(now.0 + 1000);
    }
    let unlisted: BTreeSet<String> = unlisted.iter().map(|&scope| scope.to_owned()).collect();
    let seen = there.iter().map(|record| seen(record)).collect();
    controller
        .handle(Happening::Unlisted(unlisted), *now)
        .unwrap();
    controller
        .handle(Happening::Listed(Ok(seen)), *now)
        .unwrap();
}

fn missing(controller: &Controller<MemoryStore>) -> Vec<u64> {
    let gone = |at: &&MachineRecord| matches!(at.machine.phase, Phase::Missing { .. });
    let all = controller.machines().filter(gone);
    all.map(|at| at.machine.id.0).collect()
}

#[test]
fn machines_of_a_scope_that_was_not_listed_are_neither_missing_nor_forgotten() {
    let (here, there, gone) = (idle(1, "here"), idle(2, "there"), idle(3, "here"));
    let mut store = MemoryStore::default();
    let all = [&here, &there, &gone].map(|record| Change::PutMachine(record.clone()));
    store.commit(&all).unwrap();
    store.commit(&[Change::NextMachine(4)]).unwrap();
    let options = Options::new("owner", "pool", "here", "ci-%s", Limits::default());
    let targets = Targets {
        idle_count: 3,
        ..Targets::default()
    };
    let mut now = Time(1_000_000);
    let (mut controller, _) = Controller::start(store, options, targets, 7, now).unwrap();

    list(&mut controller, &mut now, &[&here], &["there"]);
    assert_eq!(missing(&controller), [3]);

    // The list of its scope comes, without it.
    now = Time(now.0 + 60_000);
    list(&mut controller, &mut now, &[&here], &[]);
    assert_eq!(missing(&controller), [2, 3]);

    // Its grace is over, but its scope can't be listed again: it is not believed gone.
    for _ in 0..20 {
        now = Time(now.0 + 60_000);
        list(&mut controller, &mut now, &[&here], &["there"]);
    }
    assert_eq!(missing(&controller), [2]);

    // It was there all the time.
    list(&mut controller, &mut now, &[&here, &there], &[]);
    assert!(missing(&controller).is_empty());
}
