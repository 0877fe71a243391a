//! A job of a case as the sandbox GitLab sends it.

use super::case::Job;
use super::repositories::APP;
use super::runners::PLAIN;
use super::values::{Text, Variable};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use springtide_sandbox::JobSpec;
use std::collections::BTreeMap;

fn lines(texts: &[Text]) -> Vec<String> {
    texts.iter().map(Text::whole).collect()
}

fn variables(variable: &Variable) -> Vec<Value> {
    let one = |number: Option<usize>| {
        let text = |text: &str| match number {
            Some(number) => text.replace("{n}", &number.to_string()),
            None => text.to_owned(),
        };
        json!({
            "key": text(&variable.key), "value": text(&variable.value.whole()),
            "masked": variable.masked, "file": variable.file, "raw": variable.raw,
        })
    };
    match variable.times {
        None => vec![one(None)],
        Some(times) => (1..=times).map(|number| one(Some(number))).collect(),
    }
}

/// The job for the sandbox. `earlier` are the ids of the case's jobs so far, by name.
///
/// # Errors
/// Where it takes artifacts of a job that was not before it.
pub fn spec(job: &Job, earlier: &BTreeMap<String, u64>) -> Result<JobSpec> {
    let id = |name: &String| {
        let found = earlier.get(name).copied();
        found.with_context(|| format!("there is no job {name:?} before it"))
    };
    let strategy = match (job.sources, &job.git_strategy) {
        (_, Some(strategy)) => Some(strategy.clone()),
        (true, None) => None,
        (false, None) => Some("empty".to_owned()),
    };
    let runner = job.runner.as_deref().unwrap_or(PLAIN);
    Ok(JobSpec {
        name: job.job.clone(),
        script: lines(&job.script),
        after_script: lines(&job.after_script),
        tags: match runner {
            PLAIN => Vec::new(),
            other => vec![other.to_owned()],
        },
        variable_list: job.variables.iter().flat_map(variables).collect(),
        timeout: job.timeout,
        image: job.image.clone(),
        services: job.services.clone(),
        artifacts: job.artifacts.clone(),
        cache: job.cache.clone(),
        hooks: job.hooks.clone(),
        steps: job.steps.clone(),
        run: job.run.clone(),
        credentials: job.credentials.clone(),
        features: job.features.clone(),
        payload: job.payload.clone(),
        repository: Some(APP.to_owned()),
        ref_name: job.ref_name.clone(),
        sha: job.sha.clone(),
        depth: job.depth,
        git_strategy: strategy,
        dependencies: job.dependencies.iter().map(id).collect::<Result<_>>()?,
        ..JobSpec::default()
    })
}
