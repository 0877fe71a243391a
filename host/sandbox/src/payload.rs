//! The job as it is handed to a runner, in full, with the variables GitLab sets itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::job::{Job, JobStatus};
use crate::ledger::{Ledger, NO_SHA};
use crate::merge::merge;
use crate::runner::Runner;
use crate::spec::over;
use crate::stamp::{iso, seconds};

/// The reasons a failed job may have, as offered to runners.
pub(crate) const FAILURE_REASONS: [&str; 10] = [
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "image_pull_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "job_canceled",
];

fn url_of(ledger: &Ledger, job: &Job) -> String {
    let (scheme, host) = ledger
        .url
        .split_once("://")
        .unwrap_or(("http", &ledger.url));
    format!(
        "{scheme}://gitlab-ci-token:{}@{host}/{}.git",
        job.token, job.project
    )
}

fn variables(ledger: &Ledger, job: &Job, runner: &Runner) -> Vec<Value> {
    let url = &ledger.url;
    let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let (name_host, port) = host.rsplit_once(':').unwrap_or((host, "80"));
    let (namespace, project_name) = job.project.rsplit_once('/').unwrap_or(("", &job.project));
    let project_url = format!("{url}/{}", job.project);
    let slug: String = job
        .ref_name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let (project_id, branch) = ledger
        .projects
        .get(&job.project)
        .map_or((0, ""), |known| (known.id, known.default_branch.as_str()));
    let open = |key: &str, value: &str| json!({"key": key, "value": value, "public": true, "file": false, "masked": false, "raw": false});
    let secret = |key: &str, value: &str| json!({"key": key, "value": value, "public": false, "file": false, "masked": true, "raw": false});
    let mut list = vec![
        open("CI_PIPELINE_ID", &job.pipeline.to_string()),
        open(
            "CI_PIPELINE_URL",
            &format!("{project_url}/-/pipelines/{}", job.pipeline),
        ),
        open("CI_JOB_ID", &job.id.to_string()),
        open("CI_JOB_URL", &format!("{project_url}/-/jobs/{}", job.id)),
        secret("CI_JOB_TOKEN", &job.token),
        open(
            "CI_JOB_STARTED_AT",
            &job.times.assigned.map(iso).unwrap_or_default(),
        ),
        secret("CI_BUILD_TOKEN", &job.token),
        open("CI_REGISTRY_USER", "gitlab-ci-token"),
        secret("CI_REGISTRY_PASSWORD", &job.token),
        secret("CI_REPOSITORY_URL", &url_of(ledger, job)),
        open("CI_DEPENDENCY_PROXY_USER", "gitlab-ci-token"),
        secret("CI_DEPENDENCY_PROXY_PASSWORD", &job.token),
        open("CI_JOB_NAME", job.name()),
        open("CI_JOB_STAGE", job.stage()),
        open("CI_NODE_TOTAL", "1"),
        open("CI", "true"),
        open("GITLAB_CI", "true"),
        open("CI_SERVER_URL", url),
        open("CI_SERVER_HOST", name_host),
        open("CI_SERVER_PORT", port),
        open(
            "CI_SERVER_PROTOCOL",
            url.split_once("://").map_or("http", |(scheme, _)| scheme),
        ),
        open("CI_SERVER_NAME", "GitLab"),
        open("CI_SERVER_VERSION", "19.0.0"),
        open("CI_SERVER", "yes"),
        open("CI_API_V4_URL", &format!("{url}/api/v4")),
        open("CI_PROJECT_ID", &project_id.to_string()),
        open("CI_PROJECT_NAME", project_name),
        open("CI_PROJECT_TITLE", project_name),
        open("CI_PROJECT_PATH", &job.project),
        open(
            "CI_PROJECT_PATH_SLUG",
            &job.project.to_lowercase().replace(['/', '_', '.'], "-"),
        ),
        open("CI_PROJECT_NAMESPACE", namespace),
        open(
            "CI_PROJECT_ROOT_NAMESPACE",
            namespace.split('/').next().unwrap_or_default(),
        ),
        open("CI_PROJECT_URL", &project_url),
        open("CI_PROJECT_VISIBILITY", "private"),
        open("CI_DEFAULT_BRANCH", branch),
        open("CI_PIPELINE_IID", &job.pipeline.to_string()),
        open("CI_PIPELINE_SOURCE", "push"),
        open("CI_PIPELINE_CREATED_AT", &iso(job.times.created)),
        open("CI_COMMIT_SHA", &job.sha),
        open("CI_COMMIT_SHORT_SHA", job.sha.get(..8).unwrap_or(&job.sha)),
        open("CI_COMMIT_BEFORE_SHA", NO_SHA),
        open("CI_COMMIT_REF_NAME", &job.ref_name),
        open("CI_COMMIT_REF_SLUG", slug.trim_matches('-')),
        open("CI_COMMIT_REF_PROTECTED", "true"),
        open("CI_RUNNER_ID", &runner.id.to_string()),
        open("CI_RUNNER_DESCRIPTION", &runner.description),
        open("CI_RUNNER_TAGS", &json!(runner.tags).to_string()),
        open("GITLAB_USER_ID", "1"),
        open("GITLAB_USER_LOGIN", "sandbox"),
    ];
    match kind(job) {
        Kind::Branch => list.push(open("CI_COMMIT_BRANCH", &job.ref_name)),
        Kind::Tag => list.push(open("CI_COMMIT_TAG", &job.ref_name)),
        Kind::MergeRequest => list.push(open("CI_MERGE_REQUEST_REF_PATH", &job.ref_name)),
    }
    let strategy = match (&job.spec.git_strategy, &job.spec.repository) {
        (Some(strategy), _) => Some(strategy.as_str()),
        // Without a repository there is nothing to fetch.
        (None, None) => Some("none"),
        (None, Some(_)) => None,
    };
    list.extend(strategy.map(|strategy| open("GIT_STRATEGY", strategy)));
    if let Some(depth) = job.spec.depth {
        list.push(open("GIT_DEPTH", &depth.to_string()));
    }
    list.extend(
        job.spec
            .variables
            .iter()
            .map(|(key, value)| value.payload(key)),
    );
    list.extend(job.spec.further_variables());
    list
}

fn steps(job: &Job) -> Vec<Value> {
    let step = |name, script: &[String], when, allow_failure| {
        json!({
            "name": name, "script": script, "timeout": job.timeout(), "when": when,
            "allow_failure": allow_failure,
        })
    };
    let mut steps = Vec::new();
    if !job.spec.script.is_empty() {
        steps.push(step("script", &job.spec.script, "on_success", false));
    }
    for given in &job.spec.steps {
        steps.push(over(step("", &[], "on_success", false), given));
    }
    if !job.spec.after_script.is_empty() {
        steps.push(step("after_script", &job.spec.after_script, "always", true));
    }
    steps
}

/// What a job was made for.
enum Kind {
    Branch,
    Tag,
    MergeRequest,
}

fn kind(job: &Job) -> Kind {
    match job.ref_name.starts_with("refs/") {
        true => Kind::MergeRequest,
        false if job.is_tag => Kind::Tag,
        false => Kind::Branch,
    }
}

fn git_info(ledger: &Ledger, job: &Job) -> Value {
    let name = &job.ref_name;
    let depth = job.spec.depth.unwrap_or(20);
    let mut refspecs = Vec::new();
    // The commit itself rather than a ref of the pipeline, so that nothing is written into the
    // repository that is served.
    if job.sha != NO_SHA {
        refspecs.push(format!("+{}:refs/pipelines/{}", job.sha, job.pipeline));
    }
    let (branch, tag) = match depth {
        // Where everything is fetched, all branches and tags are.
        0 => ("*", "*"),
        _ => match kind(job) {
            Kind::Branch => (name.as_str(), ""),
            Kind::Tag => ("", name.as_str()),
            Kind::MergeRequest => ("", ""),
        },
    };
    if !branch.is_empty() {
        refspecs.push(format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"));
    }
    if !tag.is_empty() {
        refspecs.push(format!("+refs/tags/{tag}:refs/tags/{tag}"));
    }
    json!({
        "repo_url": url_of(ledger, job), "repo_object_format": "sha1", "ref": name,
        "sha": job.sha, "before_sha": NO_SHA, "ref_type": if job.is_tag { "tag" } else { "branch" },
        "refspecs": refspecs, "depth": depth, "protected": true,
    })
}

fn dependencies(ledger: &Ledger, job: &Job) -> Vec<Value> {
    let one = |id: &u64| {
        let earlier = ledger.jobs.get(id)?;
        let archive = earlier
            .artifacts
            .iter()
            .find(|artifact| artifact.kind == "archive")?;
        Some(json!({
            "id": id, "token": earlier.token, "name": earlier.name(),
            "artifacts_file": {"filename": archive.filename, "size": archive.bytes.len()},
        }))
    };
    job.spec.dependencies.iter().filter_map(one).collect()
}

fn hooks(job: &Job) -> Value {
    let hooks = job.spec.hooks.iter();
    hooks
        .map(|(name, script)| json!({"name": name, "script": script}))
        .collect()
}

fn features(job: &Job) -> Value {
    let own = json!({
        "trace_sections": true, "token_mask_prefixes": ["glpat-"],
        "failure_reasons": FAILURE_REASONS,
    });
    match &job.spec.features {
        None => own,
        Some(given) => over(own, given),
    }
}

/// The payload of a job that was just assigned; `None` where the job or its runner is gone.
pub(crate) fn payload(ledger: &Ledger, id: u64, now: Duration) -> Option<Value> {
    let job = ledger.jobs.get(&id)?;
    let runner = ledger.runners.get(&job.holder.as_ref()?.runner)?;
    let project = ledger.projects.get(&job.project)?;
    let group = job.project.rsplit_once('/').map_or("", |(group, _)| group);
    let root = group.split('/').next().unwrap_or_default();
    let group_id = |path: &str| ledger.groups.get(path).copied().unwrap_or_default();
    let (image, services) = job.spec.images();
    let mut payload = json!({
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": true,
        "job_info": {
            "name": job.name(), "stage": job.stage(), "pipeline_id": job.pipeline,
            "project_id": project.id,
            "project_name": job.project.rsplit('/').next().unwrap_or_default(),
            "project_full_path": job.project, "namespace_id": group_id(group),
            "root_namespace_id": group_id(root), "organization_id": 1, "instance_id": "",
            "instance_uuid": "", "user_id": 1, "scoped_user_id": null,
            "time_in_queue_seconds": seconds(now.saturating_sub(job.times.queued)),
            "project_jobs_running_on_instance_runners_count":
                ledger.running_in(&job.project).to_string(),
            "queue_size": ledger.waiting(), "queue_depth": 1,
        },
        "git_info": git_info(ledger, job),
        "runner_info": {"uuid": "", "timeout": job.timeout()},
        "inputs": [],
        "variables": variables(ledger, job, runner),
        "steps": steps(job),
        "image": image,
        "services": services,
        "artifacts": job.spec.artifact_list(),
        "cache": job.spec.cache_list(),
        "credentials": job.spec.credentials,
        "dependencies": dependencies(ledger, job),
        "features": features(job),
        "secrets": {},
        "hooks": hooks(job),
        // As GitLab has it: JSON within a text.
        "run": job.spec.run.as_ref().map(Value::to_string),
        "policy_options": {
            "execution_policy_job": false, "policy_name": "",
            "policy_variables_override_allowed": true, "policy_variables_override_exceptions": [],
        },
        "suspend_options": {
            "suspend_on_success": false, "suspend_on_failure": false,
            "runtime_environment_key": "",
        },
    });
    if let Some(patch) = &job.spec.payload {
        merge(&mut payload, patch);
    }
    Some(payload)
}

/// The same job with most fields missing or of a kind they should not be.
pub(crate) fn malformed(mut payload: Value) -> Value {
    if let Value::Object(fields) = &mut payload {
        fields.retain(|key, _| matches!(key.as_str(), "id" | "token" | "steps" | "variables"));
        fields.insert("steps".to_owned(), Value::Null);
        fields.insert("variables".to_owned(), json!("none"));
        fields.insert("image".to_owned(), json!(7));
    }
    payload
}

/// A job as the API that lists jobs shows it.
pub(crate) fn listed(ledger: &Ledger, job: &Job, now: Duration) -> Value {
    let times = &job.times;
    let queued_until = times.assigned.or(times.finished).unwrap_or(now);
    let runner = job
        .holder
        .as_ref()
        .filter(|_| job.status() != JobStatus::Pending)
        .and_then(|holder| ledger.runners.get(&holder.runner))
        .map(|runner| {
            json!({
                "id": runner.id, "description": runner.description, "active": !runner.paused,
                "paused": runner.paused, "is_shared": true, "runner_type": "instance_type",
                "name": "gitlab-runner", "online": true, "status": "online",
            })
        });
    let project_id = ledger
        .projects
        .get(&job.project)
        .map_or(0, |known| known.id);
    let started = times
        .assigned
        .filter(|_| job.status() != JobStatus::Pending);
    let duration = started.map(|at| seconds(times.finished.unwrap_or(now).saturating_sub(at)));
    json!({
        "id": job.id, "status": job.status(), "stage": job.stage(), "name": job.name(),
        "ref": job.ref_name, "tag": job.is_tag, "coverage": null, "allow_failure": false,
        "created_at": iso(times.created), "started_at": started.map(iso),
        "finished_at": times.finished.map(iso), "erased_at": null, "duration": duration,
        "queued_duration": seconds(if job.status() == JobStatus::Pending { now } else { queued_until }
            .saturating_sub(times.queued)),
        "user": {"id": 1, "username": "sandbox", "name": "Sandbox", "state": "active"},
        "commit": {"id": job.sha, "short_id": job.sha.get(..8).unwrap_or(&job.sha)},
        "pipeline": {
            "id": job.pipeline, "iid": job.pipeline, "project_id": project_id, "sha": job.sha,
            "ref": job.ref_name, "status": job.status(), "source": "push",
        },
        "failure_reason": job.failure_reason,
        "web_url": format!("{}/{}/-/jobs/{}", ledger.url, job.project, job.id),
        "project": {
            "id": project_id, "path_with_namespace": job.project,
            "ci_job_token_scope_enabled": false,
        },
        "artifacts": [], "runner": runner, "runner_manager": null, "artifacts_expire_at": null,
        "archived": false, "tag_list": job.spec.tags,
    })
}
