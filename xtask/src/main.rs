//! The project's own commands: `cargo xtask --help` lists them.

mod compiler;
mod component;
mod helper;
mod packages;
mod peers;
mod plugins;
mod run;
mod watch;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use run::{cargo, step};
use std::path::PathBuf;
use std::process::Command;
use workspace::Workspace;

/// Every task a person runs on this project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show it all on this machine: a sandbox GitLab, the daemon, thirty jobs, no machine left.
    ///
    /// Builds the host and the shipped plugins first. Ends with 0 only if every job succeeded, its
    /// trace arrived whole, and no machine is left.
    #[command(disable_help_flag = true)]
    Demo {
        /// --json, --keep
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, lints and all tests, as CI runs them.
    ///
    /// The real programs that tests talk to are set up first, once, in the user's cache directory or
    /// where SPRINGTIDE_PEERS says; that takes root and minutes.
    Test {
        /// The simulation with 10,000 seeds and fifty virtual machines at once besides, which takes many
        /// minutes.
        #[arg(long)]
        slow: bool,
        /// Only the job on a real virtual machine, which QEMU emulates: many minutes.
        #[arg(long)]
        vm: bool,
    },
    /// The real programs that tests talk to, for running tests without this command: prints the
    /// directory that SPRINGTIDE_PEERS has to name.
    Peers {
        /// The virtual machine of `test --vm` as well.
        #[arg(long)]
        vm: bool,
    },
    /// Measures speed: the benches of the pool and the plugin host, built for release.
    Bench,
    /// The shipped plugins as components, into plugins/ of the target directory, with their
    /// digests in SHIPPED.json there.
    Plugins,
    /// The helper as it is put on machines: static, into helper/ of the target directory.
    Helper,
    /// The daemon's loop in virtual time.
    #[command(disable_help_flag = true)]
    Sim {
        /// --seeds N, --from FIRST, --log
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::find()?;
    match arguments.task {
        Task::Demo { arguments } => demo(&workspace, &arguments),
        Task::Test { vm: true, .. } => vm(&workspace),
        Task::Test { slow, .. } => test(&workspace, slow),
        Task::Peers { vm } => {
            let at = peers::set_up()?;
            if vm {
                peers::set_up_vm(&at)?;
            }
            println!("{}", at.display());
            Ok(())
        }
        Task::Bench => bench(&workspace),
        Task::Plugins => plugins::build(&workspace).map(drop),
        Task::Helper => {
            println!("{}", helper::build(&workspace)?.display());
            Ok(())
        }
        Task::Sim { arguments } => sim(&arguments),
    }
}

fn demo(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    packages::need("git", "git")?;
    step("Plugins", || plugins::build(workspace).map(drop))?;
    step("Build", build)?;
    let helper = helper(workspace)?;
    let programs = workspace.target.join("debug");
    run::run(
        Command::new(programs.join("springtide"))
            .arg("demo")
            .arg("--plugin-dir")
            .arg(workspace.plugins())
            .arg("--helper")
            .arg(helper)
            .args(arguments),
    )
}

/// What tests and examples find by variables: plugins, the helper as it goes to machines, peers.
struct Surroundings {
    plugins: PathBuf,
    helper: PathBuf,
    peers: PathBuf,
}

impl Surroundings {
    fn set_up(workspace: &Workspace) -> Result<Self> {
        let helper = helper(workspace)?;
        let mut peers = PathBuf::new();
        step("Peers", || {
            peers = peers::set_up()?;
            Ok(())
        })?;
        Ok(Self {
            plugins: workspace.plugins(),
            helper,
            peers,
        })
    }

    /// Those of a command.
    fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("SPRINGTIDE_PLUGINS", &self.plugins)
            .env(helper::VARIABLE, &self.helper)
            .env(peers::VARIABLE, &self.peers)
    }
}

/// The helper, as it goes to machines.
fn helper(workspace: &Workspace) -> Result<PathBuf> {
    let mut at = PathBuf::new();
    step("Helper", || {
        at = helper::build(workspace)?;
        Ok(())
    })?;
    Ok(at)
}

/// All programs, with the features the tests are built with, so that nothing is built twice.
fn build() -> Result<()> {
    run::run(cargo().args(["build", "--quiet", "--workspace", "--bins"]))
}

fn test(workspace: &Workspace, slow: bool) -> Result<()> {
    packages::need("git", "git")?;
    step("Formatting", || {
        run::run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("Plugins", || plugins::build(workspace).map(drop))?;
    step("Lints", || {
        run::run(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("Build", build)?;
    let surroundings = Surroundings::set_up(workspace)?;
    step("Tests", || {
        // One that fails should not hide what else does.
        let words = ["test", "--workspace", "--no-fail-fast"];
        let programs = workspace.target.join("debug/deps");
        watch::run(
            surroundings.of(cargo().args(words)),
            &programs,
            watch::LONGEST,
        )
    })?;
    if slow {
        step("Simulation, 10,000 seeds", || {
            sim(&["--seeds".to_owned(), "10000".to_owned()])
        })?;
        step("VirtualBox: fifty machines at once", || {
            let words = [
                "test",
                "--workspace",
                "--test",
                "virtualbox",
                "--",
                "--ignored",
            ];
            run::run(surroundings.of(cargo().args(words)))
        })?;
    }
    Ok(())
}

/// A job on a virtual machine, made and reached as a site's would be.
fn vm(workspace: &Workspace) -> Result<()> {
    step("Plugins", || plugins::build(workspace).map(drop))?;
    step("Build", build)?;
    let surroundings = Surroundings::set_up(workspace)?;
    step("A disk to boot", || peers::set_up_vm(&surroundings.peers))?;
    step("A job on a virtual machine", || {
        let mut command = cargo();
        command
            .args(["test", "--workspace", "--test", "vm", "--"])
            .args(["--ignored", "--nocapture", "--test-threads", "1"]);
        run::run(surroundings.of(&mut command))
    })
}

fn bench(workspace: &Workspace) -> Result<()> {
    step("Plugins", || plugins::build(workspace).map(drop))?;
    // The same packages each time, so that nothing is built twice.
    let packages = [
        "-p",
        "springtide",
        "-p",
        "springtide-helper",
        "-p",
        "springtide-pool",
        "-p",
        "springtide-plugins",
        "-p",
        "springtide-tests",
    ];
    step("Benches", || {
        run::run(
            cargo()
                .arg("bench")
                .args(packages)
                .args(["--bench", "step", "--bench", "evaluate"])
                .env("SPRINGTIDE_PLUGINS", workspace.plugins()),
        )
    })?;
    step("The daemon", || {
        run::run(cargo().args(["build", "--release"]).args(packages).args([
            "--bins",
            "--example",
            "measure",
            "--example",
            "jobs",
        ]))?;
        run::run(
            Command::new(workspace.target.join("release/examples/measure"))
                .env("SPRINGTIDE_PLUGINS", workspace.plugins()),
        )
    })?;
    let surroundings = Surroundings::set_up(workspace)?;
    step("Jobs", || {
        run::run(surroundings.of(&mut Command::new(
            workspace.target.join("release/examples/jobs"),
        )))
    })
}

fn sim(arguments: &[String]) -> Result<()> {
    run::run(
        cargo()
            .args([
                "run",
                "-q",
                "-p",
                "springtide-control",
                "--example",
                "sim",
                "--",
            ])
            .args(arguments),
    )
}
