//! The plugins of a running daemon: the directory with what the configuration says of each, and the
//! credentials they may name.

use super::answers::{PluginStatus, Plugins};
use super::grants::Shipped;
use super::paths;
use super::policies::Find;
use super::scope::Scope;
use super::secrets::Secrets;
use crate::metrics::Metrics;
use anyhow::{Context, Result};
use secrecy::SecretString;
use serde_json::Value;
use springtide_config::{Catalog, Config, Machine, Runner};
use springtide_plugins::contract::{CallContext, Kind};
use springtide_plugins::{
    Aws, AwsKeys, Credential, Digest, Grants, Host, HostOptions, HttpGrant, Plugin, PluginOptions,
    Registry, RegistryOptions, ToolGrant,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;

/// The digests of the plugins built with this program: a component with one of them is what its
/// name says, and gets what that needs.
const SHIPPED: &str = include_str!(concat!(env!("OUT_DIR"), "/shipped.json"));

/// The plugins of a daemon.
pub struct Installed {
    registry: Registry,
    host: Host,
    /// How the machines of each driver are listed, for its next version.
    contexts: Arc<std::sync::Mutex<BTreeMap<String, Vec<CallContext>>>>,
    config: std::sync::Mutex<BTreeMap<String, PluginOptions>>,
    shipped: std::sync::Mutex<Shipped>,
    /// Secrets of runners' options.
    secrets: Secrets,
    /// Names that more than one runner has: whose secrets are whose can't be told.
    shared_names: std::sync::Mutex<BTreeSet<String>>,
    /// The directory relative paths of the configuration are in.
    beside: PathBuf,
}

impl Installed {
    /// Loads what there is. A plugin that is refused is logged and shown, and stops no other.
    ///
    /// # Errors
    /// Where the engine does not start, or the directory can't be used.
    pub async fn start(
        config: &Config,
        state: &Path,
        beside: PathBuf,
        metrics: Metrics,
    ) -> Result<Arc<Installed>> {
        let shipped = Shipped::of(config, state);
        let plugins = options(config, &shipped);
        let directory = directory(config);
        let (cache, scratch) = (state.join("compiled"), state.join("scratch"));
        let (kept, secret) = (plugins.clone(), state.to_path_buf());
        let opened = tokio::task::spawn_blocking(move || -> Result<(Host, Registry, Secrets)> {
            let secrets = Secrets::open(&secret).context("reading the secrets of runners")?;
            let host = Host::new(&HostOptions {
                cache: Some(cache),
                scratch: Some(scratch),
            })
            .context("starting the WebAssembly engine")?;
            let registry = Registry::open(RegistryOptions {
                host: host.clone(),
                directory,
                plugins,
            })
            .context("loading the plugins")?;
            Ok((host, registry, secrets))
        });
        let (host, registry, secrets) = opened.await.context("loading the plugins")??;
        host.set_credentials(credentials(config, &beside));
        host.set_runner_credentials(secrets.credentials());
        let contexts: Arc<std::sync::Mutex<BTreeMap<String, Vec<CallContext>>>> = Arc::default();
        let noted = Arc::clone(&contexts);
        registry.list_with(Arc::new(move |driver: &str| {
            let all = noted.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(driver).cloned().unwrap_or_default()
        }));
        let installed = Arc::new(Installed {
            registry,
            host,
            contexts,
            beside,
            config: std::sync::Mutex::new(kept),
            shipped: std::sync::Mutex::new(shipped),
            secrets,
            shared_names: std::sync::Mutex::new(shared_names(config)),
        });
        for plugin in installed.all() {
            match &plugin.trouble {
                None => tracing::info!(
                    plugin = plugin.id,
                    version = plugin.version,
                    "a plugin was loaded"
                ),
                Some(why) => {
                    metrics.plugin_failed(&plugin.id, "load");
                    tracing::error!(plugin = plugin.id, why, "a plugin was refused");
                }
            }
        }
        Ok(installed)
    }

    /// Counts the swaps of plugins.
    #[must_use]
    pub fn swapped(&self) -> watch::Receiver<u64> {
        self.registry.swapped()
    }

    /// What the configuration says of plugins has changed.
    pub fn reconfigure(&self, config: &Config) {
        self.host.set_credentials(credentials(config, &self.beside));
        *self
            .shared_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = shared_names(config);
        let new = {
            let mut shipped = self.shipped.lock().unwrap_or_else(PoisonError::into_inner);
            shipped.reconfigure(config);
            options(config, &shipped)
        };
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != new {
            *known = new.clone();
            self.registry.reconfigure(new);
        }
    }

    /// The scope new machines of a runner are made in; secrets among its options are kept on the way.
    ///
    /// # Errors
    /// Where its driver is not installed or its options do not fit; for people.
    pub fn scope(&self, runner: &Runner, machine: &Machine) -> Result<String, String> {
        let driver = &machine.machine_driver;
        let schema = self.driver_schema(driver).ok_or_else(|| {
            format!(
                "the driver {driver:?} is not installed: put its file into the plugin directory"
            )
        })?;
        let options = machine.driver_options(&schema, "%s");
        for problem in options
            .problems
            .iter()
            .filter(|problem| !problem.is_error())
        {
            tracing::warn!(
                runner = runner.name,
                advice = problem.advice,
                "{}",
                problem.text
            );
        }
        let secrets = options.secrets.clone();
        let shared = self
            .shared_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&runner.name);
        if shared && let Some(secret) = secrets.first() {
            return Err(format!(
                "another runner has its name, and {:?} is kept by the runner's name: give each a name of its own",
                secret.option
            ));
        }
        let scope = Scope::of(machine, &runner.name, options, &self.beside)?;
        if shared {
            return Ok(scope.text());
        }
        let changed = self.secrets.set(&runner.name, &secrets);
        let changed = changed
            .map_err(|error| format!("the secrets among its options can't be kept: {error}"))?;
        if changed {
            self.host.set_runner_credentials(self.secrets.credentials());
        }
        Ok(scope.text())
    }

    /// A driver's grants follow its machines: they stay where they were made.
    fn follow(&self, scope: &Scope) {
        let grants = {
            let mut shipped = self.shipped.lock().unwrap_or_else(PoisonError::into_inner);
            if !shipped.note(scope) {
                return;
            }
            shipped.grants(&scope.driver)
        };
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get_mut(&scope.driver);
        if let (Some(grants), Some((_, granted))) =
            (grants, entry.and_then(|at| at.shipped.as_mut()))
        {
            *granted = grants;
            self.registry.reconfigure(known.clone());
        }
    }

    /// The schema of a driver's settings, where it is installed.
    #[must_use]
    pub fn driver_schema(&self, id: &str) -> Option<Value> {
        self.schema(id, Kind::Driver)
    }

    fn schema(&self, id: &str, kind: Kind) -> Option<Value> {
        let plugin = self.registry.find(id)?;
        (plugin.kind() == kind).then(|| plugin.schema().value().clone())
    }

    fn of_kind(&self, kind: Kind) -> Vec<String> {
        let all = self.registry.all().into_iter();
        all.filter(|plugin| plugin.kind == Some(kind))
            .map(|plugin| plugin.id)
            .collect()
    }
}

impl Find for Installed {
    fn find(&self, id: &str) -> Option<Arc<Plugin>> {
        self.registry.find(id)
    }

    fn note_scope(&self, scope: &Scope, owner: &str) {
        self.follow(scope);
        let context = CallContext {
            runner: scope.runner.clone(),
            settings: scope.settings.to_string(),
            owner: owner.to_owned(),
        };
        let mut all = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(scope.driver.clone()).or_default();
        if !known.contains(&context) {
            known.push(context);
        }
    }
}

impl Catalog for Installed {
    fn driver(&self, id: &str) -> Option<Value> {
        self.schema(id, Kind::Driver)
    }

    fn policy(&self, id: &str) -> Option<Value> {
        self.schema(id, Kind::Policy)
    }

    fn drivers(&self) -> Vec<String> {
        self.of_kind(Kind::Driver)
    }

    fn policies(&self) -> Vec<String> {
        self.of_kind(Kind::Policy)
    }
}

#[async_trait::async_trait]
impl Plugins for Installed {
    fn all(&self) -> Vec<PluginStatus> {
        let all = self.registry.all().into_iter();
        all.map(|plugin| PluginStatus {
            kind: plugin.kind.map(|kind| kind.to_string()).unwrap_or_default(),
            version: plugin
                .version
                .map(|version| version.to_string())
                .unwrap_or_default(),
            digest: plugin
                .digest
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            trouble: plugin.trouble,
            id: plugin.id,
        })
        .collect()
    }

    async fn reload(&self, id: &str) -> Result<PluginStatus> {
        self.registry.reload(id).await?;
        self.all()
            .into_iter()
            .find(|plugin| plugin.id == id)
            .with_context(|| format!("there is no plugin {id}"))
    }
}

/// The secrets plugins may name. One that can't be read is left out: a plugin that names it is told.
pub(crate) fn credentials(config: &Config, beside: &Path) -> BTreeMap<String, Credential> {
    use springtide_config::CredentialKind;
    let mut all = BTreeMap::new();
    for (name, entry) in &config.credentials {
        let secret = || -> Option<SecretString> {
            let file = beside.join(entry.token_file.as_ref()?);
            match std::fs::read_to_string(&file) {
                Ok(text) => Some(text.trim().to_owned().into()),
                Err(error) => {
                    tracing::error!(credential = name, file = %file.display(), %error, "a credential can't be read");
                    None
                }
            }
        };
        let credential = match &entry.kind {
            CredentialKind::Bearer => secret().map(Credential::Bearer),
            CredentialKind::Header(header) => secret().map(|value| Credential::Header {
                name: header.clone(),
                value,
            }),
            CredentialKind::Aws => Some(Credential::Aws(Aws::new(match &entry.profile {
                Some(profile) => AwsKeys::Profile(profile.clone()),
                None => AwsKeys::Chain,
            }))),
        };
        if let Some(credential) = credential {
            all.insert(name.clone(), credential);
        }
    }
    // An old file names none: the keys are where AWS's tools look.
    all.entry("aws".to_owned())
        .or_insert_with(|| Credential::Aws(Aws::new(AwsKeys::Chain)));
    all
}

fn shared_names(config: &Config) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let names = config.runners.iter().map(|runner| &runner.name);
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

/// Where plugins are looked for.
#[must_use]
pub fn directory(config: &Config) -> PathBuf {
    match &config.springtide.plugin_dir {
        Some(directory) => directory.clone(),
        None => paths::shipped("plugins"),
    }
}

/// What each plugin is loaded with, for who only looks at them.
#[must_use]
pub fn plugin_options(config: &Config, state: &Path) -> BTreeMap<String, PluginOptions> {
    options(config, &Shipped::of(config, state))
}

/// The shipped plugins that get something without being granted it, by their ids.
fn granted_to(shipped: &Shipped) -> BTreeMap<String, (Digest, Grants)> {
    let digests: BTreeMap<String, String> = serde_json::from_str(SHIPPED).unwrap_or_default();
    digests
        .into_iter()
        .filter_map(|(file, digest)| {
            let id = file.strip_suffix(".wasm").unwrap_or(&file);
            let granted = (digest.parse().ok()?, shipped.grants(id)?);
            Some((id.to_owned(), granted))
        })
        .collect()
}

/// Whether this is a plugin that came with the program and is granted what it asks for without a word
/// in the file.
#[must_use]
pub fn granted_by_default(id: &str, digest: Digest) -> bool {
    // Which host it is granted on makes no difference to whether it is.
    let all = granted_to(&Shipped::default());
    all.get(id).is_some_and(|(shipped, _)| *shipped == digest)
}

/// What each plugin is loaded with: what the file says, and for shipped ones what they need.
fn options(config: &Config, shipped: &Shipped) -> BTreeMap<String, PluginOptions> {
    let mut all: BTreeMap<String, PluginOptions> = BTreeMap::new();
    for (id, granted) in granted_to(shipped) {
        all.entry(id).or_default().shipped = Some(granted);
    }
    for (id, entry) in &config.plugins {
        let at = all.entry(id.clone()).or_default();
        at.file.clone_from(&entry.file);
        at.digest = entry.digest.as_ref().and_then(|text| text.parse().ok());
        at.grants = granted(&entry.grants);
    }
    all
}

fn granted(grants: &springtide_config::Grants) -> Grants {
    Grants {
        files: grants.files,
        http: grants.http.as_ref().map(|http| HttpGrant {
            origins: http.origins.clone(),
            allow_private: http.allow_private,
            credentials: http.credentials.clone(),
            actions: http.actions.clone(),
        }),
        tools: grants
            .tools
            .iter()
            .map(|(name, tool)| {
                let tool = ToolGrant {
                    path: tool.path.clone(),
                    env: tool.env.clone(),
                    allow: tool.allow.clone(),
                    // `check` has refused what is no rule.
                    owned: tool
                        .owned
                        .iter()
                        .filter_map(|rule| rule.parse().ok())
                        .collect(),
                    concurrency: tool.concurrency,
                };
                (name.clone(), tool)
            })
            .collect(),
    }
}
