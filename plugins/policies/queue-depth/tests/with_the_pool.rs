//! The policy and the pool's rules together: nothing is counted twice, and nothing is forgotten.

use proptest::prelude::*;
use springtide_policy_queue_depth::QueueDepth;
use springtide_pool::{
    Action, Counts, Decision, Job, JobId, JobPhase, Limits, Machine, MachineId, Phase, Pool,
    Source, Targets, Time, step,
};
use springtide_sdk::testing::{NoZones, context, queue, targets, view};
use springtide_sdk::{Policy, Queue, View, Waiting};

const NOW: Time = Time(10_000_000);

#[derive(Clone, Copy, Debug)]
struct Start {
    waiting: u32,
    coming: u32,
    idle: u32,
    held: u32,
    idle_count: u32,
}

fn start() -> impl Strategy<Value = Start> {
    (0..30_u32, 0..9_u32, 0..9_u32, 0..5_u32, 0..6_u32).prop_map(
        |(waiting, coming, idle, held, idle_count)| Start {
            waiting,
            coming,
            idle,
            held,
            idle_count,
        },
    )
}

fn pool(start: Start) -> Pool {
    let machine = |id: u32, phase| Machine {
        id: MachineId(id.into()),
        phase,
        builds: 0,
        made: Time(0),
        interrupted: false,
    };
    let coming = (0..start.coming).map(|id| machine(id, Phase::Intended { since: NOW }));
    let idle = (0..start.idle).map(|id| machine(start.coming + id, Phase::Idle { since: Time(0) }));
    Pool {
        machines: coming.chain(idle).collect(),
        jobs: (0..start.held)
            .map(|id| Job {
                id: JobId(id.into()),
                phase: JobPhase::Held,
                taken: NOW,
                tries: 0,
            })
            .collect(),
        source: Source::Fresh {
            waiting: start.waiting,
            oldest: springtide_pool::Millis(0),
        },
        ..Pool::default()
    }
}

fn seen(pool: &Pool, waiting: u32, stale: bool) -> View {
    let counts = Counts::of(&pool.machines);
    let held = pool.jobs.iter().filter(|job| job.phase == JobPhase::Held);
    let mut view = View {
        jobs_held: u32::try_from(held.count()).unwrap(),
        queue: Some(Queue {
            stale,
            waiting: vec![Waiting {
                tags: Vec::new(),
                count: waiting,
                oldest_age: 0,
            }],
            run_untagged: true,
            ..queue()
        }),
        ..view(10_000)
    };
    view.machines.intended = counts.intended;
    view.machines.idle = counts.idle;
    view.machines.busy = counts.busy;
    view
}

/// What the pool decides on what the policy answers, and what the policy keeps.
fn decide(
    pool: &Pool,
    start: Start,
    stale: bool,
    state: &[u8],
) -> Result<(Vec<Decision>, Vec<u8>), TestCaseError> {
    let proposal = springtide_sdk::Targets {
        idle_count: start.idle_count,
        ..targets()
    };
    let seen = seen(pool, start.waiting, stale);
    let answer = QueueDepth::evaluate(&NoZones, &context("{}"), &seen, &proposal, state)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let targets = Targets {
        idle_count: start.idle_count,
        wanted: answer.patch.wanted.unwrap_or(0),
        ..Targets::default()
    };
    Ok((step(pool, &targets, &Limits::default(), NOW), answer.state))
}

fn creates(decisions: &[Decision]) -> u32 {
    let creates = decisions
        .iter()
        .filter(|decision| decision.action == Some(Action::Create));
    u32::try_from(creates.count()).unwrap()
}

fn carry_out(pool: &mut Pool, decisions: &[Decision]) {
    for action in decisions.iter().filter_map(|decision| decision.action) {
        match action {
            Action::Create => pool.machines.push(Machine {
                id: MachineId(pool.machines.len() as u64),
                phase: Phase::Intended { since: NOW },
                builds: 0,
                made: NOW,
                interrupted: false,
            }),
            Action::Assign { job, machine } => {
                let at = usize::try_from(machine.0).unwrap();
                pool.machines[at].phase = Phase::Busy { since: NOW, job };
                let held = pool.jobs.iter_mut().find(|held| held.id == job);
                held.unwrap().phase = JobPhase::Running { machine };
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn there_is_a_machine_for_each_job_beside_the_idle_target_and_none_is_made_twice(start in start()) {
        let mut pool = pool(start);
        let (first, _) = decide(&pool, start, false, &[])?;
        let needed = start.waiting + start.held + start.idle_count;
        let there = start.coming + start.idle;
        prop_assert_eq!(creates(&first), needed.saturating_sub(there));
        carry_out(&mut pool, &first);
        let (second, _) = decide(&pool, start, false, &[])?;
        prop_assert_eq!(creates(&second), 0, "they are on their way");
    }

    #[test]
    fn a_stale_queue_holds_what_there_is(start in start(), lost in 0..20_u32) {
        let pool = pool(start);
        let (_, state) = decide(&pool, start, false, &[])?;
        // However many wait meanwhile, for nobody knows.
        let later = Start { waiting: lost, ..start };
        let (decisions, _) = decide(&pool, later, true, &state)?;
        let without_the_queue = start.held + start.idle_count;
        let there = start.coming + start.idle;
        prop_assert_eq!(creates(&decisions), without_the_queue.saturating_sub(there));
        let retired = decisions
            .iter()
            .filter(|decision| matches!(decision.action, Some(Action::Retire { .. })))
            .count();
        if there <= start.waiting + without_the_queue {
            prop_assert_eq!(retired, 0, "the jobs that waited still need them");
        }
    }
}
