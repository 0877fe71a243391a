//! Everything this GitLab knows, and how it changes. No I/O and no clock: each change is told the
//! time, so that what follows from what can be read here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use serde_json::Value;

use crate::faults::Faults;
use crate::job::{Holder, Job, JobStatus, Phase, Times, Trace};
use crate::options::{RunnerSeed, SandboxOptions};
use crate::runner::Runner;
use crate::spec::JobSpec;
use crate::violations::{Finding, Violations};
use crate::webhooks;

/// The project of jobs that name none.
pub(crate) const NO_PROJECT: &str = "sandbox/project";
/// The branch of projects without a repository.
pub(crate) const DEFAULT_BRANCH: &str = "main";
/// A commit that is not known.
pub(crate) const NO_SHA: &str = "0000000000000000000000000000000000000000";

pub(crate) struct Project {
    pub(crate) id: u64,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) default_branch: String,
}

pub(crate) struct Ledger {
    pub(crate) options: SandboxOptions,
    pub(crate) url: String,
    rng: StdRng,
    last_job: u64,
    last_runner: u64,
    last_pipeline: u64,
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pending: BTreeSet<u64>,
    offered: BTreeSet<u64>,
    /// Every token a job ever had.
    job_tokens: HashMap<String, u64>,
    pub(crate) projects: BTreeMap<String, Project>,
    pub(crate) groups: BTreeMap<String, u64>,
    pub(crate) faults: Faults,
    pub(crate) violations: Violations,
    limits: HashMap<String, Limit>,
    /// Events to post, in order.
    pub(crate) outbox: Vec<Value>,
    /// Moves with every change that somebody may wait for.
    pub(crate) revision: u64,
    /// Moves when a runner's queue value does.
    pub(crate) queue_revision: u64,
}

impl Ledger {
    pub(crate) fn new(options: SandboxOptions, url: String, rng: StdRng) -> Self {
        let mut ledger = Self {
            url,
            rng,
            last_job: 0,
            last_runner: 0,
            last_pipeline: 0,
            runners: BTreeMap::new(),
            jobs: BTreeMap::new(),
            pending: BTreeSet::new(),
            offered: BTreeSet::new(),
            job_tokens: HashMap::new(),
            projects: BTreeMap::new(),
            groups: BTreeMap::new(),
            faults: Faults::default(),
            violations: Violations::default(),
            limits: HashMap::new(),
            outbox: Vec::new(),
            revision: 0,
            queue_revision: 0,
            options,
        };
        for seed in ledger.options.runner_tokens.clone() {
            ledger.add_runner(seed, String::new());
        }
        for project in ledger.options.projects.clone() {
            ledger.project(&project);
        }
        ledger
    }

    pub(crate) fn token(&mut self, prefix: &str) -> String {
        let rest = Alphanumeric.sample_string(&mut self.rng, 20);
        format!("{prefix}{rest}")
    }

    /// The project of this path; made, with its groups, if it is new.
    pub(crate) fn project(&mut self, path: &str) -> &mut Project {
        for (end, _) in path.match_indices('/') {
            let next = self.groups.len() as u64 + 1;
            self.groups.entry(path[..end].to_owned()).or_insert(next);
        }
        let next = self.projects.len() as u64 + 1;
        self.projects.entry(path.to_owned()).or_insert(Project {
            id: next,
            repository: None,
            default_branch: DEFAULT_BRANCH.to_owned(),
        })
    }

    pub(crate) fn add_runner(&mut self, seed: RunnerSeed, description: String) -> u64 {
        self.last_runner += 1;
        let id = self.last_runner;
        let queue_value = self.token("");
        let runner = Runner::new(id, seed, description, queue_value);
        self.runners.insert(id, runner);
        self.revision += 1;
        id
    }

    pub(crate) fn runner_of(&self, token: &str) -> Option<u64> {
        self.runners
            .values()
            .find(|runner| runner.token == token)
            .map(|runner| runner.id)
    }

    /// Gives a runner a new queue value, so that what it asks next is looked at.
    pub(crate) fn tick(&mut self, runner: u64) {
        let value = self.token("");
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.queue_value = value;
        }
        self.queue_revision += 1;
        self.revision += 1;
    }

    fn tick_for(&mut self, job: u64) {
        let Some(job) = self.jobs.get(&job) else {
            return;
        };
        let takers: Vec<u64> = self
            .runners
            .values()
            .filter(|runner| runner.takes(job))
            .map(|runner| runner.id)
            .collect();
        for runner in takers {
            self.tick(runner);
        }
    }

    /// Notes that a manager of the runner was heard of.
    pub(crate) fn heard(
        &mut self,
        runner: u64,
        system_id: &str,
        info: Option<&Value>,
        asks: bool,
        now: Duration,
    ) {
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.heard(system_id, info, asks, now);
        }
        self.revision += 1;
    }

    /// Counts a request for a job; false where the runner made too many in this minute.
    pub(crate) fn may_ask(&mut self, runner: u64, now: Duration) -> bool {
        let most = self.options.requests_per_minute;
        self.runners
            .get_mut(&runner)
            .is_none_or(|runner| runner.may_ask(most, now))
    }

    /// Keeps that the holder of a token was told to wait until then.
    pub(crate) fn limited(&mut self, token: &str, until: Duration, now: Duration) {
        self.limits
            .insert(token.to_owned(), Limit { told: now, until });
    }

    /// The limit the holder of a token was told of, if it still holds.
    pub(crate) fn limit_of(&mut self, token: &str, now: Duration) -> Option<Limit> {
        let limit = *self.limits.get(token)?;
        if limit.until <= now {
            self.limits.remove(token);
            return None;
        }
        Some(limit)
    }

    /// Makes as many jobs as the spec says, all of one pipeline; the first one's id and how many.
    pub(crate) fn create(&mut self, spec: JobSpec, head: Head, now: Duration) -> (u64, u32) {
        let count = spec.count.unwrap_or(1).max(1);
        let path = spec.repository.clone().unwrap_or(NO_PROJECT.to_owned());
        self.project(&path);
        self.last_pipeline += 1;
        let first = self.last_job + 1;
        let spec = Arc::new(spec);
        for _ in 0..count {
            self.last_job += 1;
            let id = self.last_job;
            let job = Job {
                id,
                pipeline: self.last_pipeline,
                project: path.clone(),
                spec: spec.clone(),
                sha: head.sha.clone(),
                ref_name: head.ref_name.clone(),
                is_tag: head.is_tag,
                phase: Phase::Pending,
                token: String::new(),
                holder: None,
                assignments: 0,
                trace: Trace::default(),
                debug_trace: false,
                session: None,
                artifacts: Vec::new(),
                times: Times {
                    created: now,
                    queued: now,
                    ..Times::default()
                },
                exit_code: None,
                failure_reason: None,
                accepted_left: self.options.accepted_first,
                quiet_from: None,
                answer_lost: false,
            };
            self.jobs.insert(id, job);
            self.pending.insert(id);
            self.told(id);
        }
        self.tick_for(first);
        (first, count)
    }

    /// Hands the oldest waiting job the runner may take to it.
    pub(crate) fn assign(
        &mut self,
        runner: u64,
        system_id: &str,
        graceful: bool,
        two_phase: bool,
        now: Duration,
    ) -> Option<u64> {
        let taker = self.runners.get(&runner)?;
        let id = *self
            .pending
            .iter()
            .find(|id| self.jobs.get(id).is_some_and(|job| taker.takes(job)))?;
        let token = self.token("glcbt-");
        let expires = now + self.options.offer_expiry;
        let job = self.jobs.get_mut(&id)?;
        self.pending.remove(&id);
        job.token.clone_from(&token);
        self.job_tokens.insert(token, id);
        job.holder = Some(Holder {
            runner,
            system_id: system_id.to_owned(),
            graceful,
            started: false,
        });
        job.assignments += 1;
        job.times.assigned = Some(now);
        if two_phase && self.options.two_phase {
            job.phase = Phase::Offered { expires };
            self.offered.insert(id);
            self.revision += 1;
        } else {
            job.phase = Phase::Running;
            self.told(id);
        }
        Some(id)
    }

    /// Winds the clock of an offered job.
    pub(crate) fn keep_offer(&mut self, id: u64, now: Duration) {
        let renewed = now + self.options.offer_expiry;
        if let Some(job) = self.jobs.get_mut(&id)
            && let Phase::Offered { expires } = &mut job.phase
        {
            *expires = renewed;
        }
    }

    /// The runner says that it runs the job.
    pub(crate) fn start(&mut self, id: u64, now: Duration) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.times.started.get_or_insert(now);
        if let Some(holder) = &mut job.holder {
            holder.started = true;
        }
        if matches!(job.phase, Phase::Offered { .. }) {
            job.phase = Phase::Running;
            self.offered.remove(&id);
            self.told(id);
        }
        self.revision += 1;
    }

    /// Ends a job.
    pub(crate) fn end(&mut self, id: u64, phase: Phase, reason: Option<String>, now: Duration) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = phase;
            job.failure_reason = reason;
            job.times.finished = Some(now);
        }
        self.pending.remove(&id);
        self.offered.remove(&id);
        self.told(id);
    }

    /// Cancels a job; false where it is over already or unknown.
    pub(crate) fn cancel(&mut self, id: u64, now: Duration) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let graceful = job.holder.as_ref().is_some_and(|holder| holder.graceful);
        match job.phase {
            Phase::Success | Phase::Failed | Phase::Canceled => false,
            Phase::Running if graceful => {
                job.phase = Phase::Canceling;
                self.told(id);
                true
            }
            Phase::Pending | Phase::Offered { .. } | Phase::Running | Phase::Canceling => {
                self.end(id, Phase::Canceled, None, now);
                true
            }
        }
    }

    /// Cancels a job and asks nobody to tidy up; false where it is over already or unknown.
    pub(crate) fn cancel_at_once(&mut self, id: u64, now: Duration) -> bool {
        let ended = self.jobs.get(&id).is_none_or(|job| job.status().is_final());
        if !ended {
            self.end(id, Phase::Canceled, None, now);
        }
        !ended
    }

    /// Takes back the offers that ran out; when to look again.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for id in self.offered.clone() {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let Phase::Offered { expires } = job.phase else {
                continue;
            };
            if expires > now {
                next = Some(next.map_or(expires, |next| next.min(expires)));
                continue;
            }
            job.phase = Phase::Pending;
            job.holder = None;
            job.token = String::new();
            self.offered.remove(&id);
            self.pending.insert(id);
            self.tick_for(id);
        }
        next
    }

    /// Who a job's token speaks for.
    pub(crate) fn bearer(&self, id: u64, token: Option<&str>) -> Bearer {
        let Some(owner) = token.and_then(|token| self.job_tokens.get(token)) else {
            return Bearer::Unknown;
        };
        match self.jobs.get(&id) {
            Some(job) if *owner == id && Some(job.token.as_str()) == token => Bearer::Holder,
            Some(_) if *owner == id => Bearer::Former,
            _ => Bearer::Stranger,
        }
    }

    /// The job that a token of a job that is not over speaks for.
    pub(crate) fn live_job(&self, token: &str) -> Option<&Job> {
        let job = self.jobs.get(self.job_tokens.get(token)?)?;
        (job.token == token && !job.status().is_final()).then_some(job)
    }

    /// Keeps that the runner did not hear an answer about this job.
    pub(crate) fn answer_lost(&mut self, job: u64) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.answer_lost = true;
        }
    }

    /// Notes what a request about a job had wrong.
    pub(crate) fn note_job(&mut self, id: u64, what: &str, findings: Vec<Finding>, now: Duration) {
        if findings.is_empty() {
            return;
        }
        let job = self.jobs.get(&id);
        let runner = job
            .and_then(|job| job.holder.as_ref())
            .map(|holder| holder.runner);
        let job = job.map(|job| job.id);
        self.violations.note(now, what, (job, runner), findings);
        self.revision += 1;
    }

    /// Notes what a request of a runner had wrong.
    pub(crate) fn note_runner(
        &mut self,
        runner: Option<u64>,
        what: &str,
        findings: Vec<Finding>,
        now: Duration,
    ) {
        if !findings.is_empty() {
            self.violations.note(now, what, (None, runner), findings);
            self.revision += 1;
        }
    }

    /// How many jobs wait, offered ones left out.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// How many jobs of a project run.
    pub(crate) fn running_in(&self, project: &str) -> usize {
        self.jobs
            .values()
            .filter(|job| job.project == project && job.status() == JobStatus::Running)
            .count()
    }

    /// Tells the receiver of webhooks where a job is.
    fn told(&mut self, id: u64) {
        self.revision += 1;
        if self.options.webhook.is_some()
            && let Some(event) = webhooks::event(self, id)
        {
            self.outbox.push(event);
        }
    }
}

/// Where a job's branch or tag stands.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) sha: String,
    pub(crate) ref_name: String,
    pub(crate) is_tag: bool,
}

/// A 429, when it was told and until when it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) told: Duration,
    pub(crate) until: Duration,
}

/// Who a job's token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// The runner that has the job.
    Holder,
    /// A runner that had it, and was too slow to accept it.
    Former,
    /// The runner of another job.
    Stranger,
    /// Nobody.
    Unknown,
}

#[cfg(test)]
mod tests;
