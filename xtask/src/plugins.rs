//! `cargo xtask plugins`: the shipped plugins as components, and their digests.
//!
//! The same sources and the same compiler give the same bytes, wherever the workspace lies.

use crate::compiler::{Compiler, TARGET};
use crate::component;
use crate::run::run;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shipped plugins: the file's name and the package it is built from.
pub const SHIPPED: [(&str, &str); 5] = [
    ("amazonec2", "springtide-driver-amazonec2"),
    ("local", "springtide-driver-local"),
    ("off-peak", "springtide-policy-off-peak"),
    ("queue-depth", "springtide-policy-queue-depth"),
    ("virtualbox", "springtide-driver-virtualbox"),
];

/// The file with the digest of each, from which a host knows the plugins it shipped with.
const DIGESTS: &str = "SHIPPED.json";

/// Settings of the build that leave the workspace's own profiles alone. Speed goes before size: a
/// plugin is compiled once and called at each step.
const PROFILE: [&str; 6] = [
    "profile.release.opt-level=3",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
    "profile.release.debug=false",
];

/// Builds the shipped plugins and returns the directory they are in. What can be built is, though
/// another plugin can't.
///
/// # Errors
/// Where no compiler for the target is found, the build of a plugin fails, or it imports what it may
/// not. Every such plugin is named.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let build_dir = workspace.target.join("wasm");
    let compiler = Compiler::find(&build_dir)?;
    let directory = workspace.plugins();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;

    let packages = SHIPPED.map(|(_, package)| package);
    let all = run(&mut cargo_build(
        &compiler, workspace, &build_dir, &packages,
    )?);
    let mut digests = BTreeMap::new();
    let mut failed = Vec::new();
    for (name, package) in SHIPPED {
        let one = || {
            if all.is_err() {
                run(&mut cargo_build(
                    &compiler,
                    workspace,
                    &build_dir,
                    &[package],
                )?)?;
            }
            component(name, package, &build_dir, &directory)
        };
        match one() {
            Ok(digest) => {
                digests.insert(format!("{name}.wasm"), digest);
            }
            Err(error) => failed.push(format!("{name} (package {package}): {error:#}")),
        }
    }
    let text = serde_json::to_string_pretty(&digests).context("writing the digests")? + "\n";
    put(&directory.join(DIGESTS), text.as_bytes())?;
    if !failed.is_empty() {
        bail!("these plugins can't be built:\n  {}", failed.join("\n  "));
    }
    Ok(directory)
}

/// Makes the component of a module that was built, puts it in place and answers its digest.
fn component(name: &str, package: &str, build_dir: &Path, directory: &Path) -> Result<String> {
    let module = build_dir
        .join(TARGET)
        .join("release")
        .join(format!("{}.wasm", package.replace('-', "_")));
    let module = std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
    let component = component::encode(&module)?;
    let file = format!("{name}.wasm");
    put(&directory.join(&file), &component)?;
    let digest = hex(&Sha256::digest(&component));
    eprintln!(
        "plugins: {file}, {} KiB, sha256 {digest}",
        component.len() / 1024
    );
    Ok(digest)
}

fn cargo_build(
    compiler: &Compiler,
    workspace: &Workspace,
    to: &Path,
    packages: &[&str],
) -> Result<Command> {
    let mut command = compiler.build()?;
    command.current_dir(&workspace.root);
    command.arg("--target-dir").arg(to);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    for package in packages {
        command.args(["--package", package]);
    }
    let sources = compiler.sources()?;
    let flags = remap(&workspace.root, &cargo_home(), &sources);
    command.env("CARGO_ENCODED_RUSTFLAGS", joined(&flags));
    Ok(command)
}

/// Flags that keep this machine's paths out of the messages of a panic.
fn remap(root: &Path, cargo_home: &Path, sources: &Path) -> Vec<OsString> {
    let mut flags = Vec::new();
    for (from, to) in [
        (root, "springtide"),
        (cargo_home, "cargo"),
        (sources, "rust"),
    ] {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    flags
}

/// Flags as `CARGO_ENCODED_RUSTFLAGS` wants them: a path may hold spaces.
fn joined(flags: &[OsString]) -> OsString {
    let mut all = OsString::new();
    for flag in flags {
        if !all.is_empty() {
            all.push("\x1f");
        }
        all.push(flag);
    }
    all
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    )
}

/// Writes a file as a whole, and leaves one alone that is the same already: its time tells others
/// whether to build again.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&new, bytes).with_context(|| format!("writing {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("putting {} in place", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
