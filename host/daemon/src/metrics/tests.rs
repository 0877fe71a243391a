//! What a scrape reads.

use super::*;
use springtide_pool::{Counts, Targets};

#[test]
fn a_dashboard_of_gitlab_runner_finds_its_names() {
    let metrics = Metrics::new().unwrap();
    let runner = RunnerLabels {
        short_token: "abcdefghi".into(),
        name: "elastic".into(),
        system_id: "s_1".into(),
    };
    let counts = Counts {
        idle: 2,
        booting: 1,
        busy: 3,
        draining: 1,
        retiring: 4,
        ..Counts::default()
    };
    metrics.states([(&counts, 0), (&counts, 1)]);
    metrics.pool(&runner, &counts, &Targets::default());
    metrics.machine(MachineAction::Created);
    metrics.job_taken(
        &runner,
        &Queued {
            seconds: 2.5,
            size: 4,
            depth: 1,
            project_jobs: "+Inf",
        },
    );
    metrics.not_made_in(4.0);
    metrics.requests(&runner, 2, 3);
    metrics.request_held(&runner);
    metrics.slots(10);
    metrics.job_final(&runner, 61.0, Some("script_failure"));
    metrics.limit(&runner, 7);
    metrics.jobs(&runner, 3, 1);
    metrics.concurrent(10);
    let text = metrics.text().unwrap();
    for line in [
        r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="idle"} 4"#,
        r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="used"} 8"#,
        r#"gitlab_runner_autoscaling_machine_states{executor="docker+machine",state="stuck-on-removing"} 1"#,
        r#"gitlab_runner_autoscaling_actions_total{action="created",executor="docker+machine"} 1"#,
        r#"gitlab_runner_jobs_total{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 1"#,
        r#"gitlab_runner_failed_jobs_total{failure_reason="script_failure",runner="abcdefghi",runner_name="elastic"} 1"#,
        r#"gitlab_runner_job_duration_seconds_bucket{runner="abcdefghi",runner_name="elastic",system_id="s_1",le="60"} 0"#,
        r#"gitlab_runner_limit{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 7"#,
        r#"gitlab_runner_jobs{executor_stage="job_run",runner="abcdefghi",runner_name="elastic",stage="running",state="running",system_id="s_1"} 3"#,
        "gitlab_runner_concurrent 10",
        "gitlab_runner_worker_slots_number 10",
        r#"gitlab_runner_autoscaling_machine_failed_creation_duration_seconds_bucket{executor="docker+machine",le="5"} 1"#,
        r#"gitlab_runner_job_queue_duration_seconds_bucket{project_jobs_running="+Inf",runner="abcdefghi",runner_name="elastic",system_id="s_1",le="3"} 1"#,
        r#"gitlab_runner_job_queue_size{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 4"#,
        r#"gitlab_runner_job_queue_depth{runner="abcdefghi",runner_name="elastic",system_id="s_1"} 1"#,
        r#"gitlab_runner_request_concurrency{runner="abcdefghi",system_id="s_1"} 2"#,
        r#"gitlab_runner_request_concurrency_hard_limit{runner="abcdefghi",system_id="s_1"} 3"#,
        r#"gitlab_runner_request_concurrency_used_limit{runner="abcdefghi",system_id="s_1"} 3"#,
        r#"gitlab_runner_request_concurrency_exceeded_total{runner="abcdefghi",system_id="s_1"} 1"#,
        r#"springtide_machines{phase="retiring",runner_name="elastic"} 4"#,
    ] {
        assert!(
            text.lines().any(|at| at == line),
            "{line}\nis not in\n{text}"
        );
    }
    metrics.forget(&runner);
    let text = metrics.text().unwrap();
    assert!(!text.contains("gitlab_runner_limit{"));
    assert!(!text.contains("gitlab_runner_request_concurrency{"));
    assert!(text.contains("gitlab_runner_request_concurrency_exceeded_total{"));
}

#[test]
fn slots_and_the_process_are_read_when_somebody_looks() {
    let slots = Slots::new(3);
    let metrics = Metrics::new().unwrap().with_slots(&slots).unwrap();
    slots.set(1);
    let text = metrics.text().unwrap();
    for line in [
        r#"gitlab_runner_worker_slot_operations_total{operation="started"} 3"#,
        r#"gitlab_runner_worker_slot_operations_total{operation="stopped"} 2"#,
    ] {
        assert!(
            text.lines().any(|at| at == line),
            "{line}\nis not in\n{text}"
        );
    }
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "gitlab_runner_errors_total{level=\"error\"}",
        "gitlab_runner_errors_total{level=\"warning\"}",
    ] {
        assert!(
            text.lines().any(|at| at.starts_with(&format!("{name} "))),
            "{name}\nis not in\n{text}"
        );
    }
    assert!(text.contains("# TYPE process_cpu_seconds_total counter"));
}

/// A GitLab that gives one job, and a client whose requests are counted.
#[tokio::test]
async fn answers_of_gitlab_are_counted_by_endpoint_and_status() {
    use springtide_gitlab::{
        Client, ClientOptions, Held, HeldJob, Info, JobLine, JobRequestOutcome, RunnerIdentity,
    };
    use springtide_sandbox::{JobSpec, Sandbox, SandboxOptions};
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    sandbox.submit(JobSpec::script(["true"])).unwrap();
    let metrics = Metrics::new().unwrap();
    let runner = RunnerLabels {
        short_token: "sandbox-t".into(),
        name: "elastic".into(),
        system_id: "s_0123456789ab".into(),
    };
    let client = Client::new(ClientOptions::new(sandbox.url()))
        .unwrap()
        .observed(metrics.observer(runner.clone()));
    let identity = |token: &str| RunnerIdentity {
        token: token.to_owned().into(),
        system_id: runner.system_id.clone(),
        info: Info::new("shell+machine", "bash"),
    };
    client
        .request_job(&identity("glrt-nobody"), None, None)
        .await;
    let known = identity("glrt-sandbox-token");
    let JobRequestOutcome::Job(job) = client.request_job(&known, None, None).await.outcome else {
        panic!("no job came");
    };
    let line = JobLine::new(client.clone(), job.key(), known.info.clone());
    assert!(matches!(
        HeldJob::new(line).accept().await,
        Ok(Held::Running)
    ));
    // What GitLab answers through a client of its own is told to nobody.
    Client::new(ClientOptions::new(sandbox.url()))
        .unwrap()
        .request_job(&known, None, None)
        .await;
    sandbox.shutdown().await;
    client.request_job(&known, None, None).await;
    let text = metrics.text().unwrap();
    let counted: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("gitlab_runner_api_request_statuses_total{"))
        .collect();
    let line = |endpoint: &str, method: &str, status: u16| {
        format!(
            r#"gitlab_runner_api_request_statuses_total{{endpoint="{endpoint}",method="{method}",runner="sandbox-t",status="{status}",system_id="s_0123456789ab"}} 1"#
        )
    };
    assert_eq!(
        counted,
        [
            line("request_job", "post", 201),
            line("request_job", "post", 403),
            line("update_job", "put", 200),
        ]
    );
    let timed = r#"gitlab_runner_api_request_duration_seconds_count{endpoint="update_job",method="put",runner="sandbox-t",status_class="2xx",system_id="s_0123456789ab"} 1"#;
    assert!(text.lines().any(|line| line == timed), "{text}");
}
