//! Images from a real registry that asks for a login.

mod support;

use serde_json::{Value, json};
use springtide_config::PullPolicy;
use springtide_gitlab::{FailureReason, FinalState, Payload};
use springtide_jobs::RunOutcome;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::engine::{TINY, bench, configure, docker, docker_with};
use support::{Bench, job, until};
use tempfile::TempDir;

const USER: &str = "puller";
/// Two of its bytes come out in base64 as what URLs have another letter for.
const PASSWORD: &str = "opens~it?";
const HASHED: &str = "$2b$05$abcdefghijklmnopqrstuuvdvT8g8FDdcCCAUAUl15eWuyV8Y/uV.";

/// A registry on this host with one image.
struct Registry {
    child: Child,
    address: String,
    image: String,
    _files: TempDir,
}

impl Registry {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let at = files.path();
        std::fs::write(at.join("htpasswd"), format!("{USER}:{HASHED}\n")).expect("written");
        let config = json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": at.join("data")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "tests", "path": at.join("htpasswd")}},
        });
        // JSON is YAML, but for its version: that is a text there, too.
        let file = at.join("config.yml");
        std::fs::write(&file, config.to_string()).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry, which `cargo xtask peers` installs");
        until("the registry answers", || {
            std::net::TcpStream::connect(&address).is_ok()
        })
        .await;
        let image = format!("{address}/team/tiny:1");
        std::fs::write(at.join("config.json"), login(&address).to_string()).expect("written");
        docker(&["tag", TINY, &image]);
        docker_with(at, &["push", "--quiet", &image]);
        docker(&["rmi", &image]);
        Self {
            child,
            address,
            image,
            _files: files,
        }
    }

    /// A job in its image, got by these policies, with these fields.
    fn job(&self, policies: &[&str], fields: Value) -> Payload {
        let mut all = json!({
            "image": {"name": self.image, "pull_policy": policies},
            "steps": [{"name": "script", "script": ["echo pulled"]}],
        });
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
            all.extend(fields);
        }
        job(all)
    }

    fn bench(&self) -> Bench {
        let mut bench = bench();
        configure(&mut bench, |settings| {
            settings.allowed_pull_policies = vec![PullPolicy::Always, PullPolicy::IfNotPresent];
        });
        bench
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        Command::new("docker")
            .args(["--host", &format!("unix://{}", support::engine::socket())])
            .args(["rmi", "--force", &self.image])
            .output()
            .ok();
    }
}

fn login(address: &str) -> Value {
    use base64::Engine;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    json!({"auths": {address: {"auth": both}}})
}

fn succeeded(outcome: &RunOutcome) -> bool {
    matches!(outcome, RunOutcome::Ended { end, broken: false } if end.state == FinalState::Success)
}

fn reason(outcome: &RunOutcome) -> Option<FailureReason> {
    match outcome {
        RunOutcome::Ended { end, .. } => end.failure_reason,
        _ => None,
    }
}

#[tokio::test]
async fn an_image_is_pulled_with_the_login_of_the_first_source_that_has_one() {
    let registry = Registry::start().await;
    let bench = registry.bench();
    let variable = json!({"variables": [
        {"key": "DOCKER_AUTH_CONFIG", "value": login(&registry.address).to_string(), "raw": true},
    ]});
    let credentials = json!({"credentials": [
        {"type": "registry", "url": registry.address, "username": USER, "password": PASSWORD},
    ]});
    for (fields, source) in [
        (variable, "$DOCKER_AUTH_CONFIG"),
        (credentials, "job payload (GitLab Registry)"),
    ] {
        let (outcome, trace) = bench.run(&registry.job(&["always"], fields)).await;
        assert!(succeeded(&outcome), "{outcome:?} {trace}");
        for expected in [
            format!("Authenticating with credentials from {source}"),
            format!("Pulling docker image {} ...", registry.image),
            format!(
                "for {} with digest {}/team/tiny@sha256:",
                registry.image, registry.address
            ),
            "\npulled\n".into(),
        ] {
            assert!(trace.contains(&expected), "{expected} is not in {trace}");
        }
        assert!(!trace.contains(PASSWORD), "{trace}");
        docker(&["rmi", &registry.image]);
    }
}

#[tokio::test]
async fn a_registry_that_refuses_is_told_as_gitlab_tells_it_and_not_asked_again() {
    let registry = Registry::start().await;
    let bench = registry.bench();
    let begun = std::time::Instant::now();
    let (outcome, trace) = bench.run(&registry.job(&["always"], json!({}))).await;
    assert_eq!(
        reason(&outcome),
        Some(FailureReason::ImagePullFailure),
        "{trace}"
    );
    let said = format!(
        "ERROR: Job failed: failed to pull image \"{}\" with specified policies [always]: Error response from daemon: ",
        registry.image
    );
    assert!(trace.contains(&said), "{trace}");
    assert!(trace.contains("no basic auth credentials"), "{trace}");
    assert_eq!(trace.matches("Pulling docker image").count(), 1, "{trace}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn the_next_policy_is_tried_where_a_registry_is_gone() {
    let mut registry = Registry::start().await;
    let bench = registry.bench();
    registry.child.kill().expect("killed");
    registry.child.wait().expect("its end");
    docker(&["tag", TINY, &registry.image]);
    let (outcome, trace) = bench
        .run(&registry.job(&["always", "if-not-present"], json!({})))
        .await;
    assert!(succeeded(&outcome), "{outcome:?} {trace}");
    for expected in [
        "WARNING: Failed to pull image with policy \"always\": Error response from daemon: ",
        "Attempt #2: Trying \"if-not-present\" pull policy",
        "Using locally found image version due to \"if-not-present\" pull policy",
        "\npulled\n",
    ] {
        assert!(trace.contains(expected), "{expected} is not in {trace}");
    }
}
