//! What the demo plays on: a repository, a configuration with its own directories, and the frames
//! that show the pool.

use super::table::Totals;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokio::process::Command;
use toml_edit::{DocumentMut, value};

/// The configuration that is used where none is named.
const CONFIG: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/demo/config.toml"
));

/// What the jobs run: a second of work.
const TEST: &str = "#!/bin/sh\necho \"testing app\"\nsleep 1\necho \"1 test passed\"\n";

/// The files of one performance.
pub(super) struct Scene {
    pub(super) config: PathBuf,
    pub(super) state: PathBuf,
    pub(super) log: PathBuf,
    machines: PathBuf,
}

impl Scene {
    pub(super) fn set(
        folder: &Path,
        url: &str,
        config: Option<&Path>,
        plugin_dir: Option<&Path>,
        helper: Option<&Path>,
    ) -> Result<Scene> {
        let text = match config {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("reading {}", path.display()))?,
            None => CONFIG.to_owned(),
        };
        let mut file: DocumentMut = text.parse().context("the demo's configuration")?;
        let scene = Scene {
            config: folder.join("config.toml"),
            state: folder.join("state"),
            log: folder.join("daemon.log"),
            machines: folder.join("machines"),
        };
        let token_file = folder.join("read-api.token");
        write_secret(&token_file, "glpat-sandbox\n")?;
        let ours = file["springtide"].or_insert(toml_edit::table());
        ours["state"] = value(format!(
            "sqlite:{}",
            text_of(&scene.state.join("state.db"))?
        ));
        ours["local_root"] = value(text_of(&scene.machines)?);
        if let Some(dir) = plugin_dir {
            ours["plugin_dir"] = value(text_of(&absolute(dir)?)?);
        }
        if let Some(helper) = helper {
            ours["helper"] = value(text_of(&absolute(helper)?)?);
        }
        let Some(runners) = file["runners"].as_array_of_tables_mut() else {
            bail!("the demo's configuration has no [[runners]]");
        };
        for runner in runners.iter_mut() {
            runner["url"] = value(url);
            if let Some(queue) = runner.get_mut("queue").and_then(|at| at.as_table_mut()) {
                queue["token_file"] = value(text_of(&token_file)?);
            }
        }
        write_secret(&scene.config, &file.to_string())?;
        Ok(scene)
    }

    /// Machines that are still there: directories under the local driver's root.
    pub(super) fn machines_left(&self) -> Result<usize> {
        match std::fs::read_dir(&self.machines) {
            Ok(entries) => Ok(entries
                .filter_map(Result::ok)
                .filter(|entry| entry.path().join("machine.json").exists())
                .count()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).context("looking for machines that are left"),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("finding {}", path.display()))
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

/// A small repository with one commit.
pub(super) async fn repository(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("app");
    std::fs::create_dir(&path).context("making the demo's repository")?;
    std::fs::write(path.join("test.sh"), TEST).context("writing the demo's repository")?;
    std::fs::write(path.join("README.md"), "# app\n").context("writing the demo's repository")?;
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all"],
        &["commit", "--quiet", "--message=An app with a test"],
    ];
    for step in steps {
        let done = Command::new("git")
            .args(["-c", "user.name=demo", "-c", "user.email=demo@example.com"])
            .args(step)
            .current_dir(&path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .await
            .context("running git, which the demo needs; install it")?;
        if !done.status.success() {
            bail!(
                "git {}: {}",
                step.join(" "),
                String::from_utf8_lossy(&done.stderr).trim()
            );
        }
    }
    Ok(path)
}

/// Sums over all pools of a status.
pub(super) fn totals(status: &Value) -> Totals {
    let mut totals = Totals::default();
    for pool in status["pools"].as_array().into_iter().flatten() {
        let number = |key: &str| pool["totals"][key].as_u64().unwrap_or_default();
        totals.made += number("made");
        totals.idle_ms += number("idle");
        totals.busy_ms += number("busy");
    }
    totals
}

/// The pool at one moment.
pub(super) struct Frame<'a> {
    pub(super) all: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) done: usize,
    pub(super) status: &'a Value,
}

const PHASES: [&str; 10] = [
    "intended", "creating", "booting", "idle", "reserved", "busy", "draining", "retiring",
    "missing", "held",
];

impl Frame<'_> {
    fn machines(&self) -> Vec<(&'static str, u64)> {
        let sum = |phase: &str| -> u64 {
            let pools = self.status["pools"].as_array().into_iter().flatten();
            pools
                .filter_map(|pool| pool["counts"][phase].as_u64())
                .sum()
        };
        PHASES.map(|phase| (phase, sum(phase))).to_vec()
    }

    /// The latest decision that did something, and its reason.
    fn decision(&self) -> String {
        let pools = self.status["pools"].as_array().into_iter().flatten();
        pools
            .flat_map(|pool| pool["decisions"].as_array().into_iter().flatten())
            .filter(|said| said["action"] != "hold")
            .max_by_key(|said| said["at"].as_u64())
            .map(|said| {
                format!(
                    "{}: {}",
                    said["action"].as_str().unwrap_or_default(),
                    said["reason"].as_str().unwrap_or_default()
                )
            })
            .unwrap_or_default()
    }

    /// Several lines, drawn again and again in place.
    pub(super) fn large(&self) -> String {
        const WIDTH: usize = 30;
        let mut text = String::new();
        let full = (self.done * WIDTH)
            .checked_div(self.all)
            .unwrap_or_default();
        let half = (self.running * WIDTH)
            .checked_div(self.all)
            .unwrap_or_default()
            .min(WIDTH - full);
        let bar = format!(
            "{}{}{}",
            "#".repeat(full),
            ">".repeat(half),
            ".".repeat(WIDTH - full - half)
        );
        // Writing to a string can't fail.
        writeln!(
            text,
            "jobs      [{bar}] {} waiting, {} running, {} of {} done",
            self.waiting, self.running, self.done, self.all
        )
        .ok();
        let machines: Vec<String> = self
            .machines()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(phase, count)| format!("{count} {phase}"))
            .collect();
        let machines = if machines.is_empty() {
            "none".to_owned()
        } else {
            machines.join(", ")
        };
        writeln!(text, "machines  {machines}").ok();
        let decision: String = self.decision().chars().take(110).collect();
        writeln!(text, "decision  {decision}").ok();
        text
    }

    /// One line, for logs.
    pub(super) fn line(&self) -> String {
        let of = |wanted: &[&str]| -> u64 {
            self.machines()
                .iter()
                .filter(|(phase, _)| wanted.contains(phase))
                .map(|(_, count)| count)
                .sum()
        };
        format!(
            "jobs: {} waiting, {} running, {} of {} done; machines: {} coming, {} free, {} busy, {} going; {}",
            self.waiting,
            self.running,
            self.done,
            self.all,
            of(&["intended", "creating", "booting"]),
            of(&["idle", "reserved"]),
            of(&["busy", "draining"]),
            of(&["retiring"]),
            self.decision(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_frame_shows_jobs_machines_and_the_last_decision() {
        let status = json!({"pools": [{
            "counts": {"booting": 2, "busy": 3, "idle": 0},
            "totals": {"made": 5, "idle": 1000, "busy": 2000},
            "decisions": [
                {"at": 1, "action": "create a machine", "reason": "2 jobs wait"},
                {"at": 2, "action": "hold", "reason": "nothing to do"},
            ],
        }]});
        let frame = Frame {
            all: 30,
            waiting: 10,
            running: 3,
            done: 6,
            status: &status,
        };
        insta::assert_snapshot!(frame.large(), @r"
        jobs      [######>>>.....................] 10 waiting, 3 running, 6 of 30 done
        machines  2 booting, 3 busy
        decision  create a machine: 2 jobs wait
        ");
        insta::assert_snapshot!(frame.line(), @"jobs: 10 waiting, 3 running, 6 of 30 done; machines: 2 coming, 0 free, 3 busy, 0 going; create a machine: 2 jobs wait");
        assert_eq!(totals(&status).made, 5);
    }
}
