//! The small program put on a machine: runs work detached, spools its output, tells how it ended, and
//! moves artifacts and caches.

mod archive;
mod files;
mod hold;
mod local;
mod memory;
mod processes;
mod serve;
mod shell;
mod start;
mod store;
mod supervise;
mod transfer;
mod wait;

use serde::Serialize;
use serve::Broke;
use springtide_helper::{Answer, Fault, FaultKind, Hello, PROTOCOL, WorkSignal};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use store::{Store, failed};

const USAGE: &str = "\
Runs a job's work on this machine, detached, and keeps what it puts out.

Usage: springtide-helper [--root DIR] COMMAND

  hello                    who answers; a machine that boots refuses
  start                    starts the work on standard input (JSON), once for an id
  follow ID [--from N]     its output from byte N to the end, as frames
  signal ID SIGNAL         interrupt, terminate or kill: to all processes of it
  result ID                how it ended; null while it runs
  remove ID                kills what is left of it and deletes it
  list                     the ids of all work
  transfer                 moves artifacts or a cache, as the JSON on standard input says, in the
                           current directory; ends with 0 done, 10 may be retried, 11 failed
                           for good, 12 nothing to move
  hold WORD [DIR...]       is a container's first process; opens the directories to all
  held WORD                whether the container's entry point has come to `hold WORD`
  memory-kills             how many processes the kernel killed for want of memory
  wait --timeout SECONDS HOST:PORT...
                           waits until one of them takes a connection
  shell NAME ARGUMENTS...  becomes a shell that is here: bash, sh, or any
  local COMMAND            machines of the driver `local` (docs/drivers/local.md)

DIR is $SPRINGTIDE_ROOT or ~/.springtide. Answers are one line of JSON on standard
output, {\"ok\": ...} or {\"error\": {\"kind\": ..., \"message\": ...}}.
Exit codes: 0, 1 failed, 2 wrong call, 3 not found, 4 not started, 5 not ready, 6 no room.
";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(argument) => arguments.push(argument),
            Err(_) => return answer(Err::<(), _>(bad("an argument is not UTF-8"))),
        }
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (root, words) = match words.as_slice() {
        ["--root", root, rest @ ..] => (Some(PathBuf::from(root)), rest),
        rest => (None, rest),
    };
    match words {
        [] | ["--help" | "-h" | "help", ..] => print(USAGE),
        ["--version" | "-V"] => print(concat!(
            "springtide-helper ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
        ["supervise", id] => ended(supervise::supervise(id)),
        ["transfer"] => transfer::command(std::io::stdin().lock()),
        ["local", "anchor", _] => ended(local::anchor()),
        ["local", rest @ ..] => local::command(rest),
        ["shell", name, rest @ ..] => shell::shell(name, rest),
        ["wait", rest @ ..] => {
            answer(wait::arguments(rest).and_then(|(places, limit)| wait::wait(places, limit)))
        }
        words => match open(root) {
            Ok(store) => command(&store, words),
            Err(fault) => answer(Err::<(), _>(fault)),
        },
    }
}

fn command(store: &Store, words: &[&str]) -> ExitCode {
    match words {
        ["hello"] => answer(hello(store)),
        ["start"] => answer(
            local::check_ready(store.root())
                .and_then(|()| start::start(store, std::io::stdin().lock())),
        ),
        ["follow", id] => follow(store, id, 0),
        ["follow", id, "--from", from] => match from.parse() {
            Ok(from) => follow(store, id, from),
            Err(_) => answer(Err::<(), _>(bad("--from takes a count of bytes"))),
        },
        ["signal", id, name] => answer(match WorkSignal::named(name) {
            Some(signal) => store.find(id).and_then(|entry| entry.signal(signal)),
            None => Err(bad("a signal is interrupt, terminate or kill")),
        }),
        ["result", id] => answer(store.find(id).and_then(|entry| {
            let closed = entry.closed()?;
            Ok(closed.map(|closed| closed.ending()))
        })),
        ["remove", id] => answer(store.remove(id)),
        ["list"] => answer(store.list()),
        ["hold", word, open @ ..] => match hold::hold(store.root(), word, open) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => answer(Err::<(), _>(failed("holding the container", error))),
        },
        ["memory-kills"] => answer(Ok::<_, Fault>(memory::kills())),
        ["held", word] => answer(hold::held(store.root(), word)),
        _ => answer(Err::<(), _>(bad(
            "there is no such command, or not with these arguments; see springtide-helper --help",
        ))),
    }
}

/// The root: one that is named must be there, for a machine that was removed must not come back.
fn open(named: Option<PathBuf>) -> Result<Store, Fault> {
    let root = match named.or_else(|| std::env::var_os("SPRINGTIDE_ROOT").map(PathBuf::from)) {
        Some(root) => root,
        None => {
            let home = std::env::var_os("HOME").ok_or_else(|| {
                bad("neither --root, SPRINGTIDE_ROOT nor HOME says where work is kept")
            })?;
            let root = PathBuf::from(home).join(".springtide");
            files::make_dirs(&root)
                .map_err(|error| failed(format!("making {}", root.display()), error))?;
            root
        }
    };
    let root = std::path::absolute(&root)
        .map_err(|error| failed(format!("finding {}", root.display()), error))?;
    if root.is_dir() {
        Ok(Store::new(root))
    } else {
        Err(Fault::new(
            FaultKind::NoMachine,
            format!("there is no machine at {}", root.display()),
        ))
    }
}

fn hello(store: &Store) -> Result<Hello, Fault> {
    local::check_ready(store.root())?;
    let uptime = std::fs::read_to_string("/proc/uptime")
        .map_err(|error| failed("reading how long this machine has run", error))?;
    let seconds = uptime.split('.').next().and_then(|text| text.parse().ok());
    Ok(Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime: seconds.unwrap_or_default(),
    })
}

fn follow(store: &Store, id: &str, from: u64) -> ExitCode {
    // Not through the buffer of standard output, which looks for line ends in all of it.
    let mut out = match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => File::from(fd),
        Err(_) => return ExitCode::FAILURE,
    };
    match serve::follow(store, id, from, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Broke::Reader) => ExitCode::FAILURE,
        Err(Broke::Fault(fault)) => match serve::write_fault(&mut out, &fault) {
            Ok(()) => code(fault.kind),
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Prints an answer as one line of JSON.
fn answer<T: Serialize>(answered: Result<T, Fault>) -> ExitCode {
    let (said, code) = match answered {
        Ok(value) => (Answer::Ok(value), ExitCode::SUCCESS),
        Err(fault) => {
            let code = code(fault.kind);
            (Answer::Error(fault), code)
        }
    };
    match serde_json::to_string(&said) {
        Ok(line) if print(&format!("{line}\n")) == ExitCode::SUCCESS => code,
        _ => ExitCode::FAILURE,
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn code(kind: FaultKind) -> ExitCode {
    ExitCode::from(u8::try_from(kind.exit_code()).unwrap_or(1))
}

/// The end of a process nobody listens to; what went wrong is seen from its lock and its files.
fn ended(done: std::io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn bad(message: &str) -> Fault {
    Fault::new(FaultKind::BadCall, message)
}
