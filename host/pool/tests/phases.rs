//! Every pair of phase and event has a rule, and this table is all of them.

mod common;

use common::{NOW, ago};
use springtide_pool::*;

const JOB: JobId = JobId(7);
const OTHER: JobId = JobId(8);
const REQUEST: RequestId = RequestId(3);
const ASKED: RetireCause = RetireCause::Asked;
const BROKEN: RetireCause = RetireCause::Broken;

fn phases() -> Vec<(&'static str, Phase)> {
    let since = ago(60);
    let missing = |job| Phase::Missing { since, job };
    let held = |job| Phase::Held { since, job };
    vec![
        ("intended", Phase::Intended { since }),
        ("creating", Phase::Creating { since }),
        (
            "booting",
            Phase::Booting {
                since,
                asked: ago(90),
            },
        ),
        ("idle", Phase::Idle { since }),
        (
            "reserved",
            Phase::Reserved {
                since,
                idle_since: ago(90),
                request: REQUEST,
            },
        ),
        ("busy", Phase::Busy { since, job: JOB }),
        (
            "draining",
            Phase::Draining {
                since,
                job: JOB,
                cause: ASKED,
            },
        ),
        (
            "retiring",
            Phase::Retiring {
                since,
                cause: ASKED,
            },
        ),
        ("missing", missing(None)),
        ("missing+job", missing(Some(JOB))),
        ("held", held(None)),
        ("held+job", held(Some(JOB))),
        ("gone", Phase::Gone { since }),
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Asked,
        Event::Exists,
        Event::Ready,
        Event::Reserve { request: REQUEST },
        Event::Release,
        Event::Assign { job: OTHER },
        Event::JobOver,
        Event::Drain { cause: BROKEN },
        Event::Retire { cause: BROKEN },
        Event::NotSeen,
        Event::SeenAgain,
        Event::Hold,
        Event::LetGo,
        Event::Gone,
    ]
}

/// Columns as in [`events`]; `.` is refused, `=` leaves the phase as it is to the last field.
const TABLE: &str = "
            asked    exists  ready reserve  release assign jobover     drain    retire   notseen     seenagain hold     letgo gone
intended    creating booting .     .        .       .      .           retiring retiring .           .         .        .     gone
creating    =        booting idle  .        .       .      .           retiring retiring .           .         .        .     gone
booting     .        =       idle  .        .       .      .           retiring retiring missing     .         .        .     gone
idle        .        .       .     reserved .       busy   .           retiring retiring missing     .         held     .     gone
reserved    .        .       .     .        idle    busy   .           retiring retiring missing     .         held     .     gone
busy        .        .       .     .        .       .      idle        draining .        missing+job .         held+job .     gone
draining    .        .       .     .        .       .      retiring    =        .        missing+job .         held+job .     gone
retiring    .        .       .     .        .       .      .           .        .        .           .         .        .     gone
missing     .        .       .     .        .       .      .           retiring retiring =           idle      .        .     gone
missing+job .        .       .     .        .       .      missing     .        .        =           busy      .        .     gone
held        .        .       .     .        .       .      .           .        .        .           .         .        idle  gone
held+job    .        .       .     .        .       .      held        .        .        .           .         .        busy  gone
gone        .        .       .     .        .       .      .           .        .        .           .         .        .     =
";

fn label(phase: &Phase) -> String {
    let carries = matches!(phase, Phase::Missing { .. } | Phase::Held { .. });
    match phase.job() {
        Some(_) if carries => format!("{}+job", phase.name()),
        _ => phase.name().to_owned(),
    }
}

#[test]
fn every_pair_of_phase_and_event_has_the_rule_of_the_table() {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .filter(|line| !line.is_empty())
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), phases().len());
    for ((name, phase), row) in phases().into_iter().zip(&rows) {
        assert_eq!(row[0], name);
        assert_eq!(row.len(), events().len() + 1, "{name}");
        for (event, rule) in events().into_iter().zip(&row[1..]) {
            let found = phase.on(event, NOW);
            let what = format!("{name} on {}", event.name());
            match *rule {
                "." => assert_eq!(found, Err(Refused { phase, event }), "{what}"),
                "=" => assert_eq!(found, Ok(phase), "{what}"),
                next => assert_eq!(found.map(|it| label(&it)), Ok(next.to_owned()), "{what}"),
            }
        }
    }
}

#[test]
fn what_a_phase_carries_goes_on() {
    let on = |name: &str, event| {
        let (_, phase) = phases().into_iter().find(|it| it.0 == name).unwrap();
        phase.on(event, NOW).unwrap()
    };
    let cases = [
        (
            "booting remembers when it was asked for",
            on("creating", Event::Exists),
            Phase::Booting {
                since: NOW,
                asked: ago(60),
            },
        ),
        (
            "a request starts no idle clock",
            on("idle", Event::Reserve { request: REQUEST }),
            Phase::Reserved {
                since: NOW,
                idle_since: ago(60),
                request: REQUEST,
            },
        ),
        (
            "nor does it end one",
            on("reserved", Event::Release),
            Phase::Idle { since: ago(90) },
        ),
        (
            "a job ends it",
            on("busy", Event::JobOver),
            Phase::Idle { since: NOW },
        ),
        (
            "a drained machine goes for the cause it was drained for",
            on("draining", Event::JobOver),
            Phase::Retiring {
                since: NOW,
                cause: ASKED,
            },
        ),
        (
            "a missing one keeps its job",
            on("busy", Event::NotSeen),
            Phase::Missing {
                since: NOW,
                job: Some(JOB),
            },
        ),
        (
            "and has it when seen again",
            on("missing+job", Event::SeenAgain),
            Phase::Busy {
                since: NOW,
                job: JOB,
            },
        ),
        (
            "its grace runs on when its job ends",
            on("missing+job", Event::JobOver),
            Phase::Missing {
                since: ago(60),
                job: None,
            },
        ),
        (
            "one let go starts a new idle clock",
            on("held", Event::LetGo),
            Phase::Idle { since: NOW },
        ),
    ];
    for (rule, found, expected) in cases {
        assert_eq!(found, expected, "{rule}");
    }
}

#[test]
fn a_machine_with_a_job_is_never_retired_and_the_refusal_says_what_to_do() {
    for (name, phase) in phases() {
        let found = phase.on(Event::Retire { cause: ASKED }, NOW);
        if phase.job().is_some() {
            let refused = found.unwrap_err().to_string();
            let held = "job 7, so drain it, or end the job first";
            assert!(refused.contains(held), "{name}: {refused}");
        }
    }
    let refused = Phase::Gone { since: NOW }
        .on(Event::Ready, NOW)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the event 'ready' can't happen to a machine that is gone; it stays as it is"
    );
}

#[test]
fn every_phase_but_gone_counts() {
    let machines: Vec<Machine> = (0..)
        .zip(phases())
        .map(|(id, it)| common::machine(id, it.1))
        .collect();
    let counts = Counts::of(&machines);
    let expected = Counts {
        intended: 1,
        creating: 1,
        booting: 1,
        idle: 1,
        reserved: 1,
        busy: 1,
        draining: 1,
        retiring: 1,
        missing: 2,
        held: 2,
    };
    assert_eq!(counts, expected);
    assert_eq!(
        (
            counts.total(),
            counts.growing(),
            counts.available(),
            counts.in_use()
        ),
        (12, 3, 5, 2)
    );
    let counted = machines
        .iter()
        .filter(|it| it.phase.counts_against_limit())
        .count();
    assert_eq!(counted, 12);
}
