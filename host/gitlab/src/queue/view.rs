//! What one runner knows of the jobs that wait for it. Pure: readings and the time are arguments,
//! the time as a length since 1970-01-01T00:00:00Z like [`QueueSnapshot::read_at`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PendingJob, QueueOptions, QueueSnapshot, takes};

/// GitLab lists a job as pending for a while after it was taken: a replica that lags, or a job
/// taken in two phases. Its number is kept for so long, and for as long as it is listed.
const KEPT: Duration = Duration::from_secs(600);
/// A job that was queued so much earlier than a reading began must be in it; a replica may lag.
const LAG: Duration = Duration::from_secs(10);
/// For how long one job that was never shown makes a source silent.
const SILENT_FOR: Duration = Duration::from_secs(24 * 3600);

/// A job that was received, as its payload tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TakenJob {
    /// GitLab's number of the job.
    pub id: u64,
    /// GitLab's number of its project (`job_info.project_id`), if it was told.
    pub project: Option<u64>,
    /// How long it had been queued (`job_info.time_in_queue_seconds`); zero where it was not told.
    pub queued_for: Duration,
}

/// Jobs that wait with one set of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Waiting {
    /// The tags, sorted; empty for untagged jobs.
    pub tags: Vec<String>,
    /// How many wait.
    pub count: u32,
    /// How long the oldest has been queued by now.
    pub oldest: Duration,
    /// Whether this runner takes them.
    pub takes: bool,
}

/// How far what is known can be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    /// It can.
    Fresh,
    /// It is too old, or nothing was read yet.
    Stale,
    /// Jobs came that the source never showed: it does not see all that this runner takes.
    Silent,
}

/// What is known at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QueueSummary {
    /// How far it can be acted on.
    pub state: QueueState,
    /// How old the reading is; since the view was made where there is none.
    pub age: Duration,
    /// What showed the source to be silent, also where `state` is stale.
    pub silence: Vec<Silence>,
    /// Jobs that wait, those taken already left out, by tag set in order of tags; the sets this
    /// runner does not take are among them and say so.
    pub waiting: Vec<Waiting>,
    /// Jobs that wait and that this runner takes.
    pub count: u32,
    /// How long the oldest of those has been queued by now; zero where there is none.
    pub oldest: Duration,
    /// Jobs this runner takes that were seen to arrive after the first reading.
    pub arrivals: u32,
    /// Jobs this runner takes that were seen to leave the queue, whoever took or cancelled them.
    pub completions: u32,
}

/// What showed that the source does not see all that this runner is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// A job came from this project, which the source does not read.
    Project(u64),
    /// A job came that had waited long enough to be shown, and was not.
    Missed,
    /// A job came that was shown, but that the tags in the configuration do not take.
    Tags,
}

/// What one runner knows of the jobs that wait for it.
#[derive(Clone, Debug)]
pub struct QueueView {
    tags: Vec<String>,
    run_untagged: bool,
    stale_after: Duration,
    since: Duration,
    latest: Option<QueueSnapshot>,
    /// Jobs that were shown, or taken, and that have not left the queue by what is known.
    known: BTreeSet<u64>,
    /// Jobs that were taken, and when.
    taken: BTreeMap<u64, Duration>,
    silence: BTreeMap<Silence, Duration>,
    arrivals: u32,
    completions: u32,
}

impl QueueView {
    /// A view for a runner of these tags; `now` is the time.
    #[must_use]
    pub fn new(
        tags: Vec<String>,
        run_untagged: bool,
        stale_after: Duration,
        now: Duration,
    ) -> Self {
        Self {
            tags,
            run_untagged,
            stale_after,
            since: now,
            latest: None,
            known: BTreeSet::new(),
            taken: BTreeMap::new(),
            silence: BTreeMap::new(),
            arrivals: 0,
            completions: 0,
        }
    }

    /// A view for the runner a source was made for.
    #[must_use]
    pub fn of(options: &QueueOptions, now: Duration) -> Self {
        let tags = options.tags.clone();
        Self::new(tags, options.run_untagged, options.stale_after, now)
    }

    /// The runner's tags, and whether it takes untagged jobs.
    #[must_use]
    pub fn runner(&self) -> (&[String], bool) {
        (&self.tags, self.run_untagged)
    }

    /// Takes in a reading. One that began no later than the last one is left out: false.
    pub fn apply(&mut self, snapshot: &QueueSnapshot) -> bool {
        let first = self.latest.is_none();
        if self
            .latest
            .as_ref()
            .is_some_and(|latest| snapshot.read_at <= latest.read_at)
        {
            return false;
        }
        let listed: BTreeSet<u64> = snapshot.jobs.iter().map(|job| job.id).collect();
        let read_at = snapshot.read_at;
        self.taken
            .retain(|id, at| listed.contains(id) || read_at.saturating_sub(*at) < KEPT);
        let mine: BTreeSet<u64> = self.fitting(&snapshot.jobs).map(|job| job.id).collect();
        let arrived = mine.difference(&self.known).count();
        if !first {
            self.arrivals = add(self.arrivals, arrived);
        }
        // Where the oldest are missing, one that is not listed may wait still.
        if snapshot.truncated {
            self.known.extend(mine);
        } else {
            let left = self.known.difference(&mine).count();
            self.completions = add(self.completions, left);
            self.known = mine;
        }
        self.silence.retain(|silence, at| {
            let covered =
                matches!(silence, Silence::Project(project) if snapshot.projects.contains(project));
            !covered && read_at.saturating_sub(*at) < SILENT_FOR
        });
        self.latest = Some(snapshot.clone());
        true
    }

    /// A job was received: it is no longer counted as waiting, and it shows whether the source
    /// sees what this runner is given. Telling it twice changes nothing.
    ///
    /// [`Silence`] has what it can show. A project that is read from now on takes back the first,
    /// a job that was shown the second, and a day any of them.
    pub fn note_taken(&mut self, job: TakenJob, now: Duration) {
        if self.taken.insert(job.id, now).is_some() {
            return;
        }
        let Some(latest) = &self.latest else {
            return;
        };
        if self.known.remove(&job.id) {
            self.completions = add(self.completions, 1);
            self.silence.remove(&Silence::Missed);
            return;
        }
        if let Some(shown) = latest.jobs.iter().find(|shown| shown.id == job.id) {
            if !takes(&shown.tags, &self.tags, self.run_untagged) {
                self.silence.insert(Silence::Tags, now);
            }
            return;
        }
        let queued_at = now.saturating_sub(job.queued_for);
        let silence = match job.project {
            Some(project) if !latest.projects.contains(&project) => Some(Silence::Project(project)),
            _ if latest.truncated || queued_at + LAG > latest.read_at => None,
            _ => Some(Silence::Missed),
        };
        self.silence.extend(silence.map(|silence| (silence, now)));
        self.arrivals = add(self.arrivals, 1);
        self.completions = add(self.completions, 1);
    }

    /// A job that was received went back to GitLab and waits again. When it is shown again it
    /// counts as an arrival.
    pub fn note_given_back(&mut self, id: u64) {
        self.taken.remove(&id);
    }

    /// How old the last reading is; since the view was made where there is none. A clock that was
    /// set back makes it zero.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        let read_at = self.latest.as_ref().map(|latest| latest.read_at);
        now.saturating_sub(read_at.unwrap_or(self.since))
    }

    /// How far what is known can be acted on. Stale comes before silent.
    #[must_use]
    pub fn state(&self, now: Duration) -> QueueState {
        if self.latest.is_none() || self.age(now) > self.stale_after {
            QueueState::Stale
        } else if self.silences(now).next().is_some() {
            QueueState::Silent
        } else {
            QueueState::Fresh
        }
    }

    fn silences(&self, now: Duration) -> impl Iterator<Item = Silence> {
        let lasts = move |at: Duration| now.saturating_sub(at) < SILENT_FOR;
        let all = self.silence.iter();
        all.filter(move |(_, at)| lasts(**at))
            .map(|(silence, _)| *silence)
    }

    /// All that is known at `now`.
    #[must_use]
    pub fn summary(&self, now: Duration) -> QueueSummary {
        let age = self.age(now);
        let mut sets: BTreeMap<&[String], (u32, Duration)> = BTreeMap::new();
        let jobs = self.latest.as_ref().map_or(&[][..], |latest| &latest.jobs);
        for job in jobs.iter().filter(|job| !self.taken.contains_key(&job.id)) {
            let (count, oldest) = sets.entry(&job.tags).or_default();
            *count = count.saturating_add(1);
            *oldest = (*oldest).max(job.queued_for.saturating_add(age));
        }
        let waiting: Vec<Waiting> = sets
            .into_iter()
            .map(|(tags, (count, oldest))| Waiting {
                tags: tags.to_vec(),
                count,
                oldest,
                takes: takes(tags, &self.tags, self.run_untagged),
            })
            .collect();
        let mine = || waiting.iter().filter(|set| set.takes);
        QueueSummary {
            state: self.state(now),
            age,
            silence: self.silences(now).collect(),
            count: mine().fold(0, |sum, set| sum.saturating_add(set.count)),
            oldest: mine().map(|set| set.oldest).max().unwrap_or_default(),
            waiting,
            arrivals: self.arrivals,
            completions: self.completions,
        }
    }

    fn fitting<'a>(&'a self, jobs: &'a [PendingJob]) -> impl Iterator<Item = &'a PendingJob> {
        jobs.iter().filter(|job| {
            !self.taken.contains_key(&job.id) && takes(&job.tags, &self.tags, self.run_untagged)
        })
    }
}

fn add(sum: u32, more: usize) -> u32 {
    sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
}
