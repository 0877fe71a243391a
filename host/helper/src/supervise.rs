//! The process that watches over one piece of work: it runs the program, takes its output into the
//! spool, and writes down how it ended.
//!
//! It is the subreaper of all that descends from the program, and stays until the last of them is
//! gone, so that what a job leaves running is found when the work is removed. It works in the
//! work's directory, by relative names.

use crate::files;
use crate::processes::MARK;
use crate::store::{BEGUN, Closed, END, ORDER, Order, PROCESSES, Processes, RESERVE, SPOOL, STDIN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};
use springtide_helper::{Ending, REACH, WorkEnd};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The variables of the helper that a work keeps, beside [`REACH`].
const KEPT: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR",
];

/// The root, from a work's own directory.
const ROOT: &str = "../..";

/// Output taken at the end at most, in bytes: what a pipe can hold, for one who stays behind may
/// write for ever.
const LAST: usize = 1 << 20;

/// Supervises the work whose directory this process is in. Standard input is its lock, and
/// standard output wants a byte when the program was started or could not be.
pub(crate) fn supervise(id: &str) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let order: Order =
        files::read_json(Path::new(ORDER))?.ok_or_else(|| io::Error::other("there is no order"))?;
    let born = uuid();
    files::write_new(Path::new(BEGUN), born.as_bytes())?.sync_all()?;
    let (output, inlet) = io::pipe()?;
    let started = run(&order, &format!("{id}.{born}"), inlet);
    // A script is as secret as the environment. The program has its input open, not by name.
    std::fs::remove_file(STDIN)?;
    std::fs::remove_file(ORDER)?;
    let leader = match started {
        Ok(leader) => leader,
        Err(why) => {
            files::write_json(Path::new(END), &Closed::NotStarted(why))?;
            return ready();
        }
    };
    let processes = Processes {
        supervisor: std::process::id().cast_signed(),
        leader: leader.as_raw_nonzero().get(),
    };
    files::write_json(Path::new(PROCESSES), &processes)?;
    ready()?;
    watch(leader, output, order.spool_limit)
}

/// Says that the start is over. The caller may have been killed meanwhile, which changes nothing.
fn ready() -> io::Result<()> {
    match io::stdout()
        .write_all(b"\n")
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Sixteen random bytes as text.
fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map(|text| text.trim().to_owned())
        .unwrap_or_else(|_| std::process::id().to_string())
}

/// Starts the program; an error is a sentence for a person.
fn run(order: &Order, mark: &str, inlet: io::PipeWriter) -> Result<Pid, String> {
    let Some((program, arguments)) = order.program.split_first() else {
        return Err("it names no program".into());
    };
    let here = |error: io::Error| format!("starting {program}: {error}");
    files::make_dirs(Path::new(&order.directory))
        .map_err(|error| format!("making the directory {}: {error}", order.directory))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&order.directory)
        .env_clear()
        .stdin(Stdio::from(File::open(STDIN).map_err(here)?))
        .stdout(Stdio::from(inlet.try_clone().map_err(here)?))
        .stderr(Stdio::from(inlet));
    match crate::hold::environment(Path::new(ROOT)).map_err(here)? {
        Some(environment) => {
            command.envs(environment);
        }
        None => {
            let kept = KEPT.iter().chain(&REACH);
            command.envs(kept.filter_map(|key| Some((key, std::env::var_os(key)?))));
        }
    }
    command.envs(&order.environment).env(MARK, mark);
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(|| {
            // A manager that was started in the background ignores some of these, and no shell can
            // undo for its script what it inherited: a cancel would not be heard.
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            rustix::process::setsid()?;
            // A supervisor that is killed takes the program with it: lost means that it ended.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    let child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("starting {program}: there is no such program"),
        _ => here(error),
    })?;
    // Its end is taken by `reap`, like that of all others.
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| "the program has no process id".into())
}

/// Takes output until the program ends, writes the end down, and stays until the last is gone.
fn watch(leader: Pid, output: PipeReader, limit: u64) -> io::Result<()> {
    let mut spool = Spool {
        file: OpenOptions::new().append(true).open(SPOOL)?,
        limit,
        kept: 0,
        discarded: 0,
    };
    let mut output = Some(output);
    let mut end = None;
    // None where the kernel knows no such thing; then its end is looked for now and then.
    let gone = rustix::process::pidfd_open(leader, PidfdFlags::empty()).ok();
    let mut buffer = vec![0; 64 << 10];
    while end.is_none() {
        wait_for(
            output.as_ref(),
            gone.as_ref(),
            if gone.is_some() { 1000 } else { 20 },
        )?;
        take(&mut output, &mut buffer, |bytes| spool.keep(bytes))?;
        let (ended, anyone) = reap(leader)?;
        // Nobody is left and the leader's end was not among what was told.
        end = ended.or((!anyone).then_some(WorkEnd::Lost));
    }
    let mut last = 0;
    while last < LAST
        && let taken @ 1.. = take(&mut output, &mut buffer, |bytes| spool.keep(bytes))?
    {
        last += taken;
    }
    let ending = Ending {
        end: end.unwrap_or(WorkEnd::Lost),
        kept: spool.kept,
        discarded: spool.discarded,
    };
    spool.file.sync_all()?;
    std::fs::remove_file(RESERVE)?;
    files::write_json(Path::new(END), &Closed::Ended(ending))?;
    while reap(leader)?.1 {
        // What it says now is taken and dropped, so that it neither stops nor fails.
        wait_for(output.as_ref(), None, 200)?;
        take(&mut output, &mut buffer, |_| {})?;
    }
    Ok(())
}

/// Waits until there is output, or the process of a pidfd is gone, or some milliseconds are over.
fn wait_for(output: Option<&PipeReader>, gone: Option<&OwnedFd>, limit: i64) -> io::Result<()> {
    let fds = [output.map(AsFd::as_fd), gone.map(AsFd::as_fd)];
    let mut polled: Vec<_> = fds
        .iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: limit / 1000,
        tv_nsec: limit % 1000 * 1_000_000,
    };
    match poll(&mut polled, Some(&limit)) {
        Err(error) if error != Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes what is there, without waiting, and closes the pipe at its end. Returns how much it was.
fn take(
    output: &mut Option<PipeReader>,
    buffer: &mut [u8],
    mut to: impl FnMut(&[u8]),
) -> io::Result<usize> {
    let Some(pipe) = output else { return Ok(0) };
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    let at_once = Timespec::default();
    match poll(&mut polled, Some(&at_once)) {
        Ok(1..) => {}
        Ok(0) | Err(Errno::INTR) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    match pipe.read(buffer) {
        Ok(0) => {
            *output = None;
            Ok(0)
        }
        Ok(length) => {
            to(&buffer[..length]);
            Ok(length)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// Takes the ends of processes that are over. Returns the leader's, and whether any process lives.
fn reap(leader: Pid) -> io::Result<(Option<WorkEnd>, bool)> {
    let mut end = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) => return Ok((end, true)),
            Ok(Some((pid, status))) => {
                if pid == leader {
                    end = Some(end_of(status));
                }
            }
            Err(Errno::CHILD) => return Ok((end, false)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn end_of(status: WaitStatus) -> WorkEnd {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => WorkEnd::Exited { code },
        (None, Some(signal)) => WorkEnd::Signaled { signal },
        (None, None) => WorkEnd::Lost,
    }
}

struct Spool {
    file: File,
    limit: u64,
    kept: u64,
    discarded: u64,
}

impl Spool {
    /// Keeps what fits. A disk that is full discards the rest too: it must not stop the work.
    fn keep(&mut self, mut bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.kept);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.discarded += (bytes.len() - fits) as u64;
        bytes = &bytes[..fits];
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(written @ 1..) => {
                    self.kept += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => {
                    // Nothing more is kept, or what follows would stand at a wrong place.
                    self.discarded += bytes.len() as u64;
                    self.limit = self.kept;
                    return;
                }
            }
        }
    }
}
