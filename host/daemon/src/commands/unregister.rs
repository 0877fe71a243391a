//! `springtide unregister`: a runner leaves GitLab and the configuration.

use super::verify::{client, read, remove, same_url};
use crate::table::say;
use anyhow::{Result, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use springtide_config::Runner;
use springtide_gitlab::{Client, ClientOptions, GitlabError, is_authentication_token};
use std::fmt;
use std::path::{Path, PathBuf};

/// Remove a runner from GitLab and from the configuration.
///
/// A runner with a token that begins with glrt- was made in GitLab and may have other managers: this
/// manager leaves it, and it stays at GitLab until it is removed there, or with --delete-runner. A
/// runner that was made by `register` with a registration token is removed.
///
/// Machines of the runner are not removed: stop `springtide run` first, and see `machine ls`.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  springtide unregister --name elastic"
)]
pub struct Arguments {
    /// The configuration; where it is left out, the paths `springtide run` looks at.
    #[arg(short, long, value_name = "FILE", env = "CONFIG_FILE")]
    config: Option<PathBuf>,
    /// The runner, by its name.
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// The runner, by its token, with --url where it is not in the configuration. Others can read it
    /// here: prefer --name, or --token-file.
    #[arg(
        short,
        long,
        value_name = "TOKEN",
        env = "CI_SERVER_TOKEN",
        hide_env_values = true
    )]
    token: Option<SecretString>,
    /// A file with the token alone in it; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// GitLab's address: only runners of it.
    #[arg(short, long, value_name = "URL", env = "CI_SERVER_URL")]
    url: Option<String>,
    /// Every runner of the configuration.
    #[arg(long)]
    all_runners: bool,
    /// Remove runners that were made in GitLab too, for all their managers.
    #[arg(long)]
    delete_runner: bool,
    /// One JSON object a runner: runner, id, url, config, done (left, removed or unknown), problem.
    #[arg(long)]
    json: bool,
}

/// What became of a runner at GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Gone {
    /// This manager has left it.
    Left,
    /// It is no more.
    Removed,
    /// It was gone before.
    Unknown,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gone::Left => "this manager has left it; the runner stays at GitLab",
            Gone::Removed => "removed at GitLab",
            Gone::Unknown => "GitLab did not know it any more",
        })
    }
}

/// What was done with one runner.
#[derive(Debug, Serialize)]
struct Row<'a> {
    runner: Option<&'a str>,
    id: Option<u64>,
    url: &'a str,
    /// The file it was taken out of.
    config: Option<&'a Path>,
    done: Option<Gone>,
    problem: Option<String>,
}

impl Row<'_> {
    fn print(&self, json: bool) -> Result<()> {
        if json {
            say(&(serde_json::to_string(self)? + "\n"))?;
        } else if let Some(gone) = self.done {
            let runner = self.runner.map(|name| format!("{name}: "));
            let config = self
                .config
                .map(|path| format!("; taken out of {}", path.display()));
            let (runner, config) = (runner.unwrap_or_default(), config.unwrap_or_default());
            say(&format!("{runner}{gone}{config}\n"))?;
        }
        Ok(())
    }
}

/// Unregisters.
///
/// # Errors
/// Where no runner is meant, or GitLab can't be asked; what could not be removed there stays in the
/// configuration.
pub async fn run(arguments: Arguments) -> Result<()> {
    let json = arguments.json;
    unregister(arguments, &mut |row| row.print(json)).await
}

async fn unregister(arguments: Arguments, tell: &mut impl FnMut(&Row) -> Result<()>) -> Result<()> {
    let token = match &arguments.token_file {
        Some(file) => Some(super::register::read_token_file(file)?),
        None => arguments.token.clone(),
    };
    // A variable that is set for `register` chooses nothing where a name is given.
    let token = token.filter(|_| arguments.name.is_none() && !arguments.all_runners);
    if token.is_none() && arguments.name.is_none() && !arguments.all_runners {
        bail!("which runner? give --name, --token-file, or --all-runners");
    }
    let read = read(arguments.config.as_deref());
    let (path, config) = match (read, &token, &arguments.url) {
        (Ok(read), _, _) => read,
        // The runner need not be in a file.
        (Err(_), Some(token), Some(url)) => return alone(&arguments, url, token, tell).await,
        (Err(error), _, _) => return Err(error),
    };
    let system = springtide_config::system_id(&path)?;
    let is_meant = |runner: &&Runner| {
        let named = arguments
            .name
            .as_ref()
            .is_none_or(|name| runner.name == *name);
        let token = token.as_ref();
        let tokened = token.is_none_or(|t| t.expose_secret() == runner.token.expose_secret());
        let url = arguments
            .url
            .as_deref()
            .is_none_or(|url| same_url(runner, url));
        named && tokened && url
    };
    let meant: Vec<&Runner> = config.runners.iter().filter(is_meant).collect();
    match (meant.is_empty(), &token, &arguments.url) {
        (true, Some(token), Some(url)) => return alone(&arguments, url, token, tell).await,
        (true, _, _) => bail!("no runner in {} is meant by that", path.display()),
        (false, _, _) => {}
    }
    let mut left = 0;
    for runner in meant {
        let gone = match client(runner) {
            Ok(client) => {
                leave(
                    &client,
                    &runner.token,
                    Some(&system.id),
                    arguments.delete_runner,
                )
                .await
            }
            Err(error) => Err(error),
        };
        let mut row = Row {
            runner: Some(&runner.name),
            id: runner.id,
            url: runner.url.as_str(),
            config: None,
            done: None,
            problem: None,
        };
        match gone {
            Ok(gone) => {
                remove(&path, &[runner])?;
                row.done = Some(gone);
                row.config = Some(&path);
            }
            Err(error) => {
                left += 1;
                eprintln!("{}: {error}", runner.name);
                row.problem = Some(error.to_string());
            }
        }
        tell(&row)?;
    }
    match left {
        0 => Ok(()),
        left => bail!(
            "{left} could not be removed at GitLab and stay in {}",
            path.display()
        ),
    }
}

/// A runner that is in no file.
async fn alone(
    arguments: &Arguments,
    url: &str,
    token: &SecretString,
    tell: &mut impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let client = Client::new(ClientOptions::new(url))?;
    if is_authentication_token(token) && !arguments.delete_runner {
        bail!(
            "the runner is not in the configuration, so that this manager has nothing to leave; \
             --delete-runner removes it at GitLab, for all its managers"
        );
    }
    let gone = leave(&client, token, None, arguments.delete_runner).await?;
    tell(&Row {
        runner: None,
        id: None,
        url,
        config: None,
        done: Some(gone),
        problem: None,
    })
}

async fn leave(
    client: &Client,
    token: &SecretString,
    system_id: Option<&str>,
    delete: bool,
) -> Result<Gone, GitlabError> {
    let managed = is_authentication_token(token) && !delete;
    let result = match system_id {
        Some(system_id) if managed => client.unregister_manager(token, system_id).await,
        _ => client.unregister(token).await,
    };
    match (result, managed) {
        (Ok(()), true) => Ok(Gone::Left),
        (Ok(()), false) => Ok(Gone::Removed),
        // What is not there need not be removed.
        (Err(GitlabError::Forbidden { .. } | GitlabError::Refused { status: 404, .. }), _) => {
            Ok(Gone::Unknown)
        }
        (Err(error), _) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::verify;
    use clap::Parser;
    use springtide_sandbox::{RunnerSeed, Sandbox, SandboxOptions};
    use std::path::Path;

    #[derive(Parser)]
    struct Unregister {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[derive(Parser)]
    struct Verify {
        #[command(flatten)]
        arguments: verify::Arguments,
    }

    /// A sandbox with runners of these tokens, and a configuration that names them and one more.
    async fn scene(folder: &Path) -> (Sandbox, PathBuf) {
        let seeds = ["glrt-one", "glrt-two", "legacy"];
        let options = SandboxOptions {
            runner_tokens: seeds
                .iter()
                .map(|token| RunnerSeed::new(*token, ["t"]))
                .collect(),
            ..SandboxOptions::default()
        };
        let sandbox = Sandbox::start(options).await.unwrap();
        let path = folder.join("config.toml");
        let mut text = "concurrent = 1\n".to_owned();
        for token in seeds.iter().chain(&["glrt-unknown"]) {
            let url = sandbox.url();
            text += &format!(
                "[[runners]]\n  name = \"of {token}\"\n  url = \"{url}\"\n  token = \"{token}\"\n  \
                 executor = \"shell+machine\"\n  [runners.machine]\n    MachineDriver = \"local\"\n    \
                 MachineName = \"ci-%s\"\n"
            );
        }
        std::fs::write(&path, text).unwrap();
        (sandbox, path)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = springtide_config::list_runners(path).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    async fn unregister(path: &Path, more: &[&str]) -> Result<()> {
        told(path, more).await.0
    }

    /// How it ended, and what a program is told.
    async fn told(path: &Path, more: &[&str]) -> (Result<()>, Vec<serde_json::Value>) {
        let mut all = vec!["unregister", "--config", path.to_str().unwrap()];
        all.extend(more);
        let arguments = Unregister::try_parse_from(all).unwrap().arguments;
        let mut rows = Vec::new();
        let mut keep = |row: &Row| {
            rows.push(serde_json::to_value(row)?);
            Ok(())
        };
        let end = super::unregister(arguments, &mut keep).await;
        (end, rows)
    }

    #[tokio::test]
    async fn verify_tells_which_are_known_and_takes_out_only_those_that_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, path) = scene(folder.path()).await;
        let verify = async |more: &[&str]| {
            let mut all = vec!["verify", "--config", path.to_str().unwrap()];
            all.extend(more);
            verify::run(Verify::try_parse_from(all).unwrap().arguments).await
        };
        verify(&["--name", "of glrt-one"]).await.unwrap();
        assert!(verify(&["--name", "nobody"]).await.is_err());
        assert!(verify(&[]).await.is_err());
        assert_eq!(names(&path).len(), 4);
        assert!(verify(&["--delete"]).await.is_err());
        assert_eq!(names(&path), ["of glrt-one", "of glrt-two", "of legacy"]);
        verify(&["--json"]).await.unwrap();
        sandbox.shutdown().await;
        assert!(verify(&["--delete"]).await.is_err());
        assert_eq!(names(&path).len(), 3);
    }

    #[tokio::test]
    async fn a_runner_made_in_gitlab_is_left_and_one_made_by_register_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, path) = scene(folder.path()).await;
        assert!(unregister(&path, &["--name", "nobody"]).await.is_err());
        unregister(&path, &["--name", "of glrt-one"]).await.unwrap();
        unregister(&path, &["--name", "of legacy"]).await.unwrap();
        assert_eq!(names(&path), ["of glrt-two", "of glrt-unknown"]);
        assert_eq!(sandbox.runners().len(), 2);
        unregister(&path, &["--all-runners", "--delete-runner"])
            .await
            .unwrap();
        assert_eq!(names(&path), [""; 0]);
        assert_eq!(sandbox.runners().len(), 1);
    }

    #[tokio::test]
    async fn a_program_is_told_of_each_runner_and_never_of_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, path) = scene(folder.path()).await;
        // A manager that never showed itself has nothing to leave.
        let shown = ["verify", "--config", path.to_str().unwrap()];
        let arguments = Verify::try_parse_from(shown).unwrap().arguments;
        assert!(verify::run(arguments).await.is_err());
        let url = format!("{}/", sandbox.url().trim_end_matches('/'));
        let (end, rows) = told(&path, &["--all-runners", "--json"]).await;
        end.unwrap();
        let row = |name: &str, done: &str| {
            serde_json::json!({
                "runner": name, "id": null, "url": url, "config": path, "done": done, "problem": null,
            })
        };
        assert_eq!(
            rows,
            [
                row("of glrt-one", "left"),
                row("of glrt-two", "left"),
                row("of legacy", "removed"),
                row("of glrt-unknown", "unknown"),
            ]
        );
    }

    #[tokio::test]
    async fn a_runner_that_gitlab_could_not_be_told_of_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, path) = scene(folder.path()).await;
        sandbox.shutdown().await;
        let (end, rows) = told(&path, &["--all-runners", "--json"]).await;
        assert!(end.is_err());
        for row in &rows {
            assert_eq!(row["done"], serde_json::Value::Null, "{row}");
            assert!(row["problem"].as_str().is_some_and(|why| !why.is_empty()));
        }
        assert_eq!(rows.len(), 4);
        assert_eq!(names(&path).len(), 4);
    }
}
