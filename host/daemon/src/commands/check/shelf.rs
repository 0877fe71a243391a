//! The plugins a configuration could be run with, without a daemon.

use crate::runtime::{paths, plugins};
use serde_json::Value;
use springtide_config::{Catalog, Config, Position, Problem, Severity};
use springtide_plugins::contract::Kind;
use springtide_plugins::{Host, HostOptions, PluginOptions, Source};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The plugin directory, and what a configuration says of the plugins in it. Each is loaded as the
/// daemon would, when first asked for and without its cache.
pub struct Shelf {
    host: Host,
    directory: PathBuf,
    plugins: BTreeMap<String, PluginOptions>,
    looked_at: RefCell<BTreeMap<String, Look>>,
}

/// What a file came to; `None`: there is no file.
type Look = Option<Result<(Kind, Value), String>>;

impl Shelf {
    /// The plugins of a configuration. `None` where the engine does not start: what the file says of
    /// them is left unchecked then, and `springtide plugin list` says why.
    #[must_use]
    pub fn of(config: &Config) -> Option<Box<dyn Catalog>> {
        let named = config.springtide.state.as_deref();
        let state = named.and_then(|state| paths::state_file(state).ok());
        let state = state.unwrap_or_else(paths::default_state);
        let host = Host::new(&HostOptions::default()).ok()?;
        Some(Box::new(Shelf {
            host,
            directory: plugins::directory(config),
            plugins: plugins::plugin_options(config, state.parent().unwrap_or(Path::new("."))),
            looked_at: RefCell::default(),
        }))
    }

    /// What is wrong with the plugin directory as a whole: what `run` would say of it.
    #[must_use]
    pub fn directory_problem(config: &Config) -> Option<Problem> {
        use std::os::unix::fs::PermissionsExt;
        let directory = plugins::directory(config);
        let shown = directory.display();
        let problem = |severity, text: String, advice: &str| {
            Some(Problem::new(severity, Position::FILE, text, advice))
        };
        match std::fs::read_dir(&directory).and_then(|_| std::fs::metadata(&directory)) {
            Ok(data) if data.permissions().mode() & 0o002 != 0 => problem(
                Severity::Error,
                format!("the plugin directory {shown} may be written by anybody"),
                "`chmod o-w` it: who writes there runs code with the daemon's grants",
            ),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => problem(
                Severity::Warning,
                format!("the plugin directory {shown} is missing, so no plugin is installed"),
                "make it, or name another as `plugin_dir` of [springtide]",
            ),
            Err(error) => problem(
                Severity::Error,
                format!("the plugin directory {shown} can't be read: {error}"),
                "let the daemon's user read it, or name another as `plugin_dir` of [springtide]",
            ),
        }
    }

    fn look(&self, id: &str) -> Look {
        let known = self.looked_at.borrow().get(id).cloned();
        known.unwrap_or_else(|| {
            let look = self.load(id);
            let mut looked_at = self.looked_at.borrow_mut();
            looked_at.insert(id.to_owned(), look.clone());
            look
        })
    }

    fn load(&self, id: &str) -> Look {
        let options = self.plugins.get(id).cloned().unwrap_or_default();
        let beside = self.directory.join(format!("{id}.wasm"));
        let file = options.file.unwrap_or(beside);
        if !file.exists() {
            return None;
        }
        let source = Source {
            id: id.to_owned(),
            file,
            digest: options.digest,
            grants: options.grants,
            shipped: options.shipped,
        };
        let loaded = self.host.check(&source).outcome;
        Some(match loaded {
            Ok(plugin) => Ok((plugin.kind(), plugin.schema().value().clone())),
            Err(error) => Err(error.to_string()),
        })
    }

    fn schema(&self, id: &str, kind: Kind) -> Option<Value> {
        let (found, schema) = self.look(id)?.ok()?;
        (found == kind).then_some(schema)
    }

    /// The ids in the directory and the configuration that are of a kind.
    fn of_kind(&self, kind: Kind) -> Vec<String> {
        let mut ids: Vec<String> = self.plugins.keys().cloned().collect();
        // A directory that can't be read has none; what is asked for then is not installed.
        for entry in std::fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                ids.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        ids.sort();
        ids.dedup();
        ids.retain(|id| self.schema(id, kind).is_some());
        ids
    }
}

impl Catalog for Shelf {
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

    fn refused(&self, id: &str) -> Option<String> {
        self.look(id)?.err()
    }
}
