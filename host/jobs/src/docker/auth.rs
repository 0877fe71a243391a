//! Who we are to a registry: the job's `DOCKER_AUTH_CONFIG`, then this host's Docker configuration,
//! then what GitLab gives the job.

use super::reference::{HUB, Reference};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use springtide_gitlab::Credential;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// How long a credential helper of Docker's may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The user that says that the password is an identity token.
const TOKEN_USER: &str = "<token>";

/// A login at a registry.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Where it holds, as it was written.
    pub(super) server: String,
    pub(super) username: String,
    pub(super) password: SecretString,
    pub(super) identity: Option<SecretString>,
    /// Where it is from, for the trace.
    pub(super) source: String,
}

/// A Docker configuration, as far as it is about logins.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// What a credential helper of Docker's prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: SecretString,
}

/// Whether the programs that a configuration names may be run on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Helpers {
    /// The operator named them.
    Run,
    /// A job did: they would show it logins that are this host's.
    Refuse,
}

/// Everything a login may come from.
pub(super) struct Logins {
    /// `DOCKER_AUTH_CONFIG` of the job, or of its runner.
    pub(super) variable: String,
    /// Whether helpers it names are run.
    pub(super) variable_helpers: Helpers,
    /// Docker's configuration of the user this program runs as.
    pub(super) file: Option<PathBuf>,
    /// What GitLab gave the job.
    pub(super) credentials: Vec<Credential>,
}

/// Docker's configuration of the user this program runs as.
pub(crate) fn own_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".docker/config.json"))
}

/// A registry as it is compared: without scheme, without what follows its host where that is only
/// the version of an API.
fn normal(server: &str) -> String {
    let server = server
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let server = server
        .strip_suffix("/v1")
        .or_else(|| server.strip_suffix("/v2"))
        .unwrap_or(server);
    match server {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// The key of a table that holds for an image: the longest that its name begins with.
fn best<'a>(keys: impl Iterator<Item = &'a String>, image: &Reference) -> Option<&'a String> {
    let whole = format!("{}/{}", image.registry, image.path);
    keys.filter(|key| {
        let place = normal(key);
        whole == place || whole.starts_with(&format!("{place}/"))
    })
    .max_by_key(|key| normal(key).len())
}

impl Logins {
    /// The login for an image; nothing where there is none. What can't be read is passed over, and
    /// said in the second value.
    pub(super) async fn of(&self, image: &Reference) -> (Option<Login>, Vec<String>) {
        let mut problems = Vec::new();
        if !self.variable.trim().is_empty() {
            let found = config_login(
                &self.variable,
                "$DOCKER_AUTH_CONFIG",
                image,
                self.variable_helpers,
            )
            .await;
            match found {
                Ok(Some(login)) => return (Some(login), problems),
                Ok(None) => {}
                Err(why) => problems.push(why),
            }
        }
        if let Some(path) = &self.file {
            match tokio::fs::read_to_string(path).await {
                Ok(text) => {
                    let source = path.display().to_string();
                    match config_login(&text, &source, image, Helpers::Run).await {
                        Ok(Some(login)) => return (Some(login), problems),
                        Ok(None) => {}
                        Err(why) => problems.push(why),
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => problems.push(format!("reading {}: {error}", path.display())),
            }
        }
        let urls: Vec<String> = self.registries().map(|one| one.url.clone()).collect();
        let login = best(urls.iter(), image).and_then(|url| {
            let credential = self.registries().find(|one| one.url == *url)?;
            Some(Login {
                server: url.clone(),
                username: credential.username.clone(),
                password: credential.password.clone(),
                identity: None,
                source: "job payload (GitLab Registry)".into(),
            })
        });
        (login, problems)
    }

    fn registries(&self) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(|one| one.kind == "registry")
    }
}

/// The login of a Docker configuration for an image.
async fn config_login(
    text: &str,
    source: &str,
    image: &Reference,
    helpers: Helpers,
) -> Result<Option<Login>, String> {
    // The parser's message may quote the text, which is secret.
    let config: Config = serde_json::from_str(text).map_err(|error| {
        format!(
            "{source} is no Docker configuration: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    if let Some(key) = best(config.helpers.keys(), image)
        && let Some(helper) = config.helpers.get(key)
    {
        return helped(helper, key, source, helpers).await;
    }
    let Some(key) = best(config.auths.keys(), image) else {
        return Ok(None);
    };
    let Some(auth) = config.auths.get(key) else {
        return Ok(None);
    };
    let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
    if !auth.auth.is_empty() {
        let bad = || format!("{source}: `auth` of {key} is not `user:password` in base64");
        let decoded = STANDARD.decode(auth.auth.trim()).map_err(|_| bad())?;
        let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
        let (user, secret) = decoded.split_once(':').ok_or_else(bad)?;
        username = user.to_owned();
        password = secret.trim_end_matches('\0').to_owned();
    }
    let nothing = username.is_empty() && password.is_empty() && auth.identitytoken.is_empty();
    if nothing && !config.store.is_empty() {
        return helped(&config.store, key, source, helpers).await;
    }
    let identity = (!auth.identitytoken.is_empty()).then(|| auth.identitytoken.clone().into());
    Ok((!nothing).then(|| Login {
        server: key.clone(),
        username,
        password: password.into(),
        identity,
        source: source.to_owned(),
    }))
}

/// The login a credential helper of Docker's knows.
async fn helped(
    helper: &str,
    server: &str,
    source: &str,
    helpers: Helpers,
) -> Result<Option<Login>, String> {
    if helpers == Helpers::Refuse {
        return Err(format!(
            "{source} names the credential helper {helper:?}, and a job's are not run on the runner's host: name it in `environment` of the runner, or in Docker's configuration there"
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if helper.is_empty() || !helper.chars().all(plain) {
        return Err(format!(
            "{source} names a credential helper that can't be one"
        ));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| format!("{source}: asking {program} for {server}: {why}");
    let run = async {
        let mut child = tokio::process::Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => {
            return Err(failed(format!(
                "it took longer than {} s",
                PATIENCE.as_secs()
            )));
        }
    };
    if !output.status.success() {
        return Err(failed(format!("it ended with {}", output.status)));
    }
    let found: Helped = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("it did not print a login".into()))?;
    let is_token = found.username == TOKEN_USER;
    Ok(Some(Login {
        server: server.to_owned(),
        username: if is_token {
            String::new()
        } else {
            found.username
        },
        identity: is_token.then(|| found.secret.clone()),
        password: if is_token {
            String::new().into()
        } else {
            found.secret
        },
        source: source.to_owned(),
    }))
}

impl Login {
    /// It as the engine takes it.
    pub(super) fn for_engine(&self) -> bollard::auth::DockerCredentials {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        bollard::auth::DockerCredentials {
            username: filled(&self.username),
            password: filled(self.password.expose_secret()),
            identitytoken: self
                .identity
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            serveraddress: Some(self.server.clone()),
            ..bollard::auth::DockerCredentials::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(kind: &str, url: &str) -> Credential {
        serde_json::from_str(&format!(
            r#"{{"type":"{kind}","url":"{url}","username":"gitlab-ci-token","password":"job"}}"#
        ))
        .expect("a credential")
    }

    async fn user(logins: &Logins, image: &str) -> String {
        let image = Reference::read(image).expect("an image");
        let (login, problems) = logins.of(&image).await;
        match login {
            Some(login) => format!(
                "{}:{} from {}",
                login.username,
                login.password.expose_secret(),
                login.source
            ),
            None => problems.join("; "),
        }
    }

    #[tokio::test]
    async fn the_nearest_login_is_taken_in_the_order_of_the_sources() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.json");
        std::fs::write(
            &file,
            r#"{"auths":{"reg.io":{"auth":"aG9zdDpw"},"https://index.docker.io/v1/":{"auth":"aHViOnA="}}}"#,
        )
        .expect("written");
        let logins = Logins {
            variable: r#"{"auths":{"reg.io/team":{"auth":"dGVhbTpw"},"reg.io/team/a":{"username":"a","password":"p"}}}"#.into(),
            variable_helpers: Helpers::Refuse,
            file: Some(file.clone()),
            credentials: vec![
                credential("registry", "gitlab.io:5050"),
                credential("git", "other.io"),
                credential("registry", "reg.io"),
            ],
        };
        let file = file.display();
        let cases = [
            (
                "reg.io/team/b:1",
                "team:p from $DOCKER_AUTH_CONFIG".to_owned(),
            ),
            ("reg.io/team/a:1", "a:p from $DOCKER_AUTH_CONFIG".into()),
            ("reg.io/teams/a:1", format!("host:p from {file}")),
            ("redis:7", format!("hub:p from {file}")),
            (
                "gitlab.io:5050/g/p",
                "gitlab-ci-token:job from job payload (GitLab Registry)".into(),
            ),
            ("gitlab.io/g/p", String::new()),
            ("other.io/x", String::new()),
        ];
        for (image, expected) in cases {
            assert_eq!(user(&logins, image).await, expected, "{image}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_a_job_names_is_not_run() {
        let mut logins = Logins {
            variable: r#"{"credHelpers":{"reg.io":"of-no-host"}}"#.into(),
            variable_helpers: Helpers::Refuse,
            file: None,
            credentials: vec![credential("registry", "reg.io")],
        };
        let image = Reference::read("reg.io/a").expect("an image");
        let (login, problems) = logins.of(&image).await;
        assert_eq!(login.expect("the job's own").username, "gitlab-ci-token");
        assert!(problems[0].contains("are not run on the runner's host"));
        logins.variable_helpers = Helpers::Run;
        let (_, problems) = logins.of(&image).await;
        assert!(problems[0].contains("asking docker-credential-of-no-host"));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_without_the_secret_and_passed_over() {
        let logins = Logins {
            variable: r#"{"auths":{"reg.io":{"auth":"c2VjcmV0"}}}"#.into(),
            variable_helpers: Helpers::Refuse,
            file: None,
            credentials: Vec::new(),
        };
        let said = user(&logins, "reg.io/a").await;
        assert!(said.contains("not `user:password`"), "{said}");
        let broken = Logins {
            variable: r#"{"auths": "secret""#.into(),
            ..logins
        };
        let said = user(&broken, "reg.io/a").await;
        assert!(said.contains("$DOCKER_AUTH_CONFIG is no Docker") && !said.contains("secret"));
    }
}
