//! Jobs on a real machine of the driver `local`: real processes, real shells.

mod support;

use serde_json::{Value, json};
use springtide_gitlab::{FailureReason, Final, FinalState, Remote, TraceSource};
use springtide_jobs::RunOutcome;
use std::time::Duration;
use support::{Bench, job, script, shows, text, until, variable, with_after};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

fn success() -> RunOutcome {
    ended(Final {
        state: FinalState::Success,
        exit_code: Some(0),
        failure_reason: None,
    })
}

fn failed(reason: FailureReason, exit_code: Option<i32>) -> RunOutcome {
    ended(Final {
        state: FinalState::Failed,
        exit_code,
        failure_reason: Some(reason),
    })
}

fn ended(end: Final) -> RunOutcome {
    RunOutcome::Ended { end, broken: false }
}

/// A trace without what differs from run to run.
fn settled(trace: &str, bench: &Bench) -> String {
    let machine = bench.machine.path().to_str().expect("UTF-8");
    let mut out = String::new();
    for line in trace.replace(machine, "MACHINE").split_inclusive('\n') {
        let line = match line.split_once(" (") {
            Some((head, _)) if head.starts_with("Running on ") => format!("{head} (HOST)...\n"),
            _ => line.to_owned(),
        };
        let mut rest = line.as_str();
        while let Some(at) = rest.find("section_") {
            let after = &rest[at..];
            let colon = after.find(':').map_or(after.len(), |colon| colon + 1);
            out.push_str(&rest[..at + colon]);
            out.push_str("TIME");
            rest = after[colon..].trim_start_matches(|c: char| c.is_ascii_digit());
        }
        out.push_str(rest);
    }
    out.replace('\x1b', "␛").replace('\r', "␍")
}

#[tokio::test]
async fn a_whole_trace() {
    let bench = Bench::new();
    let payload = with_after(
        &["export A=1", "if true; then\n  echo \"A is $A\"\nfi"],
        &["echo \"$CI_JOB_STATUS, A is ${A:-gone}\""],
        json!({"artifacts": [{"paths": ["x"]}]}),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    assert_eq!(bench.started(), 1);
    insta::assert_snapshot!(settled(&trace, &bench), @r#"
␛[0KRunning with springtide 0.1.0␛[0;m
␛[0K  on elastic abcdefgh, system ID: s_0123456789ab␛[0;m
section_start:TIME:prepare_executor␍␛[0K␛[0K␛[36;1mPreparing the "shell+machine" executor␛[0;m␛[0;m
␛[0KUsing Shell executor...␛[0;m
section_end:TIME:prepare_executor␍␛[0Ksection_start:TIME:prepare_script␍␛[0K␛[0K␛[36;1mPreparing environment␛[0;m␛[0;m
Running on ci-1 (HOST)...
section_end:TIME:prepare_script␍␛[0Ksection_start:TIME:get_sources␍␛[0K␛[0K␛[36;1mGetting source from Git repository␛[0;m␛[0;m
␛[32;1mSkipping Git repository setup␛[0;m
␛[32;1mSkipping Git checkout␛[0;m
␛[32;1mSkipping Git submodules setup␛[0;m
section_end:TIME:get_sources␍␛[0Ksection_start:TIME:step_script␍␛[0K␛[0K␛[36;1mExecuting "step_script" stage of the job script␛[0;m␛[0;m
␛[32;1m$ export A=1␛[0;m
␛[32;1m$ if true; then # collapsed multi-line command␛[0;m
A is 1
section_end:TIME:step_script␍␛[0Ksection_start:TIME:after_script␍␛[0K␛[0K␛[36;1mRunning after_script␛[0;m␛[0;m
␛[32;1mRunning after script...␛[0;m
␛[32;1m$ echo "$CI_JOB_STATUS, A is ${A:-gone}"␛[0;m
success, A is gone
section_end:TIME:after_script␍␛[0Ksection_start:TIME:upload_artifacts_on_success␍␛[0K␛[0K␛[36;1mUploading artifacts for successful job␛[0;m␛[0;m
␛[32;1mUploading artifacts...␛[0;m
␛[0;33mWARNING: x: no matching files. Ensure that the artifact path is relative to the working directory (MACHINE/builds/team/app)␛[0;m
␛[31;1mERROR: No files to upload␛[0;m
section_end:TIME:upload_artifacts_on_success␍␛[0Ksection_start:TIME:cleanup_file_variables␍␛[0K␛[0K␛[36;1mCleaning up project directory and file based variables␛[0;m␛[0;m
section_end:TIME:cleanup_file_variables␍␛[0K␛[32;1mJob succeeded␛[0;m
"#);
    assert_eq!(bench.client().list().await, Ok(Vec::new()));
    assert!(!bench.project().with_extension("tmp").exists());
    assert!(bench.project().exists());
}

#[tokio::test]
async fn a_failing_script_ends_the_job_with_its_code() {
    let bench = Bench::new();
    let payload = with_after(
        &["echo a", "sh -c 'exit 7'", "echo b"],
        &["echo $CI_JOB_STATUS!"],
        json!({}),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, failed(FailureReason::ScriptFailure, Some(7)));
    assert!(trace.contains("\nfailed!\n"), "{trace}");
    assert!(!trace.contains("$ echo b"), "{trace}");
    assert!(
        trace.ends_with("\x1b[31;1mERROR: Job failed: exit code 7\x1b[0;m\n"),
        "{trace}"
    );
}

#[tokio::test]
async fn a_failing_after_script_changes_nothing_unless_asked_to() {
    let after = ["exit 3"];
    for (ignore, outcome, words) in [
        (
            "true",
            success(),
            "after_script failed, but job will continue unaffected: exit code 3",
        ),
        (
            "false",
            failed(FailureReason::ScriptFailure, Some(3)),
            "Job failed: after_script: exit code 3",
        ),
    ] {
        let bench = Bench::new();
        let payload = with_after(
            &["true"],
            &after,
            json!({"variables": [variable("AFTER_SCRIPT_IGNORE_ERRORS", ignore)]}),
        );
        let (ended, trace) = bench.run(&payload).await;
        assert_eq!(ended, outcome);
        assert!(trace.contains(words), "{trace}");
    }
}

#[tokio::test]
async fn steps_beside_the_script_run_when_they_should() {
    let bench = Bench::new();
    let payload = job(json!({"steps": [
        {"name": "script", "script": ["false"]},
        {"name": "release", "script": ["echo released"]},
        {"name": "mop", "script": ["echo mopped"], "when": "on_failure", "allow_failure": true},
    ]}));
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, failed(FailureReason::ScriptFailure, Some(1)));
    assert!(
        trace.contains("\nmopped\n") && !trace.contains("\nreleased\n"),
        "{trace}"
    );
    assert!(trace.contains(":step_mop\r"), "{trace}");
}

#[tokio::test]
async fn any_output_arrives_as_it_is() {
    let bench = Bench::new();
    let payload = script(&["printf '\\377\\000\\200no end'"]);
    let (trace, run) = bench.begin(&payload, false);
    assert_eq!(run.await, success());
    let all = trace.read(0, 1 << 20).expect("readable");
    let wanted = b"\xff\x00\x80no end";
    assert!(all.windows(wanted.len()).any(|part| part == wanted));
    assert_eq!(trace.checksum(), crc32fast::hash(&all));

    let bench = Bench::new();
    let (outcome, trace) = bench.run(&script(&[])).await;
    assert_eq!(outcome, success(), "{trace}");
}

#[tokio::test]
async fn output_beyond_the_limit_is_dropped_and_said() {
    let mut bench = Bench::new();
    bench.options.limit = 100_000;
    let payload = script(&["head -c 8000000 /dev/zero | tr '\\0' 'x'"]);
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success());
    assert!(trace.len() < 102_000, "{}", trace.len());
    assert!(trace.contains("Job's log exceeded limit of 100000 bytes."));
    assert!(trace.ends_with("Job succeeded\x1b[0;m\n"));
}

#[tokio::test]
async fn secrets_do_not_reach_the_trace_in_whatever_pieces() {
    let bench = Bench::new();
    let payload = job(json!({
        "variables": [
            {"key": "SECRET", "value": "correct-horse", "masked": true},
            {"key": "COMPOSED", "value": "${SECRET}-battery", "masked": true},
        ],
        "steps": [{"name": "script", "script": [
            "printf 'x correct-'", "sleep 0.2", "printf 'horse y\\n'",
            "echo $COMPOSED", "echo $CI_JOB_TOKEN", "echo glpat-abc",
            "printf '%s' $SECRET",
        ]}],
    }));
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    for secret in ["correct-horse", "battery", support::TOKEN, "glpat-a"] {
        assert!(!trace.contains(secret), "{secret} in {trace}");
    }
    assert!(trace.contains("glpat-[MASKED]"));
}

#[tokio::test]
async fn file_variables_are_files_while_the_job_runs() {
    let bench = Bench::new();
    let payload = job(json!({
        "variables": [
            {"key": "KEY", "value": "line 1\n'line' $2", "file": true, "raw": true},
            {"key": "bad-name", "value": "x"},
            {"key": "QUOTED", "value": "it's $KEY"},
        ],
        "steps": [{"name": "script", "script": ["cat $KEY; echo", "stat -c %a $KEY", "echo \"$QUOTED\"", "pwd"]}],
    }));
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    let path = bench.project().with_extension("tmp").join("KEY");
    let path = path.to_str().expect("UTF-8");
    let project = bench.project();
    for part in [
        "line 1\n'line' $2\n",
        "\n600\n",
        &format!("it's {path}\n"),
        &format!("\n{}\n", project.display()),
        "WARNING: the variable `bad-name` is not set",
    ] {
        assert!(trace.contains(part), "{part} not in {trace}");
    }
    assert!(!std::path::Path::new(path).exists());
}

#[tokio::test]
async fn a_job_over_its_time_is_ended_without_after_script() {
    let bench = Bench::new();
    let payload = with_after(
        &[
            "trap '' TERM INT",
            "echo ready",
            "while true; do sleep 0.05; done",
        ],
        &["echo after"],
        json!({}),
    );
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    running.abort();
    assert!(running.await.is_err());
    drop(trace);
    // Its hour is over while no manager looks.
    bench.age(Duration::from_secs(3600));
    let (trace, run) = bench.begin(&payload, true);
    let outcome = run.await;
    let trace = text(&trace);
    assert_eq!(
        outcome,
        failed(FailureReason::JobExecutionTimeout, None),
        "{trace}"
    );
    assert!(!trace.contains("\nafter\n"), "{trace}");
    assert!(trace.contains("ERROR: Job failed: execution took longer than 1h0m0s seconds"));
}

#[tokio::test]
async fn a_script_over_its_own_time_is_followed_by_after_script() {
    let bench = Bench::new();
    let payload = with_after(
        &["sleep 600"],
        &["echo after $CI_JOB_STATUS"],
        json!({"variables": [variable("RUNNER_SCRIPT_TIMEOUT", "1s")]}),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(
        outcome,
        failed(FailureReason::JobExecutionTimeout, None),
        "{trace}"
    );
    assert!(trace.contains("\nafter failed\n"), "{trace}");
}

#[tokio::test]
async fn an_after_script_over_its_own_time_leaves_the_job_as_it_is() {
    let bench = Bench::new();
    let payload = with_after(
        &["true"],
        &["sleep 600"],
        json!({"variables": [variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s")]}),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    assert!(
        trace.contains("continue unaffected: it took longer than 1s"),
        "{trace}"
    );
}

#[tokio::test]
async fn a_cancelled_job_runs_its_after_script() {
    let mut bench = Bench::new();
    // The shell ends by itself, however long it takes to.
    bench.settings.grace = Duration::from_secs(600);
    let payload = with_after(
        &[
            "trap 'echo told; exit 9' INT",
            "echo ready",
            "while true; do sleep 0.05; done",
        ],
        &["echo after $CI_JOB_STATUS"],
        json!({}),
    );
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    bench.remote.send_replace(Remote::Canceling);
    let outcome = running.await.expect("no panic");
    let trace = text(&trace);
    assert_eq!(outcome, failed(FailureReason::JobCanceled, None), "{trace}");
    assert!(
        trace.contains("\ntold\n") && trace.contains("\nafter canceled\n"),
        "{trace}"
    );
    assert!(
        trace.ends_with("ERROR: Job failed: canceled\x1b[0;m\n"),
        "{trace}"
    );
}

#[tokio::test]
async fn an_aborted_or_abandoned_job_is_killed() {
    for abandoned in [false, true] {
        let bench = Bench::new();
        let payload = with_after(
            &[
                "trap '' TERM INT",
                "echo ready",
                "while true; do sleep 0.05; done",
            ],
            &["echo after"],
            json!({}),
        );
        let (trace, run) = bench.begin(&payload, false);
        let running = tokio::spawn(run);
        shows(&trace, "\nready\n").await;
        let reason = if abandoned {
            bench.abandon.cancel();
            FailureReason::RunnerInterrupted
        } else {
            bench.remote.send_replace(Remote::Aborted);
            FailureReason::JobCanceled
        };
        let outcome = running.await.expect("no panic");
        let trace = text(&trace);
        assert_eq!(outcome, failed(reason, None), "{trace}");
        assert!(!trace.contains("\nafter\n"), "{trace}");
        assert_eq!(bench.client().list().await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn what_a_job_leaves_running_is_killed() {
    let bench = Bench::new();
    let payload = script(&["(trap '' HUP TERM; sleep 300) >/dev/null 2>&1 & echo \"pid $! \""]);
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    let pid = trace
        .rsplit("\npid ")
        .next()
        .and_then(|rest| rest.split(' ').next());
    let pid: u32 = pid.and_then(|pid| pid.parse().ok()).expect("a pid");
    // A dead one may not have been taken away yet.
    let stat = format!("/proc/{pid}/stat");
    until("what was left is gone", || {
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        state
            .rsplit(") ")
            .next()
            .is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    })
    .await;
}

#[tokio::test]
async fn a_manager_that_dies_in_the_middle_finds_the_job_again() {
    let bench = Bench::new();
    let go = bench.machine.path().join("go");
    let wait = format!("while ! [ -e {} ]; do sleep 0.05; done", go.display());
    let payload = script(&["echo one", &wait, "echo two"]);
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\none\n").await;
    running.abort();
    assert!(running.await.is_err());
    drop(trace);
    std::fs::write(go, "").expect("written");
    let (trace, run) = bench.begin(&payload, true);
    assert_eq!(run.await, success());
    let trace = text(&trace);
    for once in [
        "\none\n",
        "\ntwo\n",
        "Running with",
        ":step_script\r",
        "Job succeeded",
    ] {
        let expected = if once.starts_with(':') { 2 } else { 1 };
        assert_eq!(trace.matches(once).count(), expected, "{once} in {trace}");
    }
    assert_eq!(bench.started(), 2);
}

/// Lines whose scripts wait, each until the test has opened its gate.
const GATES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "last"];

#[tokio::test]
async fn a_manager_that_dies_again_and_again_writes_the_same_trace() {
    let gated = |bench: &Bench| {
        let gates = bench.machine.path().join("gates");
        std::fs::create_dir(&gates).expect("made");
        let wait = "while ! [ -e $GATES/$gate ]; do sleep 0.02; done";
        let payload = with_after(
            &[
                &format!("for gate in a b c d e f; do echo line $gate; {wait}; done"),
                "exit 4",
            ],
            &[
                &format!("for gate in g last; do echo line $gate; {wait}; done"),
                "echo over",
            ],
            json!({"variables": [variable("GATES", gates.to_str().expect("UTF-8"))]}),
        );
        (gates, payload)
    };
    let open = |gates: &std::path::Path, gate: &str| {
        std::fs::write(gates.join(gate), "").expect("written");
    };
    let whole = Bench::new();
    let (gates, payload) = gated(&whole);
    for gate in GATES {
        open(&gates, gate);
    }
    let (outcome, expected) = whole.run(&payload).await;
    let bench = Bench::new();
    let (gates, payload) = gated(&bench);
    let mut deaths = 0;
    let (again, trace) = loop {
        let (trace, run) = bench.begin(&payload, deaths > 0);
        let seen = |trace: &str| {
            GATES
                .iter()
                .filter(|gate| trace.contains(&format!("\nline {gate}\n")))
                .count()
        };
        let before = seen(&text(&trace));
        for gate in &GATES[..before] {
            open(&gates, gate);
        }
        let mut changed = trace.changed();
        tokio::select! {
            outcome = run => break (outcome, text(&trace)),
            // At the next line, or after the third change of this life.
            () = async {
                for _ in 0..3 {
                    changed.changed().await.expect("the trace is open");
                    if seen(&text(&trace)) > before {
                        break;
                    }
                }
            } => deaths += 1,
        }
    };
    assert!(deaths >= GATES.len(), "{deaths}");
    assert_eq!(again, outcome);
    assert_eq!(settled(&trace, &bench), settled(&expected, &whole));
}

#[tokio::test]
async fn a_machine_that_is_not_there_leaves_the_job_for_another() {
    let mut bench = Bench::new();
    bench.settings.builds_dir = Some("/proc/no/builds".into());
    let (outcome, trace) = bench.run(&script(&["echo a"])).await;
    assert!(
        matches!(outcome, RunOutcome::NeverStarted { .. }),
        "{outcome:?}"
    );
    assert!(
        trace.contains("WARNING: the machine could not be used"),
        "{trace}"
    );
    assert_eq!(bench.started(), 0);
    // Another machine takes it; the trace goes on.
    bench.settings.builds_dir = None;
    let (outcome, trace) = bench.run(&script(&["echo a"])).await;
    assert_eq!(outcome, success());
    assert_eq!(trace.matches("Running with").count(), 2);
}

#[tokio::test]
async fn a_machine_lost_in_the_middle_is_told_apart() {
    let bench = Bench::new();
    let payload = script(&["echo ready", "sleep 300"]);
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    let id = "job-17-step-0";
    bench.client().remove(id).await.expect("removed");
    let outcome = tokio::time::timeout(Duration::from_secs(20), running).await;
    let outcome = outcome.expect("in time").expect("no panic");
    // Its end was still told, or its work is gone: either way the script is over.
    match outcome {
        RunOutcome::MachineLost { .. } => {
            assert!(
                text(&trace).contains("the machine was lost"),
                "{}",
                text(&trace)
            );
        }
        // Its removal may still be under way when the machine is tidied.
        RunOutcome::Ended { end, .. } => assert_eq!(end.exit_code, Some(137)),
        other => panic!("{other:?}"),
    }
}

/// The process that watches over a work of a bench's machine.
fn supervisor(bench: &Bench, work: &str) -> Option<String> {
    let wanted = format!(
        "--root\0{}\0supervise\0{work}\0",
        bench.machine.path().display()
    );
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let mut pids = processes.filter_map(|one| one.file_name().into_string().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).ends_with(&wanted)
    })
}

#[tokio::test]
async fn a_cache_whose_helper_is_killed_leaves_the_job_as_it_is() {
    let bench = Bench::new();
    // Long enough in the making to be killed at it.
    let payload = job(json!({
        "steps": [{"name": "script", "script": ["head -c 100000000 /dev/urandom >big"]}],
        "cache": [{"key": "k", "paths": ["big"], "policy": "push", "when": "always"}],
    }));
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    // Killed before its start is over, it would be a work that never ran.
    let progress = bench.job.path().join("progress.json");
    let launched = || {
        let text = std::fs::read_to_string(&progress).unwrap_or_default();
        let progress: Value = serde_json::from_str(&text).unwrap_or_default();
        !progress["stage"]["keep"].is_null() && progress["launched"] == true
    };
    let find = || supervisor(&bench, "job-17-keep-0").filter(|_| launched());
    until("the cache is being saved", || {
        find().is_some_and(|pid| {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            !children.trim().is_empty() && {
                let killed = std::process::Command::new("kill")
                    .arg("-9")
                    .arg(&pid)
                    .args(children.split_whitespace())
                    .status();
                killed.is_ok_and(|status| status.success())
            }
        })
    })
    .await;
    let outcome = running.await.expect("no panic");
    let trace = text(&trace);
    assert_eq!(outcome, success(), "{trace}");
    assert!(
        trace.contains("WARNING: the cache was not saved"),
        "{trace}"
    );
    assert!(trace.contains("Job succeeded"), "{trace}");
}

#[tokio::test]
async fn files_are_moved_through_the_proxy_that_a_job_names() {
    let mut bench = Bench::new();
    bench.settings.gitlab_url = "http://gitlab.test".into();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = proxy.local_addr().expect("its address");
    let payload = job(json!({
        "variables": [variable("http_proxy", &format!("http://user:word@{address}"))],
        "steps": [{"name": "script", "script": ["echo kept >kept"]}],
        "artifacts": [{
            "paths": ["kept"], "artifact_type": "archive", "artifact_format": "zip",
        }],
    }));
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    let (asked, _) = proxy.accept().await.expect("it is asked");
    let mut head = String::new();
    let mut asked = BufReader::new(asked);
    asked.read_line(&mut head).await.expect("a request");
    let whole = "POST http://gitlab.test/api/v4/jobs/17/artifacts?";
    assert!(head.starts_with(whole), "{head}");
    // Who hears nothing more tries again.
    bench.abandon.cancel();
    running.await.expect("no panic");
    assert!(!text(&trace).contains("user:word"), "{}", text(&trace));
}

#[tokio::test]
async fn a_job_that_cannot_be_run_is_refused_without_a_machine() {
    let mut bench = Bench::new();
    bench.settings.builds_dir = Some("relative".into());
    let (outcome, trace) = bench.run(&script(&["echo a"])).await;
    assert_eq!(
        outcome,
        failed(FailureReason::RunnerConfigurationError, None)
    );
    assert!(
        trace.contains("ERROR: Job failed: builds_dir is `relative`"),
        "{trace}"
    );
    bench.settings.builds_dir = None;
    let (outcome, trace) = bench.run(&job(json!({"steps": null}))).await;
    assert_eq!(outcome, failed(FailureReason::RunnerSystemFailure, None));
    assert!(
        trace.contains("GitLab sent a job without a script"),
        "{trace}"
    );
}
