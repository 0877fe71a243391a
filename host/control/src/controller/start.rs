//! Starting: what the state holds is taken up where it was left.

use super::{Controller, Options, Tries};
use crate::event::Effect;
use crate::record::{Change, Ending, JobRecord, State, Store, StoreError};
use rand::{SeedableRng, rngs::StdRng};
use springtide_pool::{Event, JobPhase, MachineId, Phase, Source, Targets, Time};
use std::collections::{BTreeMap, BTreeSet};

impl<S: Store> Controller<S> {
    /// Reads the state and takes it up: intents are carried on, running jobs are followed again,
    /// ended ones reported, machines half removed removed.
    ///
    /// `seed` must not be used twice for the same owner: tokens come from it.
    ///
    /// # Errors
    /// Where the state can't be read or written.
    pub fn start(
        mut store: S,
        options: Options,
        targets: Targets,
        seed: u64,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), StoreError> {
        let State {
            machines,
            jobs,
            next_machine,
        } = store.load()?;
        let mut this = Controller {
            store,
            options,
            rng: StdRng::seed_from_u64(seed),
            by_token: machines
                .iter()
                .map(|at| (at.token.clone(), at.machine.id))
                .collect(),
            machines: machines.into_iter().map(|at| (at.machine.id, at)).collect(),
            jobs: jobs.into_iter().map(|at| (at.id, at)).collect(),
            requests: BTreeMap::new(),
            next_machine,
            next_request: 0,
            targets,
            source: Source::default(),
            request_not_before: Time(0),
            create_not_before: Time(0),
            failed_creates: 0,
            paused: false,
            closing: false,
            leaving: None,
            creates: BTreeMap::new(),
            destroys: BTreeMap::new(),
            probes: BTreeMap::new(),
            list: Tries::default(),
            list_begun: Time(0),
            unlisted: BTreeSet::new(),
            last_list: None,
            renew: Tries::default(),
            strangers: BTreeMap::new(),
            running: BTreeSet::new(),
            boots: Vec::new(),
            changes: Vec::new(),
            effects: Vec::new(),
            decisions: Vec::new(),
            commits: 0,
        };
        this.adopt(now);
        let effects = this.commit()?;
        Ok((this, effects))
    }

    fn adopt(&mut self, now: Time) {
        let ids: Vec<MachineId> = self.machines.keys().copied().collect();
        for id in ids {
            let phase = self.machines[&id].machine.phase;
            match phase {
                // Its request died with the daemon that made it.
                Phase::Reserved { .. } => {
                    self.on(id, Event::Release, now);
                }
                Phase::Creating { .. } | Phase::Retiring { .. } => {
                    // A call may be under way at the provider since the moment before the restart.
                    let tries = Tries {
                        answered: now,
                        unsure: true,
                        ..Tries::default()
                    };
                    self.creates.insert(id, tries);
                }
                _ => {}
            }
        }
        let jobs: Vec<JobRecord> = self.jobs.values().copied().collect();
        for job in jobs {
            match (job.ending, job.phase) {
                (Some(ending), _) => self.effects.push(Effect::Finish(job.id, ending)),
                (None, JobPhase::Running { machine }) => self.take_up(job, machine),
                (None, JobPhase::Held) => {}
            }
        }
    }

    /// Follows a running job again, or ends it where its machine is not known any more.
    fn take_up(&mut self, job: JobRecord, machine: MachineId) {
        match self.machines.get(&machine) {
            Some(record) if record.machine.phase.job() == Some(job.id) => {
                self.running.insert(job.id);
                self.effects.push(Effect::Run {
                    job,
                    machine: Box::new(record.clone()),
                    resume: true,
                });
            }
            _ if job.started => self.end_job(job.id, Ending::SystemFailure),
            _ => {
                let held = JobRecord {
                    phase: JobPhase::Held,
                    ..job
                };
                self.jobs.insert(job.id, held);
                self.changes.push(Change::PutJob(held));
            }
        }
    }
}
