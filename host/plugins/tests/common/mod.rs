//! Components for tests, written as WebAssembly text.
//!
//! A core module with the canonical names of the contract's functions becomes a component of the
//! world it is said to be for; what the module does is up to the test.
#![allow(dead_code)]

use springtide_plugins::contract::{CallContext, Decision, Targets, View};
use springtide_plugins::{CallError, Host, HostOptions, LoadError, Plugin, Source};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

/// The contract's files, in one text of packages.
pub const CONTRACT: &[(&str, &str)] = &[
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("meta.wit", include_str!("../../../../wit/meta.wit")),
    (
        "capabilities.wit",
        include_str!("../../../../wit/capabilities.wit"),
    ),
    ("policy.wit", include_str!("../../../../wit/policy.wit")),
    ("driver.wit", include_str!("../../../../wit/driver.wit")),
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
];

pub const SCHEMA: &str = r#"{"type":"object"}"#;

/// A text at `at` in memory, for a data segment.
fn data(at: u32, text: &str) -> String {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{escaped}\")\n")
}

/// The parts of a policy in WebAssembly text that a test changes.
#[derive(Clone, Debug)]
pub struct Policy {
    pub package: String,
    pub imports: String,
    pub start: String,
    pub describe: String,
    pub evaluate: String,
    pub more: String,
    pub name: String,
    pub version: String,
    pub schema: String,
    /// 0 is driver, 1 policy.
    pub kind: u32,
    /// Name of the one function a deadline is set for, and the deadline.
    pub deadline: Option<(String, u32)>,
    pub pages: u32,
    pub world: &'static str,
    /// The functions of a driver, in place of `evaluate`.
    pub driver: Option<String>,
    /// Changes to the contract it is built for: what, and by what.
    pub changes: Vec<(&'static str, &'static str)>,
    /// Interfaces it imports beside the contract's, and the packages that have them.
    pub strangers: Vec<&'static str>,
    pub packages: Vec<&'static str>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            package: "0.1.0".into(),
            imports: String::new(),
            start: String::new(),
            describe: "(i32.const 1024)".into(),
            evaluate: ANSWER.into(),
            more: String::new(),
            name: "it".into(),
            version: "1.2.3".into(),
            schema: SCHEMA.into(),
            kind: 1,
            deadline: None,
            pages: 2,
            world: "policy-plugin",
            driver: None,
            changes: Vec::new(),
            strangers: Vec::new(),
            packages: Vec::new(),
        }
    }
}

/// An answer of `evaluate`: `ok`, idle-count 7, the reason "because", no state; all at 2048.
pub const ANSWER: &str = "
    (i32.store8 (i32.const 2048) (i32.const 0))
    ;; patch begins at 2056: idle-count is some(7), idle-scale-factor has 8 bytes alignment
    (i32.store8 (i32.const 2056) (i32.const 1))
    (i32.store (i32.const 2060) (i32.const 7))
    (i32.store (i32.const 2120) (i32.const 4096))
    (i32.store (i32.const 2124) (i32.const 7))
    (i32.const 2048)";

impl Policy {
    /// The module.
    pub fn text(&self) -> String {
        let mut data_segments = String::new();
        for (at, text) in [(4096, "because"), (4200, &self.name), (4400, &self.version)] {
            data_segments += &data(at, text);
        }
        data_segments += &data(8192, &self.schema);
        let (name, version, schema) = (self.name.len(), self.version.len(), self.schema.len());
        let kind = self.kind;
        let deadlines = match &self.deadline {
            None => String::new(),
            Some((function, limit)) => {
                data_segments += &data(4600, function);
                let length = function.len();
                format!(
                    "(i32.store (i32.const 1060) (i32.const 4700))
                     (i32.store (i32.const 1064) (i32.const 1))
                     (i32.store (i32.const 4700) (i32.const 4600))
                     (i32.store (i32.const 4704) (i32.const {length}))
                     (i32.store (i32.const 4708) (i32.const {limit}))"
                )
            }
        };
        let Policy {
            package,
            imports,
            start,
            describe,
            evaluate,
            more,
            pages,
            ..
        } = self;
        let functions = self.driver.clone().unwrap_or_else(|| {
            format!(
                r#"(func (export "springtide:plugin/policy@{package}#evaluate") (param i32) (result i32)
                    {evaluate})"#
            )
        });
        let start = if start.is_empty() {
            String::new()
        } else {
            format!("(func $start {start}) (start $start)")
        };
        format!(
            r#"(module
              {imports}
              (memory (export "memory") {pages})
              {data_segments}
              (global $free (mut i32) (i32.const 65536))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (block $fits
                  (loop $more
                    (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
                    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
                    (br $more)))
                (local.get $at))
              (func (export "springtide:plugin/meta@{package}#describe") (result i32)
                (i32.store (i32.const 1024) (i32.const 4200))
                (i32.store (i32.const 1028) (i32.const {name}))
                (i32.store (i32.const 1032) (i32.const 4400))
                (i32.store (i32.const 1036) (i32.const {version}))
                (i32.store8 (i32.const 1040) (i32.const {kind}))
                (i32.store (i32.const 1044) (i32.const 8192))
                (i32.store (i32.const 1048) (i32.const {schema}))
                {deadlines}
                {describe})
              {functions}
              {start}
              {more}
            )"#
        )
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let strangers: String = self
            .strangers
            .iter()
            .map(|interface| format!("  import {interface};\n"))
            .collect();
        let wit = CONTRACT
            .iter()
            .map(|(name, text)| {
                let mut text = text.replace("@0.1.0", &format!("@{}", self.package));
                for (from, to) in &self.changes {
                    text = text.replace(from, to);
                }
                let world = format!("world {} {{\n", self.world);
                text = text.replace(&world, &format!("{world}{strangers}"));
                ((*name).to_owned(), text)
            })
            .collect::<Vec<_>>();
        encode(&self.text(), &wit, self.world, &self.packages)
    }
}

/// A driver all of whose functions end with this, given the imports it needs.
pub fn driver(imports: &str, body: &str) -> Policy {
    let functions = [
        ("create", "(param i32)"),
        ("list-machines", "(param i32 i32 i32 i32)"),
        ("get", "(param i32 i32 i32 i32 i32 i32)"),
        ("destroy", "(param i32 i32 i32 i32 i32 i32)"),
        ("renew-leases", "(param i32 i32 i32 i32 i32 i32 i32)"),
        ("list-leftovers", "(param i32 i32 i32 i32)"),
        ("destroy-leftover", "(param i32 i32 i32 i32 i32 i32)"),
    ]
    .map(|(name, parameters)| {
        format!(
            r#"(func (export "springtide:plugin/driver@0.1.0#{name}") {parameters} (result i32) {body})"#
        )
    });
    Policy {
        imports: imports.into(),
        kind: 0,
        world: "driver-plugin",
        driver: Some(functions.concat()),
        ..Policy::default()
    }
}

/// Makes a component of a module, for a world of a package; `deps` are other packages it uses.
pub fn encode(module: &str, wit: &[(String, String)], world: &str, deps: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    for (number, text) in deps.iter().enumerate() {
        resolve
            .push_str(format!("dep{number}.wit"), text)
            .expect("a package it depends on");
    }
    let mut map = SourceMap::new();
    for (name, text) in wit {
        map.push_str(name, text.clone());
    }
    let group = map.parse().map_err(|(_, error)| error).expect("its WIT");
    let package = resolve.push_group(group).expect("its package");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("its world");
    let mut module = wat::parse_str(module).expect("its text");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("its world's metadata");
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .expect("its module")
        .encode()
        .expect("its component")
}

/// A host without a cache, and a directory for files.
pub struct Bench {
    pub host: Host,
    pub directory: TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            host: Host::new(&HostOptions::default()).expect("a host"),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).expect("writing a file");
        path
    }

    pub fn evaluate(&self, policy: &Policy) -> Result<Decision, CallError> {
        let plugin = self.load(&policy.component()).expect("it loads");
        plugin.evaluate(
            &CallContext::default(),
            &View::default(),
            &Targets::default(),
            &[],
        )
    }

    /// Why a component is refused.
    pub fn refused(&self, policy: &Policy) -> LoadError {
        self.load(&policy.component()).expect_err("it is refused")
    }

    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, LoadError> {
        let file = self.file("it.wasm", bytes);
        self.host.load(&Source::file(file))
    }
}

/// A component of those the project ships, as `cargo xtask plugins` leaves it.
pub fn shipped(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("this test's own file");
    let target = exe
        .ancestors()
        .find(|directory| directory.join("plugins").is_dir())
        .unwrap_or_else(|| Path::new("target"));
    let file = target.join("plugins").join(format!("{name}.wasm"));
    assert!(
        file.exists(),
        "{} is missing: run `cargo xtask plugins` first",
        file.display()
    );
    file
}
