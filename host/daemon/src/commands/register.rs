//! `springtide register`: a runner of GitLab's becomes an entry of the configuration.

mod ask;

use crate::table;
use anyhow::{Context, Result, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use springtide_config::{NewDocker, NewMachine, NewRunner};
use springtide_gitlab::{
    Client, ClientOptions, Credentials, GitlabError, Info, Registration, RunnerIdentity,
    is_authentication_token,
};
use std::fmt;
use std::path::{Path, PathBuf};

pub use ask::{Ask, Terminal, read_token_file};

/// Register a runner with GitLab and write it into the configuration.
///
/// Make the runner in GitLab first (Settings > CI/CD > Runners, or Admin > CI/CD > Runners): it shows
/// a token that begins with glrt-. What is not given here is asked for:
///
///   springtide register
///   springtide register --non-interactive --url https://gitlab.example.com \
///     --token-file runner.token --executor shell+machine --machine-driver local
///
/// A registration token, where a GitLab still takes them, makes the runner at GitLab; its tags and
/// its other properties are then given here.
///
/// A token on a command line can be read by every user of this host while the command runs, and stays
/// in the shell's history: prefer --token-file, the variable CI_SERVER_TOKEN, or the question.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The configuration to write to; it is made if it is not there. Where it is left out: the first
    /// there is of those `springtide run` looks at, or else our own.
    #[arg(short, long, value_name = "FILE", env = "CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Ask nothing: what is neither given nor has a default is an error.
    #[arg(short, long, env = "REGISTER_NON_INTERACTIVE")]
    non_interactive: bool,
    /// GitLab's address.
    #[arg(short, long, value_name = "URL", env = "CI_SERVER_URL")]
    url: Option<String>,
    /// The runner's token (glrt-...) or a registration token. Others can read it here: prefer --token-file.
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
    /// A registration token, as older scripts give it.
    #[arg(
        short,
        long,
        value_name = "TOKEN",
        env = "REGISTRATION_TOKEN",
        hide_env_values = true
    )]
    registration_token: Option<SecretString>,
    /// The runner's name in the configuration, and its description at GitLab where it is made there.
    #[arg(
        long,
        visible_alias = "description",
        value_name = "NAME",
        env = "RUNNER_NAME"
    )]
    name: Option<String>,
    /// One JSON object of what was done: runner, id, url, executor, config, token-ends, made. Questions
    /// go to standard error, as without it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    legacy: Legacy,
    #[command(flatten)]
    entry: Entry,
}

/// Certificates.
#[derive(Args)]
#[command(next_help_heading = "Certificates")]
struct Tls {
    /// Certificates to trust beside the system's: a PEM file.
    #[arg(long, value_name = "FILE", env = "CI_SERVER_TLS_CA_FILE")]
    tls_ca_file: Option<PathBuf>,
    /// Our own certificate for GitLab: a PEM file.
    #[arg(long, value_name = "FILE", env = "CI_SERVER_TLS_CERT_FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Its key: a PEM file.
    #[arg(long, value_name = "FILE", env = "CI_SERVER_TLS_KEY_FILE")]
    tls_key_file: Option<PathBuf>,
}

/// For registration tokens alone.
#[derive(Args)]
#[command(next_help_heading = "With a registration token")]
struct Legacy {
    /// Tags, separated by commas.
    #[arg(long, value_name = "TAGS", env = "RUNNER_TAG_LIST")]
    tag_list: Option<String>,
    /// Take jobs without tags; by default where there are no tags.
    #[arg(long, value_name = "BOOL", env = "REGISTER_RUN_UNTAGGED", num_args = 0..=1, default_missing_value = "true")]
    run_untagged: Option<bool>,
    /// Keep the runner to its project; by default it is.
    #[arg(long, value_name = "BOOL", env = "REGISTER_LOCKED", num_args = 0..=1, default_value_t = true, default_missing_value = "true")]
    locked: bool,
    /// Take no jobs yet.
    #[arg(long, env = "REGISTER_PAUSED")]
    paused: bool,
    /// `not_protected` or `ref_protected`.
    #[arg(long, value_name = "LEVEL", env = "REGISTER_ACCESS_LEVEL", value_parser = ["not_protected", "ref_protected"])]
    access_level: Option<String>,
    /// Seconds a job may run on it.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "REGISTER_MAXIMUM_TIMEOUT",
        default_value_t = 0
    )]
    maximum_timeout: u32,
    /// A note for those who maintain it.
    #[arg(long, value_name = "TEXT", env = "REGISTER_MAINTENANCE_NOTE")]
    maintenance_note: Option<String>,
}

/// What goes into the configuration.
#[derive(Args)]
#[command(next_help_heading = "In the configuration")]
struct Entry {
    /// `shell+machine` or `docker+machine`.
    #[arg(long, value_name = "EXECUTOR", env = "RUNNER_EXECUTOR", value_parser = EXECUTORS)]
    executor: Option<String>,
    /// Most jobs and machines; 0 is no limit.
    #[arg(long, value_name = "NUMBER", env = "RUNNER_LIMIT", default_value_t = 0)]
    limit: u32,
    /// Most requests for a job at once.
    #[arg(long, value_name = "NUMBER", env = "RUNNER_REQUEST_CONCURRENCY")]
    request_concurrency: Option<u32>,
    /// `bash` or `sh`.
    #[arg(long, value_name = "SHELL", env = "RUNNER_SHELL")]
    shell: Option<String>,
    /// Where builds live on a machine.
    #[arg(long, value_name = "DIRECTORY", env = "RUNNER_BUILDS_DIR")]
    builds_dir: Option<String>,
    /// Where caches live on a machine.
    #[arg(long, value_name = "DIRECTORY", env = "RUNNER_CACHE_DIR")]
    cache_dir: Option<String>,
    /// `KEY=value` for every job; repeat for more.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// The image of jobs that name none.
    #[arg(long, value_name = "IMAGE", env = "DOCKER_IMAGE")]
    docker_image: Option<String>,
    /// Let containers have the machine to themselves.
    #[arg(long, env = "DOCKER_PRIVILEGED")]
    docker_privileged: bool,
    /// A volume of every container; repeat for more.
    #[arg(long, value_name = "VOLUME", default_value = "/cache")]
    docker_volumes: Vec<String>,
    /// The plugin that makes machines: local, amazonec2, ...
    #[arg(
        long,
        visible_alias = "machine-machine-driver",
        value_name = "DRIVER",
        env = "MACHINE_DRIVER"
    )]
    machine_driver: Option<String>,
    /// The names of machines; %s becomes a unique word.
    #[arg(
        long,
        visible_alias = "machine-machine-name",
        value_name = "NAME",
        env = "MACHINE_NAME",
        default_value = "springtide-%s"
    )]
    machine_name: String,
    /// `flag=value` for the driver; repeat for more.
    #[arg(
        long,
        visible_alias = "machine-machine-options",
        value_name = "FLAG=VALUE"
    )]
    machine_options: Vec<String>,
    /// Idle machines to keep.
    #[arg(
        long,
        visible_alias = "machine-idle-nodes",
        value_name = "NUMBER",
        env = "MACHINE_IDLE_COUNT",
        default_value_t = 0
    )]
    machine_idle_count: u32,
    /// Seconds an idle machine beyond them is kept.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "MACHINE_IDLE_TIME",
        default_value_t = 600
    )]
    machine_idle_time: u32,
    /// Jobs a machine runs; 0 is no limit.
    #[arg(
        long,
        value_name = "NUMBER",
        env = "MACHINE_MAX_BUILDS",
        default_value_t = 0
    )]
    machine_max_builds: u32,
}

const EXECUTORS: [&str; 2] = ["shell+machine", "docker+machine"];

/// Asks, registers, writes.
///
/// # Errors
/// Where something is missing, GitLab refuses it, or the file can't be written.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut terminal = Terminal::new(!arguments.non_interactive);
    let json = arguments.json;
    let registered = register(arguments, &mut terminal).await?;
    if json {
        table::say(&(serde_json::to_string_pretty(&registered)? + "\n"))?;
    } else {
        terminal.say(&registered.to_string());
    }
    Ok(())
}

/// What was done.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Registered {
    runner: String,
    /// GitLab's number of it; not every GitLab tells.
    id: Option<u64>,
    url: String,
    executor: String,
    /// The file it stands in now.
    config: PathBuf,
    token_ends: Option<String>,
    /// Whether it was made at GitLab, rather than there already.
    made: bool,
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.display();
        write!(
            f,
            "Runner {:?} is registered and stands in {config}.\nStart it with: springtide run --config {config}",
            self.runner
        )
    }
}

/// The runner's token, whichever way it was given.
enum Token {
    /// The runner is there already.
    Own(SecretString),
    /// It is to be made.
    Registration(SecretString),
}

async fn register(arguments: Arguments, ask: &mut impl Ask) -> Result<Registered> {
    let path = arguments.config.clone().unwrap_or_else(|| {
        springtide_config::find_config().unwrap_or_else(|_| springtide_config::default_config())
    });
    // Before GitLab is asked: a runner that is made there and can't be written here is lost.
    springtide_config::list_runners(&path)?;
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        make_directory(parent)?;
    }
    let url = ask.text(
        arguments.url.as_deref(),
        "The address of GitLab (for example https://gitlab.com/)",
        None,
        "--url",
    )?;
    let client = Client::new(ClientOptions {
        tls_ca_file: arguments.tls.tls_ca_file.clone(),
        tls_cert_file: arguments.tls.tls_cert_file.clone(),
        tls_key_file: arguments.tls.tls_key_file.clone(),
        ..ClientOptions::new(url.clone())
    })?;
    let token = token(&arguments, ask)?;
    let system = springtide_config::system_id(&path).context("finding out which system this is")?;
    let host = host_name();
    let executor = arguments.entry.executor.as_deref();
    let shell = arguments.entry.shell.as_deref().unwrap_or("bash");
    let identity = |token: &SecretString, executor: &str| RunnerIdentity {
        token: token.clone(),
        system_id: system.id.clone(),
        info: Info::new(executor, shell),
    };
    if let Token::Own(token) = &token {
        // At once: whoever mistyped a token should hear it before the other questions.
        let runner = identity(token, executor.unwrap_or("shell+machine"));
        client.verify(&runner).await.map_err(explain)?;
        ask.say("The token is good.");
    }
    let name = ask.text(
        arguments.name.as_deref(),
        "The runner's name",
        Some(&host),
        "--name",
    )?;
    let registration = match &token {
        Token::Own(_) => None,
        Token::Registration(_) => Some(registration(&arguments.legacy, &name, ask)?),
    };
    let mut entry = entry(&arguments, ask)?;
    let credentials = match (&token, &registration) {
        (Token::Registration(token), Some(registration)) => {
            let info = Info::new(entry.executor.clone(), shell);
            client.register(token, &info, registration).await
        }
        (Token::Own(token) | Token::Registration(token), _) => {
            client.verify(&identity(token, &entry.executor)).await
        }
    };
    let credentials = credentials.map_err(explain)?;
    fill(&mut entry, &credentials, &arguments.tls, name, url);
    if let Err(error) = springtide_config::append_runner(&path, &entry) {
        if registration.is_some() {
            take_back(&client, &credentials).await;
        }
        return Err(error.into());
    }
    Ok(Registered {
        runner: entry.name,
        id: entry.id,
        url: entry.url,
        executor: entry.executor,
        config: path,
        token_ends: credentials.token_expires_at,
        made: registration.is_some(),
    })
}

/// A runner that was made and can't be kept is removed again.
async fn take_back(client: &Client, credentials: &Credentials) {
    if let Err(error) = client.unregister(&credentials.token).await {
        let id = credentials.id;
        eprintln!("springtide: runner {id} stays at GitLab, remove it there: {error}");
    }
}

fn explain(error: GitlabError) -> anyhow::Error {
    match &error {
        GitlabError::Forbidden { .. } => anyhow::Error::new(error).context(
            "GitLab does not know this token; copy it again, whole, from the runner's page",
        ),
        _ => anyhow::Error::new(error).context("nothing was written"),
    }
}

fn token(arguments: &Arguments, ask: &mut impl Ask) -> Result<Token> {
    let given = match &arguments.token_file {
        Some(file) => Some(read_token_file(file)?),
        None => arguments.token.clone(),
    };
    let token = match (given, &arguments.registration_token) {
        (Some(token), _) => token,
        (None, Some(token)) => token.clone(),
        (None, None) => ask.secret("The runner's token (glrt-..., not shown)", "--token-file")?,
    };
    let token: SecretString = token.expose_secret().trim().into();
    if token.expose_secret().is_empty() {
        bail!("the token is empty; copy it from the runner's page at GitLab");
    }
    Ok(match is_authentication_token(&token) {
        true => Token::Own(token),
        false => Token::Registration(token),
    })
}

fn registration(legacy: &Legacy, name: &str, ask: &mut impl Ask) -> Result<Registration> {
    let tags = ask.text(
        legacy.tag_list.as_deref(),
        "Tags, separated by commas",
        Some(""),
        "--tag-list",
    )?;
    let note = ask.text(
        legacy.maintenance_note.as_deref(),
        "A note for those who maintain it",
        Some(""),
        "--maintenance-note",
    )?;
    Ok(Registration {
        description: name.to_owned(),
        maintenance_note: note,
        run_untagged: legacy.run_untagged.unwrap_or(tags.trim().is_empty()),
        tags,
        locked: legacy.locked,
        access_level: legacy.access_level.clone().unwrap_or_default(),
        maximum_timeout: legacy.maximum_timeout,
        paused: legacy.paused,
    })
}

/// The entry but for what GitLab tells.
fn entry(arguments: &Arguments, ask: &mut impl Ask) -> Result<NewRunner> {
    let given = &arguments.entry;
    let executor = ask.one_of(
        given.executor.as_deref(),
        "The executor",
        &EXECUTORS,
        "--executor",
    )?;
    let docker = match executor.as_str() {
        "docker+machine" => Some(NewDocker {
            image: ask.text(
                given.docker_image.as_deref(),
                "The image of jobs that name none (for example ruby:3.3)",
                None,
                "--docker-image",
            )?,
            privileged: given.docker_privileged,
            volumes: given.docker_volumes.clone(),
        }),
        _ => None,
    };
    let driver = ask.text(
        given.machine_driver.as_deref(),
        "The driver that makes machines (for example local or amazonec2)",
        None,
        "--machine-driver",
    )?;
    if !given.machine_name.contains("%s") {
        bail!(
            "--machine-name {:?} has no %s, so that all machines would have one name; write {}-%s",
            given.machine_name,
            given.machine_name
        );
    }
    Ok(NewRunner {
        limit: given.limit,
        request_concurrency: given.request_concurrency,
        executor,
        builds_dir: given.builds_dir.clone(),
        cache_dir: given.cache_dir.clone(),
        environment: given.env.clone(),
        shell: given.shell.clone(),
        docker,
        machine: Some(NewMachine {
            idle_count: given.machine_idle_count,
            idle_time: given.machine_idle_time,
            max_builds: given.machine_max_builds,
            driver,
            name: given.machine_name.clone(),
            options: given.machine_options.clone(),
        }),
        ..NewRunner::default()
    })
}

fn fill(entry: &mut NewRunner, credentials: &Credentials, tls: &Tls, name: String, url: String) {
    let path = |file: &Option<PathBuf>| {
        let file = file
            .as_deref()
            .map(|file| std::path::absolute(file).unwrap_or(file.to_path_buf()));
        file.map(|file| file.display().to_string())
    };
    entry.name = name;
    entry.url = url.trim().to_owned();
    entry.id = Some(credentials.id).filter(|id| *id > 0);
    entry.token = credentials.token.clone();
    entry.token_obtained_at = Some(jiff::Timestamp::now());
    let expires = credentials.token_expires_at.as_deref();
    entry.token_expires_at = expires.and_then(|text| text.parse().ok());
    entry.tls_ca_file = path(&tls.tls_ca_file);
    entry.tls_cert_file = path(&tls.tls_cert_file);
    entry.tls_key_file = path(&tls.tls_key_file);
}

fn make_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Tokens will be in it.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| {
            format!(
                "making {}; make it, or name another file with --config",
                directory.display()
            )
        })
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
