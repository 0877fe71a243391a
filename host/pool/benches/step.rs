//! One step over a large pool: 10,000 machines and 1,000 waiting jobs are to take under 2 ms.

use criterion::{Criterion, criterion_group, criterion_main};
use springtide_pool::*;
use std::hint::black_box;

const NOW: Time = Time(1_800_000_000_000);

/// A tenth of the machines idle, a fifth booting, the others busy; a thousand jobs held.
fn pool() -> Pool {
    let since = Time(NOW.0 - 60_000);
    let machines = (0..10_000).map(|id| Machine {
        id: MachineId(id),
        phase: match id % 10 {
            0 => Phase::Idle { since },
            1 | 2 => Phase::Booting {
                since,
                asked: since,
            },
            _ => Phase::Busy {
                since,
                job: JobId(id),
            },
        },
        builds: 1,
        made: Time(NOW.0 - 10_000_000 + id),
        interrupted: false,
    });
    let running = |id| JobPhase::Running {
        machine: MachineId(id),
    };
    let job = |id, phase| Job {
        id: JobId(id),
        phase,
        taken: since,
        tries: 0,
    };
    let jobs = (0..10_000)
        .filter(|id| id % 10 > 2)
        .map(|id| job(id, running(id)));
    let held = (0..1_000).map(|id| job(20_000 + id, JobPhase::Held));
    Pool {
        machines: machines.collect(),
        jobs: jobs.chain(held).collect(),
        source: Source::Fresh {
            waiting: 1_000,
            oldest: Millis(5_000),
        },
        ..Pool::default()
    }
}

fn step_over_many(c: &mut Criterion) {
    let limits = Limits {
        limit: 12_000,
        max_growth_rate: 2_500,
        request_concurrency: 10,
        ..Limits::default()
    };
    let wanted = Targets {
        idle_count: 500,
        idle_time: 600,
        wanted: 1_000,
        ..Targets::default()
    };
    let ebb = Targets {
        idle_count: 10,
        idle_time: 10,
        ..Targets::default()
    };
    let held = pool();
    let mut free = pool();
    free.jobs.retain(|job| job.phase != JobPhase::Held);

    let mut group = c.benchmark_group("step, 10000 machines");
    group.bench_function("1000 jobs held and 1000 waiting", |b| {
        b.iter(|| step(black_box(&held), &wanted, &limits, NOW));
    });
    group.bench_function("1000 jobs waiting", |b| {
        b.iter(|| step(black_box(&free), &wanted, &limits, NOW));
    });
    group.bench_function("1000 idle for too long", |b| {
        b.iter(|| step(black_box(&free), &ebb, &limits, NOW));
    });
    group.bench_function("next wake", |b| {
        b.iter(|| next_wake(black_box(&held), &wanted, &limits, NOW));
    });
    group.finish();
}

criterion_group!(benches, step_over_many);
criterion_main!(benches);
