//! `springtide plugin`: what plugins there are, what they are, and whether a file is one.

mod conformance;
mod directory;

pub use directory::Directory;

use super::asking::Daemon;
use crate::logging;
use crate::runtime::answers::PluginStatus;
use crate::runtime::plugins::granted_by_default;
use crate::runtime::socket::Ask;
use crate::table::Table;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use springtide_plugins::contract::{Kind, Request};
use springtide_plugins::{Digest, Host, HostOptions, Plugin, Report, Setting, Stage};
use std::fmt::Write;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Commands about plugins.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List the plugins in the plugin directory, each loaded as the daemon would.
    ///
    /// A plugin's id is its file's name without .wasm: what `MachineDriver` and `plugin` in
    /// config.toml name. A file that is refused is listed with the reason.
    ///
    ///   springtide plugin list --plugin-dir /usr/lib/springtide/plugins
    #[command(verbatim_doc_comment)]
    List(ListArgs),
    /// Show what a plugin is, what it asks for, and what can be set.
    ///
    /// The settings are the keys of [runners.policy.settings] for a policy and of MachineOptions for a
    /// driver. `secret` marks those whose value stays in the host, `host-file` those that name a file
    /// the host reads. The digest is what `digest` in [plugins.ID] pins.
    ///
    ///   springtide plugin inspect off-peak
    ///   springtide plugin inspect ./quiet-nights.wasm --json
    #[command(verbatim_doc_comment)]
    Inspect(InspectArgs),
    /// Take a file through every stage of loading and print what each came to.
    ///
    /// It is what the daemon does with the file, without its cache of compiled code: read, size,
    /// digest, component, imports, world, compile, limits, trial, description. The first stage that
    /// refuses the file says why and what to do about it; those after it are not reached. Nothing of
    /// the file runs before `trial`, where it describes itself with no grant and in two seconds.
    ///
    /// Exits with 1 if the file is refused.
    ///
    ///   springtide plugin check ./quiet-nights.wasm
    #[command(verbatim_doc_comment)]
    Check(CheckArgs),
    /// Try whether a driver does what the daemon relies on, and print a row a case.
    ///
    /// It makes machines at the provider, with the grants, the credentials and a runner's MachineOptions
    /// of a configuration, and removes them again, also on Ctrl-C; machines that it did not make are left
    /// alone. A case is one promise: that a token makes one machine, also where the answer was lost or
    /// two calls came at once; that a list shows it; that what a create leaves that dies at any step can be
    /// swept; that another owner's machines stand. The page on conformance has them all.
    ///
    /// Exits with 1 if a case fails, or something could not be removed.
    ///
    ///   springtide plugin conformance ./proxmox.wasm --config config.toml
    ///   springtide plugin conformance local --config config.toml --only create --only list
    ///   springtide plugin conformance local --config config.toml \
    ///     --fault 'full={"local-fail-create": 100}=capacity|transient'
    #[command(verbatim_doc_comment)]
    Conformance(conformance::Arguments),
    /// Have a running daemon load a plugin's file again.
    ///
    /// A daemon takes changed files up by itself, but for a plugin with grants only where nobody but
    /// its own user may write to the plugin directory. This is for the others. The new one is loaded
    /// beside the old one, which stays in use if the new one is refused.
    ///
    ///   springtide plugin reload quiet-nights
    #[command(verbatim_doc_comment)]
    Reload(ReloadArgs),
}

/// What is listed, and how.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    directory: Directory,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Which plugin is shown, and how.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A file, or an id in the plugin directory.
    plugin: String,
    #[command(flatten)]
    directory: Directory,
    /// One JSON object, with the whole schema of the settings.
    #[arg(long)]
    json: bool,
}

/// Which file is checked, and how.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A file, or an id in the plugin directory.
    plugin: String,
    #[command(flatten)]
    directory: Directory,
    /// The digest it must have, as [plugins.ID] pins it.
    #[arg(long, value_name = "sha256:...")]
    digest: Option<Digest>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Which plugin of which daemon is loaded again.
#[derive(Args, Debug)]
pub struct ReloadArgs {
    #[command(flatten)]
    daemon: Daemon,
    /// The plugin's id.
    plugin: String,
    /// One JSON object: the plugin as the daemon has it now; `trouble` where it was refused.
    #[arg(long)]
    json: bool,
}

/// Runs a command.
///
/// # Errors
/// Where there is no such plugin, or no plugin directory.
pub fn run(command: Command) -> Result<ExitCode> {
    logging::start(Some("warn"), logging::Format::Text);
    match command {
        Command::List(arguments) => list(&arguments),
        Command::Inspect(arguments) => inspect(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Reload(arguments) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the threads of the program")?
            .block_on(reload(arguments)),
    }
}

/// A host with a cache of compiled plugins of this user's own; without one where it can't be had.
///
/// # Errors
/// Where the engines do not work on this machine.
pub fn host() -> Result<Host> {
    let cached = HostOptions {
        cache: cache(),
        ..HostOptions::default()
    };
    if let Ok(host) = Host::new(&cached) {
        return Ok(host);
    }
    Ok(Host::new(&HostOptions::default())?)
}

fn cache() -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(absolute)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .filter(absolute)
        .map(|caches| caches.join("springtide/plugins"))
}

fn list(arguments: &ListArgs) -> Result<ExitCode> {
    let directory = arguments.directory.path();
    let host = host()?;
    let reports: Vec<(PathBuf, String, Report)> = arguments
        .directory
        .plugins()?
        .into_iter()
        .map(|source| {
            let report = host.check(&source);
            (source.file, source.id, report)
        })
        .collect();
    if arguments.json {
        let plugins: Vec<Value> = reports
            .iter()
            .map(|(file, id, report)| listed(file, id, report))
            .collect();
        return json(&json!({"directory": directory, "plugins": plugins}));
    }
    if reports.is_empty() {
        say(&format!("no plugin is in {}\n", directory.display()))?;
    } else {
        say(&table_of(&reports))?;
    }
    if std::fs::metadata(&directory).is_ok_and(|found| found.mode() & 0o002 != 0) {
        eprintln!(
            "springtide: anyone may write to {}, and who can replace a plugin decides what the daemon does: chmod o-w it",
            directory.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn table_of(reports: &[(PathBuf, String, Report)]) -> String {
    let mut table = Table::new(&["id", "kind", "version", "digest", "size", "state"]);
    for (file, id, report) in reports {
        let (kind, version, digest) = match &report.outcome {
            Ok(plugin) => {
                let info = plugin.info();
                let digest = format!("sha256:{}", &info.digest.hex()[..12]);
                (plugin.kind().to_string(), info.version.to_string(), digest)
            }
            Err(_) => ("-".into(), "-".into(), "-".into()),
        };
        let state = match &report.outcome {
            Ok(_) if report.warnings.is_empty() => "ok".into(),
            Ok(_) => format!("ok, but {}", report.warnings.join("; ")),
            Err(error) => format!("refused at {}: {error}", error.stage()),
        };
        let size = std::fs::metadata(file).map_or_else(|_| "-".into(), |found| size(found.len()));
        table.row([id.clone(), kind, version, digest, size, state]);
    }
    table.text()
}

fn listed(file: &Path, id: &str, report: &Report) -> Value {
    let warnings = &report.warnings;
    match &report.outcome {
        Ok(plugin) => {
            let info = plugin.info();
            json!({
                "id": id, "file": file, "ok": true, "kind": plugin.kind(),
                "version": info.version.to_string(), "digest": info.digest, "size": info.size,
                "warnings": warnings,
            })
        }
        Err(error) => json!({
            "id": id, "file": file, "ok": false, "stage": error.stage(),
            "error": error.to_string(), "warnings": warnings,
        }),
    }
}

fn inspect(arguments: &InspectArgs) -> Result<ExitCode> {
    let source = arguments.directory.source(&arguments.plugin)?;
    let report = host()?.check(&source);
    let plugin = report.outcome.with_context(|| {
        let file = source.file.display();
        format!("{file} is no plugin; `springtide plugin check {file}` shows where it fails")
    })?;
    let settings = plugin.schema().settings();
    if arguments.json {
        let info = plugin.info();
        return json(&json!({
            "id": &*info.id, "name": info.description.name, "version": info.version.to_string(),
            "kind": plugin.kind(), "file": info.file, "digest": info.digest, "size": info.size,
            "requests": info.description.requests, "deadlines": info.description.deadlines,
            "settings": settings, "settings-schema": plugin.schema().value(),
            "warnings": report.warnings,
        }));
    }
    say(&(portrait(&plugin, &settings) + &warned(&report.warnings)))?;
    Ok(ExitCode::SUCCESS)
}

/// What a plugin is, for people.
fn portrait(plugin: &Plugin, settings: &[Setting]) -> String {
    let info = plugin.info();
    let requests = &info.description.requests;
    let asked: Vec<String> = requests.iter().map(|one| plain(&one.to_string())).collect();
    let asked = if asked.is_empty() {
        "nothing".to_owned()
    } else {
        asked.join(", ")
    };
    let mut text = format!(
        "{} {}, a {}\n  file       {}\n  digest     {}\n  size       {}\n  asks for   {asked}\n  deadlines  {}\n",
        info.description.name,
        info.version,
        plugin.kind(),
        info.file.display(),
        info.digest,
        size(info.size),
        deadlines(plugin),
    );
    if settings.is_empty() {
        text.push_str("\nNothing can be set.\n");
    } else {
        let mut table = Table::new(&["setting", "type", "default", "marks", "meaning"]);
        for one in settings {
            table.row([
                one.name.clone(),
                one.kind.clone(),
                one.default_shown(),
                one.marks(),
                one.meaning.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if plugin.kind() == Kind::Driver && !requests.is_empty() {
        if granted_by_default(&info.id, info.digest) {
            text.push_str("\nIt came with the program and has what it asks for without a grant.\n");
        } else {
            text.push_str("\nconfig.toml grants what it asks for with this:\n\n");
            text.push_str(&grants(&info.id, requests));
        }
    }
    text
}

fn deadlines(plugin: &Plugin) -> String {
    let said = &plugin.info().description.deadlines;
    // That of a function of which nothing is said.
    let usual = plugin.deadline("").as_secs();
    if said.is_empty() {
        return format!("{usual} s a call");
    }
    let said: Vec<String> = said
        .iter()
        .map(|one| format!("{} {} s", one.function, one.limit))
        .collect();
    match plugin.kind() {
        Kind::Policy => said.join(", "),
        Kind::Driver => format!("{}; others {usual} s", said.join(", ")),
    }
}

/// The tables of config.toml that grant these requests; what is to be filled in is in capitals.
fn grants(id: &str, requests: &[Request]) -> String {
    let quoted = |text: &str| Value::from(plain(text)).to_string();
    let all = |wanted: fn(&Request) -> Option<&str>| {
        let found: Vec<String> = requests.iter().filter_map(wanted).map(quoted).collect();
        found.join(", ")
    };
    let origins = all(|one| match one {
        Request::Origin(origin) => Some(origin),
        _ => None,
    });
    let credentials = all(|one| match one {
        Request::Credential(name) => Some(name),
        _ => None,
    });
    let id = key(id);
    let mut text = String::new();
    // Writing to a string can't fail.
    if requests.contains(&Request::Files) {
        writeln!(text, "[plugins.{id}.grants]\nfiles = true").ok();
    }
    if !origins.is_empty() || !credentials.is_empty() {
        writeln!(text, "[plugins.{id}.grants.http]\norigins = [{origins}]").ok();
    }
    if !credentials.is_empty() {
        writeln!(text, "credentials = [{credentials}]").ok();
    }
    for request in requests {
        if let Request::Tool(name) = request {
            let name = key(name);
            writeln!(
                text,
                "[plugins.{id}.grants.tools.{name}]\npath = \"/PATH/OF/THE/PROGRAM\""
            )
            .ok();
        }
    }
    text
}

fn check(arguments: &CheckArgs) -> Result<ExitCode> {
    let mut source = arguments.directory.source(&arguments.plugin)?;
    source.digest = arguments.digest;
    // Without the cache: whether it compiles is part of the question.
    let report = Host::new(&HostOptions::default())?.check(&source);
    let code = match &report.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    };
    if arguments.json {
        json(&json!({
            "id": source.id, "file": source.file, "ok": report.outcome.is_ok(),
            "stages": report.stages, "warnings": report.warnings,
        }))?;
        return Ok(code);
    }
    let mut table = Table::new(&["stage", "result", "detail"]);
    for stage in Stage::ALL {
        let passed = report.stages.iter().find(|passed| passed.stage == stage);
        let (result, detail) = match passed {
            Some(passed) if passed.ok => ("ok", passed.detail.as_str()),
            Some(passed) => ("refused", passed.detail.as_str()),
            None => ("-", "not reached"),
        };
        table.row([&stage.to_string(), result, detail]);
    }
    let end = match &report.outcome {
        Ok(plugin) => {
            let version = &plugin.info().version;
            format!(
                "{} {version} is a {} this host runs",
                source.id,
                plugin.kind()
            )
        }
        Err(error) => format!("{} is refused at {}", source.id, error.stage()),
    };
    let warnings = warned(&report.warnings);
    say(&format!("{}{warnings}\n{end}\n", table.text()))?;
    Ok(code)
}

async fn reload(arguments: ReloadArgs) -> Result<ExitCode> {
    let plugin = arguments.plugin;
    let answer = arguments.daemon.ask(&Ask::ReloadPlugin { plugin }).await?;
    let status: PluginStatus = serde_json::from_value(answer)
        .context("the daemon's answer is of another version of springtide")?;
    if arguments.json {
        json(&serde_json::to_value(&status)?)?;
        return Ok(match status.trouble {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        });
    }
    match status.trouble {
        None => {
            say(&format!("{} {} is in use\n", status.id, status.version))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(trouble) => bail!("{}: {trouble}", status.id),
    }
}

fn warned(warnings: &[String]) -> String {
    warnings
        .iter()
        .map(|warning| format!("\nwarning: {warning}\n"))
        .collect()
}

fn json(value: &Value) -> Result<ExitCode> {
    say(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints; that nobody reads on is no error.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// A key of TOML, in quotes where it needs them.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(bare) {
        return name.to_owned();
    }
    Value::from(plain(name)).to_string()
}

/// A plugin's text without what could move a cursor.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
