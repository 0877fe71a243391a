//! Jobs on machines of the driver virtualbox, from a linked clone to its end, reached over SSH: on a
//! stand-in that takes no time, and on a real virtual machine by `cargo xtask test --vm`.

use anyhow::{Context, Result};
use springtide_sandbox::{JobStatus, SandboxOptions};
use springtide_tests::registry::Registry;
use springtide_tests::vbox::{Start, VirtualBox};
use springtide_tests::{Site, all, job, over, plugins, quick};
use std::time::Duration;

/// How long an emulated machine and its job may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A site whose machines are clones of `base`, with these options beside, one at a time.
async fn site(vbox: &VirtualBox, options: &str, sandbox: SandboxOptions) -> Result<Site> {
    let site = Site::new(sandbox).await?;
    let own = site.own_plugins()?;
    std::fs::copy(
        plugins()?.join("virtualbox.wasm"),
        own.join("virtualbox.wasm"),
    )?;
    let environment: Vec<String> = vbox
        .env()
        .iter()
        .map(|(name, value)| format!("{name} = {value:?}"))
        .collect();
    let runner = site
        .runner("elastic", "")
        .replace("\"local\"", "\"virtualbox\"")
        .replace(
            r#"["local-boot-delay=100"]"#,
            &format!(r#"["virtualbox-base-vm=base", "virtualbox-base-snapshot=ready", {options}]"#),
        )
        .replace("limit = 4\n", "limit = 1\n");
    let more = format!(
        "  [runners.pool]\n  boot_timeout = {}\n[plugins.virtualbox.grants]\nfiles = true\n[plugins.virtualbox.grants.tools.VBoxManage]\npath = \"{}\"\nenv = {{ {} }}\n",
        PATIENCE.as_secs(),
        vbox.program().display(),
        environment.join(", "),
    );
    site.configure(&(runner + &more))?;
    Ok(site)
}

/// A site whose machines are SSH servers.
async fn quick_site() -> Result<(VirtualBox, Site)> {
    let vbox = VirtualBox::that(Start::Sshd)?;
    vbox.base("base", Some("ready"))?;
    let options = r#""virtualbox-memory=64", "virtualbox-ssh-user=root""#;
    let site = site(&vbox, options, quick()).await?;
    Ok((vbox, site))
}

/// Waits for what takes an emulated machine its time.
async fn patiently(site: &Site, what: &str, mut is: impl FnMut() -> bool) -> Result<()> {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.with_context(|| format!("never: {what}; {}", site.log()))
}

/// Lines for a runner whose machine is a real one: it sees this host's loopback under an address of its
/// own.
fn clone_url(site: &Site) -> String {
    let gitlab = site.sandbox.url().replace("127.0.0.1", "10.0.2.2");
    format!("limit = 1\nclone_url = \"{gitlab}\"\n")
}

/// The trace of a job that has to succeed on an emulated machine.
async fn succeeded(site: &Site, id: u64) -> Result<String> {
    let ended = site.sandbox.wait_for(over, PATIENCE).await;
    ended.with_context(|| format!("{}\n{}", site.trace(id), site.log()))?;
    let job = site.sandbox.job(id).context("no job")?;
    let trace = site.trace(id);
    assert_eq!(job.status, JobStatus::Success, "{trace}\n{}", site.log());
    Ok(trace)
}

async fn only_base_is_left(vbox: &VirtualBox, site: &Site) -> Result<()> {
    // VBoxManage takes a machine off its list before it deletes the files.
    site.until("the machine and its files are gone", async || {
        vbox.machines().is_ok_and(|machines| machines == ["base"])
            && vbox.files().is_ok_and(|files| files.is_empty())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_over_ssh_and_is_found_again_by_another_daemon() -> Result<()> {
    let (vbox, site) = quick_site().await?;
    let daemon = site.start(&[]).await?;
    let lines = [
        "echo \"at $SSH_CONNECTION\"",
        "cat README.md",
        "for number in 1 2 3 4 5 6; do echo \"line $number of 6\"; sleep 1; done",
    ];
    let id = site.sandbox.submit(job(&lines))?;
    site.until("the job writes", async || {
        site.trace(id).contains("line 2 of 6")
    })
    .await?;
    daemon.crash().await?;
    let daemon = site.start(&[]).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let trace = site.trace(id);
    assert!(trace.contains("# app"), "{trace}");
    for number in 1..=6 {
        let line = format!("line {number} of 6");
        assert_eq!(trace.matches(&line).count(), 1, "{trace}");
    }
    only_base_is_left(&vbox, &site).await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_machine_is_switched_off_fails_so_that_it_is_tried_again() -> Result<()> {
    let (vbox, site) = quick_site().await?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&["echo begun", "sleep 300"]))?;
    site.until("the job runs", async || site.trace(id).contains("begun"))
        .await?;
    let machines = vbox.machines()?;
    let machine = machines.iter().find(|name| *name != "base");
    vbox.manage(&["controlvm", machine.context("no machine")?, "poweroff"])?;
    // The next list of machines tells, a minute from the last at most; the machine would be waited for
    // five.
    let ended = site.sandbox.wait_for(over, Duration::from_secs(120)).await;
    ended.with_context(|| site.log())?;
    let failed = site.sandbox.job(id).context("no job")?;
    assert_eq!(failed.status, JobStatus::Failed);
    assert_eq!(
        failed.failure_reason.as_deref(),
        Some("runner_system_failure"),
        "{}",
        site.trace(id)
    );
    only_base_is_left(&vbox, &site).await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots a virtual machine, which takes minutes: `cargo xtask test --vm`"]
async fn a_job_runs_on_a_virtual_machine_which_is_gone_after() -> Result<()> {
    let vbox = VirtualBox::that(Start::Boot)?;
    vbox.base_with_system("base", "ready")?;
    let options = r#""virtualbox-memory=1024", "virtualbox-cpu-count=2""#;
    let site = site(&vbox, options, SandboxOptions::default()).await?;
    let clone_url = clone_url(&site);
    let text = std::fs::read_to_string(site.config())?;
    let text = text
        .replace("limit = 1\n", &clone_url)
        .replace("IdleTime = 1\n", "IdleTime = 600\n");
    std::fs::write(site.config(), text)?;
    let daemon = site.start(&[]).await?;
    let lines = [
        "uname --kernel-release",
        "cat README.md",
        "sudo docker version",
        "systemctl is-active springtide-dead-man",
    ];
    let id = site.sandbox.submit(job(&lines))?;
    let trace = succeeded(&site, id).await?;
    for part in ["cloud-amd64", "# app", "Server:", "\nactive"] {
        assert!(trace.contains(part), "no {part} in {trace}");
    }
    // A lease that ends soon, and nobody left to wind it.
    let last = site.sandbox.submit(job(&[
        "sudo sh -c 'read up rest < /proc/uptime; echo $((${up%.*} + 20)) > /run/springtide/lease'",
        "echo the lease is short",
        "sleep 3600",
    ]))?;
    patiently(&site, "the job runs", || {
        site.trace(last).contains("the lease is short")
    })
    .await?;
    daemon.crash().await?;
    patiently(&site, "the machine has switched itself off", || {
        let machines = vbox.machines().unwrap_or_default();
        let machine = machines.iter().find(|name| *name != "base");
        machine.is_some_and(|name| {
            vbox.manage(&["showvminfo", name, "--machinereadable"])
                .is_ok_and(|info| info.contains("VMState=\"poweroff\""))
        })
    })
    .await?;
    let daemon = site.start(&[]).await?;
    let ended = site.sandbox.wait_for(over, PATIENCE).await;
    ended.with_context(|| site.log())?;
    let failed = site.sandbox.job(last).context("no job")?;
    assert_eq!(
        failed.failure_reason.as_deref(),
        Some("runner_system_failure")
    );
    only_base_is_left(&vbox, &site).await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots a virtual machine, which takes minutes: `cargo xtask test --vm`"]
async fn a_job_runs_in_containers_of_a_virtual_machine_that_pulls_from_a_mirror() -> Result<()> {
    let registry = Registry::start().await?;
    for image in ["springtide/tiny:1", "springtide/base:1"] {
        registry.push(image, image)?;
    }
    let vbox = VirtualBox::that(Start::Boot)?;
    vbox.base_with_system("base", "ready")?;
    let mirror = registry.address().replace("127.0.0.1", "http://10.0.2.2");
    let options = format!(
        r#""virtualbox-memory=1024", "virtualbox-cpu-count=2", "engine-registry-mirror={mirror}""#
    );
    let site = site(&vbox, &options, SandboxOptions::default()).await?;
    let clone_url = clone_url(&site);
    let text = std::fs::read_to_string(site.config())?;
    let docker = "  [runners.docker]\n  image = \"springtide/tiny:1\"\n  helper_image = \"springtide/base:1\"\n";
    let text = text
        .replace("shell+machine", "docker+machine")
        .replace("limit = 1\n", &clone_url)
        .replace(
            "  [runners.machine]\n",
            &format!("{docker}  [runners.machine]\n"),
        );
    std::fs::write(site.config(), text)?;
    let daemon = site.start(&[]).await?;
    let id = site.sandbox.submit(job(&[
        "echo \"in the image $FROM_IMAGE\"",
        "cat README.md",
        "test ! -e /usr/bin/git",
    ]))?;
    let trace = succeeded(&site, id).await?;
    for part in [
        "Pulling docker image springtide/tiny:1 ...",
        "in the image tiny",
        "# app",
    ] {
        assert!(trace.contains(part), "no {part} in {trace}");
    }
    only_base_is_left(&vbox, &site).await?;
    daemon.finish().await?;
    site.check()
}
