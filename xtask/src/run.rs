//! Starting other programs, and what each step of a task took.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::Command;
use std::time::Instant;

/// Cargo, as it started this task.
#[must_use]
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// A command as a person would type it, for headings and errors.
#[must_use]
pub fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, with its output shown.
///
/// # Errors
/// Where it can't be started or ends with anything but success; both name the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// What a command wrote to standard output.
///
/// # Errors
/// Where it can't be started, fails (the error has what it wrote to standard error) or writes
/// something that is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting `{}`", line(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{}`", line(command)))
}

/// Does one step of a task under a heading, and says how long it took.
///
/// # Errors
/// The step's own, with its name.
pub fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let result = work().with_context(|| format!("{name} failed"));
    let how = if result.is_ok() { "done" } else { "failed" };
    eprintln!("== {name}: {how} in {:.1} s", start.elapsed().as_secs_f64());
    result
}
