//! `cargo xtask plugins`: the shipped plugins as components, and their digests.
//!
//! The same sources and the same compiler give the same bytes, wherever the workspace lies.

use crate::compiler::{Compiler, TARGET};
use crate::component;
use crate::run::run;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shipped plugins: the file's name and the package it is built from.
pub const SHIPPED: [(&str, &str); 1] = [("off-peak", "springtide-policy-off-peak")];

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

/// Builds the shipped plugins and returns the directory they are in.
///
/// # Errors
/// Where no compiler for the target is found, the build fails, or a plugin imports what it may not.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let compiler = Compiler::find()?;
    let build_dir = workspace.target.join("wasm");
    run(&mut cargo_build(&compiler, workspace, &build_dir)?)?;
    let directory = workspace.plugins();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let mut digests = BTreeMap::new();
    for (name, package) in SHIPPED {
        let module = build_dir
            .join(TARGET)
            .join("release")
            .join(format!("{}.wasm", package.replace('-', "_")));
        let module =
            std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
        let component = component::encode(&module).with_context(|| format!("the plugin {name}"))?;
        let file = format!("{name}.wasm");
        put(&directory.join(&file), &component)?;
        let digest = hex(&Sha256::digest(&component));
        eprintln!(
            "plugins: {file}, {} KiB, sha256 {digest}",
            component.len() / 1024
        );
        digests.insert(file, digest);
    }
    let text = serde_json::to_string_pretty(&digests).context("writing the digests")? + "\n";
    put(&directory.join(DIGESTS), text.as_bytes())?;
    Ok(directory)
}

fn cargo_build(compiler: &Compiler, workspace: &Workspace, to: &Path) -> Result<Command> {
    let mut command = compiler.build()?;
    command.current_dir(&workspace.root);
    command.arg("--target-dir").arg(to);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    for (_, package) in SHIPPED {
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
