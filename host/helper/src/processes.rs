//! Finding and killing the processes of a piece of work, also those that left its group and
//! session.
//!
//! While a work's supervisor lives, all of them descend from it, for it is the subreaper of its
//! descendants. When it was killed, they are known by a variable in their environment.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The variable that marks the processes of a piece of work; its value is the work's own.
pub(crate) const MARK: &str = "SPRINGTIDE_WORK";

struct Seen {
    pid: i32,
    parent: i32,
    dead: bool,
}

fn all() -> io::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that ends meanwhile is not there any more, which is what we are after.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (name, which may hold anything) state parent ...
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut fields = rest.split(' ');
        let state = fields.next().unwrap_or_default();
        let parent = fields.next().and_then(|parent| parent.parse().ok());
        seen.push(Seen {
            pid,
            parent: parent.unwrap_or_default(),
            dead: matches!(state, "Z" | "X"),
        });
    }
    Ok(seen)
}

/// The living descendants of a process.
pub(crate) fn descendants(of: i32) -> io::Result<Vec<i32>> {
    let seen = all()?;
    let mut children: HashMap<i32, Vec<&Seen>> = HashMap::new();
    for process in &seen {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut met = HashSet::from([of]);
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if met.insert(child.pid) {
                open.push(child.pid);
                if !child.dead {
                    found.push(child.pid);
                }
            }
        }
    }
    Ok(found)
}

/// The living processes of this user that bear a mark.
pub(crate) fn marked(mark: &str) -> io::Result<Vec<i32>> {
    let wanted = format!("{MARK}={mark}");
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    for process in all()? {
        if process.dead || process.pid == own {
            continue;
        }
        // Another user's environment can't be read, and is not ours to end.
        let Ok(environment) = std::fs::read(format!("/proc/{}/environ", process.pid)) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
        {
            found.push(process.pid);
        }
    }
    Ok(found)
}

/// Kills what `list` finds until it finds nothing.
pub(crate) fn kill_all(
    what: &str,
    list: impl Fn() -> io::Result<Vec<i32>>,
    patience: Duration,
) -> io::Result<()> {
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let living = list()?;
        if living.is_empty() {
            return Ok(());
        }
        for pid in &living {
            kill(*pid, Signal::KILL)?;
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "{} processes of {what} do not end",
                living.len()
            )));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Whether a process works in a directory.
pub(crate) fn is_in(pid: i32, directory: &Path) -> bool {
    let works_in = std::fs::canonicalize(format!("/proc/{pid}/cwd"));
    matches!((works_in, std::fs::canonicalize(directory)), (Ok(a), Ok(b)) if a == b)
}

/// Sends a signal to a process; one that is gone is passed over.
pub(crate) fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    match Pid::from_raw(pid).map(|pid| kill_process(pid, signal)) {
        Some(Err(error)) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

/// Sends a signal to a process group; one that is gone is passed over.
pub(crate) fn kill_group(group: i32, signal: Signal) -> io::Result<()> {
    match Pid::from_raw(group).map(|pid| rustix::process::kill_process_group(pid, signal)) {
        Some(Err(error)) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}
