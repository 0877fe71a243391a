//! `springtide`: the command line.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use springtide::commands;
use std::process::ExitCode;

/// An autoscaler for GitLab CI runners.
#[derive(Parser)]
#[command(
    name = "springtide",
    version,
    about,
    propagate_version = true,
    after_help = "Examples:\n  springtide demo\n  springtide check --config /etc/gitlab-runner/config.toml\n  springtide run --config /etc/gitlab-runner/config.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
enum Command {
    Run(commands::run::Arguments),
    Check(commands::check::Arguments),
    Demo(commands::demo::Arguments),
    Sandbox(commands::sandbox::Arguments),
    Register(commands::register::Arguments),
    Verify(commands::verify::Arguments),
    Unregister(commands::unregister::Arguments),
    /// Ask the pool's rules what they would do.
    #[command(
        subcommand,
        after_help = "Example:\n  springtide pool step < snapshot.json"
    )]
    Pool(commands::pool::Command),
    /// List, make, enter, keep or remove the machines of a running daemon.
    #[command(
        subcommand,
        after_help = "Examples:\n  springtide machine ls\n  springtide machine hold ci-1"
    )]
    Machine(commands::machine::Command),
    /// List, inspect or check plugins.
    #[command(
        subcommand,
        after_help = "Examples:\n  springtide plugin list\n  springtide plugin check ./quiet-nights.wasm"
    )]
    Plugin(commands::plugin::Command),
    /// Ask a scaling policy what it would do.
    #[command(
        subcommand,
        after_help = "Example:\n  springtide policy eval off-peak < views.jsonl"
    )]
    Policy(commands::policy::Command),
    Status(commands::status::Arguments),
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
        Command::Register(arguments) => runtime()?.block_on(commands::register::run(arguments))?,
        Command::Verify(arguments) => runtime()?.block_on(commands::verify::run(arguments))?,
        Command::Unregister(arguments) => {
            runtime()?.block_on(commands::unregister::run(arguments))?;
        }
        Command::Run(arguments) => runtime()?.block_on(commands::run::run(arguments))?,
        Command::Check(arguments) => {
            if !commands::check::run(&arguments, commands::check::Shelf::of)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Demo(arguments) => {
            if !runtime()?.block_on(commands::demo::run(arguments))? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Machine(command) => {
            return runtime()?.block_on(commands::machine::run(command));
        }
        Command::Status(arguments) => runtime()?.block_on(commands::status::run(arguments))?,
        Command::Plugin(command) => return commands::plugin::run(command),
        Command::Policy(command) => commands::policy::run(command)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Commands without an example in their help, by their whole names.
    fn without(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = match path {
            "" => command.get_name().to_owned(),
            path => format!("{path} {}", command.get_name()),
        };
        let help = command.clone().render_long_help().to_string();
        // The line of its usage does not begin with it.
        let example = |line: &str| {
            let line = line.trim_start();
            let rest = line.strip_prefix(&path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        if !help.lines().any(example) {
            found.push(path.clone());
        }
        for below in command.get_subcommands() {
            without(below, &path, found);
        }
    }

    #[test]
    fn each_command_has_an_example_in_its_help() {
        let mut found = Vec::new();
        without(&Cli::command(), "", &mut found);
        assert_eq!(found, [""; 0]);
        let bare = clap::Command::new("springtide").subcommand(clap::Command::new("bare"));
        without(&bare, "", &mut found);
        assert_eq!(found, ["springtide", "springtide bare"]);
    }

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
