//! Events of jobs, posted to a receiver in the order they happened.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::job::JobStatus;
use crate::ledger::Ledger;
use crate::options::Webhook;
use crate::stamp::{iso, seconds};

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a job is, as GitLab tells it.
pub(crate) fn event(ledger: &Ledger, id: u64) -> Option<Value> {
    let job = ledger.jobs.get(&id)?;
    let project_id = ledger.projects.get(&job.project)?.id;
    let times = &job.times;
    let (namespace, name) = job.project.rsplit_once('/').unwrap_or(("", &job.project));
    let started = times
        .assigned
        .filter(|_| job.status() != JobStatus::Pending);
    let runner = job
        .holder
        .as_ref()
        .and_then(|holder| ledger.runners.get(&holder.runner))
        .map(|runner| {
            json!({
                "id": runner.id, "description": runner.description, "active": !runner.paused,
                "is_shared": true, "runner_type": "instance_type", "tags": runner.tags,
            })
        });
    let waited = started.map(|at| seconds(at.saturating_sub(times.queued)));
    let ran = started
        .zip(times.finished)
        .map(|(from, to)| seconds(to.saturating_sub(from)));
    Some(json!({
        "object_kind": "build", "ref": job.ref_name, "tag": job.is_tag,
        "before_sha": crate::ledger::NO_SHA, "sha": job.sha, "retries_count": 0,
        "build_id": job.id, "build_name": job.name(), "build_stage": job.stage(),
        "build_status": job.status(), "build_created_at": iso(times.created),
        "build_started_at": started.map(iso), "build_finished_at": times.finished.map(iso),
        "build_duration": ran, "build_queued_duration": waited, "build_allow_failure": false,
        "build_failure_reason": job.failure_reason.as_deref().unwrap_or("unknown_failure"),
        "pipeline_id": job.pipeline, "runner": runner, "project_id": project_id,
        "project_name": job.project.replace('/', " / "),
        "user": {"id": 1, "name": "Sandbox", "username": "sandbox"},
        "commit": {"id": job.pipeline, "sha": job.sha, "status": job.status()},
        "repository": {"name": name, "git_http_url": format!("{}/{}.git", ledger.url, job.project)},
        "project": {
            "id": project_id, "name": name, "namespace": namespace,
            "path_with_namespace": job.project, "web_url": format!("{}/{}", ledger.url, job.project),
        },
        "environment": null,
    }))
}

/// Posts events until the sandbox closes. One that is not taken is lost, as GitLab loses it.
pub(crate) async fn deliver(
    client: reqwest::Client,
    hook: Webhook,
    mut events: mpsc::UnboundedReceiver<Value>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = closing.wait_for(|closing| *closing) => None,
        };
        let Some(event) = event else {
            return;
        };
        let sent = client
            .post(&hook.url)
            .header("x-gitlab-token", &hook.secret)
            .header("x-gitlab-event", "Job Hook")
            .header("x-gitlab-event-uuid", uuid::Uuid::new_v4().to_string())
            .timeout(PATIENCE)
            .json(&event)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        if let Err(error) = sent {
            let error = error.without_url();
            tracing::warn!(%error, "the receiver of webhooks did not take an event");
        }
    }
}
