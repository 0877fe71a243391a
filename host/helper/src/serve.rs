//! `follow`: the output of a piece of work as frames, from an offset to the end.

use crate::store::{Entry, SPOOL, Store, failed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use springtide_helper::frame::{FrameKind, PULSE_SECONDS, header};
use springtide_helper::{Ending, Fault, FaultKind};
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Bytes of output in one frame at most.
const CHUNK: usize = 256 << 10;

/// How a follow broke off without an end.
pub(crate) enum Broke {
    /// It can't go on, and the other side can be told.
    Fault(Fault),
    /// The other side is not there any more.
    Reader,
}

impl From<Fault> for Broke {
    fn from(fault: Fault) -> Self {
        Broke::Fault(fault)
    }
}

/// Writes the work's output from an offset as frames, until its end.
pub(crate) fn follow(store: &Store, id: &str, from: u64, to: &mut impl Write) -> Result<(), Broke> {
    let entry = store.find(id)?;
    let reading = |error| failed(format!("reading the output of work {id}"), error);
    let spool = open(&entry, reading)?;
    let there = spool.metadata().map_err(reading)?.len();
    if from > there {
        return Err(Broke::Fault(Fault::new(
            FaultKind::BadCall,
            format!("work {id} has put out {there} bytes, so it can't be followed from {from}"),
        )));
    }
    write(to, FrameKind::Start, &from.to_be_bytes())?;
    let mut wait = Wait::new(&entry);
    let mut offset = from;
    let mut buffer = vec![0; CHUNK];
    loop {
        // The end is asked for first: all output stands in the spool before it is written.
        let ending = ending(&entry)?;
        loop {
            let read = spool.read_at(&mut buffer, offset).map_err(reading)?;
            if read == 0 {
                break;
            }
            write(to, FrameKind::Output, &buffer[..read])?;
            offset += read as u64;
            wait.moved();
        }
        if let Some(ending) = ending {
            let ending = serde_json::to_vec(&ending)
                .map_err(|error| failed(format!("telling the end of work {id}"), error))?;
            return write(to, FrameKind::End, &ending);
        }
        if wait.is_quiet() {
            write(to, FrameKind::Pulse, &[])?;
            wait.moved();
        }
        wait.wait()
            .map_err(|error| failed(format!("waiting for work {id}"), error))?;
    }
}

fn open(entry: &Entry, reading: impl Fn(io::Error) -> Fault) -> Result<File, Fault> {
    // A start that is under way has a lock before it has a spool.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match File::open(entry.file(SPOOL)) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && Instant::now() < until
                    && entry.is_alive()? =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.map_err(reading),
        }
    }
}

fn ending(entry: &Entry) -> Result<Option<Ending>, Fault> {
    // Removed in the middle of it: without its lock it would look lost, and it is not known any
    // more.
    let closed = entry.closed()?;
    Ok(closed.map(|closed| closed.ending()))
}

/// Writes one frame.
fn write(to: &mut impl Write, kind: FrameKind, payload: &[u8]) -> Result<(), Broke> {
    let mut all = || {
        to.write_all(&header(kind, payload.len()))?;
        to.write_all(payload)?;
        to.flush()
    };
    all().map_err(|_: io::Error| Broke::Reader)
}

/// Tells why a follow can't go on, in a last frame.
pub(crate) fn write_fault(to: &mut impl Write, fault: &Fault) -> Result<(), Broke> {
    let payload = serde_json::to_vec(fault).map_err(|error| failed("telling a fault", error))?;
    write(to, FrameKind::Fault, &payload)
}

/// Waiting for the spool to grow: woken by the kernel, or, where it grants no more watches, by
/// looking again and again at growing intervals.
struct Wait {
    watch: Option<OwnedFd>,
    pause: Duration,
    since: Instant,
}

const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

impl Wait {
    fn new(entry: &Entry) -> Self {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .and_then(|fd| {
                let what = inotify::WatchFlags::MODIFY
                    | inotify::WatchFlags::MOVED_TO
                    | inotify::WatchFlags::DELETE_SELF
                    | inotify::WatchFlags::MOVE_SELF;
                inotify::add_watch(&fd, &entry.path, what)?;
                Ok(fd)
            });
        Self {
            watch: watch.ok(),
            pause: SHORTEST,
            since: Instant::now(),
        }
    }

    fn moved(&mut self) {
        self.since = Instant::now();
        self.pause = SHORTEST;
    }

    fn is_quiet(&self) -> bool {
        self.since.elapsed() >= Duration::from_secs(PULSE_SECONDS)
    }

    /// Waits for news of the spool, for the reader's going, or for a while.
    fn wait(&mut self) -> io::Result<()> {
        let limit = match self.watch {
            // A supervisor that was killed says nothing: it is looked after now and then.
            Some(_) => Duration::from_millis(500),
            None => self.pause,
        };
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let stdout = io::stdout();
        let mut polled = vec![PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        if let Some(watch) = &self.watch {
            polled.push(PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN));
        }
        match poll(&mut polled, Some(&limit)) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        let gone = polled
            .first()
            .is_some_and(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.pause = (self.pause * 2).min(LONGEST);
        self.drain();
        Ok(())
    }

    fn drain(&self) {
        let Some(watch) = &self.watch else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(watch, &mut buffer);
        // Ends when there is nothing more to read; what the news are is looked up in the files.
        while reader.next().is_ok() {}
    }
}
