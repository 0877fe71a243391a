//! What is known of a machine, and what became of it.

use crate::commands::asking::Daemon;
use crate::runtime::answers::{Diary, Portrait};
use crate::runtime::socket::Ask;
use crate::table::{duration, say};
use anyhow::{Context, Result};
use clap::Args;
use springtide_control::Stage;
use springtide_plugins::contract::Reach;
use std::fmt::Write;

/// Which machine.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Its name or provider id, as `springtide machine ls` shows it.
    machine: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Shows all that is known of a machine.
///
/// # Errors
/// Where no daemon answers, or the machine is not there.
pub async fn inspect(arguments: &Arguments) -> Result<()> {
    let machine = arguments.machine.clone();
    let answer = arguments.daemon.ask(&Ask::Inspect { machine }).await?;
    if arguments.json {
        return Ok(say(&(serde_json::to_string_pretty(&answer)? + "\n"))?);
    }
    let portrait = serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")?;
    Ok(say(&shown(&portrait))?)
}

fn shown(portrait: &Portrait) -> String {
    let Portrait {
        machine, record, ..
    } = portrait;
    let mut rows: Vec<(&str, String)> = vec![
        ("machine", machine.name.clone()),
        ("runner", portrait.runner.clone()),
        ("id", machine.id.clone().unwrap_or_else(|| "-".into())),
        ("phase", machine.phase.clone()),
        ("age", duration(machine.age)),
        ("jobs", machine.builds.to_string()),
    ];
    if let Some(job) = machine.job {
        rows.push(("job", job.to_string()));
    }
    rows.push(("reached", reached(record.reach.as_deref())));
    rows.push(("boot", boot(portrait)));
    if let Some(why) = &portrait.waits_for {
        rows.push(("waits for", why.clone()));
    }
    rows.push(("lease until", instant(record.lease_until.0)));
    rows.push(("token", record.token.clone()));
    if let Some(scope) = &portrait.scope {
        rows.push(("driver", scope.driver.clone()));
        let settings = scope.settings.as_object();
        for (name, value) in settings.into_iter().flatten() {
            rows.push(("setting", format!("{name} = {value}")));
        }
    }
    let mut text = String::new();
    for (name, value) in rows {
        let value = value.replace(|c: char| c.is_control(), " ");
        // Writing to a string can't fail.
        writeln!(text, "{name:<12} {value}").ok();
    }
    text
}

fn reached(reach: Option<&str>) -> String {
    match reach.map(serde_json::from_str::<Reach>) {
        None => "not known yet".into(),
        Some(Ok(Reach::Ssh(at))) => format!("ssh {}@{} port {}", at.user, at.host, at.port),
        Some(Ok(Reach::Process(directory))) => format!("the directory {directory}"),
        Some(Err(error)) => format!("can't be read: {error}"),
    }
}

/// The stages it passed, each with how long it took.
fn boot(portrait: &Portrait) -> String {
    let record = &portrait.record;
    let stage = |(stage, length): (Stage, springtide_pool::Millis)| {
        format!(
            "{} {}.{} s",
            stage.name(),
            length.0 / 1000,
            length.0 % 1000 / 100
        )
    };
    let stages: Vec<String> = record
        .boot
        .lengths(record.machine.made)
        .map(stage)
        .collect();
    match stages.is_empty() {
        true => "-".into(),
        false => stages.join(", "),
    }
}

/// Milliseconds since 1970 as a person reads them.
fn instant(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(_) if millis == 0 => "-".into(),
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "-".into(),
    }
}

/// Shows what was logged and decided about a machine.
///
/// # Errors
/// Where no daemon answers, or nothing is known of the machine.
pub async fn logs(arguments: &Arguments) -> Result<()> {
    let machine = arguments.machine.clone();
    let answer = arguments.daemon.ask(&Ask::Log { machine }).await?;
    if arguments.json {
        return Ok(say(&(serde_json::to_string_pretty(&answer)? + "\n"))?);
    }
    let diary = serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")?;
    Ok(say(&written(&diary))?)
}

fn written(diary: &Diary) -> String {
    let logged = diary.lines.iter();
    let logged = logged.map(|line| (line.at, line.level.as_str(), line.text.clone()));
    let decided = diary.decisions.iter();
    let decided = decided.map(|said| {
        (
            said.at.0,
            "decided",
            format!("{}: {}", said.action, said.reason),
        )
    });
    let mut all: Vec<(u64, &str, String)> = logged.chain(decided).collect();
    all.sort_by_key(|(at, _, _)| *at);
    let mut text = String::new();
    for (at, what, line) in all {
        let line = line.replace(|c: char| c.is_control(), " ");
        // Writing to a string can't fail.
        writeln!(text, "{}  {what:<7}  {line}", instant(at)).ok();
    }
    if text.is_empty() {
        text.push_str("nothing was logged about it since the daemon started\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_log::Line;
    use crate::runtime::scope::Scope;
    use crate::view::{MachineRow, Said};
    use serde_json::json;
    use springtide_control::{Boot, MachineRecord};
    use springtide_pool::{Machine, MachineId, Phase, Time};

    #[test]
    fn a_machine_is_shown_with_its_boot_in_parts() {
        let mut boot = Boot::default();
        for (stage, at) in [
            (Stage::Exists, 3_000),
            (Stage::Tcp, 12_500),
            (Stage::Ssh, 14_000),
        ] {
            boot.pass(stage, Time(at));
        }
        let portrait = Portrait {
            runner: "elastic".into(),
            machine: MachineRow {
                number: 1,
                name: "ci-1".into(),
                id: Some("i-1".into()),
                phase: "booting".into(),
                age: 75,
                builds: 0,
                job: None,
            },
            record: MachineRecord {
                machine: Machine {
                    id: MachineId(1),
                    phase: Phase::Intended { since: Time(0) },
                    builds: 0,
                    made: Time(0),
                    interrupted: false,
                },
                name: "ci-1".into(),
                token: "3f6c".into(),
                provider_id: Some("i-1".into()),
                scope: String::new(),
                reach: Some(r#"{"ssh":{"host":"10.0.0.5","port":22,"user":"ci"}}"#.into()),
                lease_until: Time(14_400_000),
                removal_accepted: false,
                boot,
                keep: false,
            },
            scope: Some(Scope {
                driver: "virtualbox".into(),
                runner: "elastic".into(),
                settings: json!({"virtualbox-memory": 2048}),
                ..Scope::default()
            }),
            waits_for: Some("its first boot is under way".into()),
        };
        insta::assert_snapshot!(shown(&portrait), @"
        machine      ci-1
        runner       elastic
        id           i-1
        phase        booting
        age          1m
        jobs         0
        reached      ssh ci@10.0.0.5 port 22
        boot         exists 3.0 s, tcp 9.5 s, ssh 1.5 s
        waits for    its first boot is under way
        lease until  1970-01-01 04:00:00Z
        token        3f6c
        driver       virtualbox
        setting      virtualbox-memory = 2048
        ");
    }

    #[test]
    fn what_was_logged_and_decided_stands_in_the_order_it_happened() {
        let diary = Diary {
            lines: vec![Line {
                at: 2_000,
                level: "warn".into(),
                text: "first boot: Docker was\nnot there".into(),
            }],
            decisions: vec![Said {
                at: Time(1_000),
                action: "request a job for ci-1".into(),
                reason: "a machine is free".into(),
            }],
        };
        insta::assert_snapshot!(written(&diary), @"
        1970-01-01 00:00:01Z  decided  request a job for ci-1: a machine is free
        1970-01-01 00:00:02Z  warn     first boot: Docker was not there
        ");
        assert!(written(&Diary::default()).contains("nothing"));
    }
}
