//! The job's way: asked for, taken, given to a machine, run, ended, told.

use super::Controller;
use crate::event::{Effect, RequestEnd, RunEnd};
use crate::record::{Change, Ending, JobRecord, Store};
use springtide_pool::{
    Event, JobId, JobPhase, MachineId, Phase, Request, RequestId, RetireCause, Time,
};

impl<S: Store> Controller<S> {
    pub(super) fn request(&mut self, machine: Option<MachineId>, now: Time) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        if let Some(machine) = machine
            && !self.on(machine, Event::Reserve { request: id }, now)
        {
            return;
        }
        let request = Request {
            id,
            machine,
            since: now,
            cancelling: false,
        };
        self.requests.insert(id, request);
        self.effects.push(Effect::Request(id));
    }

    /// The daemon ends: what is not given yet is another runner's.
    pub(super) fn end_requests(&mut self) {
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        for id in ids {
            self.cancel_request(id);
        }
    }

    pub(super) fn cancel_request(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(&id)
            && !request.cancelling
        {
            request.cancelling = true;
            self.effects.push(Effect::CancelRequest(id));
        }
    }

    /// A job that comes is taken, also by a request that was told to end: GitLab has given it.
    pub(super) fn requested(&mut self, id: RequestId, end: RequestEnd, now: Time) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        let reserved = request.machine.filter(|machine| {
            self.machines.get(machine).is_some_and(|record| {
                matches!(record.machine.phase, Phase::Reserved { request, .. } if request == id)
            })
        });
        match end {
            RequestEnd::Job(job) if !self.jobs.contains_key(&job) => {
                self.found(job, now);
                if let Some(machine) = reserved {
                    self.assign(job, machine, now);
                }
            }
            RequestEnd::Job(_) | RequestEnd::NoJob | RequestEnd::Failed => {
                if let Some(machine) = reserved {
                    self.on(machine, Event::Release, now);
                }
            }
        }
    }

    /// A job is taken: from now on it is told its final state, whatever happens.
    pub(super) fn found(&mut self, job: JobId, now: Time) {
        if self.jobs.contains_key(&job) {
            return;
        }
        let record = JobRecord {
            id: job,
            phase: JobPhase::Held,
            taken: now,
            tries: 0,
            started: false,
            ending: None,
        };
        self.jobs.insert(job, record);
        self.changes.push(Change::PutJob(record));
    }

    pub(super) fn assign(&mut self, id: JobId, machine: MachineId, now: Time) {
        let Some(job) = self.jobs.get(&id).copied() else {
            return;
        };
        if !self.on(machine, Event::Assign { job: id }, now) {
            return;
        }
        if let Some(record) = self.machines.get_mut(&machine) {
            record.machine.builds = record.machine.builds.saturating_add(1);
        }
        self.put(machine);
        let job = JobRecord {
            phase: JobPhase::Running { machine },
            ..job
        };
        self.jobs.insert(id, job);
        self.changes.push(Change::PutJob(job));
        self.running.insert(id);
        if let Some(record) = self.machines.get(&machine) {
            self.effects.push(Effect::Run {
                job,
                machine: Box::new(record.clone()),
                resume: false,
            });
        }
    }

    pub(super) fn started(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && !job.started
        {
            job.started = true;
            self.changes.push(Change::PutJob(*job));
        }
    }

    /// A job whose script has not begun waits for another machine.
    pub(super) fn hold_again(&mut self, job: JobRecord) {
        let held = JobRecord {
            phase: JobPhase::Held,
            tries: job.tries.saturating_add(1),
            ..job
        };
        self.jobs.insert(job.id, held);
        self.changes.push(Change::PutJob(held));
    }

    pub(super) fn run_ended(&mut self, id: JobId, end: RunEnd, now: Time) {
        self.running.remove(&id);
        let Some(job) = self.jobs.get(&id).copied() else {
            return;
        };
        let JobPhase::Running { machine } = job.phase else {
            return;
        };
        if job.ending.is_some() {
            return;
        }
        let still_there = self
            .machines
            .get(&machine)
            .is_some_and(|record| record.machine.phase.job() == Some(id));
        if still_there {
            self.on(machine, Event::JobOver, now);
        }
        match end {
            RunEnd::Ran { broken } => {
                if broken {
                    self.retire(machine, RetireCause::Broken, now);
                }
                self.end_job(id, Ending::Ran);
            }
            RunEnd::NeverStarted if !job.started => {
                self.retire(machine, RetireCause::Unreachable, now);
                self.hold_again(job);
            }
            RunEnd::NeverStarted | RunEnd::MachineLost => {
                self.retire(machine, RetireCause::Unreachable, now);
                self.end_job(id, Ending::SystemFailure);
            }
        }
    }

    pub(super) fn canceled(&mut self, id: JobId) {
        if self
            .jobs
            .get(&id)
            .is_some_and(|job| job.phase == JobPhase::Held)
        {
            self.end_job(id, Ending::Canceled);
        }
    }

    pub(super) fn end_held(&mut self) {
        let held: Vec<JobId> = self
            .jobs
            .values()
            .filter(|job| job.phase == JobPhase::Held)
            .map(|job| job.id)
            .collect();
        for job in held {
            self.end_job(job, Ending::SystemFailure);
        }
    }

    /// Writes down how a job ended, once, and has GitLab told.
    pub(super) fn end_job(&mut self, id: JobId, ending: Ending) {
        if let Some(job) = self.jobs.get_mut(&id)
            && job.ending.is_none()
        {
            job.ending = Some(ending);
            self.changes.push(Change::PutJob(*job));
            if self.running.remove(&id) {
                self.effects.push(Effect::AbandonRun(id));
            }
            self.effects.push(Effect::Finish(id, ending));
        }
    }
}
