//! The project's own commands: `cargo xtask test` and what it needs.

use anyhow::{Context, Result, bail};
use std::process::Command;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("test") => test(),
        Some("sim") => sim(&arguments[1..]),
        Some("--help" | "-h" | "help") | None => {
            println!(
                "Usage: cargo xtask COMMAND\n\n  test   formatting, lints and all tests, as CI runs them\n  sim    the daemon's loop in virtual time: --seeds N, --from FIRST, --log"
            );
            Ok(())
        }
        Some(other) => bail!("there is no command {other}; `cargo xtask --help` lists them"),
    }
}

fn test() -> Result<()> {
    step("Formatting", &["fmt", "--all", "--check"])?;
    step(
        "Lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    step("Tests", &["test", "--workspace"])
}

fn sim(arguments: &[String]) -> Result<()> {
    let mut all = vec![
        "run",
        "-q",
        "-p",
        "springtide-control",
        "--example",
        "sim",
        "--",
    ];
    all.extend(arguments.iter().map(String::as_str));
    step("Simulation", &all)
}

fn step(name: &str, arguments: &[&str]) -> Result<()> {
    eprintln!("== {name}: cargo {}", arguments.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .status()
        .with_context(|| format!("starting cargo {}", arguments.join(" ")))?;
    if !status.success() {
        bail!(
            "{name} failed: cargo {} ended with {status}",
            arguments.join(" ")
        );
    }
    Ok(())
}
