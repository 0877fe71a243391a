//! The compatibility suite, once for each executor. Its cases are in `tests/compat`; what it is and
//! how to add to it is in `docs/testing.md`.

use anyhow::Result;
use springtide_tests::compat::case::{self, Executor};
use springtide_tests::compat::{directory, run, runners};
use std::collections::BTreeSet;
use tokio::sync::Mutex;

/// Each suite keeps the whole machine busy, and some of its cases are about time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_on_the_shell_executor_as_gitlab_runner_runs_them() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    run(Executor::Shell).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_on_the_docker_executor_as_gitlab_runner_runs_them() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    run(Executor::Docker).await
}

#[test]
fn the_suite_has_at_least_120_jobs_for_each_executor_and_knows_its_runners() -> Result<()> {
    let cases = case::load(&directory())?;
    let runners = runners::load(&directory())?;
    let known: BTreeSet<&str> = runners.iter().map(|runner| runner.name.as_str()).collect();
    for executor in [Executor::Shell, Executor::Docker] {
        let jobs = cases.iter().filter(|case| case.is_for(executor));
        let jobs: usize = jobs.map(|case| case.jobs.len()).sum();
        assert!(jobs >= 120, "{jobs} jobs for {executor:?}");
    }
    for job in cases.iter().flat_map(|case| &case.jobs) {
        let runner = job.runner.as_deref().unwrap_or(runners::PLAIN);
        assert!(known.contains(runner), "there is no runner {runner:?}");
    }
    Ok(())
}

#[test]
fn a_key_that_nobody_knows_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a.toml");
    let first = "[[case]]\nname = 'a'\nscript = ['true']\n";
    for (more, problem) in [
        ("", ""),
        ("scripts = ['true']\n", "scripts"),
        ("[case.expect]\nstates = 'success'\n", "states"),
        (
            "[case.variables]\nA = { value = 'a', hidden = true }\n",
            "hidden",
        ),
        ("[case.expect]\nstate = 'failed'\n", "reason"),
        (
            "[case.expect]\nstate = 'failed'\nreason = 'script_failure'\n",
            "exit_code",
        ),
        ("[case.expect]\nstate = 'odd'\n", "odd"),
        ("[[case]]\nname = 'a'\nscript = ['true']\n", "two cases"),
        ("[[case.then]]\nscripts = ['true']\n", "scripts"),
    ] {
        std::fs::write(&file, format!("{first}{more}"))?;
        match case::load(folder.path()) {
            Ok(cases) => assert!(problem.is_empty() && cases.len() == 1, "{more}"),
            Err(error) => assert!(
                !problem.is_empty() && format!("{error:#}").contains(problem),
                "{more}: {error:#}"
            ),
        }
    }
    Ok(())
}
