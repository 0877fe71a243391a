//! The daemon's own log: to standard error, as text or as JSON, at the level the file or the command
//! line names.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. `level` is one of GitLab Runner's (`debug`, `info`, `warn`, `error`, `fatal`,
/// `panic`); RUST_LOG, where it is set, is stronger.
pub fn start(level: Option<&str>, format: Format) {
    let level = match level.unwrap_or("info").to_ascii_lowercase().as_str() {
        "debug" | "trace" => "debug",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        _ => "info",
    };
    // What libraries say below a warning is of interest to their authors alone.
    let ours = format!(
        "warn,springtide={level},springtide_control={level},springtide_gitlab={level},\
         springtide_jobs={level},springtide_machines={level},springtide_plugins={level},plugin={level}"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => log.try_init(),
        Format::Json => log.json().try_init(),
    };
    if let Err(error) = started {
        eprintln!("springtide: the log was started before: {error}");
    }
}
