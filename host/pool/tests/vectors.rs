//! Agreement with GitLab Runner on when to make and when to remove a machine.
//!
//! The cases were made by running GitLab Runner's own code. It decides on one machine at a time,
//! knowing only the ones before it, so a case reads as "these machines, and this one as the youngest".
//! Where our rules differ on purpose, the difference has a name and a count here.

mod common;

use common::*;
use serde::Deserialize;
use springtide_pool::*;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    config: Config,
    data: Data,
    machine: Judged,
    can_create_idle: bool,
    can_create_on_demand: bool,
    should_remove: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Config {
    #[serde(rename = "limit")]
    limit: u32,
    max_growth_rate: u32,
    idle_count: u32,
    idle_count_min: u32,
    idle_time: u32,
    max_builds: u32,
    idle_scale_factor: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    acquired: u64,
    creating: u64,
    idle: u64,
    used: u64,
    removing: u64,
    stuck_on_removing: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    state: String,
    seconds_since_used: f64,
    used_count: u32,
}

/// Where we decide otherwise, and mean to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// With an idle machine there, a job is asked for on it; no other is made for it on demand.
    AnIdleMachineIsAskedForFirst,
    /// Machines that are being removed still count against `limit`, but are no surplus: removing
    /// further ones for them would shrink the pool below `limit`.
    GoingMachinesAreNoSurplus,
}

fn retiring(cause: RetireCause) -> Phase {
    Phase::Retiring {
        since: ago(1),
        cause,
    }
}

impl Case {
    fn phase(&self, state: &str, id: u64, since: Time) -> Phase {
        match state {
            "Idle" => Phase::Idle { since },
            "Acquired" => Phase::Reserved {
                since: NOW,
                idle_since: since,
                request: RequestId(id),
            },
            "Creating" => Phase::Creating { since: NOW },
            "Used" => Phase::Busy {
                since,
                job: JobId(id),
            },
            "Removing" => retiring(RetireCause::Asked),
            other => panic!("a case has an unknown machine state {other}"),
        }
    }

    /// The machines of `data`; none of them would go by itself.
    fn machines(&self) -> Vec<Machine> {
        let data = &self.data;
        let states = [
            ("Used", data.used),
            ("Idle", data.idle),
            ("Acquired", data.acquired),
            ("Creating", data.creating),
            ("Removing", data.removing + data.stuck_on_removing),
        ];
        let states = states.iter().flat_map(|it| (0..it.1).map(|_| it.0));
        (1..)
            .zip(states)
            .map(|(id, it)| machine(id, self.phase(it, id, NOW)))
            .collect()
    }

    fn targets(&self) -> Targets {
        Targets {
            idle_count: self.config.idle_count,
            idle_count_min: self.config.idle_count_min,
            idle_scale_factor: self.config.idle_scale_factor,
            idle_time: self.config.idle_time,
            ..Targets::default()
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            limit: self.config.limit,
            max_growth_rate: self.config.max_growth_rate,
            max_builds: self.config.max_builds,
            request_concurrency: 1000,
            ..Limits::default()
        }
    }

    fn step(&self, machines: Vec<Machine>) -> Vec<Decision> {
        step(&pool(machines), &self.targets(), &self.limits(), NOW)
    }

    /// The removal we decide on for the judged machine, in GitLab Runner's words.
    fn removal(&self) -> Option<&'static str> {
        let id = 1_000_000;
        let since = Time(NOW.0 - (self.machine.seconds_since_used * 1000.0) as u64);
        let judged = Machine {
            builds: self.machine.used_count,
            ..machine(id, self.phase(&self.machine.state, id, since))
        };
        let mut machines = self.machines();
        machines.push(judged);
        actions(&self.step(machines))
            .into_iter()
            .find_map(|action| match action {
                Action::Retire { machine, cause } if machine.0 == id => Some(match cause {
                    RetireCause::MaxBuilds => "too many builds",
                    RetireCause::TooMany => "too many machines",
                    RetireCause::IdleTime => "too many idle machines",
                    other => panic!("unexpected cause {other:?}"),
                }),
                _ => None,
            })
    }
}

#[test]
fn agrees_with_gitlab_runner_but_for_the_named_differences() {
    let mut differences = BTreeMap::new();
    let mut cases = 0;
    for line in include_str!("data/idle-limits.jsonl").lines() {
        let case: Case = serde_json::from_str(line).expect(line);
        cases += 1;
        let mut note = |difference| *differences.entry(difference).or_insert(0) += 1;

        let found = case.step(case.machines());
        assert_eq!(
            creates(&found) > 0,
            case.can_create_idle,
            "{line}\n{found:#?}"
        );

        let asks = actions(&found).contains(&Action::RequestJob { machine: None });
        if asks || creates(&found) > 0 {
            assert!(case.can_create_on_demand, "{line}\n{found:#?}");
        } else if case.can_create_on_demand {
            assert!(
                case.config.idle_count == 0 && case.data.idle > 0,
                "{line}\n{found:#?}"
            );
            note(Difference::AnIdleMachineIsAskedForFirst);
        }

        let (ours, theirs) = (case.removal(), case.should_remove.as_deref());
        if ours != theirs {
            let data = &case.data;
            let staying = data.acquired + data.creating + data.idle + data.used + 1;
            let available = data.acquired + data.creating + data.idle;
            let target = case
                .targets()
                .idle_target(u32::try_from(data.used).unwrap());
            let too_long = case.machine.seconds_since_used > f64::from(case.config.idle_time);
            let otherwise =
                (too_long && available >= u64::from(target)).then_some("too many idle machines");
            assert_eq!(
                (ours, theirs),
                (otherwise, Some("too many machines")),
                "{line}"
            );
            assert!(staying <= u64::from(case.config.limit), "{line}");
            note(Difference::GoingMachinesAreNoSurplus);
        }
    }
    println!("{cases} cases, {differences:?}");
    let expected = BTreeMap::from([
        (Difference::AnIdleMachineIsAskedForFirst, 26),
        (Difference::GoingMachinesAreNoSurplus, 15),
    ]);
    assert_eq!((cases, differences), (800, expected));
}
