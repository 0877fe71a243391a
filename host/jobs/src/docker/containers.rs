//! What the engine is told of each container of a job.

use super::allow;
use super::names::Labels;
use super::{HELPER, ROOT};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HostConfig,
    HostConfigLogConfig, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use springtide_config::{Device, Docker, Gpus, Limits};
use std::collections::{BTreeMap, HashMap};

/// Where a job's containers are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Net {
    /// A network of the job's own, or a named one of the operator's, in which names are resolved.
    Named(String),
    /// One of the engine's own ways: `bridge`, `host`, `none`, `container:...`. Services are told to
    /// the job's containers as hosts.
    Mode(String),
}

impl Net {
    /// The network of containers for a setting; the job's own where there is none.
    pub(super) fn of(mode: Option<&str>, own: String) -> (Self, bool) {
        match mode {
            None | Some("") => (Self::Named(own), true),
            Some("default") => (Self::Mode("bridge".into()), false),
            Some(mode @ ("bridge" | "host" | "none")) => (Self::Mode(mode.into()), false),
            Some(mode) if mode.starts_with("container:") => (Self::Mode(mode.into()), false),
            Some(named) => (Self::Named(named.into()), false),
        }
    }

    fn mode(&self) -> &str {
        match self {
            Self::Named(name) | Self::Mode(name) => name,
        }
    }

    fn endpoint(&self, aliases: &[String], mac: Option<&str>) -> Option<NetworkingConfig> {
        let (Self::Named(name), false) = (self, aliases.is_empty()) else {
            return None;
        };
        let endpoint = EndpointSettings {
            aliases: Some(aliases.to_vec()),
            mac_address: mac.map(str::to_owned),
            ..EndpointSettings::default()
        };
        Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(name.clone(), endpoint)])),
        })
    }
}

/// Which of the job's containers it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Gets sources, moves caches and artifacts; as root.
    Predefined,
    /// Runs the job's scripts.
    Build {
        /// `KEY=value`.
        environment: Vec<String>,
        /// In place of the image's; `[""]` is none.
        entrypoint: Option<Vec<String>>,
        /// In place of the image's.
        user: Option<String>,
    },
}

/// One of the job's containers.
pub(super) struct Own<'a> {
    pub(super) settings: &'a Docker,
    pub(super) labels: &'a Labels,
    pub(super) net: &'a Net,
    pub(super) name: &'a str,
    /// The host name where no other is configured.
    pub(super) host_name: &'a str,
    /// The image's id.
    pub(super) image: &'a str,
    /// The image as the job names it.
    pub(super) image_name: &'a str,
    pub(super) binds: Vec<String>,
    /// Services as hosts, `name:address`.
    pub(super) hosts: &'a [String],
    /// The word its first process holds with.
    pub(super) word: &'a str,
    /// Places it opens to all users.
    pub(super) open: &'a [String],
    pub(super) kind: Kind,
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn gpus(gpus: &Gpus) -> DeviceRequest {
    DeviceRequest {
        driver: Some(gpus.driver.clone()),
        count: Some(gpus.count),
        device_ids: some(&gpus.ids),
        capabilities: Some(vec![gpus.capabilities.clone()]),
        options: map(&gpus.options),
    }
}

/// What containers of all kinds are given.
fn host(settings: &Docker, limits: &Limits, net: &Net, binds: Vec<String>) -> HostConfig {
    let mut log = HashMap::new();
    for (key, value) in [
        ("env", &settings.log_options.env),
        ("labels", &settings.log_options.labels),
    ] {
        log.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    HostConfig {
        memory: limits.memory,
        memory_swap: limits.memory_swap,
        memory_reservation: limits.memory_reservation,
        cgroup_parent: limits.cgroup_parent.clone(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        nano_cpus: limits.nano_cpus,
        cpu_shares: (limits.cpu_shares != 0).then_some(limits.cpu_shares),
        device_requests: limits.gpus.as_ref().map(|one| vec![gpus(one)]),
        dns: some(&settings.dns),
        dns_search: some(&settings.dns_search),
        runtime: settings.runtime.clone(),
        userns_mode: settings.userns_mode.clone(),
        shm_size: i64::try_from(settings.shm_size)
            .ok()
            .filter(|size| *size > 0),
        network_mode: Some(net.mode().to_owned()),
        binds: some(&binds),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(log),
        }),
        ulimits: some(
            &settings
                .ulimits
                .iter()
                .map(|one| ResourcesUlimits {
                    name: Some(one.name.clone()),
                    soft: Some(one.soft),
                    hard: Some(one.hard),
                })
                .collect::<Vec<_>>(),
        ),
        ..HostConfig::default()
    }
}

impl Own<'_> {
    /// The engine refuses one where the host names itself.
    fn host_name(&self) -> Option<String> {
        let own = match self.net {
            Net::Mode(mode) if mode == "host" || mode.starts_with("container:") => None,
            _ => Some(self.host_name.to_owned()),
        };
        self.settings.hostname.clone().or(own)
    }

    /// It as the engine is told.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let settings = self.settings;
        let patterns = &settings.allowed_privileged_images;
        let mut hosts = settings.extra_hosts.clone();
        hosts.extend_from_slice(self.hosts);
        let devices: Vec<DeviceMapping> = settings.devices.iter().map(device).collect();
        let host = HostConfig {
            privileged: Some(
                settings.privileged && allow::is_allowed(patterns, &[], self.image_name),
            ),
            devices: some(&devices),
            device_cgroup_rules: some(&settings.device_cgroup_rules),
            oom_kill_disable: settings.oom_kill_disable.then_some(true),
            oom_score_adj: (settings.oom_score_adjust != 0).then_some(settings.oom_score_adjust),
            group_add: some(&settings.group_add),
            cap_add: some(&settings.cap_add),
            cap_drop: some(&settings.cap_drop),
            security_opt: some(&settings.security_opt),
            extra_hosts: some(&hosts),
            pid_mode: settings.pid_mode.clone(),
            ipc_mode: settings.ipc_mode.clone(),
            links: some(&settings.links),
            volume_driver: settings.volume_driver.clone(),
            volumes_from: some(&settings.volumes_from),
            tmpfs: map(&settings.tmpfs),
            sysctls: map(&settings.sysctls),
            ..host(settings, &settings.limits, self.net, self.binds.clone())
        };
        let mut command: Vec<String> = [HELPER, "--root", ROOT, "hold", self.word]
            .map(str::to_owned)
            .to_vec();
        command.extend_from_slice(self.open);
        let body = ContainerCreateBody {
            image: Some(self.image.to_owned()),
            hostname: self.host_name(),
            cmd: Some(command),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        match &self.kind {
            Kind::Predefined => ContainerCreateBody {
                // What the image would run first is not asked: only its git and certificates are.
                entrypoint: Some(vec![String::new()]),
                user: Some("0".into()),
                labels: Some(self.labels.container("predefined")),
                networking_config: self.net.endpoint(&[self.name.to_owned()], None),
                ..body
            },
            Kind::Build {
                environment,
                entrypoint,
                user,
            } => {
                let mac = settings.mac_address.as_deref();
                let aliases = ["build".to_owned(), self.name.to_owned()];
                ContainerCreateBody {
                    env: Some(environment.clone()),
                    entrypoint: entrypoint.clone(),
                    user: user.clone(),
                    labels: Some(self.labels.container("build")),
                    networking_config: self.net.endpoint(&aliases, mac),
                    ..body
                }
            }
        }
    }
}

/// A service's container.
pub(super) struct Serving<'a> {
    pub(super) settings: &'a Docker,
    pub(super) labels: &'a Labels,
    pub(super) net: &'a Net,
    pub(super) image: &'a str,
    pub(super) image_name: &'a str,
    pub(super) binds: Vec<String>,
    pub(super) aliases: &'a [String],
    pub(super) environment: Vec<String>,
    pub(super) command: &'a [String],
    pub(super) entrypoint: &'a [String],
    pub(super) user: Option<String>,
}

impl Serving<'_> {
    /// It as the engine is told.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let settings = self.settings;
        let privileged = settings.services_privileged.unwrap_or(settings.privileged);
        let patterns = &settings.allowed_privileged_services;
        let devices: Vec<DeviceMapping> = settings
            .services_devices
            .iter()
            .filter(|(pattern, _)| allow::fits(pattern, self.image_name))
            .flat_map(|(_, devices)| devices.iter().map(device))
            .collect();
        let host = HostConfig {
            privileged: Some(privileged && allow::is_allowed(patterns, &[], self.image_name)),
            devices: some(&devices),
            security_opt: some(&settings.services_security_opt),
            extra_hosts: some(&settings.extra_hosts),
            tmpfs: map(&settings.services_tmpfs),
            sysctls: map(&settings.sysctls),
            ..host(
                settings,
                &settings.service_limits,
                self.net,
                self.binds.clone(),
            )
        };
        ContainerCreateBody {
            image: Some(self.image.to_owned()),
            cmd: some(self.command),
            entrypoint: some(self.entrypoint),
            env: Some(self.environment.clone()),
            user: self.user.clone(),
            labels: Some(self.labels.container("service")),
            host_config: Some(host),
            networking_config: self.net.endpoint(self.aliases, None),
            ..ContainerCreateBody::default()
        }
    }
}

#[cfg(test)]
mod tests;
