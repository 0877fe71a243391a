//! Reads config.toml: GitLab Runner's own keys and Springtide's tables, with every problem at its line.
//!
//! All problems of a file are found at once, each with what to write instead. A runner with an error
//! is left out of what is read, so that the others can be run; any other error leaves nothing. What a
//! file says of plugins is checked by [`Config::check_plugins`], for which plugins there are is known
//! only once the file is read.

mod build;
mod cache;
mod catalog;
mod derived;
mod docker;
mod duration;
mod edit;
mod engine;
mod find;
mod machine;
mod options;
mod problem;
mod report;
mod schema;
mod source;
mod system_id;
mod types;
mod walk;

pub use cache::{
    Azure, Cache, CacheStore, Gcs, GcsKey, S3, S3Encryption, S3Endpoint, S3Keys, S3Role,
};
pub use catalog::Catalog;
pub use derived::{OFF_PEAK, PolicyLink, QUEUE_DEPTH};
pub use docker::{Device, Docker, Gpus, Limits, LogOptions, PullPolicy, Service, Ulimit, sizes};
pub use edit::{
    EditError, Entry, NewDocker, NewMachine, NewRunner, append_runner, list_runners,
    remove_runners, replace_token,
};
pub use engine::EngineOptions;
pub use find::{NoConfig, default_config, find_config};
pub use machine::{Autoscaling, Machine, MachineOption, OffPeak};
pub use options::{DriverOptions, FileOption, FilePurpose, SecretOption, SecretPart};
pub use problem::{Position, Problem, Severity};
pub use source::Source;
pub use system_id::{SystemId, system_id};
pub use types::{
    Config, Credential, CredentialKind, Executor, Grants, Hidden, HttpGrant, LogFormat, LogLevel,
    PluginEntry, PolicyEntry, PoolTable, Queue, Runner, SessionServer, Springtide, ToolGrant,
    Unusable, Webhook,
};

use build::{Read, World};
use report::Report;
use std::path::Path;
use toml::de::DeTable;

/// Reads a file. `None` where it can't be used at all; the problems are in the order of the file.
#[must_use]
pub fn load(path: &Path) -> (Option<Config>, Vec<Problem>) {
    match Source::read(path) {
        Ok(source) => parse(&source),
        Err(problem) => (None, vec![problem]),
    }
}

/// Reads a text. Variables that `url` and `token` name are those of this process.
#[must_use]
pub fn parse(source: &Source) -> (Option<Config>, Vec<Problem>) {
    parse_at(source, jiff::Timestamp::now(), &|name| {
        std::env::var(name).ok()
    })
}

/// Reads a text at an instant, with variables from elsewhere.
#[must_use]
pub fn parse_at(
    source: &Source,
    now: jiff::Timestamp,
    variable: &dyn Fn(&str) -> Option<String>,
) -> (Option<Config>, Vec<Problem>) {
    let (read, problems) = read(source, now, variable);
    let usable = read.filter(|read| read.usable);
    (usable.map(|read| read.config), problems)
}

/// A configuration for what is wrong with it, and not to be run.
#[derive(Clone, Debug)]
pub struct Examined {
    /// As far as it could be read.
    pub config: Config,
    /// Whether [`parse`] would give it too: no error in it is more than one runner's.
    pub usable: bool,
}

/// Reads a text like [`parse`], and gives what could be read also where an error keeps all of it from
/// being used: what it says of plugins can be checked all the same. `None` where the text is not TOML,
/// or where it can't be read where its plugins are.
#[must_use]
pub fn examine(source: &Source) -> (Option<Examined>, Vec<Problem>) {
    let variable = |name: &str| std::env::var(name).ok();
    let (read, problems) = read(source, jiff::Timestamp::now(), &variable);
    let examined = read.filter(|read| read.placed).map(|read| Examined {
        config: read.config,
        usable: read.usable,
    });
    (examined, problems)
}

fn read(
    source: &Source,
    now: jiff::Timestamp,
    variable: &dyn Fn(&str) -> Option<String>,
) -> (Option<Read>, Vec<Problem>) {
    let mut report = Report::new(source);
    let read = match DeTable::parse(source.text()) {
        Ok(table) => {
            let whole = 0..0;
            let world = World { now, variable };
            Some(build::config(table.get_ref(), whole, &world, &mut report))
        }
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            report.error(&at, format!("this is not TOML: {}", error.message()), "");
            None
        }
    };
    (read, report.finish())
}
