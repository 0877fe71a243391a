//! One step of a pool: its whole input as `status --snapshot` dumps it, and its decisions in words.

use serde::{Deserialize, Serialize};
use springtide_pool::{Action, Decision, Limits, MachineId, Pool, Targets, Time};
use std::collections::BTreeMap;

/// What one step looks at, whole: the daemon's snapshot.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Snapshot {
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
    pub now: Time,
    /// Machines, jobs, requests and what is known of the queue.
    pub pool: Pool,
    /// What the policies want.
    pub targets: Targets,
    /// What the operator allows.
    pub limits: Limits,
    /// What the machines are called. The rules do not look at it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<MachineId, String>,
}

/// What a decision does, in words; `hold` where nothing is done. A machine is named by what it is
/// called, or by its number where nobody knows.
#[must_use]
pub fn words(decision: &Decision, called: impl Fn(MachineId) -> Option<String>) -> String {
    let name =
        |machine: MachineId| called(machine).unwrap_or_else(|| format!("machine {}", machine.0));
    let Some(action) = decision.action else {
        return "hold".into();
    };
    match action {
        Action::Create => "create a machine".into(),
        Action::RequestJob {
            machine: Some(machine),
        } => format!("request a job for {}", name(machine)),
        Action::RequestJob { machine: None } => "request a job".into(),
        Action::CancelRequest { request } => format!("cancel request {}", request.0),
        Action::Assign { job, machine } => format!("assign job {} to {}", job.0, name(machine)),
        Action::Drain { machine, .. } => format!("drain {}", name(machine)),
        Action::Retire { machine, .. } => format!("retire {}", name(machine)),
        Action::Forget { machine } => format!("forget {}", name(machine)),
        Action::FailJob { job } => format!("fail job {}", job.0),
    }
}

/// The column that actions take, in characters, so that their reasons stand below each other.
#[must_use]
pub fn width<'a>(actions: impl Iterator<Item = &'a str>) -> usize {
    let longest = actions.map(|action| action.chars().count()).max();
    longest.unwrap_or_default().max(28)
}

#[cfg(test)]
mod tests {
    use super::words;
    use springtide_pool::{Action, Decision, JobId, MachineId, Reason, RequestId, RetireCause};

    #[test]
    fn a_machine_goes_by_its_name_or_else_by_its_number() {
        let called = |machine| (machine == MachineId(1)).then(|| "ci-1".to_owned());
        let (job, cause) = (JobId(7), RetireCause::IdleTime);
        for (action, expected) in [
            (None, "hold"),
            (Some(Action::Create), "create a machine"),
            (Some(Action::RequestJob { machine: None }), "request a job"),
            (
                Some(Action::RequestJob {
                    machine: Some(MachineId(1)),
                }),
                "request a job for ci-1",
            ),
            (
                Some(Action::CancelRequest {
                    request: RequestId(1),
                }),
                "cancel request 1",
            ),
            (
                Some(Action::Assign {
                    job,
                    machine: MachineId(1),
                }),
                "assign job 7 to ci-1",
            ),
            (
                Some(Action::Drain {
                    machine: MachineId(1),
                    cause,
                }),
                "drain ci-1",
            ),
            (
                Some(Action::Retire {
                    machine: MachineId(2),
                    cause,
                }),
                "retire machine 2",
            ),
            (
                Some(Action::Forget {
                    machine: MachineId(1),
                }),
                "forget ci-1",
            ),
            (Some(Action::FailJob { job }), "fail job 7"),
        ] {
            let decision = Decision {
                action,
                reason: Reason::MachineFree,
            };
            assert_eq!(words(&decision, called), expected);
        }
    }
}
