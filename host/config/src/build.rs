//! From values to a configuration: what can be said of one value, and of several together.

mod cache;
mod docker;
mod ignored;
mod machine;
mod ours;
mod runner;

pub(crate) use runner::short_token;

use crate::report::{Report, Span};
use crate::walk::{Found, choose};
use crate::{Config, LogFormat, LogLevel, Runner, SessionServer, Severity, schema, walk};
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use toml::de::DeTable;

/// What a reading looks at beside the file.
pub(crate) struct World<'w> {
    /// When, for what is over.
    pub(crate) now: jiff::Timestamp,
    /// The variables that `url` and `token` may name.
    pub(crate) variable: &'w dyn Fn(&str) -> Option<String>,
}

/// The default of `check_interval`.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The default of `shutdown_timeout`.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The port of `[session_server]` where none is written.
const SESSION_PORT: u16 = 8093;

/// The default of `session_timeout`.
const SESSION_TIMEOUT: Duration = Duration::from_secs(1800);

/// The default of `connection_max_age`.
const CONNECTION_MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// The port of metrics that GitLab Runner takes where none is given.
const METRICS_PORT: u16 = 9252;

/// A file as far as it could be read.
pub(crate) struct Read {
    pub(crate) config: Config,
    /// No error in it is more than one runner's.
    pub(crate) usable: bool,
    /// What it says of where plugins are could be read.
    pub(crate) placed: bool,
}

/// Reads a whole file.
pub(crate) fn config(table: &DeTable, whole: Span, world: &World, report: &mut Report) -> Read {
    let before = report.errors();
    let root = walk::table(table, whole, schema::ROOT, report);
    let entries = root.tables("runners");
    let of_runners: usize = entries.iter().map(|entry| entry.errors).sum();
    let file = global(&root, report);
    let global_errors = report.errors() - before - of_runners;

    let mut runners = Vec::new();
    for entry in entries {
        if let Some(runner) = runner::runner(entry, &root, world, report) {
            runners.push((runner, entry));
        }
    }
    if entries.is_empty() && global_errors == 0 {
        report.of_file(
            Severity::Warning,
            "there are no runners in the file, and nothing to do",
            "write a [[runners]] table, or make one with `springtide register`",
        );
    }
    let runners = apart(runners, report);
    let unusable = std::mem::take(&mut report.unusable);
    Read {
        config: Config {
            runners,
            unusable,
            ..file
        },
        usable: global_errors == 0,
        placed: placed(&root),
    }
}

/// Whether the plugin directory and the files of plugins are what the file says: one that can't be
/// read would be looked for elsewhere.
fn placed(root: &Found) -> bool {
    let said = |found: &Found, name: &str| !found.has(name) || found.text(name).is_some();
    let tables = root.map("plugins").iter();
    let mut plugins = tables.filter_map(|(_, item)| match &item.value {
        walk::Value::Table(table) => Some(table),
        _ => None,
    });
    let directory = root.table("springtide");
    directory.is_none_or(|table| said(table, "plugin_dir"))
        && (root.has("springtide") == directory.is_some())
        && plugins.all(|table| said(table, "file"))
}

/// What stands before the runners, and our tables.
fn global(root: &Found, report: &mut Report) -> Config {
    let concurrent = root.count("concurrent");
    if !root.has("concurrent") && root.has("runners") {
        report.of_file(
            Severity::Warning,
            "`concurrent` is missing: one job at a time is run over all runners",
            "write concurrent = and the most jobs at once, at the beginning of the file",
        );
    }
    let level = choose(
        root,
        "log_level",
        &[
            ("panic", LogLevel::Error),
            ("fatal", LogLevel::Error),
            ("error", LogLevel::Error),
            ("warning", LogLevel::Warning),
            ("warn", LogLevel::Warning),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Debug),
        ],
        report,
    );
    let format = choose(
        root,
        "log_format",
        &[
            ("runner", LogFormat::Runner),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
        ],
        report,
    );
    ignored::of_file(root, report);
    let credentials = ours::credentials(root, report);
    Config {
        concurrent: concurrent.unwrap_or(1),
        check_interval: seconds(root, "check_interval").unwrap_or(CHECK_INTERVAL),
        log_level: level.unwrap_or_default(),
        log_format: format.unwrap_or_default(),
        listen_address: address(root, "listen_address", Some(METRICS_PORT), report),
        shutdown_timeout: seconds(root, "shutdown_timeout").unwrap_or(SHUTDOWN_TIMEOUT),
        connection_max_age: Some(
            root.duration("connection_max_age")
                .unwrap_or(CONNECTION_MAX_AGE),
        )
        .filter(|age| !age.is_zero()),
        sessions: sessions(root, report),
        springtide: ours::springtide(root, report),
        plugins: ours::plugins(root, &credentials, report),
        credentials,
        runners: Vec::new(),
        unusable: Vec::new(),
    }
}

/// `register` of GitLab Runner's writes a table that listens nowhere.
fn sessions(root: &Found, report: &mut Report) -> Option<SessionServer> {
    let found = root.table("session_server")?;
    let listen = address(found, "listen_address", Some(SESSION_PORT), report)?;
    let advertise = match found.has("advertise_address") {
        true => address(found, "advertise_address", Some(SESSION_PORT), report)?,
        false => listen.clone(),
    };
    if advertise.starts_with("0.0.0.0:") || advertise.starts_with("[::]:") {
        report.warning(
            &found.at("listen_address"),
            "`listen_address` of [session_server] is every address of this host, and none that GitLab could come to",
            "write advertise_address = and the host and port that GitLab reaches it by",
        );
    }
    Some(SessionServer {
        listen,
        advertise,
        timeout: seconds(found, "session_timeout").unwrap_or(SESSION_TIMEOUT),
    })
}

/// Whole seconds; 0 is a missing one, as in GitLab Runner.
fn seconds(found: &Found, name: &str) -> Option<Duration> {
    found
        .count(name)
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// `host:port`; the port may be left out where there is one to take, the host for all of them.
fn address(found: &Found, name: &str, port: Option<u16>, report: &mut Report) -> Option<String> {
    let text = found.filled(name)?;
    let (host, given) = match text.rsplit_once(':') {
        // An IPv6 address without a port ends in its bracket.
        Some((host, given)) if !given.ends_with(']') => (host, Some(given)),
        _ => (text, None),
    };
    let port = match (given, port) {
        (Some(given), _) => given.parse::<u16>().ok(),
        (None, port) => port,
    };
    let bare = host.contains(':') && !host.starts_with('[');
    match port.filter(|_| !bare && !host.contains(char::is_whitespace)) {
        Some(port) if host.is_empty() => Some(format!("0.0.0.0:{port}")),
        Some(port) => Some(format!("{host}:{port}")),
        None => {
            report.error(
                &found.at(name),
                format!("`{name}` is {text:?}, which is no address"),
                "write a host and a port, such as \"127.0.0.1:9252\" or \"[::1]:9252\"",
            );
            None
        }
    }
}

/// Runners that are told apart: the second of the same address and token is left out.
fn apart(runners: Vec<(Runner, &Found)>, report: &mut Report) -> Vec<Runner> {
    let mut tokens: HashMap<(String, String), usize> = HashMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for (runner, found) in runners {
        let identity = (
            runner.url.as_str().trim_end_matches('/').to_owned(),
            runner.token.expose_secret().to_owned(),
        );
        if let Some(line) = tokens.get(&identity) {
            report.error(
                &found.at("token"),
                format!(
                    "the runner of line {line} has the same url and token; they would take each other's machines"
                ),
                "write the token of a runner of its own, or delete one of the two",
            );
            continue;
        }
        tokens.insert(identity, runner.at.line);
        if let Some(line) = names.get(&runner.name) {
            report.warning(
                &found.at("name"),
                format!(
                    "the runner of line {line} is called {:?} too, and logs and metrics don't tell them apart",
                    runner.name
                ),
                "write another name",
            );
        }
        names.insert(runner.name.clone(), runner.at.line);
        kept.push(runner);
    }
    kept
}
