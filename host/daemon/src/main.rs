//! `springtide`: the command line.

use clap::{Parser, Subcommand};
use springtide::commands;
use std::process::ExitCode;

/// An autoscaler for GitLab CI runners.
#[derive(Parser)]
#[command(name = "springtide", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the pool's rules what they would do.
    #[command(subcommand)]
    Pool(commands::pool::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Pool(command) => commands::pool::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide: {error:#}");
            ExitCode::FAILURE
        }
    }
}
