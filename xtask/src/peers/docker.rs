//! A Docker engine of the tests' own, with the images that tests run, and a registry's program.
//!
//! The engine keeps everything under the peers and listens there alone. It is left running: the next
//! run finds it, and images are made once.

use super::{once, tree};
use crate::packages;
use crate::run::{output, run};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SUITE: &str = "bookworm";
const PACKAGES: &str = "git,git-lfs,ca-certificates";

/// How long the engine may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An entry point that exports, says something and becomes what it is given.
const ENTRY: &str =
    "#!/bin/sh\nexport FROM_ENTRY=\"was here\"\necho 'entry point of the image'\nexec \"$@\"\n";

/// Serves a greeting, and the one it was told.
const WEB: &str = "#!/bin/sh\necho \"$GREETING\" >/www/greeting\nexec httpd -f -p 8080 -h /www\n";

/// What is said of an image beside its files.
type Changes = &'static [&'static str];

/// Images, the tree each is of, and what is said of it.
const IMAGES: [(&str, &str, Changes); 5] = [
    (
        "springtide/base:1",
        "base",
        &["CMD [\"bash\"]", "ENV FROM_IMAGE=base"],
    ),
    (
        "springtide/tiny:1",
        "tiny",
        &["CMD [\"sh\"]", "ENV FROM_IMAGE=tiny"],
    ),
    (
        "springtide/entry:1",
        "tiny",
        &["ENTRYPOINT [\"/entry.sh\"]", "CMD [\"sh\"]"],
    ),
    (
        "springtide/web:1",
        "tiny",
        &["EXPOSE 8080/tcp", "CMD [\"web\"]"],
    ),
    ("springtide/bare:1", "bare", &["CMD [\"/nothing\"]"]),
];

/// The engine, with the images in it, and the registry.
pub(super) fn set_up(peers: &Path) -> Result<()> {
    packages::need("dockerd", "docker.io")?;
    packages::need("iptables", "iptables")?;
    packages::need("ip", "iproute2")?;
    packages::need("docker-registry", "docker-registry")?;
    let at = peers.join("docker");
    let trees = at.join("trees");
    let recipe = format!("{SUITE} {PACKAGES} {ENTRY:?} {WEB:?} {IMAGES:?}");
    once(&trees, &recipe, |directory| {
        packages::need("mmdebstrap", "mmdebstrap")?;
        packages::need("busybox", "busybox-static")?;
        tree::make(&directory.join("base.tar"), SUITE, "main", PACKAGES)?;
        tiny(&directory.join("tiny"))?;
        bare(&directory.join("bare"))?;
        for name in ["tiny", "bare"] {
            pack(directory, name)?;
        }
        Ok(())
    })?;
    let engine = at.join("engine");
    start(&engine)?;
    let stamp = engine.join("images-from");
    let same = std::fs::read_to_string(&stamp).is_ok_and(|old| old == recipe);
    for (name, tree, changes) in IMAGES {
        if same && has_image(&engine, name) {
            continue;
        }
        let mut import = docker(&engine);
        import.arg("import").stdout(Stdio::null());
        for change in changes {
            import.args(["--change", change]);
        }
        run(import.arg(trees.join(format!("{tree}.tar"))).arg(name))?;
    }
    std::fs::write(&stamp, recipe).with_context(|| format!("writing {}", stamp.display()))
}

fn has_image(engine: &Path, name: &str) -> bool {
    let there = docker(engine)
        .args(["image", "inspect", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    there.is_ok_and(|status| status.success())
}

/// The engine's socket.
fn socket(engine: &Path) -> PathBuf {
    engine.join("docker.sock")
}

fn docker(engine: &Path) -> Command {
    let mut command = Command::new("docker");
    command
        .arg("--host")
        .arg(format!("unix://{}", socket(engine).display()));
    command
}

fn answers(engine: &Path) -> bool {
    let mut version = docker(engine);
    output(version.args(["version", "--format", "{{.Server.Version}}"])).is_ok()
}

/// Starts the engine, unless it answers.
fn start(engine: &Path) -> Result<()> {
    if answers(engine) {
        return Ok(());
    }
    std::fs::create_dir_all(engine).with_context(|| format!("making {}", engine.display()))?;
    let log = engine.join("log");
    let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut command = Command::new("setsid");
    command
        .arg("dockerd")
        .arg("--data-root")
        .arg(engine.join("data"))
        .arg("--exec-root")
        .arg(engine.join("exec"))
        .arg("--pidfile")
        .arg(engine.join("pid"))
        .arg("--host")
        .arg(format!("unix://{}", socket(engine).display()))
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("for the engine's log")?)
        .stderr(file);
    command
        .spawn()
        .context("starting dockerd, which takes root")?;
    let until = Instant::now() + PATIENCE;
    while !answers(engine) {
        if Instant::now() > until {
            bail!("dockerd does not answer; it says why in {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A tree of busybox alone.
fn tiny(root: &Path) -> Result<()> {
    let making = || format!("making {}", root.display());
    for directory in ["bin", "etc", "www", "tmp", "root"] {
        std::fs::create_dir_all(root.join(directory)).with_context(making)?;
    }
    let busybox = root.join("bin/busybox");
    std::fs::copy("/bin/busybox", &busybox).context("copying /bin/busybox")?;
    for applet in output(Command::new(&busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).with_context(making)?;
        }
    }
    let entry = root.join("entry.sh");
    let web = root.join("bin/web");
    for (path, text) in [
        (root.join("www/index.html"), "it serves\n"),
        (
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n",
        ),
        (root.join("etc/group"), "root:x:0:\nworker:x:1000:\n"),
        (entry.clone(), ENTRY),
        (web.clone(), WEB),
    ] {
        std::fs::write(&path, text).with_context(making)?;
    }
    for (path, mode) in [(entry, 0o755), (web, 0o755), (root.join("tmp"), 0o1777)] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).with_context(making)?;
    }
    Ok(())
}

/// A tree in which no shell is.
fn bare(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("etc")).with_context(|| format!("making {}", root.display()))
}

fn pack(directory: &Path, name: &str) -> Result<()> {
    run(Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--numeric-owner"])
        .arg("--file")
        .arg(directory.join(format!("{name}.tar")))
        .arg("--directory")
        .arg(directory.join(name))
        .arg("."))
}
