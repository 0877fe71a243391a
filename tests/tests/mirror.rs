//! A registry mirror of `MachineOptions` reaches the engine of a machine.

use anyhow::{Context, Result, bail};
use springtide::runtime::first_boot::{Engine, FirstBoot};
use springtide_config::{Source, examine};
use springtide_tests::engine::docker;
use springtide_tests::registry::Registry;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The name that a job would write; no public registry has it.
const IMAGE: &str = "springtide-mirrored-for-tests:1";

/// How long the engine may take to come up.
const START: Duration = Duration::from_secs(60);

/// A network of the engine's own: with none it removes the default one, which is the peers' engine's.
struct Bridge(String);

impl Bridge {
    fn make() -> Result<Bridge> {
        let bridge = Bridge(format!("st{}", std::process::id()));
        let made = ip(&["link", "add", "name", &bridge.0, "type", "bridge"])?;
        let addressed = ip(&["address", "add", "192.0.2.1/29", "dev", &bridge.0])?;
        if !made || !addressed {
            bail!("making the bridge {}, which takes root", bridge.0);
        }
        Ok(bridge)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.0]).ok();
    }
}

fn ip(words: &[&str]) -> Result<bool> {
    let status = Command::new("ip").args(words).status();
    Ok(status
        .context("running ip, of Debian's iproute2")?
        .success())
}

/// An engine, which takes its containerd with it when it is told to end.
struct Dockerd(Child);

impl Drop for Dockerd {
    fn drop(&mut self) {
        let told = Command::new("kill").arg(self.0.id().to_string()).status();
        if told.is_err() {
            self.0.kill().ok();
        }
        self.0.wait().ok();
    }
}

/// A file that a machine's user data writes.
fn written(user_data: &str, path: &str) -> Result<String> {
    let (_, rest) = user_data
        .split_once(&format!("- path: {path}\n"))
        .with_context(|| format!("{path} is not in {user_data}"))?;
    let (_, content) = rest.split_once("content: |\n").context("it has no text")?;
    let lines = content.lines().take_while(|line| line.starts_with("    "));
    Ok(lines.map(|line| format!("{}\n", &line[4..])).collect())
}

#[tokio::test]
async fn an_image_is_pulled_through_the_mirror_of_the_machine_options() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let registry = Registry::start().await?;
    registry.push("springtide/tiny:1", &format!("library/{IMAGE}"))?;

    let text = format!(
        "[[runners]]\nname = \"a\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-x\"\nexecutor = \"docker+machine\"\n\
         [runners.docker]\nimage = \"a\"\n[runners.machine]\nMachineDriver = \"virtualbox\"\nMachineName = \"a-%s\"\n\
         MachineOptions = [\"engine-registry-mirror=http://{}\"]\n",
        registry.address()
    );
    let (examined, problems) = examine(&Source::of(text));
    let examined = examined.with_context(|| format!("the file can't be used: {problems:?}"))?;
    let runner = examined.config.runners.first().context("a runner")?;
    let machine = runner.machine.as_ref().context("its machine")?;
    let boot = FirstBoot {
        docker: Some(Engine::of(machine, "a-1")),
        ..FirstBoot::default()
    };
    let settings = written(&boot.user_data(), "/etc/springtide/daemon.json")?;
    std::fs::write(at.join("daemon.json"), settings)?;

    let socket = at.join("docker.sock");
    let bridge = Bridge::make()?;
    let log = at.join("engine.log");
    let file = File::create(&log)?;
    let engine = Command::new("dockerd")
        .arg("--config-file")
        .arg(at.join("daemon.json"))
        .arg("--data-root")
        .arg(at.join("data"))
        .arg("--exec-root")
        .arg(at.join("exec"))
        .arg("--pidfile")
        .arg(at.join("pid"))
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .arg("--bridge")
        .arg(&bridge.0)
        .arg("--iptables=false")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn();
    let _engine = Dockerd(engine.context("starting dockerd, which takes root")?);
    let limit = Instant::now() + START;
    while docker(&socket, &["version"]).is_err() {
        if Instant::now() > limit {
            bail!("no engine: {}", std::fs::read_to_string(&log)?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    docker(&socket, &["pull", "--quiet", IMAGE])?;
    let format = "{{.Repository}}:{{.Tag}}";
    let names = docker(&socket, &["image", "ls", "--format", format])?;
    assert_eq!(names.trim(), IMAGE);
    Ok(())
}
