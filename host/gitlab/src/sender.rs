//! The trace of one job on its way to GitLab, and the job's end after it.
//!
//! A task sends what is written, at the pace GitLab asks for, from the offset GitLab has. It
//! shows at least every 30 seconds that the job still runs, and tells what GitLab wants of it. At
//! the end it sends the rest of the trace, then the final update, again and again until GitLab
//! takes or refuses it: an outage of hours loses no job. One part of the trace is in memory at a
//! time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::GitlabError;
use crate::job::{Extent, Heard, JobLine, Said, state_word};
use crate::{Final, Remote, TraceSource};

/// Bytes of one part of a trace, unless GitLab or a proxy before it takes only smaller ones.
pub const PART: usize = 1024 * 1024;
/// Parts are not made smaller than twice this.
const LEAST_PART: usize = 32 * 1024;
/// The time from one part to the next until GitLab names another.
const INTERVAL: Duration = Duration::from_secs(3);
/// The longest interval GitLab is followed in.
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How long GitLab hears nothing of a job at most.
const TOUCH: Duration = Duration::from_secs(30);
/// The first and the longest pause of a final update that was not taken.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How often a final update is made that GitLab refuses with a status that means nothing here.
const ODD_ANSWERS: u32 = 10;
/// How often in a row GitLab may say that the trace goes on elsewhere.
const RESUMES: u32 = 3;

/// What a sender starts with.
pub struct SenderOptions {
    /// The job, accepted at GitLab.
    pub line: JobLine,
    /// Failure reasons this GitLab knows: the payload's `features.failure_reasons`.
    pub failure_reasons: Vec<String>,
    /// The trace.
    pub source: Arc<dyn TraceSource>,
    /// How much of it GitLab has, by what was acknowledged before a restart; 0 if not known.
    pub acknowledged: u64,
    /// Whether the job's variable `CI_DEBUG_TRACE` is on: then few may read the trace.
    pub debug_trace: bool,
}

impl std::fmt::Debug for SenderOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderOptions")
            .field("line", &self.line)
            .field("acknowledged", &self.acknowledged)
            .finish_non_exhaustive()
    }
}

/// What became of a final update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// GitLab took it, or the job is over there just as was told.
    Accepted,
    /// The job is over there already: it was cancelled, timed out, or erased.
    Over {
        /// What it is there (`canceled`), where that was said.
        status: Option<String>,
    },
    /// GitLab refuses it, and will refuse it again.
    Refused(GitlabError),
}

/// The task that sends a job's trace. It ends when this is dropped.
#[derive(Debug)]
pub struct TraceSender {
    remote: watch::Receiver<Remote>,
    acknowledged: watch::Receiver<u64>,
    end: oneshot::Sender<Final>,
    task: Task,
}

#[derive(Debug)]
struct Task(JoinHandle<Delivered>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TraceSender {
    /// Starts to send.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(options: SenderOptions) -> Self {
        let (remote_sender, remote) = watch::channel(Remote::Running);
        let (acknowledged_sender, acknowledged) = watch::channel(options.acknowledged);
        let (end, ended) = oneshot::channel();
        let now = Instant::now();
        let sending = Sending {
            sent: options.acknowledged,
            options,
            interval: INTERVAL,
            part: PART,
            heard: now,
            flushed: now,
            remote: remote_sender,
            acknowledged: acknowledged_sender,
            over: None,
        };
        Self {
            remote,
            acknowledged,
            end,
            task: Task(tokio::spawn(sending.run(ended))),
        }
    }

    /// What GitLab wants of the job.
    #[must_use]
    pub fn remote(&self) -> watch::Receiver<Remote> {
        self.remote.clone()
    }

    /// How much of the trace GitLab has, to go on from after a restart. It may go back.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.clone()
    }

    /// Sends the rest of the trace, which must be whole now, and the job's end; however long it
    /// takes. Dropped, it stops.
    pub async fn finish(self, end: Final) -> Delivered {
        let Self {
            end: sender,
            mut task,
            ..
        } = self;
        if sender.send(end).is_err() {
            tracing::debug!("the sending of the trace had ended before the job");
        }
        match (&mut task.0).await {
            Ok(delivered) => delivered,
            Err(error) => {
                tracing::error!(%error, "the sending of a trace broke");
                Delivered::Over { status: None }
            }
        }
    }
}

struct Sending {
    options: SenderOptions,
    sent: u64,
    interval: Duration,
    /// Bytes of one part.
    part: usize,
    /// When GitLab last heard of the job.
    heard: Instant,
    /// When parts were last sent.
    flushed: Instant,
    remote: watch::Sender<Remote>,
    acknowledged: watch::Sender<u64>,
    /// Set once the job is over at GitLab, to what it is there.
    over: Option<Option<String>>,
}

/// How a round of sending ended.
enum Round {
    /// All that was there has arrived.
    Whole,
    /// GitLab does not take it now.
    Later,
    /// It may never arrive: refused, or not to be read here.
    Stuck,
}

impl Sending {
    async fn run(mut self, mut ended: oneshot::Receiver<Final>) -> Delivered {
        loop {
            let end = tokio::select! {
                biased;
                end = &mut ended => Some(end),
                () = tokio::time::sleep(self.interval.min(TOUCH)) => None,
            };
            match end {
                None => self.round().await,
                Some(Ok(end)) => return self.last(end).await,
                // The handle is gone: so is whoever wants to know.
                Some(Err(_)) => return Delivered::Over { status: None },
            }
            if let Some(status) = &self.over {
                let status = status.clone();
                drop(ended.await);
                return Delivered::Over { status };
            }
        }
    }

    async fn round(&mut self) {
        if self.flushed.elapsed() >= self.interval {
            self.flush().await;
            self.flushed = Instant::now();
        }
        if self.over.is_none() && self.heard.elapsed() >= TOUCH {
            let extent = self.extent();
            let heard = self.options.line.running(Some(extent)).await;
            let id = self.options.line.id();
            match self.note(heard) {
                Said::Yes(_) | Said::Wait(_) => self.heard = Instant::now(),
                Said::Failed(error) => {
                    tracing::debug!(job = id, %error, "GitLab was not told that a job runs")
                }
                said => tracing::debug!(job = id, ?said, "GitLab's answer to a job that runs"),
            }
        }
    }

    fn extent(&self) -> Extent {
        Extent {
            checksum: self.options.source.checksum(),
            length: self.options.source.len(),
        }
    }

    /// Takes in what every answer may tell.
    fn note(&mut self, heard: Heard) -> Said {
        if let Some(interval) = heard.interval {
            self.interval = interval.min(LONGEST_INTERVAL);
        }
        match &heard.said {
            Said::Yes(remote) | Said::Wait(remote) => self.tell(*remote),
            Said::Over { status } => {
                self.over = Some(status.clone());
                self.tell(Remote::Aborted);
            }
            _ => {}
        }
        heard.said
    }

    /// A cancel is never taken back.
    fn tell(&self, remote: Remote) {
        self.remote.send_if_modified(|known| {
            let news = matches!(
                (*known, remote),
                (Remote::Running, Remote::Canceling | Remote::Aborted)
                    | (Remote::Canceling, Remote::Aborted)
            );
            if news {
                *known = remote;
            }
            news
        });
    }

    fn moved(&mut self, sent: u64) {
        self.sent = sent;
        self.acknowledged.send_if_modified(|known| {
            let news = *known != sent;
            *known = sent;
            news
        });
    }

    /// Sends what is there now.
    async fn flush(&mut self) -> Round {
        let goal = self.options.source.len();
        let mut resumes = 0;
        while self.sent < goal {
            let part = match self.read().await {
                Ok(part) if part.is_empty() => return Round::Stuck,
                Ok(part) => part,
                Err(error) => {
                    let job = self.options.line.id();
                    tracing::warn!(job, %error, "the trace cannot be read here; it is tried again");
                    return Round::Stuck;
                }
            };
            let (from, length) = (self.sent, part.len() as u64);
            let heard = self
                .options
                .line
                .patch(from, part, self.options.debug_trace)
                .await;
            match self.note(heard) {
                Said::Yes(_) => {
                    self.heard = Instant::now();
                    resumes = 0;
                    self.moved(from + length);
                }
                Said::Resume(stored) if resumes < RESUMES && stored != from => {
                    resumes += 1;
                    self.moved(stored);
                }
                Said::Failed(GitlabError::Refused { status: 413, .. })
                    if self.part > LEAST_PART =>
                {
                    self.part /= 2;
                }
                Said::Failed(error) => {
                    let job = self.options.line.id();
                    tracing::debug!(job, %error, "a part of the trace was not sent");
                    return match error {
                        GitlabError::Unreachable { .. }
                        | GitlabError::RateLimited { .. }
                        | GitlabError::Unavailable { .. } => Round::Later,
                        _ => Round::Stuck,
                    };
                }
                Said::Over { .. } => return Round::Later,
                _ => return Round::Stuck,
            }
        }
        Round::Whole
    }

    async fn read(&self) -> std::io::Result<bytes::Bytes> {
        let (source, from, part) = (self.options.source.clone(), self.sent, self.part);
        match tokio::task::spawn_blocking(move || source.read(from, part)).await {
            Ok(part) => part,
            Err(error) => Err(std::io::Error::other(error)),
        }
    }

    async fn last(mut self, end: Final) -> Delivered {
        self.interval = INTERVAL;
        let (mut failures, mut odd, mut stuck) = (0_u32, 0, 0);
        loop {
            let mut round = match self.over {
                None => self.flush().await,
                Some(_) => Round::Later,
            };
            if let Some(status) = self.over.take() {
                return over(status, end);
            }
            if let Round::Stuck = round {
                stuck += 1;
                if stuck >= ODD_ANSWERS {
                    // A job with half a trace is better than one that never ends.
                    let job = self.options.line.id();
                    tracing::warn!(
                        job,
                        "the rest of a trace is given up, so that the job can end"
                    );
                    round = Round::Whole;
                }
            }
            let mut pause = None;
            if let Round::Whole = round {
                let extent = self.extent();
                let heard = self
                    .options
                    .line
                    .end(end, &self.options.failure_reasons, extent)
                    .await;
                match heard.said {
                    Said::Yes(_) => return Delivered::Accepted,
                    Said::Over { status } => return over(status, end),
                    Said::Wait(_) => pause = Some(heard.interval.unwrap_or(INTERVAL)),
                    Said::Resend => {
                        self.moved(0);
                        pause = Some(heard.interval.unwrap_or(INTERVAL));
                    }
                    Said::Failed(error) if error.is_transient() => {
                        self.warn(failures, &error);
                    }
                    Said::Failed(error) => {
                        odd += 1;
                        if odd >= ODD_ANSWERS {
                            return Delivered::Refused(error);
                        }
                        self.warn(failures, &error);
                    }
                    said => {
                        let error = self.options.line.makes_no_sense(&said);
                        odd += 1;
                        if odd >= ODD_ANSWERS {
                            return Delivered::Refused(error);
                        }
                    }
                }
            }
            let pause = match pause {
                Some(pause) => {
                    failures = 0;
                    pause.min(LONGEST_INTERVAL)
                }
                None => {
                    failures = failures.saturating_add(1);
                    crate::health::pause(AGAIN, failures, crate::client::jitter())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn warn(&self, failures: u32, error: &GitlabError) {
        let job = self.options.line.id();
        match failures {
            0 => tracing::warn!(job, %error, "the end of a job was not taken; it is told again"),
            _ => tracing::debug!(job, %error, "the end of a job was not taken"),
        }
    }
}

/// What it means that a job is over at GitLab when its end is told: an answer may have been lost,
/// or the manager restarted, after the same end was told already.
fn over(status: Option<String>, end: Final) -> Delivered {
    if status.as_deref() == Some(state_word(end.state)) {
        return Delivered::Accepted;
    }
    Delivered::Over { status }
}
