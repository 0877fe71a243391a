//! The daemon's loop in virtual time: fifty seeds of a misbehaving provider and GitLab and of a
//! manager that dies between any two writes. `cargo xtask sim --seeds N` runs more.

#[path = "../examples/sim/run.rs"]
mod run;
#[path = "../examples/sim/world.rs"]
mod world;

#[test]
fn nothing_leaks_and_every_job_ends_once() {
    let (mut jobs, mut crashes, mut machines) = (0, 0, 0);
    for seed in 0..50 {
        let report = run::run(seed);
        assert!(
            report.violations.is_empty(),
            "seed {}: {:?}; most {} of {}, after {:.1} hours",
            report.seed,
            report.violations,
            report.most,
            report.limit,
            report.hours
        );
        jobs += report.jobs;
        crashes += report.crashes;
        machines += report.machines;
    }
    assert!(
        jobs > 500 && machines > 500 && crashes > 50,
        "the seeds exercised little: {jobs} jobs, {machines} machines, {crashes} crashes"
    );
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..5 {
        let (first, second) = (run::run(seed), run::run(seed));
        assert!(first.log.len() > 100, "seed {seed} did little");
        assert_eq!(first.log, second.log, "seed {seed}");
    }
}
