//! `[runners.docker]` as it was read.

pub mod sizes;

use crate::Hidden;
use std::collections::BTreeMap;
use std::time::Duration;

/// `[runners.docker]`, what the Docker executor obeys. Texts that the engine itself judges
/// (`network_mode`, `security_opt`, ...) are handed to it as they were written.
#[derive(Clone, Debug, Default)]
pub struct Docker {
    /// The engine's socket on the machine, absolute; `None`: `/var/run/docker.sock`.
    pub socket: Option<String>,
    /// The host name in the job's containers; `None`: one of the runner's and the project's.
    pub hostname: Option<String>,
    /// The image of jobs that name none.
    pub image: Option<String>,
    /// The engine's runtime; `None`: its default.
    pub runtime: Option<String>,
    /// What the job's containers may use.
    pub limits: Limits,
    /// What each service may use.
    pub service_limits: Limits,
    /// DNS servers.
    pub dns: Vec<String>,
    /// DNS search domains.
    pub dns_search: Vec<String>,
    /// Whether containers have the machine to themselves.
    pub privileged: bool,
    /// The same for services; `None`: as `privileged`.
    pub services_privileged: Option<bool>,
    /// Whether a job may not replace its image's entry point.
    pub disable_entrypoint_overwrite: bool,
    /// The user that jobs run as; `None`: the image's.
    pub user: Option<String>,
    /// Users that a job may ask for; empty: any.
    pub allowed_users: Vec<String>,
    /// More groups of that user.
    pub group_add: Vec<String>,
    /// The user namespace.
    pub userns_mode: Option<String>,
    /// Capabilities beside the engine's own.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Whether the kernel may not kill what is out of memory.
    pub oom_kill_disable: bool,
    /// How readily it does; -1000 to 1000.
    pub oom_score_adjust: i64,
    /// Security options of the job's containers.
    pub security_opt: Vec<String>,
    /// Security options of services.
    pub services_security_opt: Vec<String>,
    /// Devices of the machine for the job's containers.
    pub devices: Vec<Device>,
    /// Rules about devices that may come later.
    pub device_cgroup_rules: Vec<String>,
    /// Devices for services, by a glob of the service's image.
    pub services_devices: BTreeMap<String, Vec<Device>>,
    /// Whether no volumes of ours are used for caches.
    pub disable_cache: bool,
    /// `/path`, `name:/path[:mode]` or `/host:/path[:mode]`.
    pub volumes: Vec<String>,
    /// Whether anonymous volumes stay when their container goes.
    pub volume_keep: bool,
    /// What makes volumes; `None`: the engine's own.
    pub volume_driver: Option<String>,
    /// Its options.
    pub volume_driver_ops: BTreeMap<String, String>,
    /// Directory of the machine that has cache volumes, in place of the engine's named ones.
    pub cache_dir: Option<String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// Containers whose volumes are taken too.
    pub volumes_from: Vec<String>,
    /// The network of containers; `None`: one is made for each job.
    pub network_mode: Option<String>,
    /// The process namespace.
    pub pid_mode: Option<String>,
    /// The namespace of shared memory.
    pub ipc_mode: Option<String>,
    /// The hardware address of the build's container.
    pub mac_address: Option<String>,
    /// Links to other containers.
    pub links: Vec<String>,
    /// Services of every job.
    pub services: Vec<Service>,
    /// Most services of a job; `None`: no limit.
    pub services_limit: Option<u32>,
    /// Longest wait for a service, `None`: none. Missing: 30 s.
    pub wait_for_services_timeout: Option<Duration>,
    /// Images a job may name; empty: any.
    pub allowed_images: Vec<String>,
    /// The same for services.
    pub allowed_services: Vec<String>,
    /// Images that may be privileged; empty: any.
    pub allowed_privileged_images: Vec<String>,
    /// The same for services.
    pub allowed_privileged_services: Vec<String>,
    /// When images are pulled, first rule first.
    pub pull_policy: Vec<PullPolicy>,
    /// The policies a job may ask for; empty: those of `pull_policy`.
    pub allowed_pull_policies: Vec<PullPolicy>,
    /// Bytes of shared memory; 0: Docker's own.
    pub shm_size: u64,
    /// Mounts of memory in the job's containers: path and options.
    pub tmpfs: BTreeMap<String, String>,
    /// Mounts of memory in services.
    pub services_tmpfs: BTreeMap<String, String>,
    /// Settings of the kernel in the job's containers.
    pub sysctls: BTreeMap<String, String>,
    /// The image that gets sources and carries caches.
    pub helper_image: Option<String>,
    /// Which of GitLab's helper images, where `helper_image` names none.
    pub helper_image_flavor: Option<String>,
    /// Labels of containers; variables are put in.
    pub container_labels: BTreeMap<String, String>,
    /// Whether a job's network has IPv6.
    pub enable_ipv6: bool,
    /// Limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// The largest packet of a job's network, in bytes; 0: the engine's own.
    pub network_mtu: u32,
    /// Options of the log of the engine's.
    pub log_options: LogOptions,
}

impl Docker {
    /// What there is where nothing is written.
    #[must_use]
    pub fn by_default() -> Docker {
        Docker {
            pull_policy: vec![PullPolicy::Always],
            wait_for_services_timeout: Some(Duration::from_secs(30)),
            ..Docker::default()
        }
    }
}

/// What a container may use; nothing is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap; -1: all there is.
    pub memory_swap: Option<i64>,
    /// Bytes of memory it is pushed back to where the machine is short.
    pub memory_reservation: Option<i64>,
    /// The control group it is put under.
    pub cgroup_parent: Option<String>,
    /// Processors, such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Its weight where processors are short; 0: the engine's own.
    pub cpu_shares: i64,
    /// GPUs.
    pub gpus: Option<Gpus>,
}

/// GPUs, as `docker run --gpus` takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// How many; -1: all.
    pub count: i64,
    /// Which.
    pub ids: Vec<String>,
    /// Whose.
    pub driver: String,
    /// What they have to be able to do.
    pub capabilities: Vec<String>,
    /// Options of the driver's.
    pub options: BTreeMap<String, String>,
}

/// A device of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path on the machine.
    pub host: String,
    /// Its path in the container.
    pub container: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// A limit of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// What holds at first; -1 is none.
    pub soft: i64,
    /// What it can be raised to.
    pub hard: i64,
}

/// Options of the engine's log of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Variables that are put beside each line.
    pub env: Option<String>,
    /// Labels that are.
    pub labels: Option<String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// Where it isn't there.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// Its names in a file.
    pub const NAMES: [(&'static str, PullPolicy); 3] = [
        ("always", PullPolicy::Always),
        ("if-not-present", PullPolicy::IfNotPresent),
        ("never", PullPolicy::Never),
    ];

    /// The policy of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<PullPolicy> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, policy)| *policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PullPolicy::Always => "always",
            PullPolicy::IfNotPresent => "if-not-present",
            PullPolicy::Never => "never",
        }
    }
}

/// One `[[runners.docker.services]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The image.
    pub name: String,
    /// Names it is reached by, separated by blanks or commas.
    pub alias: Option<String>,
    /// Instead of the image's command.
    pub command: Vec<String>,
    /// Instead of the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// `KEY=value`.
    pub environment: Hidden<Vec<String>>,
}
