//! `cargo xtask sim`: the daemon's loop against a misbehaving world, seed by seed.

mod run;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: u64| {
        arguments
            .iter()
            .position(|at| at == name)
            .map_or(Ok(default), |at| {
                arguments.get(at + 1).map_or("", String::as_str).parse()
            })
    };
    let (Ok(seeds), Ok(from)) = (value("--seeds", 200), value("--from", 0)) else {
        eprintln!("usage: sim [--seeds N] [--from FIRST] [--log]");
        return ExitCode::from(2);
    };
    let (mut jobs, mut machines, mut crashes, mut hours, mut bad) = (0, 0, 0, 0.0, 0);
    for seed in from..from.saturating_add(seeds) {
        let report = run::run(seed);
        jobs += report.jobs;
        machines += report.machines;
        crashes += report.crashes;
        hours += report.hours;
        if arguments.iter().any(|at| at == "--log") {
            for line in &report.log {
                println!("{line}");
            }
        }
        for violation in &report.violations {
            bad += 1;
            println!(
                "seed {}: {violation}\n  most machines {} of {}; again with --from {} --seeds 1 --log",
                report.seed, report.most, report.limit, report.seed
            );
        }
    }
    println!(
        "{seeds} seeds: {jobs} jobs, {machines} machines, {crashes} crashes, {hours:.0} virtual hours, {bad} violations"
    );
    if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
