//! `springtide`: the command line.

use anyhow::{Context, Result};
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
    Sandbox(commands::sandbox::Arguments),
    /// Ask the pool's rules what they would do.
    #[command(subcommand)]
    Pool(commands::pool::Command),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("springtide: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Pool(command) => commands::pool::run(&command)?,
        Command::Sandbox(arguments) => runtime()?.block_on(commands::sandbox::run(arguments))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the threads of the program")
}
