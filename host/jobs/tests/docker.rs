//! Jobs in containers of a real Docker engine.

mod support;

use serde_json::{Value, json};
use springtide_gitlab::{FailureReason, Final, FinalState, Payload, Remote};
use springtide_jobs::RunOutcome;
use support::engine::{bench, configure, docker, image, kept, left};
use support::{job, script, shows, text, variable, with_after};

fn success() -> RunOutcome {
    RunOutcome::Ended {
        end: Final {
            state: FinalState::Success,
            exit_code: Some(0),
            failure_reason: None,
        },
        broken: false,
    }
}

fn failed(reason: FailureReason, exit_code: Option<i32>) -> RunOutcome {
    RunOutcome::Ended {
        end: Final {
            state: FinalState::Failed,
            exit_code,
            failure_reason: Some(reason),
        },
        broken: false,
    }
}

/// A job of these lines with these fields.
fn with(lines: &[&str], fields: Value) -> Payload {
    let mut all = json!({"steps": [{"name": "script", "script": lines}]});
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    job(all)
}

#[tokio::test]
async fn a_job_runs_in_its_image_and_leaves_nothing() {
    let bench = bench();
    let payload = with_after(
        &[
            "echo in $FROM_IMAGE, $(pwd), $MINE",
            "cat \"$SECRET_FILE\"",
            "test ! -e /usr/bin/git",
            "touch left",
        ],
        &["echo after: $CI_JOB_STATUS, $(ls)"],
        json!({"variables": [
            variable("MINE", "a 'quoted' $HOME"),
            {"key": "SECRET_FILE", "value": "what is in the file\n", "file": true},
        ]}),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    for expected in [
        "Preparing the \"docker+machine\" executor",
        "Using Docker executor with image springtide/tiny:1 ...",
        "Using docker image sha256:",
        &format!(" via {}...", bench.settings.machine_name),
        "\nin tiny, /builds/team/app, a 'quoted'\n",
        "\nwhat is in the file\n",
        "\nafter: success, left\n",
        "Job succeeded",
    ] {
        assert!(trace.contains(expected), "{expected} is not in {trace}");
    }
    assert_eq!(left(&bench), "", "{trace}");
    assert_eq!(bench.started(), 1);
}

#[tokio::test]
async fn a_script_fails_with_its_exit_code() {
    let bench = bench();
    let payload = with_after(&["exit 42"], &["echo after: $CI_JOB_STATUS"], json!({}));
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(
        outcome,
        failed(FailureReason::ScriptFailure, Some(42)),
        "{trace}"
    );
    assert!(trace.contains("\nafter: failed\n"), "{trace}");
    assert!(trace.contains("ERROR: Job failed: exit code 42"), "{trace}");
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_as_gitlab_tells_it() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.pull_policy = vec![springtide_config::PullPolicy::Never];
    });
    let (outcome, trace) = bench
        .run(&with(&["true"], image("springtide/missing:1")))
        .await;
    assert_eq!(
        outcome,
        failed(FailureReason::ImagePullFailure, None),
        "{trace}"
    );
    for expected in [
        "WARNING: Failed to pull image with policy \"never\": Error response from daemon: ",
        "ERROR: Job failed: failed to pull image \"springtide/missing:1\" with specified policies [never]: Error response from daemon: ",
        // Engines have it in words of their own.
        "o such image: springtide/missing:1",
    ] {
        assert!(trace.contains(expected), "{expected} is not in {trace}");
    }
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn what_an_entry_point_exports_and_prints_is_the_jobs() {
    let bench = bench();
    let payload = with(
        &["echo FROM_ENTRY=$FROM_ENTRY"],
        image("springtide/entry:1"),
    );
    let (outcome, trace) = bench.run(&payload).await;
    assert_eq!(outcome, success(), "{trace}");
    assert!(trace.contains("\nFROM_ENTRY=was here\n"), "{trace}");
    assert!(trace.contains("entry point of the image\n"), "{trace}");
    let none = json!({"image": {"name": "springtide/entry:1", "entrypoint": [""]}});
    let (outcome, trace) = bench
        .run(&with(&["echo FROM_ENTRY=$FROM_ENTRY."], none))
        .await;
    assert_eq!(outcome, success(), "{trace}");
    assert!(trace.contains("\nFROM_ENTRY=.\n"), "{trace}");
    let other = json!({"image": {"name": "springtide/tiny:1", "entrypoint": ["false"]}});
    let (outcome, trace) = bench.run(&with(&["true"], other)).await;
    assert_eq!(
        outcome,
        failed(FailureReason::ScriptFailure, Some(1)),
        "{trace}"
    );
}

#[tokio::test]
async fn an_image_without_a_shell_is_told_as_gitlab_tells_it() {
    let bench = bench();
    let (outcome, trace) = bench
        .run(&with(&["true"], image("springtide/bare:1")))
        .await;
    assert_eq!(
        outcome,
        failed(FailureReason::ScriptFailure, Some(1)),
        "{trace}"
    );
    assert!(trace.contains("\nshell not found\n"), "{trace}");
}

#[tokio::test]
async fn a_job_runs_as_the_user_that_is_asked_for() {
    let mut bench = bench();
    let lines = [
        "echo uid $(id -u)",
        "touch /builds/team/app/mine /cache/mine",
        "cat $SECRET_FILE",
    ];
    let asked = |user: &str| {
        let mut fields = json!({"image": {
            "name": "springtide/tiny:1", "executor_opts": {"docker": {"user": user}},
        }});
        fields["variables"] = json!([
            {"key": "SECRET_FILE", "value": "what is in the file\n", "file": true},
        ]);
        with(&lines, fields)
    };
    let (outcome, trace) = bench.run(&asked("worker")).await;
    assert_eq!(outcome, success(), "{trace}");
    assert!(trace.contains("\nuid 1000\n"), "{trace}");
    configure(&mut bench, |settings| {
        settings.allowed_users = vec!["1000".into()];
    });
    let (outcome, trace) = bench.run(&asked("worker")).await;
    assert_eq!(
        outcome,
        failed(FailureReason::RunnerConfigurationError, None),
        "{trace}"
    );
    assert!(
        trace.contains("user \"worker\" is not an allowed user: [1000]"),
        "{trace}"
    );
}

#[tokio::test]
async fn a_manager_that_dies_in_the_middle_finds_the_container_again() {
    let bench = bench();
    let payload = script(&[
        "echo one",
        "while ! [ -e /cache/go ]; do sleep 0.05; done",
        "echo two",
    ]);
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\none\n").await;
    running.abort();
    assert!(running.await.is_err());
    drop(trace);
    let machine = format!("label=springtide.machine={}", bench.settings.machine_name);
    let build = docker(&[
        "ps",
        "-q",
        "--filter",
        &machine,
        "--filter",
        "label=com.gitlab.gitlab-runner.type=build",
    ]);
    docker(&["exec", &build, "touch", "/cache/go"]);
    let (trace, run) = bench.begin(&payload, true);
    assert_eq!(run.await, success(), "{}", text(&trace));
    let trace = text(&trace);
    for once in [
        "\none\n",
        "\ntwo\n",
        "Running with",
        "Using Docker executor",
        "Job succeeded",
    ] {
        assert_eq!(trace.matches(once).count(), 1, "{once} in {trace}");
    }
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn services_are_reached_by_their_names_once_they_are_up() {
    let bench = bench();
    let lines = [
        "wget -q -O - http://springtide-web:8080/",
        "wget -q -O - http://springtide__web:8080/",
        "wget -q -O - http://other:8080/",
        "wget -q -O - http://third:8080/",
    ];
    let web = json!({
        "image": {"name": "springtide/tiny:1"},
        "services": [
            {"name": "springtide/web:1", "alias": "other, third"},
            {"name": "springtide/tiny:1", "alias": "asks", "variables": [{"key": "WHO", "value": "a service"}],
             "entrypoint": ["sh", "-c"], "command": ["echo \"$WHO of $CI_PROJECT_DIR\"; sleep 1000"]},
        ],
    });
    let (outcome, trace) = bench.run(&with(&lines, web)).await;
    assert_eq!(outcome, success(), "{trace}");
    assert_eq!(trace.matches("\nit serves\n").count(), 4, "{trace}");
    for expected in [
        "Starting service springtide/web:1 ...",
        "Waiting for services to be up and running (timeout 30 seconds)...",
        // The other exposes no port, and is warned about with what it said.
        "-springtidetin-1 probably didn't start properly.",
        "has no exposed ports",
        "\na service of /builds/team/app\n",
    ] {
        assert!(trace.contains(expected), "{expected} is not in {trace}");
    }
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn a_service_on_the_engines_own_network_is_a_host_of_the_job() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.network_mode = Some("bridge".into());
        settings.services = vec![springtide_config::Service {
            name: "springtide/web:1".into(),
            alias: Some("web".into()),
            command: Vec::new(),
            entrypoint: Vec::new(),
            environment: springtide_config::Hidden(Vec::new()),
        }];
    });
    let (outcome, trace) = bench.run(&script(&["wget -q -O - http://web:8080/"])).await;
    assert_eq!(outcome, success(), "{trace}");
    assert!(trace.contains("\nit serves\n"), "{trace}");
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn a_service_that_never_comes_up_does_not_stop_the_job() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.wait_for_services_timeout = Some(std::time::Duration::from_secs(1));
    });
    let silent = json!({"services": [
        {"name": "springtide/web:1", "command": ["sh", "-c", "echo I say why; sleep 1000"]},
    ]});
    let (outcome, trace) = bench.run(&with(&["echo all the same"], silent)).await;
    assert_eq!(outcome, success(), "{trace}");
    for expected in [
        "-springtideweb-0 probably didn't start properly.",
        "8080: ",
        "\nI say why\n",
        "\nall the same\n",
    ] {
        assert!(trace.contains(expected), "{expected} is not in {trace}");
    }
}

#[tokio::test]
async fn what_is_kept_is_there_for_the_next_job_of_the_project_alone() {
    let bench = bench();
    let of = |project: u64| {
        let project = json!({"job_info": {
            "name": "test", "project_id": project, "project_full_path": "team/app",
        }});
        with(&["ls /cache", "touch /cache/kept", "pwd"], project)
    };
    for (project, there) in [(3, false), (3, true), (4, false)] {
        let (outcome, trace) = bench.run(&of(project)).await;
        assert_eq!(outcome, success(), "{trace}");
        assert_eq!(
            trace
                .rsplit("Running with")
                .next()
                .map(|run| run.contains("\nkept\n")),
            Some(there),
            "{trace}"
        );
    }
    assert_eq!(kept(&bench).len(), 2);
}

#[tokio::test]
async fn a_script_that_takes_too_much_memory_is_told_why_it_was_killed() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.limits.memory = Some(64 << 20);
        settings.limits.memory_swap = Some(64 << 20);
    });
    let hog = "x=a; while true; do x=\"$x$x\"; done";
    let (outcome, trace) = bench.run(&script(&[hog])).await;
    assert_eq!(
        outcome,
        failed(FailureReason::ScriptFailure, Some(137)),
        "{trace}"
    );
    assert!(trace.contains("out of memory"), "{trace}");
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn a_container_that_is_removed_under_its_script_is_no_lost_machine() {
    let bench = bench();
    let (trace, run) = bench.begin(&script(&["echo ready", "sleep 300"]), false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    let machine = format!("label=springtide.machine={}", bench.settings.machine_name);
    let build = docker(&[
        "ps",
        "-q",
        "--filter",
        &machine,
        "--filter",
        "label=com.gitlab.gitlab-runner.type=build",
    ]);
    docker(&["rm", "-f", &build]);
    let outcome = running.await.expect("no panic");
    assert_eq!(
        outcome,
        failed(FailureReason::RunnerSystemFailure, None),
        "{}",
        text(&trace)
    );
    assert!(
        text(&trace).contains("the container of the job was removed"),
        "{}",
        text(&trace)
    );
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn a_cancelled_job_runs_its_after_script_in_the_same_container() {
    let bench = bench();
    let payload = with_after(
        &["touch /tmp/seen", "echo ready", "sleep 300"],
        &["echo after: $CI_JOB_STATUS, $(ls /tmp)"],
        json!({}),
    );
    let (trace, run) = bench.begin(&payload, false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    bench.remote.send_replace(Remote::Canceling);
    let outcome = running.await.expect("no panic");
    assert_eq!(
        outcome,
        failed(FailureReason::JobCanceled, None),
        "{}",
        text(&trace)
    );
    assert!(
        text(&trace).contains("\nafter: canceled, seen\n"),
        "{}",
        text(&trace)
    );
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn a_job_that_is_over_while_its_containers_are_made_leaves_nothing() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.wait_for_services_timeout = Some(std::time::Duration::from_secs(300));
    });
    let silent = json!({"services": [{"name": "springtide/web:1", "command": ["sleep", "1000"]}]});
    let (trace, run) = bench.begin(&with(&["true"], silent), false);
    let running = tokio::spawn(run);
    shows(&trace, "Waiting for services").await;
    bench.remote.send_replace(Remote::Aborted);
    let outcome = running.await.expect("no panic");
    assert_eq!(
        outcome,
        failed(FailureReason::JobCanceled, None),
        "{}",
        text(&trace)
    );
    assert_eq!(bench.started(), 0);
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn what_the_operator_does_not_allow_is_refused_with_what_he_does() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.allowed_images = vec!["ruby:*".into()];
        settings.allowed_services = vec!["postgres:*".into()];
        settings.services_limit = Some(1);
    });
    let cases = [
        (
            image("springtide/entry:1"),
            "disallowed image \"springtide/entry:1\"",
        ),
        (
            json!({"services": [{"name": "springtide/web:1"}]}),
            "disallowed image \"springtide/web:1\"",
        ),
        (
            json!({"services": [{"name": "a"}, {"name": "b"}]}),
            "services_limit of its runner is 1",
        ),
        (
            json!({"image": {"name": "a", "executor_opts": {"docker": {"colour": "red"}}}}),
            "unsupported executor options",
        ),
        (
            json!({"image": {"name": "springtide/tiny:1", "pull_policy": ["always"]}}),
            "not one of the allowed_pull_policies ([if-not-present])",
        ),
    ];
    for (fields, expected) in cases {
        let (outcome, trace) = bench.run(&with(&["true"], fields)).await;
        assert_eq!(
            outcome,
            failed(FailureReason::RunnerConfigurationError, None),
            "{trace}"
        );
        assert!(trace.contains(expected), "{expected} is not in {trace}");
        let job = tempfile::tempdir().expect("a directory");
        bench.job = job;
    }
    // What he wrote himself is allowed.
    let (outcome, trace) = bench.run(&script(&["true"])).await;
    assert_eq!(outcome, success(), "{trace}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_leaves_the_job_for_another_machine() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.socket = Some("/nowhere/docker.sock".into())
    });
    bench.settings.lost_after = std::time::Duration::from_millis(300);
    let (outcome, trace) = bench.run(&script(&["true"])).await;
    assert!(
        matches!(outcome, RunOutcome::NeverStarted { .. }),
        "{outcome:?} {trace}"
    );
    configure(&mut bench, |settings| {
        settings.socket = Some(support::engine::socket())
    });
    bench.settings.lost_after = std::time::Duration::from_secs(10);
    let (outcome, trace) = bench.run(&script(&["true"])).await;
    assert_eq!(outcome, success(), "{trace}");
}

#[tokio::test]
async fn what_an_engine_refuses_is_tried_three_times() {
    let mut bench = bench();
    configure(&mut bench, |settings| {
        settings.runtime = Some("nowhere".into());
    });
    let (outcome, trace) = bench.run(&script(&["true"])).await;
    assert_eq!(
        outcome,
        failed(FailureReason::RunnerSystemFailure, None),
        "{trace}"
    );
    for (line, times) in [
        ("ERROR: Preparation failed: ", 2),
        ("Will be retried in 3s ...", 2),
        ("ERROR: Job failed (system failure): ", 1),
    ] {
        assert_eq!(trace.matches(line).count(), times, "{line}: {trace}");
    }
    assert_eq!(left(&bench), "");
}

#[tokio::test]
async fn what_a_dead_manager_left_is_removed_before_the_next_job() {
    let bench = bench();
    let (trace, run) = bench.begin(&script(&["echo ready", "sleep 300"]), false);
    let running = tokio::spawn(run);
    shows(&trace, "\nready\n").await;
    running.abort();
    assert!(running.await.is_err());
    assert_ne!(left(&bench), "");
    let next = with(&["echo next"], json!({"id": 18}));
    let (outcome, trace) = bench.run(&next).await;
    assert_eq!(outcome, success(), "{trace}");
    assert_eq!(left(&bench), "");
}
