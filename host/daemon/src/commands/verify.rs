//! `springtide verify`: whether GitLab still knows the runners of a configuration.

use crate::table::{Table, say};
use anyhow::{Context, Result, bail};
use clap::Args;
use secrecy::ExposeSecret;
use springtide_config::{Config, Entry, Runner};
use springtide_gitlab::{Client, ClientOptions, GitlabError, Info, RunnerIdentity};
use std::path::{Path, PathBuf};

/// Ask GitLab whether it knows the runners of the configuration.
///
/// Exit code 0 if it knows all of them. With --delete, those whose token GitLab refuses are taken out
/// of the configuration; one that can't be reached stays.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  springtide verify --name elastic"
)]
pub struct Arguments {
    /// The configuration; where it is left out, the paths `springtide run` looks at.
    #[arg(short, long, value_name = "FILE", env = "CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Only this runner, by its name.
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Only the runners of this GitLab.
    #[arg(short, long, value_name = "URL")]
    url: Option<String>,
    /// Take runners out of the configuration that GitLab does not know.
    #[arg(long)]
    delete: bool,
    /// One JSON list.
    #[arg(long)]
    json: bool,
}

/// Verifies and prints.
///
/// # Errors
/// Where a runner is not known, or the configuration can't be read.
pub async fn run(arguments: Arguments) -> Result<()> {
    let (path, config) = read(arguments.config.as_deref())?;
    let chosen: Vec<&Runner> = config
        .runners
        .iter()
        .filter(|runner| {
            arguments
                .name
                .as_ref()
                .is_none_or(|name| runner.name == *name)
        })
        .filter(|runner| {
            arguments
                .url
                .as_deref()
                .is_none_or(|url| same_url(runner, url))
        })
        .collect();
    if chosen.is_empty() {
        bail!(
            "no runner in {} is of that name and address",
            path.display()
        );
    }
    let system = springtide_config::system_id(&path).context("finding out which system this is")?;
    let mut table = Table::new(&["RUNNER", "ID", "GITLAB", "TOKEN ENDS", "RESULT"]);
    let (mut refused, mut bad) = (Vec::new(), 0);
    let mut list = Vec::new();
    for runner in chosen {
        let result = verify(runner, &system.id).await;
        let (id, ends, text) = match &result {
            Ok(known) => (known.id, known.token_expires_at.clone(), "known".to_owned()),
            Err(error) => (0, None, error.to_string()),
        };
        if let Err(error) = &result {
            bad += 1;
            if matches!(error, GitlabError::Forbidden { .. }) {
                refused.push(runner);
            }
        }
        list.push(serde_json::json!({
            "runner": runner.name, "id": (id > 0).then_some(id), "url": runner.url.as_str(),
            "token-ends": ends, "known": result.is_ok(),
            "problem": result.is_err().then_some(&text),
        }));
        table.row([
            runner.name.clone(),
            if id > 0 {
                id.to_string()
            } else {
                "-".to_owned()
            },
            runner.url.to_string(),
            ends.unwrap_or_else(|| "-".to_owned()),
            text,
        ]);
    }
    if arguments.json {
        say(&(serde_json::to_string_pretty(&list)? + "\n"))?;
    } else {
        say(&table.text())?;
    }
    if arguments.delete && !refused.is_empty() {
        let removed = remove(&path, &refused)?;
        eprintln!("{removed} taken out of {}", path.display());
    }
    match bad {
        0 => Ok(()),
        bad => bail!("{bad} of the runners are not known or could not be asked for"),
    }
}

async fn verify(
    runner: &Runner,
    system_id: &str,
) -> Result<springtide_gitlab::Credentials, GitlabError> {
    let shell = runner.shell.as_deref().unwrap_or("bash");
    let identity = RunnerIdentity {
        token: runner.token.clone(),
        system_id: system_id.to_owned(),
        info: Info::new(runner.executor.name(), shell).labeled(runner.labels.clone()),
    };
    client(runner)?.verify(&identity).await
}

/// The configuration to look at, and what can be used of it.
pub(super) fn read(given: Option<&Path>) -> Result<(PathBuf, Config)> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => springtide_config::find_config()?,
    };
    let (config, problems) = springtide_config::load(&path);
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        eprintln!("{problem}");
    }
    let config = config.with_context(|| {
        format!(
            "{} can't be used; `springtide check` says why",
            path.display()
        )
    })?;
    Ok((path, config))
}

/// A client for the runner's GitLab.
pub(super) fn client(runner: &Runner) -> Result<Client, GitlabError> {
    Client::new(ClientOptions {
        tls_ca_file: runner.tls_ca_file.clone(),
        tls_cert_file: runner.tls_cert_file.clone(),
        tls_key_file: runner.tls_key_file.clone(),
        ..ClientOptions::new(runner.url.as_str())
    })
}

/// Whether an address is that of the runner's GitLab, however it is spelled.
pub(super) fn same_url(runner: &Runner, url: &str) -> bool {
    let normal = |text: &str| {
        let text = text.trim().trim_end_matches('/');
        let text = text.strip_suffix("/ci").unwrap_or(text);
        text.trim_end_matches('/').to_ascii_lowercase()
    };
    normal(runner.url.as_str()) == normal(url)
}

/// Takes entries out of the file; how many.
pub(super) fn remove(path: &Path, runners: &[&Runner]) -> Result<usize> {
    let is_of = |entry: &Entry, runner: &Runner| {
        let token = entry.token.expose_secret();
        // Two entries may be one runner at GitLab; a token that is a variable is not filled in here.
        let named = entry.name == runner.name || entry.name.is_empty();
        named && (token == runner.token.expose_secret() || token.contains('$'))
    };
    let removed = springtide_config::remove_runners(path, |entry| {
        runners.iter().any(|runner| is_of(entry, runner))
    })?;
    Ok(removed.len())
}
