//! Why a file is no plugin this host runs: one case a way, each saying what to do about it.

use crate::contract::{Kind, VERSION};
use crate::digest::Digest;
use serde::Serialize;
use std::fmt;
use thiserror::Error;

/// The stages a file passes, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The file is read, once; all that follows looks at the same bytes.
    Read,
    /// It is not larger than a plugin may be.
    Size,
    /// Its digest, and whether it is the one pinned.
    Digest,
    /// Whether it is a component.
    Component,
    /// What it imports, and whether the host has that for it.
    Imports,
    /// Whether it fits the world of its kind.
    World,
    /// It is compiled, or was before.
    Compile,
    /// It is not made of more than one call may have.
    Limits,
    /// `describe`, under a short deadline.
    Trial,
    /// Whether what it describes can be.
    Description,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 10] = [
        Stage::Read,
        Stage::Size,
        Stage::Digest,
        Stage::Component,
        Stage::Imports,
        Stage::World,
        Stage::Compile,
        Stage::Limits,
        Stage::Trial,
        Stage::Description,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Read => "read",
            Stage::Size => "size",
            Stage::Digest => "digest",
            Stage::Component => "component",
            Stage::Imports => "imports",
            Stage::World => "world",
            Stage::Compile => "compile",
            Stage::Limits => "limits",
            Stage::Trial => "trial",
            Stage::Description => "description",
        })
    }
}

/// Why a file was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It can't be read.
    #[error("reading it: {0}")]
    Read(#[source] std::io::Error),
    /// It is larger than a plugin may be.
    #[error(
        "it has {size} bytes or more, and a plugin may have {limit}: strip debug information, or build without the parts it does not use"
    )]
    TooLarge {
        /// Its size, or the least it has.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// It is another file than the one the operator pinned.
    #[error(
        "its digest is {found} and the configuration pins {pinned}: check where the file comes from, then write its digest"
    )]
    Digest {
        /// What it has.
        found: Digest,
        /// What was pinned.
        pinned: Digest,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is no WebAssembly.
    #[error("it is no WebAssembly: it begins with {begins}, not with \\0asm")]
    NotWasm {
        /// Its first bytes.
        begins: String,
    },
    /// It is machine code made by some Wasmtime, which can't be checked.
    #[error(
        "it is compiled already (a .cwasm file), and machine code from elsewhere is never run: put the .wasm component here; the host keeps compiled code in a cache of its own"
    )]
    Precompiled,
    /// It is a core module.
    #[error(
        "it is a core module and no component: `wasm-tools component new` makes one of it, or build for wasm32-wasip2"
    )]
    CoreModule,
    /// Its end is missing.
    #[error("its end is missing at byte {at}: it was cut while it was copied; copy it again")]
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// It is broken in some other way.
    #[error("it is a broken component: {0}")]
    Broken(String),
    /// It was built for another version of the contract.
    #[error(
        "it was built for springtide:plugin@{found}, and this host speaks {VERSION}: build it against the wit/ of this release"
    )]
    OtherContract {
        /// The version it was built for.
        found: String,
    },
    /// It imports what can't be given.
    #[error("it imports {}", .0.join("; it imports "))]
    Imports(Vec<String>),
    /// It exports nothing this host knows.
    #[error(
        "it exports neither springtide:plugin/policy nor springtide:plugin/driver: build it for the world policy-plugin or driver-plugin"
    )]
    NoKind,
    /// It exports both.
    #[error("it exports both policy and driver: make two components of it")]
    TwoKinds,
    /// It does not fit the world of its kind.
    #[error("it does not fit the world {world}: {why}")]
    World {
        /// The world.
        world: &'static str,
        /// Where it differs.
        why: String,
    },
    /// It can't be compiled.
    #[error("compiling it: {0}")]
    Compile(String),
    /// It is made of too much.
    #[error("it has {count} {what}, and a plugin may have {limit}")]
    Limits {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
        /// Most.
        limit: u64,
    },
    /// `describe` did not answer.
    #[error("asked to describe itself, {0}")]
    Trial(#[source] crate::CallError),
    /// What it describes can't be.
    #[error("{}", .0.join("; "))]
    Description(Vec<String>),
    /// What it exports and what it says it is are two things.
    #[error("it says that it is a {said}, and exports {exported}")]
    Kind {
        /// What it says.
        said: Kind,
        /// What it exports.
        exported: Kind,
    },
}

impl LoadError {
    /// The stage it did not pass.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            LoadError::Read(_) => Stage::Read,
            LoadError::TooLarge { .. } => Stage::Size,
            LoadError::Digest { .. } => Stage::Digest,
            LoadError::Empty
            | LoadError::NotWasm { .. }
            | LoadError::Precompiled
            | LoadError::CoreModule
            | LoadError::Truncated { .. }
            | LoadError::Broken(_) => Stage::Component,
            LoadError::OtherContract { .. } | LoadError::Imports(_) => Stage::Imports,
            LoadError::NoKind | LoadError::TwoKinds | LoadError::World { .. } => Stage::World,
            LoadError::Compile(_) => Stage::Compile,
            LoadError::Limits { .. } => Stage::Limits,
            LoadError::Trial(_) => Stage::Trial,
            LoadError::Description(_) | LoadError::Kind { .. } => Stage::Description,
        }
    }
}
