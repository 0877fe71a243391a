//! A job on a real virtual machine, from a linked clone to its end: `cargo xtask test --vm`.

use anyhow::{Context, Result};
use springtide_sandbox::{JobStatus, SandboxOptions};
use springtide_tests::vbox::VirtualBox;
use springtide_tests::{Site, all, job, plugins};
use std::time::Duration;

/// How long an emulated machine and its job may take.
const PATIENCE: Duration = Duration::from_secs(1800);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots a virtual machine, which takes minutes: `cargo xtask test --vm`"]
async fn a_job_runs_on_a_virtual_machine_which_is_gone_after() -> Result<()> {
    let vbox = VirtualBox::that_boots()?;
    vbox.base_with_system("base", "ready")?;
    let site = Site::new(SandboxOptions::default()).await?;
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
    // The machine sees this host's loopback under an address of its own.
    let gitlab = site.sandbox.url().replace("127.0.0.1", "10.0.2.2");
    let runner = site
        .runner("elastic", "")
        .replace("\"local\"", "\"virtualbox\"")
        .replace(
            r#"["local-boot-delay=100"]"#,
            r#"["virtualbox-base-vm=base", "virtualbox-base-snapshot=ready", "virtualbox-memory=1024", "virtualbox-cpu-count=2"]"#,
        )
        .replace("limit = 4\n", &format!("limit = 1\nclone_url = \"{gitlab}\"\n"));
    let runner = runner
        + &format!(
            "  [runners.pool]\n  boot_timeout = {}\n[plugins.virtualbox.grants]\nfiles = true\n[plugins.virtualbox.grants.tools.VBoxManage]\npath = \"{}\"\nenv = {{ {} }}\n",
            PATIENCE.as_secs(),
            vbox.program().display(),
            environment.join(", "),
        );
    site.configure(&runner)?;
    // What VBoxManage is to see is beside its state: the daemon's scratch directory as well.
    let daemon = site.start(&[]).await?;
    let lines = [
        "uname --kernel-release",
        "cat README.md",
        "sudo docker version",
    ];
    let id = site.sandbox.submit(job(&lines))?;
    let ran = site
        .sandbox
        .wait_for(all(JobStatus::Success), PATIENCE)
        .await;
    ran.with_context(|| format!("{}\n{}", site.trace(id), site.log()))?;
    let trace = site.trace(id);
    for part in ["cloud-amd64", "# app", "Server:"] {
        assert!(trace.contains(part), "no {part} in {trace}");
    }
    site.until("the machine is gone", async || {
        vbox.machines().is_ok_and(|machines| machines == ["base"])
    })
    .await?;
    daemon.finish().await?;
    site.check()
}
