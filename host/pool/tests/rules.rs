//! The rules, one example each; a test's name is the rule.

mod common;

use common::*;
use springtide_pool::*;

fn ask(machine: Option<u64>) -> Action {
    Action::RequestJob {
        machine: machine.map(MachineId),
    }
}

fn retire(machine: u64, cause: RetireCause) -> Action {
    Action::Retire {
        machine: MachineId(machine),
        cause,
    }
}

fn assign(job: u64, machine: u64) -> Action {
    Action::Assign {
        job: JobId(job),
        machine: MachineId(machine),
    }
}

fn cancel(request: u64) -> Action {
    Action::CancelRequest {
        request: RequestId(request),
    }
}

fn limits(limit: u32) -> Limits {
    Limits {
        limit,
        ..Limits::default()
    }
}

#[track_caller]
fn check(pool: &Pool, targets: Targets, limits: Limits, expected: &[Action]) -> Vec<Decision> {
    let found = step(pool, &targets, &limits, NOW);
    assert_eq!(actions(&found), expected, "{found:#?}");
    found
}

// Taking a job.

#[test]
fn an_idle_machine_is_there_so_a_job_is_requested_for_the_newest() {
    let pool = pool(vec![idle(1, 10), idle(2, 50)]);
    let found = check(&pool, targets(2, 600), limits(0), &[ask(Some(2))]);
    assert_eq!(
        holds(&found),
        [Reason::RequestsAtLimit {
            requests: 1,
            max: 1
        }]
    );
}

#[test]
fn as_many_requests_as_request_concurrency_allows() {
    let three = || pool(vec![reserved(1, 1, 5), idle(2, 5), idle(3, 5), idle(4, 5)]);
    let limits = Limits {
        request_concurrency: 3,
        ..limits(0)
    };
    check(
        &three(),
        targets(4, 600),
        limits,
        &[ask(Some(4)), ask(Some(3))],
    );
}

#[test]
fn a_queue_source_says_that_jobs_wait_so_machines_are_made_first() {
    let pool = Pool {
        source: fresh(2),
        ..Pool::default()
    };
    let targets = Targets {
        wanted: 2,
        ..targets(0, 600)
    };
    let found = check(&pool, targets, limits(0), &[Action::Create; 2]);
    assert_eq!(
        found[0].reason,
        Reason::JobsWaiting {
            wanted: 2,
            available: 0
        }
    );
}

#[test]
fn machines_on_their_way_for_waiting_jobs_are_not_made_twice() {
    let pool = Pool {
        source: fresh(3),
        ..pool(vec![booting(1, 5), booting(2, 5)])
    };
    let targets = Targets {
        wanted: 3,
        ..targets(0, 600)
    };
    check(&pool, targets, limits(0), &[Action::Create]);
}

#[test]
fn nothing_idle_no_target_and_no_useful_source_so_ask_first() {
    let stale = Source::Stale {
        age: Millis(90_000),
    };
    for source in [Source::None, Source::Silent, stale] {
        let pool = Pool {
            source,
            ..Pool::default()
        };
        let found = check(&pool, targets(0, 600), limits(1), &[ask(None)]);
        assert!(found.iter().any(|it| it.reason == Reason::AskFirst));
        let told = holds(&found).contains(&Reason::StaleQueue {
            age: Millis(90_000),
        });
        assert_eq!(told, source == stale);
    }
}

#[test]
fn asking_first_needs_a_free_slot_and_requests_and_held_jobs_keep_theirs() {
    let full = Limits {
        request_concurrency: 5,
        ..limits(2)
    };
    let taken = Pool {
        requests: vec![request(1, None)],
        ..pool(vec![busy(1, 1)])
    };
    check(&taken, targets(0, 0), full, &[]);

    let held = Pool {
        jobs: vec![held_job(1, 5), held_job(2, 5)],
        ..Pool::default()
    };
    check(&held, targets(0, 0), full, &[Action::Create; 2]);

    let one_left = Pool {
        requests: vec![request(1, None)],
        ..Pool::default()
    };
    check(&one_left, targets(0, 0), full, &[ask(None)]);
}

#[test]
fn no_idle_machine_is_made_in_a_slot_kept_for_a_request() {
    let pool = Pool {
        requests: vec![request(1, None)],
        ..pool(vec![busy(1, 1)])
    };
    let found = check(&pool, targets(5, 0), limits(2), &[]);
    assert_eq!(
        holds(&found)[0],
        Reason::HeldByLimit {
            short: 5,
            total: 1,
            limit: 2
        }
    );
}

#[test]
fn a_taken_job_gets_the_slot_of_a_request_that_has_no_machine() {
    let going = machine(
        1,
        Phase::Retiring {
            since: NOW,
            cause: RetireCause::CreateFailed,
        },
    );
    let mut pool = Pool {
        jobs: vec![held_job(1, 5)],
        requests: vec![request(7, None)],
        ..pool(vec![going])
    };
    check(&pool, targets(0, 0), limits(2), &[cancel(7)]);
    pool.requests[0].cancelling = true;
    check(&pool, targets(0, 0), limits(2), &[]);
    pool.requests.clear();
    check(&pool, targets(0, 0), limits(2), &[Action::Create]);
}

#[test]
fn a_fresh_source_is_believed_so_nothing_is_asked_first() {
    let pool = Pool {
        source: fresh(0),
        ..Pool::default()
    };
    let found = check(&pool, targets(0, 0), limits(0), &[]);
    assert_eq!(
        holds(&found),
        [Reason::Steady {
            available: 0,
            target: 0
        }]
    );
}

#[test]
fn none_idle_a_target_and_no_source_so_wait_until_one_is_ready() {
    let found = check(&pool(vec![booting(1, 5)]), targets(1, 0), limits(0), &[]);
    assert_eq!(holds(&found), [Reason::NoneFree]);
}

#[test]
fn a_paused_pool_requests_and_makes_nothing() {
    let pool = Pool {
        paused: true,
        jobs: vec![held_job(1, 5)],
        ..pool(vec![])
    };
    let found = check(&pool, targets(3, 600), limits(0), &[]);
    assert_eq!(holds(&found), [Reason::Paused]);
}

#[test]
fn a_closing_pool_makes_machines_for_held_jobs_alone() {
    let pool = Pool {
        closing: true,
        jobs: vec![held_job(1, 5)],
        ..pool(vec![])
    };
    let found = check(&pool, targets(3, 600), limits(0), &[Action::Create]);
    assert_eq!(holds(&found), [Reason::Closing]);
}

#[test]
fn a_held_job_takes_the_newest_idle_machine_and_the_oldest_job_is_first() {
    let pool = Pool {
        jobs: vec![held_job(1, 20), held_job(2, 10), held_job(3, 5)],
        ..pool(vec![idle(1, 5), idle(2, 50)])
    };
    let expected = [assign(1, 2), assign(2, 1), Action::Create];
    let found = step(&pool, &targets(0, 600), &limits(3), NOW);
    assert_eq!(actions(&found)[..3], expected);
    assert_eq!(
        found[0].reason,
        Reason::MachineReady {
            waited: Millis(20_000)
        }
    );
}

#[test]
fn a_held_job_takes_a_reserved_machine_back_and_only_once() {
    let jobs = vec![held_job(9, 5)];
    let mut pool = Pool {
        jobs,
        ..pool(vec![reserved(1, 1, 5), reserved(2, 2, 5)])
    };
    let limits = Limits {
        request_concurrency: 2,
        ..limits(2)
    };
    let found = check(&pool, targets(0, 600), limits, &[cancel(2)]);
    assert_eq!(found[0].reason, Reason::RequestNotNeeded);
    pool.requests[1].cancelling = true;
    check(&pool, targets(0, 600), limits, &[]);
}

#[test]
fn a_held_job_that_tried_or_waited_too_long_fails() {
    let cases = [
        (
            Job {
                tries: 2,
                ..held_job(1, 5)
            },
            Some(Reason::MachineTries { tries: 2 }),
        ),
        (
            Job {
                tries: 1,
                ..held_job(1, 5)
            },
            None,
        ),
        (held_job(1, 1800), None),
        (
            held_job(1, 1801),
            Some(Reason::PrepareTimeout {
                held: Millis::seconds(1801),
                timeout: Millis::seconds(1800),
            }),
        ),
    ];
    for (job, reason) in cases {
        let pool = Pool {
            jobs: vec![job],
            ..pool(vec![idle(1, 1)])
        };
        let found = step(&pool, &targets(1, 600), &limits(0), NOW);
        let first = (found[0].action.unwrap(), found[0].reason);
        match reason {
            Some(reason) => assert_eq!(first, (Action::FailJob { job: JobId(1) }, reason)),
            None => assert_eq!(first.0, assign(1, 1)),
        }
    }
}

#[test]
fn requests_wait_for_their_time_and_for_jobs_to_end() {
    let early = Pool {
        request_not_before: NOW.after(Millis(500)),
        ..pool(vec![idle(1, 1)])
    };
    let found = check(&early, targets(1, 600), limits(0), &[]);
    assert_eq!(holds(&found), [Reason::RequestsWait { wait: Millis(500) }]);

    let most = Limits {
        max_jobs: Some(1),
        ..limits(0)
    };
    let found = check(
        &pool(vec![idle(1, 1), busy(2, 2)]),
        targets(1, 600),
        most,
        &[],
    );
    assert_eq!(holds(&found), [Reason::JobsAtLimit { jobs: 1, max: 1 }]);
}

#[test]
fn no_machine_is_made_for_a_waiting_job_that_could_not_start() {
    let pool = Pool {
        source: fresh(9),
        ..pool(vec![busy(1, 1)])
    };
    let most = Limits {
        max_jobs: Some(3),
        ..limits(0)
    };
    let targets = Targets {
        wanted: 9,
        ..targets(0, 600)
    };
    let found = check(&pool, targets, most, &[Action::Create; 2]);
    assert!(holds(&found).contains(&Reason::JobsAtLimit { jobs: 1, max: 3 }));
}

// Making machines.

#[test]
fn each_clamp_says_so_and_the_lowest_wins() {
    let base = || pool(vec![busy(1, 1), booting(2, 1)]);
    let ten = targets(10, 600);
    let limit = Reason::HeldByLimit {
        short: 6,
        total: 2,
        limit: 5,
    };
    let ceiling = Reason::HeldByCeiling {
        short: 7,
        total: 2,
        ceiling: 4,
    };
    let growth = Reason::HeldByGrowth {
        short: 8,
        growing: 1,
        max: 2,
    };
    let growing = |max_growth_rate| Limits {
        max_growth_rate,
        ..limits(5)
    };
    let low = Targets {
        ceiling: Some(4),
        ..ten
    };
    let cases = [
        (ten, limits(0), 9, vec![]),
        (ten, limits(5), 3, vec![limit]),
        (low, limits(5), 2, vec![limit, ceiling]),
        (low, growing(2), 1, vec![limit, ceiling, growth]),
        (
            low,
            growing(1),
            0,
            vec![
                limit,
                ceiling,
                Reason::HeldByGrowth {
                    short: 9,
                    growing: 1,
                    max: 1,
                },
            ],
        ),
    ];
    for (targets, limits, made, mut reasons) in cases {
        let found = step(&base(), &targets, &limits, NOW);
        reasons.push(Reason::NoneFree);
        assert_eq!((creates(&found), holds(&found)), (made, reasons));
    }
    let late = Pool {
        create_not_before: NOW.after(Millis(2500)),
        ..base()
    };
    let found = step(&late, &ten, &limits(0), NOW);
    let reason = Reason::HeldByBackOff {
        short: 9,
        wait: Millis(2500),
    };
    assert_eq!((creates(&found), holds(&found)[0]), (0, reason));
}

#[test]
fn the_idle_target_follows_the_scale_factor() {
    let cases = [
        // count, min, factor, in use, target
        (5, 3, 0.0, 9, 5),
        (5, 0, 0.5, 0, 1),
        (5, 0, 0.5, 5, 2),
        (5, 3, 0.5, 5, 3),
        (5, 0, 1.5, 7, 5),
        (2, 4, 1.0, 0, 2),
        (0, 4, 1.0, 9, 0),
        (5, 0, f64::NAN, 9, 5),
        (5, 0, f64::INFINITY, 9, 5),
        (5, 0, -1.0, 9, 5),
    ];
    for (idle_count, idle_count_min, idle_scale_factor, in_use, expected) in cases {
        let targets = Targets {
            idle_count,
            idle_count_min,
            idle_scale_factor,
            ..Targets::default()
        };
        assert_eq!(targets.idle_target(in_use), expected, "{targets:?}");
    }
}

#[test]
fn no_policy_makes_one_step_answer_without_end() {
    let targets = Targets {
        wanted: u32::MAX,
        ..targets(u32::MAX, 600)
    };
    let found = step(&pool(vec![]), &targets, &limits(0), NOW);
    assert_eq!(creates(&found), 1000);
    let reason = Reason::HeldByStep {
        short: u32::MAX - 1000,
        max: 1000,
    };
    assert_eq!(holds(&found)[0], reason);
}

// Letting machines go.

#[test]
fn the_oldest_idle_ones_are_kept_and_one_beyond_them_goes_after_idle_time() {
    let late = Time(u64::MAX); // no requests in this test
    let three = |youngest| Pool {
        request_not_before: late,
        ..pool(vec![idle(1, 9000), idle(2, 8000), idle(3, youngest)])
    };
    check(&three(600), targets(2, 600), limits(0), &[]);
    let found = check(
        &three(601),
        targets(2, 600),
        limits(0),
        &[retire(3, RetireCause::IdleTime)],
    );
    let reason = Reason::IdleTooLong {
        idle: Millis::seconds(601),
        idle_time: Millis::seconds(600),
        available: 2,
        target: 2,
    };
    assert_eq!(found[0].reason, reason);
    let wanted = Targets {
        wanted: 1,
        ..targets(2, 600)
    };
    check(&three(601), wanted, limits(0), &[]);
}

#[test]
fn a_reserved_machine_beyond_the_target_gives_up_its_request_first() {
    let mut pool = pool(vec![reserved(1, 1, 5000)]);
    check(&pool, targets(0, 600), limits(1), &[cancel(1)]);
    pool.requests[0].cancelling = true;
    check(&pool, targets(0, 600), limits(1), &[]);
}

#[test]
fn max_builds_time_outs_and_interruptions() {
    let creating = |seconds| {
        machine(
            1,
            Phase::Creating {
                since: ago(seconds),
            },
        )
    };
    let missing = |seconds| {
        machine(
            1,
            Phase::Missing {
                since: ago(seconds),
                job: None,
            },
        )
    };
    let interrupted = |machine: Machine| Machine {
        interrupted: true,
        ..machine
    };
    let drain = Action::Drain {
        machine: MachineId(1),
        cause: RetireCause::Interrupted,
    };
    let cases = [
        (
            Machine {
                builds: 2,
                ..idle(1, 1)
            },
            None,
        ),
        (
            Machine {
                builds: 3,
                ..idle(1, 1)
            },
            Some(retire(1, RetireCause::MaxBuilds)),
        ),
        (creating(900), None),
        (creating(901), Some(retire(1, RetireCause::CreateFailed))),
        (booting(1, 600), None),
        (booting(1, 601), Some(retire(1, RetireCause::BootTimeout))),
        (missing(300), None),
        (
            missing(301),
            Some(Action::Forget {
                machine: MachineId(1),
            }),
        ),
        (
            interrupted(idle(1, 1)),
            Some(retire(1, RetireCause::Interrupted)),
        ),
        (
            interrupted(booting(1, 1)),
            Some(retire(1, RetireCause::Interrupted)),
        ),
        (interrupted(reserved(1, 1, 1)), Some(cancel(1))),
        (interrupted(busy(1, 1)), Some(drain)),
        (busy(1, 1), None),
    ];
    for (machine, expected) in cases {
        let pool = Pool {
            request_not_before: Time(u64::MAX),
            ..pool(vec![machine.clone()])
        };
        let most = Limits {
            max_builds: 3,
            ..limits(1)
        };
        let found = step(&pool, &targets(1, 600), &most, NOW);
        assert_eq!(actions(&found), Vec::from_iter(expected), "{machine:?}");
    }
}

#[test]
fn a_lower_limit_lets_idle_surplus_go_newest_first_and_no_busy_one() {
    let late = Time(u64::MAX);
    let many = Pool {
        request_not_before: late,
        ..pool(vec![
            idle(1, 1),
            busy(2, 2),
            idle(3, 1),
            reserved(4, 4, 1),
            busy(5, 5),
        ])
    };
    let too_many = RetireCause::TooMany;
    check(&many, targets(3, 600), limits(4), &[retire(3, too_many)]);
    let all = [retire(3, too_many), retire(1, too_many), cancel(4)];
    check(&many, targets(3, 600), limits(1), &all);
    let low = Targets {
        ceiling: Some(4),
        ..targets(3, 600)
    };
    check(&many, low, limits(0), &[retire(3, too_many)]);
}

#[test]
fn machines_that_go_already_are_no_surplus() {
    let going = machine(
        9,
        Phase::Retiring {
            since: NOW,
            cause: RetireCause::TooMany,
        },
    );
    let pool = Pool {
        request_not_before: Time(u64::MAX),
        ..pool(vec![idle(1, 1), going])
    };
    check(&pool, targets(1, 600), limits(1), &[]);
}

#[test]
fn the_time_to_wake_is_the_first_that_could_matter() {
    let limits = limits(0);
    let pool = Pool {
        request_not_before: ago(1),
        create_not_before: NOW.after(Millis(400_000)),
        jobs: vec![held_job(1, 1000)],
        ..pool(vec![
            idle(1, 100),
            idle(2, 700),
            booting(3, 599),
            busy(4, 4),
        ])
    };
    let wake = next_wake(&pool, &targets(0, 600), &limits, NOW);
    assert_eq!(wake, Some(NOW.after(Millis(1001))));
    let nothing = next_wake(&Pool::default(), &targets(3, 600), &limits, NOW);
    assert_eq!(nothing, None);
}

#[test]
fn reasons_read_as_sentences_with_their_numbers() {
    let cases = [
        (
            Reason::IdleTooLong {
                idle: Millis(601_500),
                idle_time: Millis(600_000),
                available: 1,
                target: 1,
            },
            "idle for 601.5 s, more than 600 s, with 1 machine without it and an idle target of 1",
        ),
        (
            Reason::JobsWaiting {
                wanted: 3,
                available: 1,
            },
            "jobs need 3 machines and 1 free or on the way",
        ),
        (
            Reason::HeldByLimit {
                short: 2,
                total: 5,
                limit: 5,
            },
            "2 machines fewer than wanted: there are 5 and the limit is 5",
        ),
        (
            Reason::MaxBuilds { builds: 1, max: 1 },
            "it was given 1 job and MaxBuilds is 1",
        ),
        (
            Reason::MachineReady { waited: Millis(50) },
            "a machine is free for the job, which waited 0.05 s for it",
        ),
    ];
    for (reason, sentence) in cases {
        assert_eq!(reason.to_string(), sentence);
    }
}
