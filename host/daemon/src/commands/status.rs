//! `springtide status`: how a running daemon stands.

use super::asking::Daemon;
use crate::runtime::answers::{PoolStatus, Status};
use crate::runtime::socket::Ask;
use crate::snapshot::width;
use crate::table::{Table, say};
use anyhow::{Context, Result};
use clap::Args;
use springtide_pool::Source;
use std::fmt::Write;

/// Show how a running daemon stands: machines by phase, waiting jobs, the latest decisions.
///
/// With --snapshot it prints one step's complete input as JSON instead. The same input gives the
/// same decisions, today and on another machine:
///
///   springtide status --snapshot > snapshot.json
///   springtide pool step < snapshot.json
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Only this runner, by its name.
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// One step's complete input as JSON.
    #[arg(long)]
    snapshot: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Decisions to show of each pool.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    decisions: usize,
}

/// Asks and prints.
///
/// # Errors
/// Where no daemon answers.
pub async fn run(arguments: Arguments) -> Result<()> {
    if arguments.snapshot {
        let runner = arguments.runner;
        let snapshot = arguments.daemon.ask(&Ask::Snapshot { runner }).await?;
        say(&(serde_json::to_string_pretty(&snapshot)? + "\n"))?;
        return Ok(());
    }
    let answer = arguments.daemon.ask(&Ask::Status).await?;
    let mut status: Status = serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")?;
    if let Some(name) = &arguments.runner {
        status.pools.retain(|pool| pool.runner == *name);
    }
    if arguments.json {
        say(&(serde_json::to_string_pretty(&status)? + "\n"))?;
    } else {
        say(&text(&status, arguments.decisions))?;
    }
    Ok(())
}

fn text(status: &Status, decisions: usize) -> String {
    let mut text = String::new();
    let mut table = Table::new(&[
        "runner", "machines", "coming", "free", "busy", "going", "other", "limit", "running",
        "held", "waiting",
    ]);
    for pool in &status.pools {
        let counts = &pool.counts;
        let limit = match pool.limits.limit {
            0 => "-".to_owned(),
            limit => limit.to_string(),
        };
        table.row([
            pool.runner.clone(),
            counts.total().to_string(),
            counts.growing().to_string(),
            (counts.idle + counts.reserved).to_string(),
            counts.in_use().to_string(),
            counts.retiring.to_string(),
            (counts.missing + counts.held).to_string(),
            limit,
            pool.running.to_string(),
            pool.held.to_string(),
            waiting(pool),
        ]);
    }
    if table.is_empty() {
        text.push_str("no runner works\n");
    } else {
        text.push_str(&table.text());
    }
    for pool in &status.pools {
        // Writing to a string can't fail.
        if let Some(trouble) = &pool.trouble {
            writeln!(text, "\n{}: {trouble}", pool.runner).ok();
        }
        if pool.stuck > 0 {
            let (runner, stuck) = (&pool.runner, pool.stuck);
            writeln!(text, "\n{runner}: {stuck} machines could not be removed for ten minutes; `springtide machine ls` lists them").ok();
        }
        for heard in &pool.policies {
            writeln!(
                text,
                "\n{}: {}: {}",
                pool.runner, heard.policy, heard.reason
            )
            .ok();
        }
        let latest = pool.decisions.len().saturating_sub(decisions);
        if latest < pool.decisions.len() {
            writeln!(text, "\n{}: latest decisions", pool.runner).ok();
        }
        let latest = &pool.decisions[latest..];
        let width = width(latest.iter().map(|said| said.action.as_str()));
        for said in latest {
            writeln!(text, "  {:<width$} {}", said.action, said.reason).ok();
        }
    }
    for plugin in &status.plugins {
        if let Some(trouble) = &plugin.trouble {
            writeln!(text, "\nplugin {}: {trouble}", plugin.id).ok();
        }
    }
    text
}

fn waiting(pool: &PoolStatus) -> String {
    match pool.queue {
        Source::None => "-".into(),
        Source::Fresh { waiting, .. } => waiting.to_string(),
        Source::Stale { .. } => "stale".into(),
        Source::Silent => "silent".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Said;
    use springtide_pool::{Counts, Limits, Time};

    #[test]
    fn a_status_shows_pools_troubles_and_the_latest_decisions() {
        let said = |action: &str, reason: &str| Said {
            at: Time(0),
            action: action.into(),
            reason: reason.into(),
        };
        let elastic = PoolStatus {
            runner: "elastic".into(),
            counts: Counts {
                idle: 2,
                busy: 3,
                booting: 1,
                ..Counts::default()
            },
            limits: Limits {
                limit: 20,
                ..Limits::default()
            },
            running: 3,
            decisions: vec![
                said("hold", "an older one"),
                said("request a job for ci-3f6c0a9d41be", "a machine is free"),
                said("create a machine", "2 jobs wait"),
            ],
            ..PoolStatus::default()
        };
        let docker = PoolStatus {
            runner: "docker".into(),
            trouble: Some("the Docker executor is not there yet".into()),
            ..PoolStatus::default()
        };
        let status = Status {
            pools: vec![elastic, docker],
            ..Status::default()
        };
        insta::assert_snapshot!(text(&status, 2), @r"
        runner   machines  coming  free  busy  going  other  limit  running  held  waiting
        elastic         6       1     2     3      0      0     20        3     0        -
        docker          0       0     0     0      0      0      -        0     0        -

        elastic: latest decisions
          request a job for ci-3f6c0a9d41be a machine is free
          create a machine                  2 jobs wait

        docker: the Docker executor is not there yet
        ");
        assert_eq!(text(&Status::default(), 1), "no runner works\n");
    }
}
