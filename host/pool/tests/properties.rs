//! What holds for every snapshot, whatever is in it.

mod common;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use springtide_pool::*;
use std::collections::BTreeSet;

/// A phase by number, consistent with the jobs and requests [`common::pool`] makes of it.
fn phase(kind: u8, id: u64, seconds: u64) -> Phase {
    let since = ago(seconds);
    let (job, request, cause) = (JobId(id), RequestId(id), RetireCause::Asked);
    match kind {
        0 => Phase::Intended { since },
        1 => Phase::Creating { since },
        2 => Phase::Booting {
            since,
            asked: since,
        },
        3 | 4 => Phase::Idle { since },
        5 => Phase::Reserved {
            since,
            idle_since: since,
            request,
        },
        6 | 7 => Phase::Busy { since, job },
        8 => Phase::Draining { since, job, cause },
        9 => Phase::Retiring { since, cause },
        10 => Phase::Missing { since, job: None },
        11 => Phase::Missing {
            since,
            job: Some(job),
        },
        12 => Phase::Held { since, job: None },
        13 => Phase::Held {
            since,
            job: Some(job),
        },
        _ => Phase::Gone { since },
    }
}

fn machines() -> impl Strategy<Value = Vec<Machine>> {
    let one = (0_u8..15, 0_u64..2000, 0_u32..4, prop::bool::weighted(0.1));
    vec(one, 0..14).prop_map(|all| {
        (1..)
            .zip(all)
            .map(|(id, (kind, seconds, builds, interrupted))| Machine {
                builds,
                interrupted,
                ..machine(id, phase(kind, id, seconds))
            })
            .collect()
    })
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::None),
        Just(Source::Silent),
        Just(Source::Stale {
            age: Millis(90_000)
        }),
        (0_u32..9).prop_map(fresh),
    ]
}

fn pools() -> impl Strategy<Value = Pool> {
    let not_before = || prop_oneof![3 => Just(0_u64), 1 => NOW.0 - 10..NOW.0 + 5000];
    (
        machines(),
        vec((0_u64..3000, 0_u32..3), 0..6),
        vec(any::<bool>(), 0..4),
        vec(any::<bool>(), 14),
        source(),
        (not_before(), not_before()),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
    )
        .prop_map(
            |(machines, held, without, cancelling, source, before, (paused, closing))| {
                let mut pool = pool(machines);
                for (request, cancelling) in pool.requests.iter_mut().zip(cancelling) {
                    request.cancelling = cancelling;
                }
                pool.requests
                    .extend((100..).zip(without).map(|(id, cancelling)| Request {
                        cancelling,
                        ..request(id, None)
                    }));
                pool.jobs
                    .extend((200..).zip(held).map(|(id, (seconds, tries))| Job {
                        tries,
                        ..held_job(id, seconds)
                    }));
                let (request_not_before, create_not_before) = (Time(before.0), Time(before.1));
                Pool {
                    source,
                    request_not_before,
                    create_not_before,
                    paused,
                    closing,
                    ..pool
                }
            },
        )
}

fn all_targets() -> impl Strategy<Value = Targets> {
    (
        0_u32..8,
        0_u32..4,
        0_u8..4,
        0_u32..1500,
        0_u32..8,
        prop::option::of(0_u32..16),
    )
        .prop_map(
            |(idle_count, idle_count_min, factor, idle_time, wanted, ceiling)| Targets {
                idle_count,
                idle_count_min,
                idle_scale_factor: f64::from(factor) / 2.0,
                idle_time,
                wanted,
                ceiling,
                wake_at: None,
            },
        )
}

fn all_limits() -> impl Strategy<Value = Limits> {
    let max_jobs = prop::option::of(0_u32..12);
    (0_u32..18, 0_u32..5, 0_u32..5, max_jobs, 0_u32..5).prop_map(
        |(limit, max_growth_rate, max_builds, max_jobs, request_concurrency)| Limits {
            limit,
            max_growth_rate,
            max_builds,
            max_jobs,
            request_concurrency,
            ..Limits::default()
        },
    )
}

/// A doer that carries out what was decided, at once and with success. Every transition it needs
/// has to be one the phases have.
fn carry_out(pool: &mut Pool, decisions: &[Decision], next: &mut u64) {
    for action in actions(decisions) {
        *next += 1;
        let mut on = |id: MachineId, event| {
            let it = pool.machines.iter_mut().find(|it| it.id == id).unwrap();
            it.phase = it.phase.on(event, NOW).unwrap();
        };
        match action {
            Action::Create => {
                let mut new = machine(*next, Phase::Intended { since: NOW });
                new.made = NOW;
                pool.machines.push(new);
            }
            Action::RequestJob { machine } => {
                let id = RequestId(*next);
                if let Some(machine) = machine {
                    on(machine, Event::Reserve { request: id });
                }
                pool.requests.push(Request {
                    machine,
                    ..request(id.0, None)
                });
            }
            Action::CancelRequest { request } => {
                if let Some(machine) = about(&action, pool) {
                    let it = pool
                        .machines
                        .iter_mut()
                        .find(|it| it.id == machine)
                        .unwrap();
                    it.phase = it.phase.on(Event::Release, NOW).unwrap();
                }
                pool.requests.retain(|it| it.id != request);
            }
            Action::Assign { job, machine } => {
                on(machine, Event::Assign { job });
                let job = pool.jobs.iter_mut().find(|it| it.id == job).unwrap();
                job.phase = JobPhase::Running { machine };
            }
            Action::Drain { machine, cause } => on(machine, Event::Drain { cause }),
            Action::Retire { machine, cause } => on(machine, Event::Retire { cause }),
            Action::Forget { machine } => {
                on(machine, Event::Gone);
                pool.machines.retain(|it| it.id != machine);
            }
            Action::FailJob { job } => pool.jobs.retain(|it| it.id != job),
        }
    }
}

/// What was decided, without the numbers that change with time.
fn kinds(decisions: &[Decision]) -> Vec<(Option<Action>, std::mem::Discriminant<Reason>)> {
    let kind = |it: &Decision| (it.action, std::mem::discriminant(&it.reason));
    decisions.iter().map(kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_create_and_no_asking_first_beyond_limit_or_ceiling(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let found = step(&pool, &targets, &limits, NOW);
        let counts = Counts::of(&pool.machines);
        let made = u32::try_from(creates(&found)).unwrap();
        let asked = actions(&found);
        let asked = asked.iter().filter(|it| **it == Action::RequestJob { machine: None }).count();
        let without = pool.requests.iter().filter(|it| it.machine.is_none()).count();
        let slots = u32::try_from(asked + without).unwrap();
        if made > 0 || asked > 0 {
            for most in [Some(limits.limit).filter(|it| *it > 0), targets.ceiling].into_iter().flatten() {
                prop_assert!(counts.total() + made + slots <= most, "{found:#?}");
            }
        }
        if made > 0 && limits.max_growth_rate > 0 {
            prop_assert!(counts.growing() <= limits.max_growth_rate + 14);
            let given_up = actions(&found).iter().filter(|it| matches!(it, Action::Retire {
                cause: RetireCause::CreateFailed | RetireCause::BootTimeout | RetireCause::Interrupted, ..
            })).count();
            let growing = counts.growing() + made - u32::try_from(given_up).unwrap().min(counts.growing());
            prop_assert!(growing <= limits.max_growth_rate, "{found:#?}");
        }
    }

    #[test]
    fn requests_stay_within_what_is_allowed(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let found = step(&pool, &targets, &limits, NOW);
        let new = actions(&found).iter().filter(|it| matches!(it, Action::RequestJob { .. })).count();
        if new > 0 {
            prop_assert!(!pool.paused && !pool.closing && pool.request_not_before <= NOW);
            let requests = u32::try_from(new + pool.requests.len()).unwrap();
            prop_assert!(requests <= limits.request_concurrency.max(1));
            let jobs = requests + u32::try_from(pool.jobs.len()).unwrap();
            prop_assert!(limits.limit == 0 || jobs <= limits.limit);
            prop_assert!(limits.max_jobs.is_none_or(|most| jobs <= most));
        }
    }

    #[test]
    fn no_machine_with_a_job_is_retired_and_none_is_acted_on_twice(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let found = actions(&step(&pool, &targets, &limits, NOW));
        let mut seen = BTreeSet::new();
        for action in &found {
            if let Some(id) = about(action, &pool) {
                prop_assert!(seen.insert(id), "{id:?} twice in {found:?}");
                let machine = pool.machines.iter().find(|it| it.id == id).unwrap();
                let retired = matches!(action, Action::Retire { .. });
                prop_assert!(!(retired && machine.phase.job().is_some()));
            }
            if let Action::CancelRequest { request } = action {
                let known = pool.requests.iter().find(|it| it.id == *request).unwrap();
                prop_assert!(!known.cancelling);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_output_and_every_decision_a_reason(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let found = step(&pool, &targets, &limits, NOW);
        prop_assert!(!found.is_empty());
        prop_assert_eq!(&found, &step(&pool.clone(), &targets, &limits, NOW));
        for decision in &found {
            prop_assert!(!decision.reason.to_string().is_empty());
            let steady = matches!(decision.reason, Reason::Steady { .. });
            prop_assert!(!steady || found.len() == 1);
        }
    }

    #[test]
    fn a_snapshot_and_its_decisions_survive_json(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let json = serde_json::to_string(&(&pool, &targets, &limits)).unwrap();
        let (pool2, targets2, limits2): (Pool, Targets, Limits) = serde_json::from_str(&json).unwrap();
        prop_assert_eq!((&pool2, &targets2, &limits2), (&pool, &targets, &limits));
        let found = step(&pool, &targets, &limits, NOW);
        let json = serde_json::to_string(&found).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Decision>>(&json).unwrap(), found);
    }

    #[test]
    fn carrying_out_what_is_decided_comes_to_rest(
        pool in pools(), targets in all_targets(), limits in all_limits(),
    ) {
        let (mut pool, mut next) = (pool, 1000);
        let mut steps = 0;
        loop {
            let found = step(&pool, &targets, &limits, NOW);
            if actions(&found).is_empty() {
                break;
            }
            steps += 1;
            prop_assert!(steps < 12, "still {found:#?}");
            carry_out(&mut pool, &found, &mut next);
        }
    }

    #[test]
    fn nothing_changes_before_the_time_to_wake(
        pool in pools(), targets in all_targets(), limits in all_limits(), share in 0.0..1.0_f64,
    ) {
        let until = next_wake(&pool, &targets, &limits, NOW).unwrap_or(NOW.after(Millis(1 << 40)));
        prop_assert!(until > NOW);
        let before = kinds(&step(&pool, &targets, &limits, NOW));
        let some = (until.since(NOW).0 as f64 * share) as u64;
        for time in [NOW.after(Millis(some)), Time(until.0 - 1)] {
            prop_assert_eq!(&before, &kinds(&step(&pool, &targets, &limits, time)));
        }
    }

    #[test]
    fn with_no_jobs_and_no_idle_time_the_pool_settles_at_the_idle_count(
        idle_count in 0_u32..10, growth in 0_u32..4, boot in 1_u64..5,
    ) {
        let targets = targets(idle_count, 0);
        let limits = Limits { max_growth_rate: growth, ..Limits::default() };
        let mut pool = Pool { source: fresh(0), ..Pool::default() };
        let (mut next, mut now, mut made) = (0, NOW, 0);
        for _ in 0..100 {
            let found = step(&pool, &targets, &limits, now);
            made += creates(&found);
            carry_out(&mut pool, &found, &mut next);
            now = now.after(Millis(1000));
            for request in std::mem::take(&mut pool.requests) {
                let of = pool.machines.iter_mut().find(|it| Some(it.id) == request.machine);
                let machine = of.unwrap();
                machine.phase = machine.phase.on(Event::Release, now).unwrap();
            }
            for machine in &mut pool.machines {
                let age = now.since(machine.phase.since());
                machine.phase = match machine.phase {
                    Phase::Intended { .. } => machine.phase.on(Event::Asked, now).unwrap(),
                    Phase::Creating { .. } => machine.phase.on(Event::Exists, now).unwrap(),
                    Phase::Booting { .. } if age >= Millis::seconds(boot) => {
                        machine.phase.on(Event::Ready, now).unwrap()
                    }
                    phase => phase,
                };
            }
        }
        let counts = Counts::of(&pool.machines);
        prop_assert_eq!((counts.idle, counts.total(), made), (idle_count, idle_count, idle_count as usize));
    }
}
