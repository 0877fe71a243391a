//! Starting a piece of work, once.

use crate::files;
use crate::store::{
    BEGUN, Closed, END, Entry, LOCK, ORDER, Order, RESERVE, SPOOL, STDIN, Store, failed,
};
use springtide_helper::{Fault, FaultKind, SELF, Work};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The largest work taken, in bytes of JSON.
const LIMIT: u64 = 256 << 20;

/// How long a call waits for another one that starts the same work.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the work read from `input`, or finds that it was started before.
pub(crate) fn start(store: &Store, input: impl Read) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    input
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("reading the work from standard input", error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(bad("the work is larger than 256 MiB".into()));
    }
    // The parser's message tells a place and never the text, which may be secret.
    let work: Work = serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("the work on standard input can't be read: {error}")))?;
    check(&work)?;
    let entry = store.at(&work.id)?;
    let starting = |error| failed(format!("starting work {}", work.id), error);
    let until = Instant::now() + PATIENCE;
    loop {
        // The root itself is never made here: a machine that was removed must not come back.
        match std::fs::metadata(store.root()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let path = store.root().display();
                return Err(Fault::new(
                    FaultKind::NoMachine,
                    format!("there is no machine at {path}"),
                ));
            }
            found => found.map_err(starting)?,
        };
        for path in [entry.path.parent(), Some(&entry.path)]
            .into_iter()
            .flatten()
        {
            make_dir(path).map_err(starting)?;
        }
        if let Some(lock) = files::try_lock(&entry.file(LOCK)).map_err(starting)? {
            return begin(store, &entry, &work, lock);
        }
        if let Some(known) = known(&entry)? {
            return known;
        }
        if Instant::now() > until {
            return Err(failed(
                format!("starting work {}", work.id),
                "another call is starting it and does not end",
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program to run. A manager need not know where the helper lies to run it.
fn program(work: &Work) -> std::io::Result<Vec<String>> {
    let mut program = work.program.clone();
    if let Some(first) = program.first_mut().filter(|first| *first == SELF) {
        let own = std::env::current_exe()?.into_os_string();
        *first = own.into_string().map_err(|own| {
            std::io::Error::other(format!("the helper's path {} is not UTF-8", own.display()))
        })?;
    }
    Ok(program)
}

fn make_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// What an earlier start of this work came to; nothing, where it has not come to anything yet.
fn known(entry: &Entry) -> Result<Option<Result<(), Fault>>, Fault> {
    let closed: Option<Closed> = files::read_json(&entry.file(END))
        .map_err(|error| failed(format!("reading the end of work {}", entry.id), error))?;
    Ok(match closed {
        Some(Closed::NotStarted(why)) => Some(Err(Fault::new(FaultKind::NotStarted, why))),
        Some(Closed::Ended(_)) => Some(Ok(())),
        None => entry.processes()?.map(|_| Ok(())),
    })
}

/// Bytes that are kept free for a work's end: a job may fill the disk.
const RESERVED: usize = 8192;

/// Starts a work whose lock this call holds.
fn begin(store: &Store, entry: &Entry, work: &Work, lock: File) -> Result<(), Fault> {
    let starting = |error| failed(format!("starting work {}", work.id), error);
    if entry.file(BEGUN).try_exists().map_err(starting)? {
        // It ran, and its supervisor is gone: whatever became of it, it is not run twice.
        return known(entry)?.unwrap_or(Ok(()));
    }
    for file in &work.files {
        let path = Path::new(&file.path);
        let write = || {
            if let Some(parent) = path.parent() {
                files::make_dirs(parent)?;
            }
            files::write_over(path, file.mode, &file.bytes)
        };
        write().map_err(|error| {
            failed(format!("writing {} for work {}", file.path, work.id), error)
        })?;
    }
    let order = Order {
        program: program(work).map_err(starting)?,
        directory: work.directory.clone(),
        environment: work.environment.clone(),
        spool_limit: work.spool_limit,
    };
    files::write_over(&entry.file(STDIN), 0o600, &work.stdin).map_err(starting)?;
    files::write_over(&entry.file(SPOOL), 0o600, &[]).map_err(starting)?;
    files::write_over(&entry.file(RESERVE), 0o600, &[0; RESERVED]).map_err(starting)?;
    files::write_json(&entry.file(ORDER), &order).map_err(starting)?;
    supervise(store, entry, lock).map_err(starting)?;
    match known(entry)? {
        Some(known) => known,
        None => Err(failed(
            format!("starting work {}", work.id),
            "its supervisor ended before the program was started",
        )),
    }
}

/// Starts the supervisor, which is given the lock as its standard input, and waits until it has
/// started the program: then it writes a byte to its standard output, a pipe to here. One that dies
/// closes the pipe.
fn supervise(store: &Store, entry: &Entry, lock: File) -> std::io::Result<()> {
    let (mut ready, said) = std::io::pipe()?;
    let mut supervisor = Command::new(std::env::current_exe()?);
    supervisor
        .arg("--root")
        .arg(store.root())
        .args(["supervise", &entry.id])
        // It works by relative names: a machine's directory is renamed when it is removed.
        .current_dir(&entry.path)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(said))
        .stderr(Stdio::null());
    let mut child = supervisor.spawn()?;
    drop(supervisor);
    while matches!(ready.read(&mut [0]), Err(error) if error.kind() == ErrorKind::Interrupted) {}
    // Only to take its end where it has one already; a supervisor that goes on outlives this call.
    child.try_wait()?;
    Ok(())
}

fn check(work: &Work) -> Result<(), Fault> {
    let id = &work.id;
    if work.program.first().is_none_or(String::is_empty) {
        return Err(bad(format!("work {id} names no program")));
    }
    let paths = work.files.iter().map(|file| &file.path);
    for path in paths.chain([&work.directory]) {
        let plain = Path::new(path);
        if !plain.is_absolute() || plain.components().any(|part| part == Component::ParentDir) {
            return Err(bad(format!(
                "work {id}: {path} must be an absolute path without `..`"
            )));
        }
    }
    let texts = work.program.iter().chain(work.environment.values());
    let names = work.environment.keys();
    if texts.chain(names.clone()).any(|text| text.contains('\0')) {
        return Err(bad(format!(
            "work {id}: an argument or a variable holds a zero byte"
        )));
    }
    if let Some(name) = names
        .into_iter()
        .find(|name| name.is_empty() || name.contains('='))
    {
        return Err(bad(format!("work {id}: \"{name}\" can't name a variable")));
    }
    Ok(())
}

fn bad(message: String) -> Fault {
    Fault::new(FaultKind::BadCall, message)
}
