//! The process that stands for a machine's being on. It ends, with all work of the machine, when
//! the lease has run out, when the machine was told to vanish, or when its directory is gone.

use super::now;
use super::record::{ANCHOR, RECORD, Record};
use crate::files;
use crate::store::Store;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often it looks at what is written down.
const LOOK: Duration = Duration::from_millis(500);

/// Starts the anchor of the machine in a directory, whose lock this call holds. Returns its process
/// id.
pub(super) fn start(directory: &Path, name: &str, lock: File) -> io::Result<i32> {
    let (mut ready, said) = io::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["local", "anchor", name])
        // It works by relative names: the directory is renamed when the machine is destroyed.
        .current_dir(directory)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(said))
        .stderr(Stdio::null());
    let child = command.spawn()?;
    drop(command);
    match ready.read(&mut [0])? {
        0 => Err(io::Error::other("the machine's process ended at once")),
        _ => Ok(child.id().cast_signed()),
    }
}

/// Is the anchor of the machine whose directory this process is in. Standard input is its lock.
pub(crate) fn anchor() -> io::Result<()> {
    rustix::process::setsid()?;
    // The call that started this may die before it has written down who this is.
    std::fs::write(ANCHOR, std::process::id().to_string())?;
    let mut out = io::stdout();
    match out.write_all(b"\n").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    loop {
        std::thread::sleep(LOOK);
        let Some(record) = files::read_json::<Record>(Path::new(RECORD))? else {
            // Destroyed: who did it ends the work.
            return Ok(());
        };
        if is_over(&record, now()) {
            let store = Store::new(std::env::current_dir()?);
            return store.end_all().map_err(io::Error::other);
        }
    }
}

fn is_over(record: &Record, now: u64) -> bool {
    let lease = u64::from(record.lease_until) * 1000;
    let ran_out = lease != 0 && now >= lease;
    ran_out || record.vanishes.is_some_and(|vanishes| now >= vanishes)
}

/// The process id that the anchor which lives in a directory left there.
pub(super) fn living(directory: &Path) -> io::Result<i32> {
    let said = std::fs::read_to_string(directory.join(ANCHOR))?;
    let unsaid = |_| io::Error::other("the machine's process has not said which it is yet");
    said.trim().parse().map_err(unsaid)
}

/// Takes the anchor's lock; nothing, where the anchor lives.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
    files::try_lock(&directory.join(ANCHOR))
}
