//! `[runners.docker]`: what containers are given.

use crate::report::Report;
use crate::schema::nearest;
use crate::walk::Found;
use crate::{Docker, Hidden, PullPolicy, Service};
use std::time::Duration;

const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("always", PullPolicy::Always),
    ("if-not-present", PullPolicy::IfNotPresent),
    ("never", PullPolicy::Never),
];

pub(super) fn docker(runner: &Found, wanted: bool, report: &mut Report) -> Option<Docker> {
    let Some(found) = runner.table("docker") else {
        if wanted && !runner.has("docker") {
            report.warning(
                &runner.at("executor"),
                "there is no [runners.docker]: jobs that name no image can't run",
                "write [runners.docker] with image = and the image of jobs that name none",
            );
        }
        return wanted.then(|| Docker {
            pull_policy: vec![PullPolicy::Always],
            wait_for_services_timeout: Some(Duration::from_secs(30)),
            ..Docker::default()
        });
    };
    if wanted && found.filled("image").is_none() && found.errors == 0 {
        report.warning(
            &found.at("image"),
            "there is no `image`: jobs that name none can't run",
            "write image = and the image of jobs that name none",
        );
    }
    for (name, item) in found.map("log_options") {
        if !matches!(name.as_str(), "env" | "labels") {
            report.warning(
                &item.key_at,
                format!("`log_options` takes `env` and `labels` only, and {name:?} is ignored"),
                "delete it",
            );
        }
    }
    let mut pull_policy = policies(found, "pull_policy", report);
    if pull_policy.is_empty() {
        pull_policy.push(PullPolicy::Always);
    }
    let wait = found.number("wait_for_services_timeout").unwrap_or(0);
    let services = found.number("services_limit").unwrap_or(-1);
    Some(Docker {
        image: found.filled("image").map(str::to_owned),
        privileged: found.flag("privileged").unwrap_or(false),
        services_privileged: found.flag("services_privileged"),
        disable_cache: found.flag("disable_cache").unwrap_or(false),
        volumes: found.strings("volumes"),
        pull_policy,
        allowed_pull_policies: policies(found, "allowed_pull_policies", report),
        allowed_images: found.strings("allowed_images"),
        allowed_services: found.strings("allowed_services"),
        wait_for_services_timeout: match wait {
            -1 => None,
            0 => Some(Duration::from_secs(30)),
            seconds => Some(Duration::from_secs(seconds.unsigned_abs())),
        },
        services_limit: u32::try_from(services).ok(),
        shm_size: found
            .number("shm_size")
            .map_or(0, |bytes| u64::try_from(bytes).unwrap_or(0)),
        helper_image: found.filled("helper_image").map(str::to_owned),
        services: services_of(found, report),
        all: Hidden(found.json()),
    })
}

fn policies(found: &Found, name: &str, report: &mut Report) -> Vec<PullPolicy> {
    let mut policies = Vec::new();
    for entry in found
        .texts(name)
        .iter()
        .filter(|entry| !entry.text.is_empty())
    {
        match PULL_POLICIES.iter().find(|(known, _)| *known == entry.text) {
            Some((_, policy)) => policies.push(*policy),
            None => {
                let names = PULL_POLICIES.map(|(known, _)| known);
                let advice = match nearest(&entry.text, names) {
                    Some(near) => format!("write {near:?}"),
                    None => format!("write one of {}", names.join(", ")),
                };
                report.error(
                    &entry.at,
                    format!("there is no pull policy {:?}", entry.text),
                    advice,
                );
            }
        }
    }
    policies
}

fn services_of(found: &Found, report: &mut Report) -> Vec<Service> {
    let mut services = Vec::new();
    for service in found.tables("services") {
        let Some(name) = service.filled("name") else {
            if service.errors == 0 {
                report.error(
                    &service.at("name"),
                    "a service has no `name`",
                    "write name = and its image, such as name = \"postgres:17\"",
                );
            }
            continue;
        };
        services.push(Service {
            name: name.to_owned(),
            alias: service.filled("alias").map(str::to_owned),
            command: service.strings("command"),
            entrypoint: service.strings("entrypoint"),
            environment: Hidden(service.strings("environment")),
        });
    }
    services
}
