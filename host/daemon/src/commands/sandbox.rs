//! `springtide sandbox`: a GitLab to test runners against.

use anyhow::{Context, Result, bail};
use clap::Args;
use springtide_sandbox::{RunnerSeed, Sandbox, SandboxOptions, Webhook};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve a GitLab to test runners against.
///
/// It speaks the runner API, serves git and the API that lists waiting jobs, and keeps everything in
/// memory. Jobs are given to it under /sandbox/:
///
///   curl -d '{"script":["echo hello"]}' http://127.0.0.1:8929/sandbox/jobs
///   curl http://127.0.0.1:8929/sandbox/jobs/1/trace
///
/// What a runner does against the protocol's rules is at /sandbox/violations; faults are called up
/// at /sandbox/faults. The front page lists it all. /sandbox/ asks for no password: keep it on
/// loopback.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  springtide sandbox --listen 127.0.0.1:8929 --repository team/app=./app"
)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8929", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The address runners and machines use, where it is not the one it listens on.
    #[arg(long, value_name = "URL")]
    external_url: Option<String>,
    /// A runner's token; repeat for more runners.
    #[arg(long, value_name = "TOKEN", default_value = "glrt-sandbox-token")]
    token: Vec<String>,
    /// Tags of these runners, separated by commas. They take untagged jobs too.
    #[arg(long, value_delimiter = ',', value_name = "TAG")]
    tags: Vec<String>,
    /// Offer jobs in two phases to runners that can.
    #[arg(long)]
    two_phase: bool,
    /// Serve a git repository as a project: `group/project=path`; repeat for more.
    #[arg(long, value_name = "PROJECT=PATH")]
    repository: Vec<String>,
    /// Where to post events of jobs.
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook: Option<String>,
    /// Sent with each event as X-Gitlab-Token.
    #[arg(
        long,
        value_name = "SECRET",
        env = "SPRINGTIDE_SANDBOX_WEBHOOK_SECRET",
        hide_env_values = true
    )]
    webhook_secret: Option<String>,
}

/// Serves until it is told to stop.
///
/// # Errors
/// Where the address can't be listened on or a repository is none.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut repositories = Vec::new();
    for given in &arguments.repository {
        let Some((project, path)) = given.split_once('=') else {
            bail!("--repository {given}: write group/project=path");
        };
        repositories.push((project.to_owned(), PathBuf::from(path)));
    }
    let webhook = arguments
        .webhook
        .zip(arguments.webhook_secret)
        .map(|(url, secret)| Webhook { url, secret });
    let sandbox = Sandbox::start(SandboxOptions {
        listen: arguments.listen,
        external_url: arguments.external_url,
        runner_tokens: arguments
            .token
            .iter()
            .map(|token| RunnerSeed::new(token.clone(), arguments.tags.clone()))
            .collect(),
        two_phase: arguments.two_phase,
        webhook,
        ..SandboxOptions::default()
    })
    .await
    .with_context(|| format!("listening on {}", arguments.listen))?;
    for (project, path) in repositories {
        sandbox
            .add_repository(&project, &path)
            .with_context(|| format!("serving {} as {project}", path.display()))?;
    }
    println!("A sandbox GitLab listens at {}", sandbox.url());
    println!("  its jobs: {}/sandbox/jobs", sandbox.url());
    for token in &arguments.token {
        println!("  a runner's token: {token}");
    }
    let options = SandboxOptions::default();
    println!(
        "  a token for the API that lists jobs: {}",
        options.api_token
    );
    if let Some(token) = &options.registration_token {
        println!("  a registration token, as of old: {token}");
    }
    sandbox.serve_until(crate::signals::asked_to_stop()).await;
    Ok(())
}
