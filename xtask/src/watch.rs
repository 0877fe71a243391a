//! Tests that hang: a test program that runs longer than any does is killed, so that the run ends with
//! its name instead of going on until somebody stops all of it.

use crate::run::line;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long one test program may run. The longest, the compatibility suite, takes ten minutes on a
/// machine with two cores.
pub const LONGEST: Duration = Duration::from_mins(20);

/// Runs a command whose children are test programs of this directory, and kills those that run longer
/// than `longest`: the command then fails as it does when a test crashes.
///
/// # Errors
/// Where it can't be started, or ends with anything but success; the error names what was killed.
pub fn run(command: &mut Command, programs: &Path, longest: Duration) -> Result<()> {
    let name = line(command);
    // As the kernel tells where a program is.
    let programs = programs
        .canonicalize()
        .unwrap_or_else(|_| programs.to_path_buf());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{name}`"))?;
    let mut seen: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut killed = BTreeSet::new();
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for the tests")? {
            break status;
        }
        let running = running(&child, &programs);
        seen.retain(|pid, _| running.contains_key(pid));
        for (pid, program) in running {
            let since = *seen.entry(pid).or_insert_with(Instant::now);
            if since.elapsed() > longest && killed.insert(pid) {
                let minutes = longest.as_secs().div_ceil(60);
                eprintln!(
                    "\n== {} runs for more than {minutes} minutes and is killed: of its tests above, those that began and have no result hang",
                    program.display()
                );
                kill(pid)?;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        let hung = match killed.len() {
            0 => String::new(),
            1 => "; a test program hung".to_owned(),
            many => format!("; {many} test programs hung"),
        };
        bail!("`{name}` ended with {status}{hung}");
    }
    Ok(())
}

/// The test programs that a command runs, by their numbers.
fn running(command: &Child, programs: &Path) -> BTreeMap<u32, PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", command.id()));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|children| {
            let numbers = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            numbers.collect::<Vec<_>>()
        })
        .filter_map(|pid: u32| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            program.starts_with(programs).then_some((pid, program))
        })
        .collect()
}

fn kill(pid: u32) -> Result<()> {
    // In the standard library only a process's parent can end it.
    crate::run::run(Command::new("kill").args(["-s", "KILL", &pid.to_string()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cargo that runs what is copied from `sleep` as a test program.
    fn cargo(folder: &Path, seconds: &str) -> Command {
        let program = folder.join("hangs-0123456789abcdef");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "\"$0\" \"$1\"; exit $?"])
            .arg(program)
            .arg(seconds);
        command
    }

    #[test]
    fn a_test_program_that_hangs_is_killed_and_one_that_ends_is_not() {
        let folder = std::env::temp_dir().join(format!("springtide-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let short = Duration::from_millis(500);
        let hung = run(&mut cargo(&folder, "600"), &folder, short);
        let good = run(&mut cargo(&folder, "0.1"), &folder, LONGEST);
        let elsewhere = run(&mut cargo(&folder, "1"), Path::new("/nonexistent"), short);
        std::fs::remove_dir_all(&folder).unwrap();
        let error = hung.unwrap_err().to_string();
        assert!(error.ends_with("a test program hung"), "{error}");
        good.unwrap();
        elsewhere.unwrap();
    }
}
