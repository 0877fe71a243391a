//! `springtide plugin conformance`: whether a driver does what the daemon relies on, a case a row.
//!
//! Every case makes its own machines, under owners of the kit's own, and has them removed before the
//! next one begins; machines of anybody else are never touched. What was made is removed however the
//! run ends.

mod bench;
mod fault;
mod harm;
mod life;
mod settings;
mod site;

use super::directory::Directory;
use crate::signals::asked_to_stop;
use crate::table::{Table, say};
use anyhow::{Context, Result, bail};
use bench::{Bench, Owner};
use clap::Args;
use fault::Fault;
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use site::Site;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which driver is tried, and how.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A file, or an id in the plugin directory.
    plugin: String,
    /// The configuration with its grants, its credentials and a runner that uses it.
    #[arg(long, short, value_name = "FILE", env = "CONFIG_FILE")]
    config: PathBuf,
    /// The runner whose `MachineOptions` are used; without it, the first that has this driver.
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// Only these cases, by the beginning of their names; may be given more than once.
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Settings with which `create` must fail, and the error it must be: NAME={...}=ERROR. With
    /// NAME@FUNCTION another function: list-machines, get, destroy, renew-leases, list-leftovers.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Seconds a machine may take to be made, and to be gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86400))]
    patience: u32,
    /// Seconds a list may lag behind, instead of what the driver states: for a provider that is a
    /// stand-in.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86400))]
    list_delay: Option<u32>,
    #[command(flatten)]
    directory: Directory,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What a case does: a word on what it saw, or what is wrong.
type Run = Box<dyn for<'b> Fn(&'b Bench) -> BoxFuture<'b, Result<String>>>;

/// One thing the daemon relies on.
struct Case {
    name: String,
    /// `None`: it needs something that was not given.
    run: Option<Run>,
}

impl Case {
    fn new(
        name: &str,
        run: impl for<'b> Fn(&'b Bench) -> BoxFuture<'b, Result<String>> + 'static,
    ) -> Case {
        Case {
            name: name.to_owned(),
            run: Some(Box::new(run)),
        }
    }
}

/// What a case came to.
#[derive(Debug)]
struct Row {
    case: String,
    end: End,
    took: Duration,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    NotAskedFor,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Passed => "ok",
            End::Failed => "failed",
            End::NotAskedFor => "not asked for",
        }
    }
}

/// Tries a driver.
///
/// # Errors
/// Where it can't be loaded, the configuration has no runner for it, or it can't be asked at all.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let site = Site::of(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the threads of the program")?;
    runtime.block_on(tried(arguments, site))
}

/// All cases, in the order they are tried.
fn cases(site: &Site, faults: &[Fault]) -> Vec<Case> {
    let again = site.again.clone();
    let mut cases = vec![
        Case::new("describe", move |bench| {
            let outcome = settings::describe(bench, &again);
            std::future::ready(outcome).boxed()
        }),
        Case::new("settings-accepted", |bench| {
            settings::accepted(bench).boxed()
        }),
        Case::new("settings-rejected", |bench| {
            settings::rejected(bench).boxed()
        }),
        Case::new("create", |bench| life::create(bench).boxed()),
        Case::new("create-lost", |bench| life::create_lost(bench).boxed()),
        Case::new("create-at-once", |bench| {
            life::create_at_once(bench).boxed()
        }),
        Case::new("create-several", |bench| {
            life::create_several(bench).boxed()
        }),
        Case::new("list", |bench| life::list(bench).boxed()),
        Case::new("get", |bench| life::get(bench).boxed()),
        Case::new("lease", |bench| life::lease(bench).boxed()),
        Case::new("destroy", |bench| life::destroy(bench).boxed()),
        Case::new("destroy-nothing", |bench| {
            life::destroy_nothing(bench).boxed()
        }),
        Case::new("leftovers", |bench| harm::cut(bench).boxed()),
        Case::new("other-owner", |bench| harm::other_owner(bench).boxed()),
        Case::new("hostile-values", |bench| {
            harm::hostile_values(bench).boxed()
        }),
        Case::new("hostile-settings", |bench| {
            harm::hostile_settings(bench).boxed()
        }),
    ];
    for fault in faults.iter().cloned() {
        cases.push(Case::new(&format!("fault-{}", fault.name), move |bench| {
            let fault = fault.clone();
            async move { harm::fault(bench, &fault).await }.boxed()
        }));
    }
    if faults.is_empty() {
        cases.push(Case {
            name: "fault".into(),
            run: None,
        });
    }
    cases
}

async fn tried(arguments: &Arguments, site: Site) -> Result<ExitCode> {
    let mut cases = cases(&site, &arguments.fault);
    let wanted = |case: &Case| {
        let only = &arguments.only;
        only.is_empty()
            || only
                .iter()
                .any(|begin| case.name.starts_with(begin.as_str()))
    };
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    cases.retain(wanted);
    if cases.is_empty() {
        bail!("no case begins so; there are {}", names.join(", "));
    }
    let (id, version) = {
        let info = site.plugin.info();
        (info.id.to_string(), info.version.to_string())
    };
    let patience = Duration::from_secs(arguments.patience.into());
    let list_delay = arguments
        .list_delay
        .map(|seconds| Duration::from_secs(seconds.into()));
    let _scratch = site.scratch;
    let bench = Bench::new(
        site.plugin,
        site.runner,
        site.settings,
        patience,
        list_delay,
    )
    .await?;
    let mut rows = Vec::new();
    let stopped = tokio::select! {
        () = all(&bench, &cases, &mut rows) => false,
        () = asked_to_stop() => true,
    };
    if stopped {
        eprintln!(
            "springtide: stopped; what was made is being removed, and a second signal leaves it"
        );
    }
    let left = tokio::select! {
        left = swept(&bench) => left.err(),
        () = asked_to_stop() => Some(anyhow::anyhow!("it was left, with owners that begin with {}", bench.mark(Owner::First))),
    };
    let ok = !stopped && left.is_none() && rows.iter().all(|row| row.end != End::Failed);
    if arguments.json {
        let cases: Vec<Value> = rows.iter().map(Row::json).collect();
        let left = left.as_ref().map(|error| format!("{error:#}"));
        let report = json!({
            "plugin": id, "version": version, "ok": ok, "stopped": stopped, "left": left,
            "cases": cases,
        });
        say(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        say(&(table(&rows) + &last_line(&id, &version, &rows, cases.len())))?;
    }
    if let Some(left) = left {
        eprintln!("springtide: not all that was made is gone: {left:#}");
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Tries the cases one after the other. Where something can't be removed, no more is made.
async fn all(bench: &Bench, cases: &[Case], rows: &mut Vec<Row>) {
    let shown = std::io::stderr().is_terminal();
    for case in cases {
        if shown {
            eprintln!("{} ...", case.name);
        }
        let begun = Instant::now();
        let outcome = match &case.run {
            Some(run) => run(bench).await.map(Some),
            None => Ok(None),
        };
        let left = swept(bench).await.err();
        let stays = left.is_some();
        let (end, detail) = match (outcome, left) {
            (Err(error), None) => (End::Failed, format!("{error:#}")),
            (Err(error), Some(left)) => (End::Failed, format!("{error:#}; and {left:#}")),
            (Ok(_), Some(left)) => (End::Failed, format!("{left:#}")),
            (Ok(Some(detail)), None) => (End::Passed, detail),
            (Ok(None), None) => (End::NotAskedFor, "--fault asks for one".into()),
        };
        rows.push(Row {
            case: case.name.clone(),
            end,
            took: begun.elapsed(),
            detail,
        });
        if stays {
            return;
        }
    }
}

/// Removes what is left of all of the kit's owners.
async fn swept(bench: &Bench) -> Result<()> {
    for owner in Owner::ALL {
        bench.sweep(owner).await?;
    }
    Ok(())
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "case": self.case, "result": self.end.word(), "seconds": self.took.as_secs_f64(),
            "detail": self.detail,
        })
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["case", "result", "time", "detail"]);
    for row in rows {
        let took = format!("{:.1}s", row.took.as_secs_f64());
        table.row([row.case.as_str(), row.end.word(), &took, &row.detail]);
    }
    table.text()
}

fn last_line(id: &str, version: &str, rows: &[Row], cases: usize) -> String {
    let count = |end| rows.iter().filter(|row| row.end == end).count();
    let (passed, failed) = (count(End::Passed), count(End::Failed));
    let untried = match cases - rows.len() {
        0 => String::new(),
        some => format!(", {some} not tried"),
    };
    format!("\n{id} {version}: {passed} passed, {failed} failed{untried}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_a_case_and_says_what_was_not_tried() {
        let row = |case: &str, end, detail: &str| Row {
            case: case.into(),
            end,
            took: Duration::from_millis(1234),
            detail: detail.into(),
        };
        let rows = [
            row("create", End::Passed, "running after 1.2 s"),
            row("list", End::Failed, "the list does not\nshow the machine"),
            row("fault", End::NotAskedFor, "--fault asks for one"),
        ];
        insta::assert_snapshot!(table(&rows) + &last_line("bare", "0.1.0", &rows, 5), @r"
        case    result         time  detail
        create  ok             1.2s  running after 1.2 s
        list    failed         1.2s  the list does not show the machine
        fault   not asked for  1.2s  --fault asks for one

        bare 0.1.0: 1 passed, 1 failed, 2 not tried
        ");
    }
}
