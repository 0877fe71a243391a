//! A machine's way to ready, as it is written down, and machines that a person asked for.

use springtide_control::{
    Boot, Controller, Effect, Happening, MemoryStore, Options, Seen, SeenState, Stage,
};
use springtide_pool::{Limits, MachineId, Millis, Phase, Targets, Time};

fn controller(limit: u32) -> Controller<MemoryStore> {
    let limits = Limits {
        limit,
        ..Limits::default()
    };
    let options = Options::new("owner", "pool", "scope", "ci-%s", limits);
    let store = MemoryStore::default();
    let started = Controller::start(store, options, Targets::default(), 1, Time(0));
    started.unwrap().0
}

fn made(controller: &mut Controller<MemoryStore>, now: Time) -> MachineId {
    let record = controller.machines().last().unwrap().clone();
    let seen = Seen {
        id: format!("i-{}", record.name),
        name: record.name,
        token: record.token,
        owner: "owner".into(),
        pool: "pool".into(),
        state: SeenState::Running,
        reach: None,
        scope: None,
    };
    let id = record.machine.id;
    let created = Happening::Created(id, Ok(seen));
    controller.handle(created, now).unwrap();
    id
}

fn boot(controller: &Controller<MemoryStore>, id: MachineId) -> Boot {
    let record = controller.machines().find(|at| at.machine.id == id);
    record.unwrap().boot.clone()
}

#[test]
fn the_first_time_of_each_stage_counts_and_survives_a_restart() {
    let mut controller = controller(0);
    controller.handle(Happening::Make(7), Time(0)).unwrap();
    controller.step(Time(0)).unwrap();
    let id = made(&mut controller, Time(1000));
    for (stage, at) in [
        (Stage::Tcp, 4000),
        (Stage::Tcp, 4500),
        (Stage::Ssh, 6000),
        (Stage::FirstBoot, 9000),
    ] {
        let passed = Happening::Passed(id, stage);
        controller.handle(passed, Time(at)).unwrap();
    }
    let ready = Happening::Probed(id, true);
    controller.handle(ready, Time(9500)).unwrap();
    let lengths: Vec<(Stage, Millis)> = boot(&controller, id).lengths(Time(0)).collect();
    assert_eq!(
        lengths,
        [
            (Stage::Exists, Millis(1000)),
            (Stage::Tcp, Millis(3000)),
            (Stage::Ssh, Millis(2000)),
            (Stage::FirstBoot, Millis(3000)),
            (Stage::Ready, Millis(500)),
        ]
    );
    let before = boot(&controller, id);
    let options = Options::new("owner", "pool", "scope", "ci-%s", Limits::default());
    let store = controller.into_store();
    let (again, _) = Controller::start(store, options, Targets::default(), 2, Time(0)).unwrap();
    assert_eq!(boot(&again, id), before);
}

#[test]
fn a_machine_of_a_person_is_held_once_it_is_ready_and_counts_against_the_limit() {
    let mut controller = controller(1);
    controller.handle(Happening::Make(0xabc), Time(0)).unwrap();
    controller.handle(Happening::Make(0xdef), Time(0)).unwrap();
    assert_eq!(controller.machines().count(), 1);
    let record = controller.machines().next().unwrap();
    assert_eq!(record.token, format!("{:032x}", 0xabc));
    controller.step(Time(0)).unwrap();
    let id = made(&mut controller, Time(10));
    let ready = Happening::Probed(id, true);
    controller.handle(ready, Time(20)).unwrap();
    let phase = controller.machines().next().unwrap().machine.phase;
    let (since, job) = (Time(20), None);
    assert_eq!(phase, Phase::Held { since, job });
    controller.step(Time(30)).unwrap();
    assert_eq!(controller.machines().count(), 1);
    controller.handle(Happening::Remove(id), Time(40)).unwrap();
    let phase = controller.machines().next().unwrap().machine.phase;
    assert_eq!(phase.name(), "retiring");
}

#[test]
fn what_is_kept_of_a_machine_elsewhere_is_forgotten_with_its_record() {
    let mut controller = controller(0);
    controller.handle(Happening::Make(7), Time(0)).unwrap();
    controller.step(Time(0)).unwrap();
    let id = made(&mut controller, Time(10));
    controller.handle(Happening::Remove(id), Time(20)).unwrap();
    controller.step(Time(20)).unwrap();
    let done = Happening::Destroyed(id, Ok(()));
    let mut effects = controller.handle(done, Time(30)).unwrap();
    for at in [100_000, 200_000] {
        effects.extend(controller.step(Time(at)).unwrap());
        let none = Happening::Listed(Ok(Vec::new()));
        effects.extend(controller.handle(none, Time(at + 10)).unwrap());
    }
    let forgotten: Vec<MachineId> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Forget(record) => Some(record.machine.id),
            _ => None,
        })
        .collect();
    assert_eq!(forgotten, [id]);
    assert_eq!(controller.machines().count(), 0);
}
