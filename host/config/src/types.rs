//! What a configuration says, read and checked.
//!
//! Defaults are filled in where there is one rule for all; where a default depends on the host
//! (paths) the field is an `Option`. Durations are [`Duration`]s, counts `u32`; 0 of `limit`,
//! `MaxBuilds` and `MaxGrowthRate` is no limit, as in GitLab Runner.

use crate::{Cache, Docker, Machine, Position};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most jobs at once over all runners; at least 1. Missing: 1.
    pub concurrent: u32,
    /// How often GitLab is asked for jobs, shared among the runners: see [`Config::poll_interval`].
    /// Missing, 0 or less: 3 s.
    pub check_interval: Duration,
    /// What is logged. Missing: `info`.
    pub log_level: LogLevel,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where metrics are served, `host:port`; without a port, 9252 was added.
    pub listen_address: Option<String>,
    /// How long jobs are waited for at a shutdown. Missing, 0 or less: 30 s.
    pub shutdown_timeout: Duration,
    /// How long an idle connection to GitLab is kept; `None` keeps it for good. Missing: 15 min.
    pub connection_max_age: Option<Duration>,
    /// `[session_server]`, where it listens.
    pub sessions: Option<SessionServer>,
    /// `[springtide]`.
    pub springtide: Springtide,
    /// `[plugins.ID]`.
    pub plugins: BTreeMap<String, PluginEntry>,
    /// `[credentials.NAME]`.
    pub credentials: BTreeMap<String, Credential>,
    /// The runners that can be used, in the order of the file: one with an error is not here.
    pub runners: Vec<Runner>,
    /// What the others say of plugins.
    pub unusable: Vec<Unusable>,
}

/// `[session_server]`: where GitLab comes for the terminals of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionServer {
    /// `listen_address`, `host:port`; without a port, 8093 was added.
    pub listen: String,
    /// `advertise_address`: where GitLab finds it. Missing: `listen_address`.
    pub advertise: String,
    /// `session_timeout`: how long a job that is over waits for who has its terminal. Missing: 30 min.
    pub timeout: Duration,
}

/// What a runner that can't be used says of plugins, so that all its problems are told at once.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// Where the entry begins.
    pub at: Position,
    /// `[runners.machine]`, where it could be read.
    pub machine: Option<Machine>,
    /// `[[runners.policy]]`.
    pub policies: Vec<PolicyEntry>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors; `panic`, `fatal` and `error` in the file.
    Error,
    /// And warnings.
    Warning,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `runner`, GitLab Runner's default.
    #[default]
    Runner,
    /// `text`: key=value.
    Text,
    /// `json`: one object a line.
    Json,
}

/// `[springtide]`: the manager's own. What is missing is the daemon's to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Springtide {
    /// Where plugins are looked for.
    pub plugin_dir: Option<PathBuf>,
    /// Where the state is: `sqlite:PATH`.
    pub state: Option<String>,
    /// The helper that is put on machines.
    pub helper: Option<PathBuf>,
    /// Where the driver `local` keeps machines.
    pub local_root: Option<PathBuf>,
    /// `[springtide.webhook]`.
    pub webhook: Option<Webhook>,
}

/// `[springtide.webhook]`: where GitLab's job events are heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `host:port`.
    pub listen: String,
    /// The file with the secret that GitLab sends along.
    pub secret_file: PathBuf,
}

/// `[plugins.ID]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginEntry {
    /// The component, where it is not `ID.wasm` of the plugin directory.
    pub file: Option<PathBuf>,
    /// `sha256:` and 64 hexadecimal digits, in lower case, that the file has to have.
    pub digest: Option<String>,
    /// What it may do.
    pub grants: Grants,
}

/// `[plugins.ID.grants]`: what a plugin may do beside computing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// A scratch directory of its own.
    pub files: bool,
    /// Requests over HTTP.
    pub http: Option<HttpGrant>,
    /// Programs by the name the plugin calls them.
    pub tools: BTreeMap<String, ToolGrant>,
}

/// `[plugins.ID.grants.http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpGrant {
    /// `scheme://host[:port]`, as a browser spells an origin.
    pub origins: Vec<String>,
    /// Whether these may be at a private address.
    pub allow_private: bool,
    /// Names of `[credentials.NAME]`, or `aws`, which is there without being written.
    pub credentials: Vec<String>,
    /// The actions of AWS's that signed requests may name; `None`: any.
    pub actions: Option<Vec<String>>,
}

/// `[plugins.ID.grants.tools.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolGrant {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Leading arguments that may be used, `*` for any one; `None`: any arguments.
    pub allow: Option<Vec<Vec<String>>>,
    /// `SUBCOMMAND:N`: its argument N has to be a name with the owner's prefix.
    pub owned: Vec<String>,
    /// How many may run at once, for all pools together; 0: any number; `None`: as many as is known
    /// to be good for the program.
    pub concurrency: Option<u32>,
}

/// `[credentials.NAME]`: what the host adds to a plugin's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// How it is added.
    pub kind: CredentialKind,
    /// The file it is in.
    pub token_file: Option<PathBuf>,
    /// The profile of AWS's files its keys are in; `None`: where AWS's tools look.
    pub profile: Option<String>,
}

/// How a credential is added to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `Authorization: Bearer ...`.
    Bearer,
    /// In the header of this name.
    Header(String),
    /// Signed as AWS does.
    Aws,
}

/// What runs a runner's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// `shell+machine`: a shell on a machine of the pool.
    ShellMachine,
    /// `docker+machine`: containers on a machine of the pool.
    DockerMachine,
    /// One of GitLab Runner's that are not on machines of ours, by its name. Such a runner is in the
    /// list so that it can be told about; it takes no jobs.
    Other(String),
}

impl Executor {
    /// Its name in the file.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Executor::ShellMachine => "shell+machine",
            Executor::DockerMachine => "docker+machine",
            Executor::Other(name) => name,
        }
    }

    /// Whether jobs run on machines of a pool.
    #[must_use]
    pub fn has_machines(&self) -> bool {
        !matches!(self, Executor::Other(_))
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One `[[runners]]` entry.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Tells this entry from the others and is the same after a reload as long as the entry's address
    /// and token are: 16 hexadecimal digits, nothing secret.
    pub key: String,
    /// Changes if anything in the entry does, comments and layout aside.
    pub fingerprint: String,
    /// Where the entry begins.
    pub at: Position,
    /// Where its executor is named.
    pub executor_at: Position,
    /// `name`; where it is missing, the short token.
    pub name: String,
    /// GitLab's address, variables filled in.
    pub url: Url,
    /// GitLab's number of the runner, where the file has it.
    pub id: Option<u64>,
    /// What the runner is known by at GitLab, variables filled in.
    pub token: SecretString,
    /// When the token was given, in seconds since 1970.
    pub token_obtained_at: Option<i64>,
    /// When the token ends, in seconds since 1970.
    pub token_expires_at: Option<i64>,
    /// What runs the jobs.
    pub executor: Executor,
    /// Most jobs at once, and most machines in any state; 0 is no limit.
    pub limit: u32,
    /// Most requests for a job at once; at least 1.
    pub request_concurrency: u32,
    /// No second request at once after a job was given.
    pub strict_check_interval: bool,
    /// Longest trace, KiB. Missing or 0: 4096.
    pub output_limit: u32,
    /// Refusals in a row after which the runner rests. Missing or 0: 3.
    pub unhealthy_requests_limit: u32,
    /// How long it rests then. Missing: an hour.
    pub unhealthy_interval: Duration,
    /// Tries to tell GitLab of a job's end. Missing or 0: 10.
    pub job_status_final_update_retry_limit: u32,
    /// `KEY=value` for every job.
    pub environment: Hidden<Vec<(String, String)>>,
    /// Labels of the runner, the file's own among them.
    pub labels: BTreeMap<String, String>,
    /// Where builds live on the machine.
    pub builds_dir: Option<String>,
    /// Where caches live on the machine.
    pub cache_dir: Option<String>,
    /// Where to clone from instead of GitLab's own address.
    pub clone_url: Option<Url>,
    /// Script before sources are got (`pre_clone_script` in old files).
    pub pre_get_sources_script: Option<String>,
    /// Script after sources are got (`post_clone_script` in old files).
    pub post_get_sources_script: Option<String>,
    /// Script before a job's own.
    pub pre_build_script: Option<String>,
    /// Script after a job's own, before `after_script`.
    pub post_build_script: Option<String>,
    /// How long the preparation of a job may take; `None`: the job's own timeout.
    pub prepare_timeout: Option<Duration>,
    /// How long getting the sources may take; `None`: the job's own timeout.
    pub get_sources_timeout: Option<Duration>,
    /// Whether jobs may not turn on `CI_DEBUG_TRACE`.
    pub debug_trace_disabled: bool,
    /// Whether git's own settings in the build are cleaned: `None` is yes but for the shell executor.
    pub clean_git_config: Option<bool>,
    /// Whether git is told that the build's directory is safe.
    pub safe_directory_checkout: Option<bool>,
    /// Whether jobs may set `GIT_CLONE_PATH`.
    pub custom_build_dir: Option<bool>,
    /// `bash`, `sh`, ...; `None`: bash if it is there, else sh.
    pub shell: Option<String>,
    /// Certificates that GitLab's is checked against, beside the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// Our certificate for GitLab.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub tls_key_file: Option<PathBuf>,
    /// `feature_flags`: FF_NAME to on or off.
    pub feature_flags: BTreeMap<String, bool>,
    /// `[runners.machine]`; always there where the executor has machines.
    pub machine: Option<Machine>,
    /// `[runners.docker]`; always there for `docker+machine`.
    pub docker: Option<Docker>,
    /// `[runners.cache]`, where it names a store.
    pub cache: Option<Cache>,
    /// `[runners.queue]`.
    pub queue: Option<Queue>,
    /// `[[runners.policy]]`, in the order of the file. [`Runner::policy_chain`] is what runs.
    pub policies: Vec<PolicyEntry>,
    /// `[runners.pool]`, defaults filled in.
    pub pool: PoolTable,
}

/// `[runners.queue]`: where waiting jobs are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Paths of projects.
    pub projects: Vec<String>,
    /// Paths of groups, fanned out to their projects.
    pub groups: Vec<String>,
    /// The runner's own tags.
    pub tags: Vec<String>,
    /// Whether the runner takes jobs without tags. Missing: if it has no tags itself.
    pub run_untagged: bool,
    /// The file with a token that may read the API.
    pub token_file: PathBuf,
    /// How often it is looked at. Missing: 15 s.
    pub refresh: Duration,
    /// After how long what was seen no longer counts. Missing: 90 s.
    pub stale_after: Duration,
    /// Most requests a minute. Missing: 400.
    pub requests_per_minute: u32,
}

/// One `[[runners.policy]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyEntry {
    /// The plugin's id.
    pub plugin: String,
    /// Where it is named.
    pub at: Position,
    /// Its settings: an object.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Where each of them is.
    pub settings_at: BTreeMap<String, Position>,
}

/// `[runners.pool]`: ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTable {
    /// Whose machines these are; `None`: derived from GitLab's address and the runner's number.
    pub owner: Option<String>,
    /// How long a creation may take. Missing: 15 min.
    pub create_timeout: Duration,
    /// How long a boot may take. Missing: 10 min.
    pub boot_timeout: Duration,
    /// How long a job waits for a machine. Missing: the runner's own, else 30 min.
    pub prepare_timeout: Duration,
    /// Machines a job may try; at least 1. Missing: 2.
    pub machine_tries: u32,
    /// How long a machine may be out of sight before it is believed gone. Missing: 5 min.
    pub missing_grace: Duration,
    /// A command of a shell, run on a machine again and again until it ends with 0: then the machine
    /// is ready.
    pub ready_command: Option<String>,
    /// A script that machines run as root at their first boot, before Docker is looked for; relative
    /// to the configuration.
    pub first_boot: Option<PathBuf>,
}

impl Default for PoolTable {
    fn default() -> Self {
        PoolTable {
            owner: None,
            create_timeout: Duration::from_secs(900),
            boot_timeout: Duration::from_secs(600),
            prepare_timeout: Duration::from_secs(1800),
            machine_tries: 2,
            missing_grace: Duration::from_secs(300),
            ready_command: None,
            first_boot: None,
        }
    }
}

/// Something that may hold a secret among other things, so that it isn't shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden<T>(pub T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl<T> std::ops::Deref for Hidden<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
