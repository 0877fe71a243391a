//! The project's own commands: `cargo xtask --help` lists them.

mod compiler;
mod component;
mod packages;
mod plugins;
mod run;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use run::{cargo, step};
use workspace::Workspace;

/// Every task a person runs on this project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Formatting, lints and all tests, as CI runs them.
    Test,
    /// The shipped plugins as components, into plugins/ of the target directory, with their
    /// digests in SHIPPED.json there.
    Plugins,
    /// The daemon's loop in virtual time.
    #[command(disable_help_flag = true)]
    Sim {
        /// --seeds N, --from FIRST, --log
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::find()?;
    match arguments.task {
        Task::Test => test(),
        Task::Plugins => plugins::build(&workspace).map(drop),
        Task::Sim { arguments } => sim(&arguments),
    }
}

fn test() -> Result<()> {
    step("Formatting", || {
        run::run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("Lints", || {
        run::run(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("Tests", || run::run(cargo().args(["test", "--workspace"])))
}

fn sim(arguments: &[String]) -> Result<()> {
    run::run(
        cargo()
            .args([
                "run",
                "-q",
                "-p",
                "springtide-control",
                "--example",
                "sim",
                "--",
            ])
            .args(arguments),
    )
}
