//! Builders for snapshots, so that a test shows only what it is about.

#![allow(dead_code)] // each test binary uses its own part of it

use springtide_pool::*;

/// The time of every example.
pub const NOW: Time = Time(10_000_000);

/// A machine's phase is this many seconds old.
pub fn ago(seconds: u64) -> Time {
    Time(NOW.0 - seconds * 1000)
}

pub fn machine(id: u64, phase: Phase) -> Machine {
    Machine {
        id: MachineId(id),
        phase,
        builds: 0,
        made: Time(1000 + id),
        interrupted: false,
    }
}

pub fn idle(id: u64, seconds: u64) -> Machine {
    let since = ago(seconds);
    machine(id, Phase::Idle { since })
}

pub fn reserved(id: u64, request: u64, idle_seconds: u64) -> Machine {
    machine(
        id,
        Phase::Reserved {
            since: ago(1),
            idle_since: ago(idle_seconds),
            request: RequestId(request),
        },
    )
}

pub fn busy(id: u64, job: u64) -> Machine {
    machine(
        id,
        Phase::Busy {
            since: ago(5),
            job: JobId(job),
        },
    )
}

pub fn booting(id: u64, seconds: u64) -> Machine {
    machine(
        id,
        Phase::Booting {
            since: ago(seconds),
            asked: ago(seconds + 5),
        },
    )
}

pub fn held_job(id: u64, seconds: u64) -> Job {
    Job {
        id: JobId(id),
        phase: JobPhase::Held,
        taken: ago(seconds),
        tries: 0,
    }
}

pub fn running_job(id: u64, machine: u64) -> Job {
    Job {
        phase: JobPhase::Running {
            machine: MachineId(machine),
        },
        ..held_job(id, 5)
    }
}

pub fn request(id: u64, machine: Option<u64>) -> Request {
    Request {
        id: RequestId(id),
        machine: machine.map(MachineId),
        since: ago(1),
        cancelling: false,
    }
}

/// A pool of machines with a running job for each busy one and a request for each reserved one.
pub fn pool(machines: Vec<Machine>) -> Pool {
    let jobs = machines
        .iter()
        .filter_map(|it| Some(running_job(it.phase.job()?.0, it.id.0)))
        .collect();
    let requests = machines
        .iter()
        .filter_map(|it| match it.phase {
            Phase::Reserved { request: id, .. } => Some(request(id.0, Some(it.id.0))),
            _ => None,
        })
        .collect();
    Pool {
        machines,
        jobs,
        requests,
        ..Pool::default()
    }
}

pub fn fresh(waiting: u32) -> Source {
    Source::Fresh {
        waiting,
        oldest: Millis(1000),
    }
}

pub fn targets(idle_count: u32, idle_time: u32) -> Targets {
    Targets {
        idle_count,
        idle_time,
        ..Targets::default()
    }
}

pub fn actions(decisions: &[Decision]) -> Vec<Action> {
    decisions.iter().filter_map(|it| it.action).collect()
}

pub fn holds(decisions: &[Decision]) -> Vec<Reason> {
    decisions
        .iter()
        .filter(|it| it.action.is_none())
        .map(|it| it.reason)
        .collect()
}

pub fn creates(decisions: &[Decision]) -> usize {
    let creates = actions(decisions);
    creates.iter().filter(|it| **it == Action::Create).count()
}

/// The machine an action is about, if it names one.
pub fn about(action: &Action, pool: &Pool) -> Option<MachineId> {
    match action {
        Action::RequestJob { machine } => *machine,
        Action::Assign { machine, .. }
        | Action::Drain { machine, .. }
        | Action::Retire { machine, .. }
        | Action::Forget { machine } => Some(*machine),
        Action::CancelRequest { request } => pool
            .requests
            .iter()
            .find(|it| it.id == *request)
            .and_then(|it| it.machine),
        Action::Create | Action::FailJob { .. } => None,
    }
}
