//! What all plugins of a process share: the engines, what is linked behind imports, the cache.

use crate::capabilities::{Credential, Credentials, Turns, Zones, link_driver, link_policy};
use crate::contract::Kind;
use crate::engine::Engines;
use crate::guest::Guest;
use crate::load::{Cache, CacheError, Contract, LoadError, Report, Source, check};
use crate::plugin::Plugin;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// How a host is to work.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Where compiled components are kept; made if missing, mode 0700. None: nowhere, and each load
    /// compiles.
    pub cache: Option<PathBuf>,
    /// Where plugins that are granted `files` have a directory each, by their ids. None: they have
    /// none.
    pub scratch: Option<PathBuf>,
}

/// Why there is no host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The engine does not work here.
    #[error("starting the WebAssembly engine: {0}")]
    Engine(String),
    /// The cache's directory can't be trusted.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Loads plugins and lends them what they may have. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Host {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    engines: Engines,
    pub(crate) contract: Contract,
    pub(crate) cache: Option<Cache>,
    pub(crate) compiling: Mutex<()>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) turns: Turns,
    /// Without WASI, and with no function that waits: calls need no stack of their own.
    pub(crate) policy: Linker<Guest>,
    pub(crate) policy_with_wasi: Linker<Guest>,
    pub(crate) driver: Linker<Guest>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn engine(&self, kind: Kind) -> &Engine {
        match kind {
            Kind::Policy => &self.engines.policies,
            Kind::Driver => &self.engines.drivers,
        }
    }
}

impl Host {
    /// Starts the engines.
    ///
    /// # Errors
    /// Where they do not work on this machine, or the cache's directory is open to others.
    pub fn new(options: &HostOptions) -> Result<Host, HostError> {
        let cache = options.cache.as_deref().map(Cache::open).transpose()?;
        let failed = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let engines = Engines::new().map_err(failed)?;
        let contract = Contract::new().map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let mut policy = Linker::new(&engines.policies);
        link_policy(&mut policy).map_err(failed)?;
        let mut policy_with_wasi = Linker::new(&engines.policies);
        link_policy(&mut policy_with_wasi).map_err(failed)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut policy_with_wasi).map_err(failed)?;
        let mut driver = Linker::new(&engines.drivers);
        link_driver(&mut driver).map_err(failed)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut driver).map_err(failed)?;
        Ok(Host {
            shared: Arc::new(Shared {
                engines,
                contract,
                cache,
                compiling: Mutex::new(()),
                zones: Arc::new(Zones::new()),
                credentials: Arc::default(),
                scratch: options.scratch.clone(),
                turns: Turns::default(),
                policy,
                policy_with_wasi,
                driver,
            }),
        })
    }

    /// Takes these credentials in place of those before, for plugins loaded already as well. Which
    /// of them a plugin may have applied is a matter of its grants.
    pub fn set_credentials(&self, credentials: BTreeMap<String, Credential>) {
        self.shared.credentials.set(credentials);
    }

    /// Takes these credentials of single runners, by the runner's name and the credential's: each
    /// comes before the one of its name that all share.
    pub fn set_runner_credentials(&self, credentials: BTreeMap<(String, String), Credential>) {
        self.shared.credentials.set_of_runners(credentials);
    }

    /// Takes a file through all stages and keeps what each came to. Blocks for as long as compiling
    /// takes: keep it off async threads.
    #[must_use]
    pub fn check(&self, source: &Source) -> Report {
        check(self, source)
    }

    /// Loads a plugin. Blocks for as long as compiling takes: keep it off async threads.
    ///
    /// # Errors
    /// At the first stage the file does not pass.
    pub fn load(&self, source: &Source) -> Result<Plugin, LoadError> {
        let report = self.check(source);
        for warning in &report.warnings {
            tracing::warn!(plugin = source.id, "{warning}");
        }
        report.outcome
    }
}
