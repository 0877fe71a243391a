//! Sorts what a component imports: ours, the WASI that default toolchains link in, and the rest,
//! which is refused by name.

use super::error::LoadError;
use super::scan::Names;
use crate::contract::{Kind, PACKAGE, VERSION};

/// The flags that keep the network out of a component, by toolchain.
const WITHOUT_NETWORK: &str = "build without it (componentize-py: --stub-wasi; jco: --backend-qjs-stub-wasi, or --disable=http; Rust: wasm32-unknown-unknown, or no std::net; C: no socket call)";

/// What a component's imports come to.
#[derive(Debug, Default)]
pub(super) struct Imports {
    /// The interfaces of the contract, without package and version.
    pub(super) ours: Vec<String>,
    /// How many interfaces of inert WASI.
    pub(super) inert: usize,
}

/// Sorts the imports of a component of a kind.
pub(super) fn sort(names: &Names) -> Result<Imports, LoadError> {
    let mut imports = Imports::default();
    let mut refused = Vec::new();
    for name in names.imports.iter().chain(&names.exports) {
        if let Some((_, version)) = ours(name)
            && version != VERSION
        {
            return Err(LoadError::OtherContract {
                found: version.to_owned(),
            });
        }
    }
    let kind = kind(names).ok();
    for name in &names.imports {
        match sort_one(name, kind) {
            Sort::Ours(interface) => imports.ours.push(interface.to_owned()),
            Sort::Inert => imports.inert += 1,
            Sort::Refused(why) => refused.push(why),
        }
    }
    if refused.is_empty() {
        Ok(imports)
    } else {
        Err(LoadError::Imports(refused))
    }
}

/// What a component is, by what it exports.
pub(super) fn kind(names: &Names) -> Result<Kind, LoadError> {
    let exports = |interface: &str| {
        names
            .exports
            .iter()
            .any(|name| ours(name).is_some_and(|(found, _)| found == interface))
    };
    match (exports("policy"), exports("driver")) {
        (true, false) => Ok(Kind::Policy),
        (false, true) => Ok(Kind::Driver),
        (false, false) => Err(LoadError::NoKind),
        (true, true) => Err(LoadError::TwoKinds),
    }
}

enum Sort<'a> {
    Ours(&'a str),
    Inert,
    Refused(String),
}

fn sort_one(name: &str, kind: Option<Kind>) -> Sort<'_> {
    if let Some((interface, _)) = ours(name) {
        let known: &[&str] = match kind {
            Some(Kind::Policy) => &["types", "logging", "zones"],
            Some(Kind::Driver) => &["types", "logging", "process", "http", "files"],
            None => &["types", "logging", "zones", "process", "http", "files"],
        };
        if known.contains(&interface) {
            return Sort::Ours(interface);
        }
        let a = kind.map_or("plugin".to_owned(), |kind| kind.to_string());
        return Sort::Refused(format!(
            "{name}, which a {a} does not get: it may import {}",
            known[1..].join(", ")
        ));
    }
    let (package, version) = match name.split_once('/') {
        Some((package, rest)) => (package, rest.split_once('@').map_or("", |(_, v)| v)),
        None => (name, ""),
    };
    match package {
        "wasi:sockets" | "wasi:http" => {
            Sort::Refused(format!("{name}, the network: {WITHOUT_NETWORK}"))
        }
        "wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem"
            if version.starts_with("0.2.") =>
        {
            Sort::Inert
        }
        "wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" => {
            Sort::Refused(format!(
                "{name}, a WASI this host does not have: build for WASI 0.2, which is wasm32-wasip2"
            ))
        }
        _ => Sort::Refused(format!(
            "{name:?}, which this host does not have: a plugin may import {PACKAGE}/* and inert WASI 0.2"
        )),
    }
}

/// The interface and the version of a name of the contract's package.
fn ours(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "none")))
}
