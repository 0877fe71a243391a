//! Attends to one piece of work: its output into the trace, and its end, by itself or brought about.

use super::now;
use crate::follow::{Heard, follow};
use crate::progress::Stop;
use crate::variables::Variables;
use springtide_gitlab::Remote;
use springtide_machines::{HelperError, REACH, Transfer, Work, WorkEnd, WorkFile, WorkSignal};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long one signal may take to be sent.
const SIGNAL: Duration = Duration::from_secs(10);

/// Bytes of output a machine keeps beyond twice what the trace takes; masks make it shorter.
const SPARE: u64 = 1 << 20;

/// The helper itself, asked to move files.
const TRANSFER: [&str; 2] = ["springtide-helper", "transfer"];

/// What ends a stage's work before its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long the stage may take.
    pub(super) stage: Option<Duration>,
    /// Whether the job's own timeout ends it.
    pub(super) by_job: bool,
    /// Whether a cancel does.
    pub(super) by_cancel: bool,
}

impl Limits {
    /// A part of the job proper.
    pub(super) fn of_job(stage: Option<Duration>) -> Self {
        Self {
            stage,
            by_job: true,
            by_cancel: true,
        }
    }
}

/// How a stage's work ended.
pub(super) struct Ended {
    pub(super) end: WorkEnd,
    /// Why it was brought about.
    pub(super) stop: Option<Stop>,
}

/// What came of a stage's work.
pub(super) enum Attended {
    /// It ended.
    Ended(Ended),
    /// Nobody knows: the machine does not answer.
    Lost(HelperError),
    /// It never ran, and the machine says why.
    Refused(HelperError),
    /// The job ended from outside before the machine answered.
    Interrupted,
}

/// What a stage runs.
pub(super) struct Task {
    pub(super) program: Vec<String>,
    pub(super) stdin: Vec<u8>,
    pub(super) environment: BTreeMap<String, String>,
    /// Written before it starts.
    pub(super) files: Vec<WorkFile>,
}

impl Task {
    /// A script.
    pub(super) fn script(program: Vec<String>, script: Vec<u8>) -> Self {
        Self {
            program,
            stdin: script,
            environment: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Files that are moved, through the job's own proxies.
    pub(super) fn transfer(
        transfer: &Transfer,
        variables: &Variables,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            program: TRANSFER.map(str::to_owned).to_vec(),
            stdin: serde_json::to_vec(transfer)?,
            environment: variables.some(&REACH),
            files: Vec::new(),
        })
    }
}

/// Signals still to be sent, and when.
struct Ending {
    due: Instant,
    left: Vec<(Duration, WorkSignal)>,
    kills: u32,
}

impl Ending {
    /// The signals for a reason, the last to be sent first in the list.
    fn new(stop: Stop, grace: Duration) -> Self {
        let left = match stop {
            Stop::JobTimeout | Stop::StageTimeout => {
                vec![
                    (Duration::ZERO, WorkSignal::Kill),
                    (grace, WorkSignal::Terminate),
                ]
            }
            Stop::Canceled => vec![
                (Duration::ZERO, WorkSignal::Kill),
                (grace / 2, WorkSignal::Terminate),
                (grace / 2, WorkSignal::Interrupt),
            ],
            Stop::Aborted | Stop::Abandoned => vec![(Duration::ZERO, WorkSignal::Kill)],
        };
        Self {
            due: Instant::now(),
            left,
            kills: 0,
        }
    }

    /// The next signal, which is due.
    fn next(&mut self, grace: Duration) -> WorkSignal {
        let (rest, signal) = self.left.pop().unwrap_or((grace, WorkSignal::Kill));
        if signal == WorkSignal::Kill {
            self.kills += 1;
        }
        let rest = if rest.is_zero() { grace } else { rest };
        self.due = Instant::now() + rest;
        signal
    }
}

impl<F: FnOnce() + Send> super::Runner<F> {
    /// Runs the current stage's work to its end.
    pub(super) async fn attend(
        &mut self,
        directory: &str,
        task: Task,
        limits: Limits,
        begun: impl FnOnce(&mut Self),
    ) -> Attended {
        let id = self.progress.stage.work(self.id);
        if !self.progress.launched {
            let work = Work {
                id: id.clone(),
                program: task.program,
                directory: directory.to_owned(),
                environment: task.environment,
                stdin: task.stdin,
                files: task.files,
                spool_limit: self
                    .run
                    .trace
                    .limit()
                    .saturating_mul(2)
                    .saturating_add(SPARE),
            };
            let client = self.client();
            match self.ask(|| client.start(&work)).await {
                None => return Attended::Interrupted,
                Some(Ok(())) => {}
                Some(Err(error)) if is_loss(&error) => return Attended::Lost(error),
                Some(Err(error)) => return Attended::Refused(error),
            }
            self.progress.launched = true;
            self.save().await;
        }
        begun(self);
        let attended = self.listen(&id, limits).await;
        self.run.trace.settle();
        attended
    }

    async fn listen(&mut self, id: &str, limits: Limits) -> Attended {
        // What is in the set ends with it, so a run that is dropped follows no longer.
        let mut tasks = JoinSet::new();
        let lost_after = self.run.settings.lost_after;
        let mut heard = follow(self.client(), id.to_owned(), lost_after, &mut tasks);
        let grace = self.run.settings.grace;
        let mut remote = self.run.remote.clone();
        let mut listening = true;
        let mut ending = self.progress.stop.map(|stop| Ending::new(stop, grace));
        loop {
            if let Some(stop) = self.wanted(&remote, limits)
                && self.progress.stop.is_none_or(|known| harder(stop, known))
            {
                self.progress.stop = Some(stop);
                self.save().await;
                ending = Some(Ending::new(stop, grace));
            }
            let wake = match &ending {
                Some(ending) => ending.due,
                None => Instant::now() + self.deadline(limits),
            };
            tokio::select! {
                next = heard.recv() => match next {
                    Some(Heard::Bytes(bytes)) => self.run.trace.output(&bytes),
                    Some(Heard::Ended(end, discarded)) => {
                        if discarded > 0 {
                            self.run.trace.lost_output();
                        }
                        return Attended::Ended(Ended { end, stop: self.progress.stop });
                    }
                    Some(Heard::Lost(error)) => return Attended::Lost(error),
                    None => return Attended::Lost(HelperError::Broken {
                        call: "follow".into(),
                        why: "the task that followed died".into(),
                    }),
                },
                changed = remote.changed(), if listening => listening = changed.is_ok(),
                () = self.run.abandon.cancelled(), if !self.is_let_go() => {}
                () = tokio::time::sleep_until(wake) => {
                    if let Some(ending) = &mut ending {
                        if ending.kills > 2 {
                            self.progress.broken = true;
                            let end = WorkEnd::Signaled { signal: 9 };
                            return Attended::Ended(Ended { end, stop: self.progress.stop });
                        }
                        let signal = ending.next(grace);
                        self.signal(id, signal).await;
                    }
                }
            }
        }
    }

    /// Waits until something ends the job from outside.
    pub(super) async fn stopped(&self, limits: Limits) -> Stop {
        let mut remote = self.run.remote.clone();
        let mut listening = true;
        loop {
            if let Some(stop) = self.wanted(&remote, limits) {
                return stop;
            }
            tokio::select! {
                changed = remote.changed(), if listening => listening = changed.is_ok(),
                () = self.run.abandon.cancelled() => {}
                () = tokio::time::sleep(self.deadline(limits)) => {}
            }
        }
    }

    fn is_let_go(&self) -> bool {
        self.progress.stop == Some(Stop::Abandoned)
    }

    /// Why the work should be ended now, if it should.
    fn wanted(
        &self,
        remote: &tokio::sync::watch::Receiver<Remote>,
        limits: Limits,
    ) -> Option<Stop> {
        if self.run.abandon.is_cancelled() {
            return Some(Stop::Abandoned);
        }
        match *remote.borrow() {
            Remote::Aborted => return Some(Stop::Aborted),
            Remote::Canceling if limits.by_cancel => return Some(Stop::Canceled),
            _ => {}
        }
        if limits.by_job && self.time_left().is_zero() {
            return Some(Stop::JobTimeout);
        }
        self.stage_left(limits)
            .is_some_and(|left| left.is_zero())
            .then_some(Stop::StageTimeout)
    }

    fn stage_left(&self, limits: Limits) -> Option<Duration> {
        let used = Duration::from_millis(now().saturating_sub(self.progress.stage_began));
        limits.stage.map(|whole| whole.saturating_sub(used))
    }

    /// How long until the clock ends the work.
    fn deadline(&self, limits: Limits) -> Duration {
        // Nothing else to wait for: look again in an hour.
        let far = Duration::from_secs(3600);
        let job = if limits.by_job { self.time_left() } else { far };
        job.min(self.stage_left(limits).unwrap_or(far)).min(far)
    }

    async fn signal(&self, id: &str, signal: WorkSignal) {
        match tokio::time::timeout(SIGNAL, self.client().signal(id, signal)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(job = self.id, ?signal, %error, "a job's script was not signalled");
            }
            Err(_) => tracing::warn!(job = self.id, ?signal, "a signal took too long"),
        }
    }
}

/// Whether one reason overrules another that is being acted on.
fn harder(stop: Stop, known: Stop) -> bool {
    let rank = |stop| match stop {
        Stop::Canceled | Stop::StageTimeout | Stop::JobTimeout => 0,
        Stop::Aborted => 1,
        Stop::Abandoned => 2,
    };
    rank(stop) > rank(known)
}

/// Whether an error of a start leaves open whether the work runs.
fn is_loss(error: &HelperError) -> bool {
    matches!(
        error,
        HelperError::Connect(_) | HelperError::Broken { .. } | HelperError::NoWork { .. }
    )
}
