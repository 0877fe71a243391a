//! `[runners.docker]`: what containers are given.

use crate::docker::sizes;
use crate::report::Report;
use crate::schema::nearest;
use crate::walk::{Found, Value};
use crate::{Device, Docker, Gpus, Hidden, Limits, LogOptions, PullPolicy, Service};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn docker(runner: &Found, wanted: bool, report: &mut Report) -> Option<Docker> {
    let Some(found) = runner.table("docker") else {
        if wanted && !runner.has("docker") {
            report.warning(
                &runner.at("executor"),
                "there is no [runners.docker]: jobs that name no image can't run",
                "write [runners.docker] with image = and the image of jobs that name none",
            );
        }
        return wanted.then(Docker::by_default);
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
    let text = |name: &str| found.filled(name).map(str::to_owned);
    let flag = |name: &str| found.flag(name).unwrap_or(false);
    let number = |name: &str| found.number(name).unwrap_or(0);
    let log = texts(found, "log_options");
    Some(Docker {
        socket: found
            .filled("host")
            .and_then(|host| host.strip_prefix("unix://"))
            .map(str::to_owned),
        hostname: text("hostname"),
        image: text("image"),
        runtime: text("runtime"),
        limits: limits(found, "", report),
        service_limits: limits(found, "service_", report),
        dns: found.strings("dns"),
        dns_search: found.strings("dns_search"),
        privileged: flag("privileged"),
        services_privileged: found.flag("services_privileged"),
        disable_entrypoint_overwrite: flag("disable_entrypoint_overwrite"),
        user: text("user"),
        allowed_users: found.strings("allowed_users"),
        group_add: found.strings("group_add"),
        userns_mode: text("userns_mode"),
        cap_add: found.strings("cap_add"),
        cap_drop: found.strings("cap_drop"),
        oom_kill_disable: flag("oom_kill_disable"),
        oom_score_adjust: number("oom_score_adjust"),
        security_opt: found.strings("security_opt"),
        services_security_opt: found.strings("services_security_opt"),
        devices: devices(found, report),
        device_cgroup_rules: found.strings("device_cgroup_rules"),
        services_devices: services_devices(found, report),
        disable_cache: flag("disable_cache"),
        volumes: found.strings("volumes"),
        volume_keep: flag("volume_keep"),
        volume_driver: text("volume_driver"),
        volume_driver_ops: texts(found, "volume_driver_ops"),
        cache_dir: text("cache_dir"),
        extra_hosts: found.strings("extra_hosts"),
        volumes_from: found.strings("volumes_from"),
        network_mode: text("network_mode"),
        pid_mode: text("pid_mode"),
        ipc_mode: text("ipcmode"),
        mac_address: text("mac_address"),
        links: found.strings("links"),
        services: services_of(found, report),
        services_limit: u32::try_from(found.number("services_limit").unwrap_or(-1)).ok(),
        wait_for_services_timeout: match number("wait_for_services_timeout") {
            -1 => None,
            0 => Some(Duration::from_secs(30)),
            seconds => Some(Duration::from_secs(seconds.unsigned_abs())),
        },
        allowed_images: found.strings("allowed_images"),
        allowed_services: found.strings("allowed_services"),
        allowed_privileged_images: found.strings("allowed_privileged_images"),
        allowed_privileged_services: found.strings("allowed_privileged_services"),
        pull_policy,
        allowed_pull_policies: policies(found, "allowed_pull_policies", report),
        shm_size: u64::try_from(number("shm_size")).unwrap_or(0),
        tmpfs: texts(found, "tmpfs"),
        services_tmpfs: texts(found, "services_tmpfs"),
        sysctls: texts(found, "sysctls"),
        helper_image: text("helper_image"),
        helper_image_flavor: text("helper_image_flavor"),
        container_labels: texts(found, "container_labels"),
        enable_ipv6: flag("enable_ipv6"),
        ulimits: ulimits(found, report),
        network_mtu: u32::try_from(number("network_mtu")).unwrap_or(0),
        log_options: LogOptions {
            env: log.get("env").cloned(),
            labels: log.get("labels").cloned(),
        },
    })
}

/// A table of texts.
fn texts(found: &Found, name: &str) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let pairs = found.map(name).iter();
    pairs
        .filter_map(|(key, item)| Some((key.clone(), text(&item.value)?)))
        .collect()
}

/// A text that is a value of its own kind.
fn parsed<T>(
    found: &Found,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    advice: &str,
    report: &mut Report,
) -> Option<T> {
    let text = found.filled(name)?;
    let value = read(text);
    if value.is_none() {
        report.error(
            &found.at(name),
            format!("{text:?} can't be read as `{name}`"),
            advice,
        );
    }
    value
}

fn limits(found: &Found, prefix: &str, report: &mut Report) -> Limits {
    let key = |name: &str| format!("{prefix}{name}");
    let text = |name: &str| found.filled(&key(name)).map(str::to_owned);
    let mut bytes = |name: &str| {
        let read = |text: &str| match text.trim() {
            "-1" if name == "memory_swap" => Some(-1),
            text => sizes::bytes(text),
        };
        let advice = "write a number with b, k, m or g, such as \"512m\"";
        parsed(found, &key(name), read, advice, report)
    };
    let (memory, memory_swap, memory_reservation) = (
        bytes("memory"),
        bytes("memory_swap"),
        bytes("memory_reservation"),
    );
    let advice = "write a number of processors, such as \"1.5\"";
    let nano_cpus = parsed(found, &key("cpus"), sizes::nano_cpus, advice, report);
    let advice = "write \"all\", a count, or pairs such as \"device=0\"";
    let gpus: Option<Gpus> = parsed(found, &key("gpus"), sizes::gpus, advice, report);
    Limits {
        memory,
        memory_swap,
        memory_reservation,
        cgroup_parent: text("cgroup_parent"),
        cpuset_cpus: text("cpuset_cpus"),
        cpuset_mems: text("cpuset_mems"),
        nano_cpus,
        cpu_shares: found.number(&key("cpu_shares")).unwrap_or(0),
        gpus,
    }
}

const DEVICE: &str = "write the device, its place in the container and what is allowed, such as \"/dev/kvm:/dev/kvm:rw\"";

fn devices(found: &Found, report: &mut Report) -> Vec<Device> {
    let mut devices = Vec::new();
    for entry in found.texts("devices") {
        match sizes::device(&entry.text) {
            Some(device) => devices.push(device),
            None => report.error(&entry.at, format!("{:?} is no device", entry.text), DEVICE),
        }
    }
    devices
}

fn services_devices(found: &Found, report: &mut Report) -> BTreeMap<String, Vec<Device>> {
    let mut all = BTreeMap::new();
    for (image, item) in found.map("services_devices") {
        let Value::Texts(texts) = &item.value else {
            continue;
        };
        let mut devices = Vec::new();
        for entry in texts {
            match sizes::device(&entry.text) {
                Some(device) => devices.push(device),
                None => report.error(&entry.at, format!("{:?} is no device", entry.text), DEVICE),
            }
        }
        all.insert(image.clone(), devices);
    }
    all
}

fn ulimits(found: &Found, report: &mut Report) -> Vec<crate::Ulimit> {
    let mut ulimits = Vec::new();
    for (name, item) in found.map("ulimit") {
        let Value::Text(text) = &item.value else {
            continue;
        };
        match sizes::ulimit(name, text) {
            Some(ulimit) => ulimits.push(ulimit),
            None => report.error(
                &item.at,
                format!("{name} = {text:?} is no limit of processes"),
                "write soft:hard under the name of a limit, such as nofile = \"1024:4096\"",
            ),
        }
    }
    ulimits
}

fn policies(found: &Found, name: &str, report: &mut Report) -> Vec<PullPolicy> {
    let mut policies = Vec::new();
    for entry in found
        .texts(name)
        .iter()
        .filter(|entry| !entry.text.is_empty())
    {
        match PullPolicy::named(&entry.text) {
            Some(policy) => policies.push(policy),
            None => {
                let names = PullPolicy::NAMES.map(|(known, _)| known);
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
