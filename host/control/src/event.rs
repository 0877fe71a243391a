//! What the controller is told and what it asks for. Effects are carried out by the daemon, or by
//! the simulation in virtual time; their answers come back as events.

use crate::record::{Ending, JobRecord, MachineRecord, Stage};
use std::collections::BTreeSet;

use springtide_pool::{JobId, Limits, MachineId, RequestId, RetireCause, Source, Targets, Time};

/// A machine as its provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The provider's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The token it was made with.
    pub token: String,
    /// Its owner mark.
    pub owner: String,
    /// Its pool mark.
    pub pool: String,
    /// What the provider says of it.
    pub state: SeenState,
    /// How to reach it, opaque here.
    pub reach: Option<String>,
    /// The scope whose list shows it; `None` is the one new machines are made in.
    pub scope: Option<String>,
}

/// What a provider says of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// Being made.
    Creating,
    /// It runs.
    Running,
    /// It exists and does not run.
    Stopped,
    /// The provider takes it back.
    Interrupted,
    /// Being removed.
    Removing,
    /// The provider can't say.
    Unknown,
}

/// Why a driver call did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverFailure {
    /// Nothing is known: no answer, a timeout, a trap. It may have happened.
    Unknown(String),
    /// It did not happen, and may if tried again.
    Transient(String),
    /// It did not happen, and the provider asks to wait this many milliseconds.
    Throttled(u64),
    /// It did not happen and won't however often it is tried like this.
    Refused(String),
}

/// How a job's work on a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It ended by itself; the job's directory says how.
    Ran {
        /// Whether the machine should meet no other job.
        broken: bool,
    },
    /// The machine failed before the first script byte; the job may try another.
    NeverStarted,
    /// The machine was lost while the script ran.
    MachineLost,
}

/// What an answer to a job request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// A job; its payload is on disk already.
    Job(JobId),
    /// None.
    NoJob,
    /// It was cancelled, or failed.
    Failed,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A create call was answered.
    Created(MachineId, Result<Seen, DriverFailure>),
    /// The scopes that the list which is told next does not cover, because they could not be listed.
    Unlisted(BTreeSet<String>),
    /// A list call was answered.
    Listed(Result<Vec<Seen>, DriverFailure>),
    /// A removal was answered; success means accepted.
    Destroyed(MachineId, Result<(), DriverFailure>),
    /// A machine was looked at: whether it can take a job.
    Probed(MachineId, bool),
    /// How a machine is reached was learned after it was made.
    Reach(MachineId, String),
    /// A machine passed a stage of its boot.
    Passed(MachineId, Stage),
    /// Leases were renewed.
    Renewed(Result<(), DriverFailure>),
    /// A job request ended.
    Requested(RequestId, RequestEnd),
    /// A job's script began.
    Started(JobId),
    /// A job's work ended.
    RunEnded(JobId, RunEnd),
    /// GitLab cancelled a job that was still held.
    Canceled(JobId),
    /// GitLab has a job's final state.
    Finished(JobId),
    /// A job was taken before the manager died and never written down.
    Found(JobId),
    /// What the policies answered.
    Targets(Targets),
    /// What the operator allows, at a reload or as the share of `concurrent` changes.
    Limits(Limits),
    /// What new machines are made with, at a reload; those that are there keep what they have.
    Made {
        /// The scope new machines are made in.
        scope: String,
        /// `MachineName`, with `%s` where the unique part goes.
        machine_name: String,
    },
    /// What is known of waiting jobs.
    Source(Source),
    /// A person wants a machine of their own, made with this token: it is held once it is ready.
    Make(u128),
    /// A person wants a machine gone.
    Remove(MachineId),
    /// A person keeps a machine.
    Hold(MachineId),
    /// A person lets a machine go on.
    LetGo(MachineId),
    /// No more jobs are taken.
    Close,
    /// No more jobs are taken, and machines go, for this reason; those kept for a person stay.
    Leave(RetireCause),
    /// Requests and creations pause, or go on.
    Pause(bool),
    /// No more time: jobs that wait for a machine are ended.
    EndHeld,
}

/// Something to carry out. It is already in the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Call the driver's `create` for this record; again and again with the same token is safe.
    Create(Box<MachineRecord>),
    /// Call the driver's `list-machines`.
    List,
    /// See whether a machine is ready.
    Probe(Box<MachineRecord>),
    /// Call the driver's `destroy`.
    Destroy(Box<MachineRecord>),
    /// Renew the leases of these machines, whose ids are known, until then.
    Renew(Vec<MachineRecord>, Time),
    /// Ask GitLab for a job.
    Request(RequestId),
    /// End a job request.
    CancelRequest(RequestId),
    /// Run a job on a machine; `resume` where it may run there already.
    Run {
        /// The job.
        job: JobRecord,
        /// The machine.
        machine: Box<MachineRecord>,
        /// Whether it may run there already.
        resume: bool,
    },
    /// Stop following a job's run: its machine is gone.
    AbandonRun(JobId),
    /// Tell GitLab the final state of a job, until it has it.
    Finish(JobId, Ending),
    /// A machine is gone for certain and its record dropped: forget what is kept of it elsewhere.
    Forget(Box<MachineRecord>),
    /// A machine could not be made: for logs and metrics.
    CreateFailed(MachineId, DriverFailure),
    /// A machine goes: for logs and metrics.
    Goes(MachineId, RetireCause),
}
