//! `springtide plugin conformance`: the drivers that ship pass it, and one that breaks a promise fails
//! the row that is about it.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use springtide_tests::ec2::Ec2;
use springtide_tests::vbox::VirtualBox;
use springtide_tests::{SOON, plugins, program};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The helper as a provider with a flaw: the driver `local` runs it in the helper's place.
const FLAWED: &str = r#"#!/bin/sh
real() { "$HELPER" local "$1"; }
both='s/("(token|name)":"[^"]*)-x[0-9]+"/\1"/g'
case "$FLAW/$2" in
  forgets-tokens/create) sed -E "s/\"(token|name)\":\"[^\"]*/&-x$$/g" | real create | sed -E "$both" ;;
  forgets-tokens/list) real list | sed -E "$both" ;;
  lists-nothing/list) echo '{"ok":[]}' ;;
  loses-owners/list) real list | sed 's/"owner":"[^"]*"/"owner":"nobody"/g' ;;
  cannot-list/list) echo '{"error":{"kind":"failed","message":"no answer"}}' ;;
  keeps/destroy) echo '{"ok":null}' ;;
  needs-it-there/destroy)
    call=$(cat)
    id=$(echo "$call" | sed 's/.*"id":"\([^"]*\)".*/\1/')
    if [ -d "$SPRINGTIDE_LOCAL_ROOT/$id" ]; then echo "$call" | real destroy
    else echo '{"error":{"kind":"not-found","message":"no such machine"}}'; fi ;;
  takes-all/destroy)
    cat > /dev/null
    for id in $(ls "$SPRINGTIDE_LOCAL_ROOT"); do echo "{\"id\":\"$id\"}" | real destroy > /dev/null; done
    echo '{"ok":null}' ;;
  renews-none/renew) echo '{"ok":null}' ;;
  renews-all/renew)
    ids=$(ls "$SPRINGTIDE_LOCAL_ROOT" | sed 's/.*/"&"/' | paste -sd, -)
    sed "s/\"ids\":\[[^]]*\]/\"ids\":[$ids]/" | real renew ;;
  litters/create)
    call=$(cat)
    echo "$call" | sed 's/.*"owner":"\([^"]*\)".*/\1/' > "$SPRINGTIDE_LOCAL_ROOT/.owner"
    echo "$call" | real create ;;
  litters/leftovers)
    owner=$(cat "$SPRINGTIDE_LOCAL_ROOT/.owner" 2> /dev/null) || { real leftovers; exit; }
    echo "{\"ok\":[{\"id\":\".new-x\",\"sort\":\"disk\",\"owner\":\"$owner\",\"created_at\":1}]}" ;;
  litters/destroy-leftover) echo '{"ok":null}' ;;
  litters-unmarked/create) touch "$SPRINGTIDE_LOCAL_ROOT/.littered"; real create ;;
  litters-unmarked/leftovers)
    [ -e "$SPRINGTIDE_LOCAL_ROOT/.littered" ] || { real leftovers; exit; }
    echo '{"ok":[{"id":".new-x","sort":"disk","owner":"","created_at":1}]}' ;;
  one-at-a-time/create)
    mkdir "$SPRINGTIDE_LOCAL_ROOT/.busy" 2> /dev/null || { echo '{"error":{"kind":"bad-call","message":"busy"}}'; exit; }
    sleep 0.2; real create; rmdir "$SPRINGTIDE_LOCAL_ROOT/.busy" ;;
  breaks-on-quotes/create)
    call=$(cat)
    case "$call" in *"'"*) exit 1 ;; esac
    echo "$call" | real create ;;
  tidies/create) sed 's/  */ /g' | real create ;;
  *) real "$2" ;;
esac
"#;

/// A configuration with a runner on `local`, in a directory of its own. What is left of its machines
/// goes with it.
struct Kit {
    folder: tempfile::TempDir,
    helper: PathBuf,
}

impl Kit {
    fn new(flaw: Option<&str>, options: &str) -> Result<Kit> {
        let folder = tempfile::tempdir()?;
        let helper = program("springtide-helper")?;
        let root = folder.path().join("machines");
        std::fs::create_dir(&root)?;
        let mut text = format!(
            r#"
[springtide]
plugin_dir = "{}"
helper = "{}"
state = "sqlite:{}/state/state.db"
local_root = "{}"
[[runners]]
name = "kit"
url = "http://127.0.0.1:1"
token = "glrt-kit"
executor = "shell+machine"
  [runners.machine]
  MachineDriver = "local"
  MachineName = "kit-%s"
  MachineOptions = [{options}]
"#,
            plugins()?.display(),
            helper.display(),
            folder.path().display(),
            root.display(),
        );
        if let Some(flaw) = flaw {
            let tool = folder.path().join("flawed");
            std::fs::write(&tool, FLAWED)?;
            std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755))?;
            let environment = format!(
                "{{ FLAW = \"{flaw}\", HELPER = \"{}\", SPRINGTIDE_LOCAL_ROOT = \"{}\", PATH = \"/usr/bin:/bin\" }}",
                helper.display(),
                root.display()
            );
            text += &format!(
                "[plugins.local.grants.tools.springtide-local]\npath = \"{}\"\nenv = {environment}\n",
                tool.display()
            );
        }
        std::fs::write(folder.path().join("config.toml"), text)?;
        Ok(Kit { folder, helper })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = conformance("local", &self.folder.path().join("config.toml"))?;
        command.args(arguments);
        Ok(command)
    }

    fn run(&self, arguments: &[&str]) -> Result<(Output, Value)> {
        let output = self.command(arguments)?.output()?;
        let report = report(&output)?;
        Ok((output, report))
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("machines")
    }

    /// The machines that are there, by their directories.
    fn machines(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root()).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .collect()
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        for id in self.machines() {
            let destroyed = destroy(&self.helper, &self.root(), &id);
            assert!(
                destroyed.is_ok() || std::thread::panicking(),
                "{destroyed:?}"
            );
        }
    }
}

fn conformance(driver: &str, config: &Path) -> Result<Command> {
    let mut command = Command::new(program("springtide")?);
    command
        .args(["plugin", "conformance", driver, "--json", "--config"])
        .arg(config)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    Ok(command)
}

fn destroy(helper: &Path, root: &Path, id: &str) -> Result<()> {
    use std::io::Write;
    let mut child = Command::new(helper)
        .args(["local", "destroy"])
        .env("SPRINGTIDE_LOCAL_ROOT", root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    write!(input, "{{\"id\":\"{id}\"}}")?;
    drop(input);
    ensure!(child.wait()?.success());
    Ok(())
}

fn report(output: &Output) -> Result<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).with_context(|| errors.into_owned())
}

fn row<'r>(report: &'r Value, case: &str) -> &'r Value {
    let rows = report["cases"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter()
        .find(|row| row["case"] == case)
        .unwrap_or(&Value::Null)
}

#[test]
fn local_passes() -> Result<()> {
    let kit = Kit::new(None, r#""local-create-delay=50", "local-boot-delay=50""#)?;
    let faults = [
        "--fault",
        r#"full={"local-fail-create": 100}=capacity|transient"#,
        "--fault",
        r#"odd={"local-fail-create": 101}=invalid-config"#,
        "--fault",
        r#"odd@list-machines={"local-slow": -1}=invalid-config"#,
        "--fault",
        r#"odd@get={"local-slow": -1}=invalid-config"#,
        "--fault",
        r#"odd@destroy={"local-slow": -1}=invalid-config"#,
        "--fault",
        r#"odd@renew-leases={"local-slow": -1}=invalid-config"#,
        "--fault",
        r#"odd@list-leftovers={"local-slow": -1}=invalid-config"#,
    ];
    let (output, report) = kit.run(&faults)?;
    assert!(output.status.success(), "{report:#}");
    let rows = report["cases"].as_array().context("no cases")?;
    assert_eq!(rows.len(), 23, "{report:#}");
    assert!(rows.iter().all(|row| row["result"] == "ok"), "{report:#}");
    assert!(kit.machines().is_empty(), "{:?}", kit.machines());
    Ok(())
}

/// The real VBoxManage, with the tests' stand-in for what needs a machine that runs.
#[test]
fn virtualbox_passes() -> Result<()> {
    let vbox = VirtualBox::new()?;
    vbox.base("base", Some("ready"))?;
    let environment: Vec<String> = vbox
        .env()
        .iter()
        .map(|(name, value)| format!("{name} = {value:?}"))
        .collect();
    let config = vbox.path().join("config.toml");
    let text = format!(
        r#"
[springtide]
plugin_dir = "{plugins}"
state = "sqlite:{here}/daemon/state.db"
[plugins.virtualbox.grants]
files = true
[plugins.virtualbox.grants.tools.VBoxManage]
path = "{program}"
env = {{ {environment} }}
[[runners]]
name = "kit"
url = "http://127.0.0.1:1"
token = "glrt-kit"
executor = "shell+machine"
  [runners.machine]
  MachineDriver = "virtualbox"
  MachineName = "kit-%s"
  MachineOptions = ["virtualbox-base-vm=base", "virtualbox-base-snapshot=ready", "virtualbox-memory=64"]
"#,
        plugins = plugins()?.display(),
        here = vbox.path().display(),
        program = vbox.program().display(),
        environment = environment.join(", "),
    );
    std::fs::write(&config, text)?;
    let output = conformance("virtualbox", &config)?
        // What its tools are to see is beside their state.
        .env("TMPDIR", vbox.path())
        .args([
            "--fault",
            r#"no-base={"virtualbox-base-vm": "missing"}=invalid-config"#,
        ])
        .args([
            "--fault",
            r#"no-snapshot={"virtualbox-base-snapshot": "missing"}=invalid-config"#,
        ])
        .output()?;
    let report = report(&output)?;
    assert!(output.status.success(), "{report:#}");
    assert_eq!(vbox.machines()?, ["base"]);
    let media = vbox.media()?;
    assert_eq!(media.len(), 2, "its disk and the snapshot's: {media:?}");
    Ok(())
}

/// moto, with what the real EC2 does and moto does not.
#[tokio::test(flavor = "multi_thread")]
async fn amazonec2_passes() -> Result<()> {
    let ec2 = Ec2::start().await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.toml");
    let text = format!(
        r#"
[springtide]
plugin_dir = "{plugins}"
state = "sqlite:{here}/state/state.db"
[plugins.amazonec2.grants.http]
origins = ["{url}"]
allow_private = true
credentials = ["aws"]
[[runners]]
name = "kit"
url = "http://127.0.0.1:1"
token = "glrt-kit"
executor = "shell+machine"
  [runners.machine]
  MachineDriver = "amazonec2"
  MachineName = "kit-%s"
  MachineOptions = ["amazonec2-region=eu-west-1", "amazonec2-endpoint={url}", "amazonec2-insecure-transport", "amazonec2-access-key={id}", "amazonec2-secret-key={secret}"]
"#,
        plugins = plugins()?.display(),
        here = folder.path().display(),
        url = ec2.url,
        id = ec2.key.id,
        secret = ec2.key.secret,
    );
    std::fs::write(&config, text)?;
    let mut command = conformance("amazonec2", &config)?;
    // moto's lists do not lag.
    command.args(["--list-delay", "0"]);
    command.args([
        "--fault",
        r#"no-subnet={"amazonec2-subnet-id": "subnet-0000000000000000f"}=invalid-config"#,
    ]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let report = report(&output)?;
    assert!(output.status.success(), "{report:#}");
    Ok(())
}

#[test]
fn a_promise_that_is_broken_fails_its_row() -> Result<()> {
    let full = r#"full={"local-fail-create": 100}=quota"#;
    // What is wrong, the case, and what its row says.
    let flaws = [
        ("forgets-tokens", "create", "the same token made"),
        (
            "forgets-tokens",
            "create-lost",
            "machines were made with one token",
        ),
        (
            "forgets-tokens",
            "create-at-once",
            "calls at once with one token made",
        ),
        ("one-at-a-time", "create-several", "busy"),
        ("cannot-list", "settings-accepted", "no answer"),
        ("lists-nothing", "list", "does not show the machine"),
        ("lists-nothing", "get", "not found"),
        ("loses-owners", "list", "its owner is \"nobody\""),
        ("renews-none", "lease", "its lease was renewed to"),
        ("renews-all", "lease", "whose lease was not renewed"),
        ("keeps", "destroy", "is still listed"),
        ("needs-it-there", "destroy", "while it is being removed"),
        ("needs-it-there", "destroy-nothing", "that is a success"),
        ("litters", "leftovers", "there is still disk .new-x"),
        ("litters-unmarked", "leftovers", "without an owner mark"),
        ("takes-all", "other-owner", "of another owner"),
        ("breaks-on-quotes", "hostile-values", "labels with"),
        ("tidies", "hostile-values", "its pool is"),
        ("none", "fault-full", "expected quota"),
    ];
    for (flaw, case, says) in flaws {
        let kit = Kit::new(Some(flaw), "")?;
        // These are about what never comes.
        let patience = match flaw {
            "keeps" | "litters" | "cannot-list" => "1",
            _ => "30",
        };
        let arguments = ["--only", case, "--patience", patience, "--fault", full];
        let (output, report) = kit.run(&arguments)?;
        let row = row(&report, case);
        let detail = row["detail"].as_str().unwrap_or_default();
        assert_eq!(row["result"], "failed", "{flaw}: {report:#}");
        assert!(detail.contains(says), "{flaw}: {detail}");
        assert_eq!(output.status.code(), Some(1), "{flaw}");
    }
    Ok(())
}

#[test]
fn what_can_not_be_removed_is_said_and_no_more_is_made() -> Result<()> {
    let kit = Kit::new(Some("keeps"), "")?;
    let (output, report) = kit.run(&["--only", "create", "--only", "list", "--patience", "1"])?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(1));
    let left = report["left"].as_str().unwrap_or_default();
    for machine in kit.machines() {
        assert!(left.contains(&machine), "{machine}: {report:#}");
    }
    Ok(())
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() -> Result<()> {
    let kit = Kit::new(None, r#""local-slow=300""#)?;
    let child = kit
        .command(&["--only", "create", "--only", "leftovers"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = Instant::now();
    while kit.machines().is_empty() {
        ensure!(begun.elapsed() < SOON, "no machine was made");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no process")?, Signal::INT)?;
    let output = child.wait_with_output()?;
    let report = report(&output)?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["stopped"], true, "{report:#}");
    assert_eq!(report["left"], Value::Null, "{report:#}");
    assert!(kit.machines().is_empty(), "{:?}", kit.machines());
    Ok(())
}

#[test]
fn what_can_not_be_tried_is_said_in_a_sentence() -> Result<()> {
    let kit = Kit::new(None, "")?;
    for (arguments, says) in [
        (&["--only", "flying"][..], "no case begins so"),
        (&["--runner", "nobody"], "no runner \"nobody\""),
        (&["--fault", "full"], "write NAME"),
    ] {
        let output = kit.command(arguments)?.output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(says), "{error}");
    }
    Ok(())
}
