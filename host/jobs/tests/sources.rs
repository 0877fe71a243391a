//! Sources from a real git server that asks for the job's token.

mod support;

use serde_json::{Value, json};
use springtide_gitlab::{FailureReason, FinalState, Payload};
use springtide_jobs::RunOutcome;
use springtide_sandbox::{Sandbox, SandboxOptions};
use std::path::Path;
use support::{Bench, git, job, variable};
use tempfile::TempDir;

/// A project with three commits and a submodule, behind a server.
struct Forge {
    sandbox: Sandbox,
    repositories: TempDir,
    token: String,
}

fn commit(directory: &Path, file: &str, content: &str) {
    std::fs::write(directory.join(file), content).expect("written");
    git(directory, &["add", "."]);
    git(directory, &["commit", "--quiet", "--message", content]);
}

impl Forge {
    async fn start() -> Self {
        let options = SandboxOptions::default();
        let token = options.api_token.clone();
        let repositories = tempfile::tempdir().expect("a directory");
        let root = repositories.path();
        for name in ["app", "lib"] {
            std::fs::create_dir(root.join(name)).expect("made");
            git(&root.join(name), &["init", "--quiet"]);
        }
        commit(&root.join("lib"), "lib.txt", "the library");
        let sandbox = Sandbox::start(options).await.expect("a sandbox");
        let app = root.join("app");
        for number in ["one", "two"] {
            commit(&app, "app.txt", number);
        }
        let lib = root.join("lib");
        git(
            &app,
            &[
                "submodule",
                "--quiet",
                "add",
                lib.to_str().expect("UTF-8"),
                "lib",
            ],
        );
        git(
            &app,
            &[
                "config",
                "-f",
                ".gitmodules",
                "submodule.lib.url",
                "../lib.git",
            ],
        );
        commit(&app, "app.txt", "three");
        for name in ["app", "lib"] {
            let path = root.join(name).join(".git");
            sandbox
                .add_repository(&format!("team/{name}"), &path)
                .expect("served");
        }
        Self {
            sandbox,
            repositories,
            token,
        }
    }

    fn sha(&self) -> String {
        git(
            &self.repositories.path().join("app"),
            &["rev-parse", "HEAD"],
        )
    }

    /// A job with these lines and variables.
    fn job(&self, lines: &[&str], variables: Vec<Value>) -> Payload {
        let host = self.sandbox.addr();
        let token = &self.token;
        let mut all = vec![
            variable("GIT_STRATEGY", ""),
            json!({"key": "CI_JOB_TOKEN", "value": token, "masked": true}),
        ];
        all.extend(variables);
        job(json!({
            "git_info": {
                "repo_url": format!("http://gitlab-ci-token:{token}@{host}/team/app.git"),
                "sha": self.sha(), "ref": "main", "ref_type": "branch", "depth": 20,
                "refspecs": ["+refs/heads/main:refs/remotes/origin/main"],
            },
            "variables": all,
            "steps": [{"name": "script", "script": lines}],
        }))
    }
}

fn succeeded(outcome: &RunOutcome) -> bool {
    matches!(outcome, RunOutcome::Ended { end, broken: false } if end.state == FinalState::Success)
}

#[tokio::test]
async fn sources_are_got_with_the_jobs_token_which_is_not_left_behind() {
    let forge = Forge::start().await;
    let bench = Bench::new();
    let lines = [
        "cat app.txt; echo",
        "git rev-parse --is-shallow-repository",
        // The job's own script may fetch on.
        "git fetch --quiet origin main",
        "touch untracked",
    ];
    let (outcome, trace) = bench.run(&forge.job(&lines, Vec::new())).await;
    assert!(succeeded(&outcome), "{outcome:?}\n{trace}");
    for part in [
        "Fetching changes with git depth set to 20...",
        "Created fresh repository.",
        &format!(
            "Checking out {} as detached HEAD (ref is main)...",
            &forge.sha()[..8]
        ),
        "Skipping Git submodules setup",
        "\nthree\n",
    ] {
        assert!(trace.contains(part), "{part} not in {trace}");
    }
    let config = std::fs::read_to_string(bench.project().join(".git/config")).expect("readable");
    assert!(!config.contains(&forge.token), "{config}");
    assert!(!trace.contains(&forge.token), "{trace}");

    // The next job finds the clone, and none of what the last one left in it.
    std::fs::write(bench.project().join(".git/index.lock"), "").expect("written");
    let lines = ["if [ -e untracked ]; then exit 5; fi"];
    let (outcome, trace) = bench.run(&forge.job(&lines, Vec::new())).await;
    assert!(succeeded(&outcome), "{trace}");
    assert_eq!(trace.matches("Created fresh repository.").count(), 1);
}

#[tokio::test]
async fn depth_and_strategy_are_obeyed() {
    let forge = Forge::start().await;
    let bench = Bench::new();
    let lines = ["echo \"$(git rev-list --count HEAD) commits\""];
    for (variables, commits) in [
        (vec![variable("GIT_DEPTH", "1")], 1),
        (vec![variable("GIT_DEPTH", "0")], 3),
        (
            vec![
                variable("GIT_DEPTH", "2"),
                variable("GIT_STRATEGY", "clone"),
            ],
            2,
        ),
    ] {
        let (outcome, trace) = bench.run(&forge.job(&lines, variables)).await;
        assert!(succeeded(&outcome), "{trace}");
        assert!(trace.contains(&format!("\n{commits} commits\n")), "{trace}");
    }
    let lines = ["ls -A"];
    let empty = vec![variable("GIT_STRATEGY", "empty")];
    let (outcome, trace) = bench.run(&forge.job(&lines, empty)).await;
    assert!(succeeded(&outcome), "{trace}");
    assert!(
        trace.contains("creating an empty build directory"),
        "{trace}"
    );
    assert!(!bench.project().join(".git").exists());
}

#[tokio::test]
async fn submodules_come_with_the_same_token() {
    let forge = Forge::start().await;
    let bench = Bench::new();
    let recursive = vec![
        variable("GIT_SUBMODULE_STRATEGY", "recursive"),
        variable("GIT_DEPTH", "0"),
    ];
    let (outcome, trace) = bench
        .run(&forge.job(&["cat lib/lib.txt; echo"], recursive))
        .await;
    assert!(succeeded(&outcome), "{trace}");
    assert!(trace.contains("\nthe library\n"), "{trace}");
    assert!(
        trace.contains("Updating/initializing submodules recursively..."),
        "{trace}"
    );
}

#[tokio::test]
async fn sources_that_cannot_be_got_are_a_system_failure() {
    let forge = Forge::start().await;
    let bench = Bench::new();
    let mut payload = forge.job(&["echo a"], Vec::new());
    payload.git_info.repo_url = format!("http://{}/team/none.git", forge.sandbox.addr()).into();
    let (outcome, trace) = bench.run(&payload).await;
    let RunOutcome::Ended { end, .. } = outcome else {
        panic!("{outcome:?}\n{trace}");
    };
    assert_eq!(end.failure_reason, Some(FailureReason::RunnerSystemFailure));
    assert_eq!(bench.started(), 0);
    let line = "ERROR: Job failed (system failure): getting the sources failed: exit code 128";
    assert!(trace.contains(line), "{trace}");
}

#[tokio::test]
async fn hooks_run_round_the_sources() {
    let forge = Forge::start().await;
    let mut bench = Bench::new();
    bench.settings.pre_get_sources_script = Some("echo runner before".into());
    bench.settings.post_get_sources_script = Some("echo runner after, $(cat app.txt)".into());
    bench.settings.pre_build_script = Some("export BUILD=on".into());
    let (outcome, trace) = bench
        .run(&forge.job(&["echo build $BUILD"], Vec::new()))
        .await;
    assert!(succeeded(&outcome), "{trace}");
    let mut rest = trace.as_str();
    for part in [
        "\nrunner before\n",
        "Checking out",
        "\nrunner after, three\n",
        "\nbuild on\n",
    ] {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{part} not in its place in {trace}"));
        rest = &rest[at..];
    }
}

#[tokio::test]
async fn gits_settings_are_cleaned_as_the_runner_says() {
    let forge = Forge::start().await;
    for (clean, strategy, found) in [
        // What the runner does not say: before a job that gets sources.
        (None, "fetch", ["kept after", "gone before"]),
        (None, "none", ["kept after", "kept before"]),
        (Some(true), "fetch", ["gone after", "gone before"]),
        (Some(true), "none", ["gone after", "gone before"]),
        (Some(false), "fetch", ["kept after", "kept before"]),
    ] {
        let mut bench = Bench::new();
        bench.settings.clean_git_config = clean;
        let lines = [
            "git config some.thing found",
            "mkdir -p .git/hooks",
            "touch .git/hooks/post-checkout",
        ];
        let (outcome, trace) = bench.run(&forge.job(&lines, Vec::new())).await;
        assert!(succeeded(&outcome), "{trace}");
        let config = std::fs::read_to_string(bench.project().join(".git/config"));
        let after = match config.is_ok_and(|text| text.contains("found")) {
            true => "kept after",
            false => "gone after",
        };
        let lines = [
            "echo \"set to $(git config some.thing || true).\"",
            "if [ -e .git/hooks/post-checkout ]; then echo hooked; fi",
        ];
        let next = forge.job(&lines, vec![variable("GIT_STRATEGY", strategy)]);
        let (outcome, trace) = bench.run(&next).await;
        assert!(succeeded(&outcome), "{trace}");
        let kept = trace.contains("\nset to found.\n");
        assert_eq!(kept, trace.contains("\nhooked\n"), "{trace}");
        let before = if kept { "kept before" } else { "gone before" };
        assert_eq!([after, before], found, "{clean:?}, {strategy}: {trace}");
    }
}

#[tokio::test]
async fn the_sources_are_called_safe_once_where_the_runner_says_so() {
    let forge = Forge::start().await;
    let mut bench = Bench::new();
    // The machine's own settings of git: those of whoever runs the tests are left alone.
    let global = bench.machine.path().join("gitconfig");
    let named = variable("GIT_CONFIG_GLOBAL", global.to_str().expect("UTF-8"));
    for (safe, expected) in [(false, 0), (true, 1), (true, 1)] {
        bench.settings.safe_directory_checkout = safe;
        let payload = forge.job(&["true"], vec![named.clone()]);
        let (outcome, trace) = bench.run(&payload).await;
        assert!(succeeded(&outcome), "{trace}");
        let text = std::fs::read_to_string(&global).unwrap_or_default();
        let line = format!("directory = {}\n", bench.project().display());
        assert_eq!(text.matches(&line).count(), expected, "{text}");
    }
}
