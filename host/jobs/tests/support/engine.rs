//! A machine with a real Docker engine: the peers' own.

use super::Bench;
use serde_json::{Value, json};
use springtide_config::{Docker, PullPolicy};
use springtide_jobs::DockerRunner;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The peers' images.
pub const BASE: &str = "springtide/base:1";
pub const TINY: &str = "springtide/tiny:1";

/// The engine's socket.
pub fn socket() -> String {
    let peers = std::env::var("SPRINGTIDE_PEERS")
        .expect("SPRINGTIDE_PEERS is not set: run `cargo xtask test`");
    format!("{peers}/docker/engine/docker.sock")
}

/// The helper without libraries of this host's, as images of all kinds can run it.
pub fn helper() -> PathBuf {
    let helper = std::env::var_os("SPRINGTIDE_HELPER");
    helper.map(PathBuf::from).expect(
        "SPRINGTIDE_HELPER is not set: run `cargo xtask test`, or set it to what `cargo xtask helper` prints",
    )
}

/// A machine whose jobs run in containers of the peers' engine.
pub fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.helper = helper();
    let name = bench.machine.path().file_name().expect("a name");
    bench.settings.machine_name = name.to_string_lossy().into_owned();
    bench.settings.lost_after = std::time::Duration::from_secs(10);
    configure(&mut bench, |_| {});
    bench
}

/// Changes what `[runners.docker]` says.
pub fn configure(bench: &mut Bench, change: impl FnOnce(&mut Docker)) {
    let mut settings = match &bench.settings.docker {
        Some(runner) => (*runner.settings).clone(),
        None => Docker {
            socket: Some(socket()),
            image: Some(TINY.into()),
            helper_image: Some(BASE.into()),
            pull_policy: vec![PullPolicy::IfNotPresent],
            volumes: vec!["/cache".into()],
            ..Docker::by_default()
        },
    };
    change(&mut settings);
    bench.settings.docker = Some(DockerRunner {
        settings: Arc::new(settings),
        token: "glrt-of-the-tests".to_owned().into(),
        auth_file: None,
    });
}

/// What `docker` says.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(["--host", &format!("unix://{}", socket())])
        .args(arguments)
        .output()
        .expect("docker");
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What `docker` does with the configuration of a directory.
pub fn docker_with(config: &Path, arguments: &[&str]) -> String {
    let config = config.to_str().expect("UTF-8");
    docker(&[&["--config", config], arguments].concat())
}

fn list(what: &[&str], bench: &Bench) -> String {
    let machine = format!("label=springtide.machine={}", bench.settings.machine_name);
    docker(&[what, &["--filter", &machine, "--quiet"]].concat())
}

/// What of a machine's jobs the engine has: containers, networks and volumes that go with a job.
pub fn left(bench: &Bench) -> String {
    let of_a_job = ["--filter", "label=com.gitlab.gitlab-runner.job.id"];
    let lists = [
        list(&["container", "ls", "--all"], bench),
        list(&["network", "ls"], bench),
        list(&[&["volume", "ls"][..], &of_a_job].concat(), bench),
    ];
    lists.join("").trim().to_owned()
}

/// Volumes that are kept for later jobs.
pub fn kept(bench: &Bench) -> Vec<String> {
    let all = list(&["volume", "ls"], bench);
    all.lines().map(str::to_owned).collect()
}

/// Removes everything of a bench from the engine; what a failed test left, too.
pub fn tidy(bench: &Bench) {
    for (what, remove) in [
        (
            &["container", "ls", "--all"][..],
            &["container", "rm", "--force", "--volumes"][..],
        ),
        (&["network", "ls"], &["network", "rm"]),
        (&["volume", "ls"], &["volume", "rm", "--force"]),
    ] {
        let found = list(what, bench);
        let found: Vec<&str> = found.lines().collect();
        if !found.is_empty() {
            docker(&[remove, &found].concat());
        }
    }
}

/// Fields of a job in an image.
pub fn image(name: &str) -> Value {
    json!({"image": {"name": name}})
}

/// This host's address on the engine's own network.
pub fn host() -> String {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    docker(&["network", "inspect", "bridge", "--format", format])
}
