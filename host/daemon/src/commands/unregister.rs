//! `springtide unregister`: a runner leaves GitLab and the configuration.

use super::verify::{client, read, remove, same_url};
use crate::table::say;
use anyhow::{Result, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use springtide_config::Runner;
use springtide_gitlab::{Client, ClientOptions, GitlabError, is_authentication_token};
use std::path::PathBuf;

/// Remove a runner from GitLab and from the configuration.
///
/// A runner with a token that begins with glrt- was made in GitLab and may have other managers: this
/// manager leaves it, and it stays at GitLab until it is removed there, or with --delete-runner. A
/// runner that was made by `register` with a registration token is removed.
///
/// Machines of the runner are not removed: stop `springtide run` first, and see `machine ls`.
#[derive(Args)]
#[command(verbatim_doc_comment)]
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
}

/// Unregisters.
///
/// # Errors
/// Where no runner is meant, or GitLab can't be asked; what could not be removed there stays in the
/// configuration.
pub async fn run(arguments: Arguments) -> Result<()> {
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
        (Err(_), Some(token), Some(url)) => return alone(&arguments, url, token).await,
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
        (true, Some(token), Some(url)) => return alone(&arguments, url, token).await,
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
        match gone {
            Ok(what) => {
                remove(&path, &[runner])?;
                say(&format!(
                    "{}: {what}; taken out of {}\n",
                    runner.name,
                    path.display()
                ))?;
            }
            Err(error) => {
                left += 1;
                eprintln!("{}: {error}", runner.name);
            }
        }
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
async fn alone(arguments: &Arguments, url: &str, token: &SecretString) -> Result<()> {
    let client = Client::new(ClientOptions::new(url))?;
    if is_authentication_token(token) && !arguments.delete_runner {
        bail!(
            "the runner is not in the configuration, so that this manager has nothing to leave; \
             --delete-runner removes it at GitLab, for all its managers"
        );
    }
    let what = leave(&client, token, None, arguments.delete_runner).await?;
    say(&format!("{what}\n"))?;
    Ok(())
}

async fn leave(
    client: &Client,
    token: &SecretString,
    system_id: Option<&str>,
    delete: bool,
) -> Result<&'static str, GitlabError> {
    let managed = is_authentication_token(token) && !delete;
    let result = match system_id {
        Some(system_id) if managed => client.unregister_manager(token, system_id).await,
        _ => client.unregister(token).await,
    };
    match (result, managed) {
        (Ok(()), true) => Ok("this manager has left it; the runner stays at GitLab"),
        (Ok(()), false) => Ok("removed at GitLab"),
        // What is not there need not be removed.
        (Err(GitlabError::Forbidden { .. } | GitlabError::Refused { status: 404, .. }), _) => {
            Ok("GitLab did not know it any more")
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
        let mut all = vec!["unregister", "--config", path.to_str().unwrap()];
        all.extend(more);
        run(Unregister::try_parse_from(all).unwrap().arguments).await
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
    async fn a_runner_that_gitlab_could_not_be_told_of_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, path) = scene(folder.path()).await;
        sandbox.shutdown().await;
        assert!(unregister(&path, &["--all-runners"]).await.is_err());
        assert_eq!(names(&path).len(), 4);
    }
}
