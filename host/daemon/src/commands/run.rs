//! `springtide run`: the daemon.

use crate::logging::Format;
use crate::runtime::daemon::{self, Start};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Run the daemon: take jobs from GitLab, make machines for them, take the machines away.
///
/// Without --config it reads the first there is of /etc/springtide/config.toml,
/// ~/.config/springtide/config.toml, and GitLab Runner's own /etc/gitlab-runner/config.toml and
/// ~/.gitlab-runner/config.toml.
///
/// SIGQUIT takes no more jobs and finishes those that run. SIGTERM and SIGINT do the same within
/// `shutdown_timeout` and then end them; a second one stops at once, and the next start goes on
/// with the jobs that still run. SIGHUP, or a change of the file, reads it again; no job is lost.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  springtide run --config /etc/gitlab-runner/config.toml"
)]
pub struct Arguments {
    /// The configuration.
    #[arg(long, short, value_name = "FILE", env = "CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Take all machines away at the end, instead of leaving them for the next start.
    #[arg(long)]
    remove_machines: bool,
    /// How much is logged, instead of what the file says: debug, info, warn or error.
    #[arg(long, value_name = "LEVEL", env = "LOG_LEVEL")]
    log_level: Option<String>,
    /// How it is logged, instead of what the file says.
    #[arg(long, value_name = "FORMAT", env = "LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; GitLab Runner's word for it.
    Runner,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the daemon to its end.
///
/// # Errors
/// Where it can't start, or its state can't be written any more.
pub async fn run(arguments: Arguments) -> Result<()> {
    let config = match arguments.config {
        Some(config) => config,
        None => springtide_config::find_config()?,
    };
    daemon::run(Start {
        config,
        remove_machines: arguments.remove_machines,
        log_level: arguments.log_level,
        log_format: arguments.log_format.map(|format| match format {
            LogFormat::Json => Format::Json,
            LogFormat::Runner | LogFormat::Text => Format::Text,
        }),
    })
    .await
}
