//! A runner as this GitLab knows it: what it takes, how often it asked, which managers spoke for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::Job;
use crate::options::RunnerSeed;
use crate::stamp::seconds;

pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) token: String,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) run_untagged: bool,
    pub(crate) paused: bool,
    /// The value `X-GitLab-Last-Update` has for it; new with each job it could take.
    pub(crate) queue_value: String,
    pub(crate) managers: BTreeMap<String, ManagerView>,
    asked: VecDeque<Duration>,
}

impl Runner {
    pub(crate) fn new(id: u64, seed: RunnerSeed, description: String, queue_value: String) -> Self {
        Self {
            id,
            token: seed.token,
            description,
            tags: seed.tags,
            run_untagged: seed.run_untagged,
            paused: seed.paused,
            queue_value,
            managers: BTreeMap::new(),
            asked: VecDeque::new(),
        }
    }

    /// Notes that a manager was heard of.
    pub(crate) fn heard(
        &mut self,
        system_id: &str,
        info: Option<&Value>,
        asks: bool,
        now: Duration,
    ) {
        let manager = self
            .managers
            .entry(system_id.to_owned())
            .or_insert_with(|| ManagerView {
                first_contact: seconds(now),
                last_contact: 0.0,
                requests: 0,
                info: Value::Null,
            });
        manager.last_contact = seconds(now);
        manager.requests += u64::from(asks);
        if let Some(info) = info {
            manager.info = info.clone();
        }
    }

    /// Counts a request for a job; false where it is more than `most` in a minute.
    pub(crate) fn may_ask(&mut self, most: u32, now: Duration) -> bool {
        let minute = Duration::from_secs(60);
        while self.asked.front().is_some_and(|at| *at + minute <= now) {
            self.asked.pop_front();
        }
        let may = self.asked.len() < most as usize;
        if may {
            self.asked.push_back(now);
        }
        may
    }

    pub(crate) fn takes(&self, job: &Job) -> bool {
        match job.spec.tags.as_slice() {
            [] => self.run_untagged,
            tags => tags.iter().all(|tag| self.tags.contains(tag)),
        }
    }

    pub(crate) fn view(&self) -> RunnerView {
        RunnerView {
            id: self.id,
            description: self.description.clone(),
            tags: self.tags.clone(),
            run_untagged: self.run_untagged,
            paused: self.paused,
            managers: self.managers.clone(),
        }
    }
}

/// A runner as it is shown; without its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerView {
    /// Its id.
    pub id: u64,
    /// What its registration called it.
    pub description: String,
    /// Tags of the jobs it takes.
    pub tags: Vec<String>,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Whether it is given no jobs.
    pub paused: bool,
    /// The managers that spoke for it, by `system_id`.
    pub managers: BTreeMap<String, ManagerView>,
}

/// One manager of a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManagerView {
    /// Seconds since the epoch at which it was first heard of.
    pub first_contact: f64,
    /// Seconds since the epoch at which it was last heard of.
    pub last_contact: f64,
    /// How often it asked for a job.
    pub requests: u64,
    /// What it last said of itself.
    pub info: Value,
}
