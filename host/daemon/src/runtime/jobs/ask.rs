//! Asking GitLab for a job: what comes is on disk before anything else is done with it.

use super::fixed::Fixed;
use super::{Active, Inner, millis, system_failure};
use crate::metrics::Queued;
use crate::pool_loop::now;
use crate::runtime::advice::jitter;
use crate::runtime::job_dir::Origin;
use crate::runtime::sessions::{Session, Sessions};
use crate::runtime::setup::Setup;
use crate::runtime::slots::Slot;
use springtide_config::Executor;
use springtide_control::RequestEnd;
use springtide_gitlab::queue::TakenJob;
use springtide_gitlab::{
    HeldJob, JobAnswer, JobKey, JobLine, JobRequestOutcome, Payload, SenderOptions, Sign,
    TraceSender,
};
use springtide_pool::{JobId, Time};
use std::sync::Arc;
use std::time::Duration;

impl Inner {
    /// Asks GitLab once, and has what comes on disk when it returns.
    pub(super) async fn ask(&self, slot: Slot) -> RequestEnd {
        let setup = self.shared.setup();
        let begun = now();
        // GitLab holds a request that knows the latest news; the last slot is not parked there, for
        // others need it too.
        let last_update = match self.shared.slots.any_left() {
            true => self.asking().last_update.clone(),
            false => None,
        };
        // Terminals are in containers alone.
        let sessions = self.shared.sessions.as_ref();
        let sessions = sessions.filter(|_| setup.runner.executor == Executor::DockerMachine);
        let session = sessions.map(Sessions::begin);
        let info = session.as_ref().map(Session::info);
        let answer = setup
            .client
            .request_job(&setup.identity, last_update.as_deref(), info.as_ref())
            .await;
        self.note(&answer, &setup, begun);
        match answer.outcome {
            JobRequestOutcome::Job(payload) => self.take(&setup, *payload, slot, session).await,
            JobRequestOutcome::Unreadable(problem) => {
                tracing::error!(runner = setup.runner.name, %problem, "a job can't be run");
                if let Some(key) = problem.key {
                    self.refuse(&setup, key, problem.problem).await;
                }
                RequestEnd::NoJob
            }
            JobRequestOutcome::Nothing | JobRequestOutcome::Conflict => RequestEnd::NoJob,
            JobRequestOutcome::Throttled { error, .. }
            | JobRequestOutcome::Forbidden(error)
            | JobRequestOutcome::Failed(error) => {
                tracing::warn!(runner = setup.runner.name, %error, "no job could be asked for");
                RequestEnd::Failed
            }
        }
    }

    /// What an answer says of GitLab, and when to ask again.
    pub(super) fn note(&self, answer: &JobAnswer, setup: &Setup, begun: Time) {
        let at = Duration::from_millis(now().0);
        let sign = answer.outcome.sign();
        let (next, disabled, disables) = {
            let mut asking = self.asking();
            asking.last_update.clone_from(&answer.last_update);
            // A request that was held since before a refusal does not lift it.
            let old = sign == Sign::Well && begun < asking.refused;
            let disables = !old && asking.health.note(sign, at, jitter());
            if sign != Sign::Well {
                asking.refused = now();
            }
            let (health, at) = (&asking.health, at);
            (health.not_before(), health.disabled_until(at), disables)
        };
        if disables {
            tracing::error!(
                runner = setup.runner.name,
                "GitLab forbids this runner's token again and again: it is left alone for a while"
            );
        }
        let next = match answer.outcome {
            JobRequestOutcome::Job(_) if !setup.runner.strict_check_interval => millis(next),
            _ => {
                let interval = millis(setup.check_interval);
                let from = millis(next).max(begun.0.saturating_add(interval));
                let latest = from.max(now().0.saturating_add(interval));
                self.shared.turns.next(from, millis(setup.step), latest)
            }
        };
        self.wait_until(Time(next));
        let trouble = match (&answer.outcome, disabled) {
            (_, Some(until)) => Some(format!(
                "GitLab forbids this runner's token; it is asked again in {}",
                crate::table::duration(until.saturating_sub(at).as_secs())
            )),
            (
                JobRequestOutcome::Forbidden(error)
                | JobRequestOutcome::Failed(error)
                | JobRequestOutcome::Throttled { error, .. },
                _,
            ) => Some(error.to_string()),
            _ => None,
        };
        self.shared.troubles.set("GitLab", trouble);
    }

    /// A job is GitLab's until it is on disk; if it can't be written it is failed there, not lost.
    pub(super) async fn take(
        &self,
        setup: &Setup,
        payload: Payload,
        slot: Slot,
        session: Option<Session>,
    ) -> RequestEnd {
        let id = JobId(payload.id);
        let origin = Origin {
            url: setup.client.options().url.clone(),
            taken: now().0,
        };
        let (dirs, json) = (self.dirs.clone(), payload.to_secret_json());
        let written =
            tokio::task::spawn_blocking(move || dirs.create(id, &origin, json.as_bytes())).await;
        let error = match written {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            tracing::error!(
                job = id.0,
                error,
                "a job can't be written down and is refused"
            );
            let why = "the runner's manager can't write the job down; its disk may be full";
            self.refuse(setup, payload.key(), why).await;
            return RequestEnd::Failed;
        }
        let info = &payload.job_info;
        let queued = info.time_in_queue_seconds;
        let told = Queued {
            seconds: queued,
            size: info.queue_size,
            depth: info.queue_depth,
            project_jobs: &info.project_jobs_running,
        };
        self.shared.metrics.job_taken(&self.shared.labels, &told);
        let project = u64::try_from(payload.job_info.project_id).ok();
        let taken = TakenJob {
            id: id.0,
            project: project.filter(|project| *project > 0),
            queued_for: Duration::try_from_secs_f64(queued).unwrap_or_default(),
        };
        // Without a queue source nobody listens.
        self.shared.taken.send(taken).ok();
        tracing::info!(
            runner = setup.runner.name,
            job = id.0,
            project = payload.job_info.project_full_path,
            "a job was taken"
        );
        // One that is offered a second time is known already.
        let mut active = self.active();
        let known = active.entry(id).or_insert_with(|| Active {
            _slot: Some(slot),
            ..Active::default()
        });
        // GitLab has the address that came last.
        known.session = session;
        drop(active);
        RequestEnd::Job(id)
    }

    /// Fails a job at GitLab that never came so far as to be kept.
    pub(super) async fn refuse(&self, setup: &Setup, key: JobKey, why: &str) {
        let line = JobLine::new(setup.client.clone(), key, setup.identity.info.clone());
        let mut held = HeldJob::new(line.clone());
        if let Err(error) = held.accept().await {
            tracing::warn!(%error, "a job that is refused could not be accepted first");
        }
        let sender = TraceSender::start(SenderOptions {
            line,
            failure_reasons: Vec::new(),
            source: Arc::new(Fixed::new(format!(
                "ERROR: Job failed (system failure): {why}\n"
            ))),
            acknowledged: 0,
            debug_trace: false,
        });
        let patience = Duration::from_secs(60);
        let told = tokio::time::timeout(patience, sender.finish(system_failure())).await;
        if told.is_err() {
            tracing::error!("GitLab could not be told of a job that was refused");
        }
    }
}
