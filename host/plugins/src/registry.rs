//! The plugins in use: loaded from a directory at the start, loaded anew when a file changes.
//!
//! A file that is refused stops no other, and one that is changed and refused leaves the version
//! before it in use. A plugin is found by its id, and a caller keeps what it found: calls under way
//! end on the version they began with.

use crate::contract::{CallContext, Kind};
use crate::digest::Digest;
use crate::grants::Grants;
use crate::host::Host;
use crate::load::{LoadError, Source};
use crate::plugin::Plugin;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// How long a file must have been left alone before it is read: a copy takes a while.
const QUIET: Duration = Duration::from_millis(300);

/// What the operator says of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginOptions {
    /// Its file, where it is not in the directory.
    pub file: Option<PathBuf>,
    /// The digest its file must have.
    pub digest: Option<Digest>,
    /// What it may do.
    pub grants: Grants,
    /// What it may do besides, where its file has this digest: that of the plugin the host was
    /// shipped with.
    pub shipped: Option<(Digest, Grants)>,
}

/// With which settings a driver's machines can be listed, by the driver's id.
pub type Contexts = Arc<dyn Fn(&str) -> Vec<CallContext> + Send + Sync>;

/// How a registry is made.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// What loads them.
    pub host: Host,
    /// Where `ID.wasm` files are.
    pub directory: PathBuf,
    /// What the operator says of plugins, by id.
    pub plugins: BTreeMap<String, PluginOptions>,
}

/// Why no plugins can be loaded at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The directory can't be read.
    #[error("reading the plugin directory {}: {error}; let the daemon's user read it, or name another as `plugin_dir`", .directory.display())]
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Anybody may put plugins there.
    #[error("the plugin directory {} may be written by anybody, who could so run code with the daemon's grants: `chmod o-w` it", .directory.display())]
    OpenToAll {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no such plugin.
    #[error("there is no plugin {id}: neither a file {id}.wasm in {} nor a [plugins.{id}] with a `file`", .directory.display())]
    Unknown {
        /// The id.
        id: String,
        /// The directory.
        directory: PathBuf,
    },
    /// Its file is refused.
    #[error(
        "the file of the plugin {id} is refused, and the version before it stays in use: {why}"
    )]
    Refused {
        /// The id.
        id: String,
        /// Why.
        why: String,
    },
}

/// A plugin of the registry, for people.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// What it is, where one is in use.
    pub kind: Option<Kind>,
    /// Its version, where one is in use.
    pub version: Option<Version>,
    /// Its digest, where one is in use.
    pub digest: Option<Digest>,
    /// Why its file, or its newest one, is not in use.
    pub trouble: Option<String>,
}

/// The plugins in use. Watches its files until it is dropped.
pub struct Registry {
    inner: Arc<Inner>,
    /// Wakes the thread that looks for changes; closed, it ends.
    wake: Sender<()>,
    /// Not dropped before the registry: then nothing would be watched.
    _watcher: Option<RecommendedWatcher>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("directory", &self.inner.directory)
            .finish_non_exhaustive()
    }
}

struct Inner {
    host: Host,
    directory: PathBuf,
    options: Mutex<BTreeMap<String, PluginOptions>>,
    slots: RwLock<BTreeMap<String, Slot>>,
    /// One change at a time: a person and the watcher may want the same.
    changing: Mutex<()>,
    contexts: Mutex<Option<Contexts>>,
    swaps: watch::Sender<u64>,
}

/// One id.
#[derive(Clone, Debug, Default)]
struct Slot {
    plugin: Option<Arc<Plugin>>,
    trouble: Option<String>,
    /// What the file was like when it was last looked at, accepted or refused.
    stamp: Option<Stamp>,
    options: PluginOptions,
}

/// What tells a file that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// Why a new version does not take over by itself.
enum Wanted {
    /// A person asked for it.
    Asked,
    /// Its file or options have changed.
    Changed,
}

impl Registry {
    /// Loads all plugins there are and watches their files. Blocks while components are compiled.
    ///
    /// A directory that is missing holds no plugins, and says so in the log.
    ///
    /// # Errors
    /// Where the directory can't be read or is open to all.
    pub fn open(options: RegistryOptions) -> Result<Registry, RegistryError> {
        let inner = Arc::new(Inner {
            host: options.host,
            directory: options.directory,
            options: Mutex::new(options.plugins),
            slots: RwLock::default(),
            changing: Mutex::new(()),
            contexts: Mutex::new(None),
            swaps: watch::Sender::new(0),
        });
        if !inner.directory.exists() {
            tracing::warn!(directory = %inner.directory.display(), "the plugin directory is missing: no plugins are loaded");
        }
        inner.look(&Wanted::Changed)?;
        let (wake, woken) = channel();
        let watcher = inner.watch(wake.clone());
        let looking = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("plugins".into())
            .spawn(move || looking.follow(&woken))
            .map_err(|error| RegistryError::Unreadable {
                directory: inner.directory.clone(),
                error,
            })?;
        Ok(Registry {
            inner,
            wake,
            _watcher: watcher,
        })
    }

    /// The plugin in use under this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Plugin>> {
        let slots = self
            .inner
            .slots
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        slots.get(id)?.plugin.clone()
    }

    /// All plugins, refused ones too, by id.
    #[must_use]
    pub fn all(&self) -> Vec<Listed> {
        let slots = self
            .inner
            .slots
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        slots
            .iter()
            .map(|(id, slot)| Listed {
                id: id.clone(),
                kind: slot.plugin.as_ref().map(|plugin| plugin.kind()),
                version: slot
                    .plugin
                    .as_ref()
                    .map(|plugin| plugin.info().version.clone()),
                digest: slot.plugin.as_ref().map(|plugin| plugin.info().digest),
                trouble: slot.trouble.clone(),
            })
            .collect()
    }

    /// How often a plugin was swapped; told at each swap.
    #[must_use]
    pub fn swapped(&self) -> watch::Receiver<u64> {
        self.inner.swaps.subscribe()
    }

    /// How the machines of a driver are listed: a new version of it must list those the one in use
    /// lists, before it takes over.
    pub fn list_with(&self, contexts: Contexts) {
        *lock(&self.inner.contexts) = Some(contexts);
    }

    /// What the operator says of plugins has changed: those it concerns are loaded anew.
    pub fn reconfigure(&self, plugins: BTreeMap<String, PluginOptions>) {
        *lock(&self.inner.options) = plugins;
        // A thread that has ended took the process with it.
        self.wake.send(()).ok();
    }

    /// Loads the file of a plugin now, also where it would not be taken by itself.
    ///
    /// # Errors
    /// Where there is none, or it is refused.
    pub async fn reload(&self, id: &str) -> Result<(), RegistryError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        let name = id.clone();
        tokio::task::spawn_blocking(move || inner.reload(&id))
            .await
            .unwrap_or_else(|error| {
                Err(RegistryError::Refused {
                    id: name,
                    why: error.to_string(),
                })
            })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Every plugin's file, by id.
    fn files(&self) -> Result<BTreeMap<String, PathBuf>, RegistryError> {
        let mut files = BTreeMap::new();
        let unreadable = |error: io::Error| RegistryError::Unreadable {
            directory: self.directory.clone(),
            error,
        };
        match std::fs::metadata(&self.directory) {
            Ok(data) if data.mode() & 0o002 != 0 => {
                return Err(RegistryError::OpenToAll {
                    directory: self.directory.clone(),
                });
            }
            Ok(_) => {
                for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
                    let path = entry.map_err(unreadable)?.path();
                    if path
                        .extension()
                        .is_some_and(|extension| extension == "wasm")
                        && let Some(id) = path.file_stem().and_then(|stem| stem.to_str())
                    {
                        files.insert(id.to_owned(), path);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
        for (id, options) in lock(&self.options).iter() {
            if let Some(file) = &options.file {
                files.insert(id.clone(), file.clone());
            }
        }
        Ok(files)
    }

    /// Loads what is new or has changed.
    fn look(&self, why: &Wanted) -> Result<(), RegistryError> {
        let _one = lock(&self.changing);
        let files = self.files()?;
        for (id, file) in &files {
            self.look_at(id, file, why);
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for (id, slot) in slots.iter_mut() {
            if !files.contains_key(id) && slot.stamp.take().is_some() {
                slot.trouble =
                    Some("its file is gone; the version that was loaded stays in use".into());
                tracing::warn!(
                    plugin = id,
                    "the file of a plugin is gone; the version that was loaded stays in use"
                );
            }
        }
        slots.retain(|_, slot| slot.plugin.is_some() || slot.stamp.is_some());
        Ok(())
    }

    fn look_at(&self, id: &str, file: &Path, why: &Wanted) {
        let options = lock(&self.options).get(id).cloned().unwrap_or_default();
        let before = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.get(id).cloned().unwrap_or_default()
        };
        let stamp = stamp(file);
        if matches!(why, Wanted::Changed)
            && stamp.is_some()
            && before.stamp == stamp
            && before.options == options
        {
            return;
        }
        let after = match self.load(id, file, &options, before.plugin.as_ref(), why) {
            Ok(plugin) => {
                let (digest, version) = (plugin.info().digest, plugin.info().version.clone());
                if before.plugin.is_some() {
                    tracing::info!(plugin = id, %version, %digest, "a plugin was swapped");
                }
                Slot {
                    plugin: Some(plugin),
                    trouble: None,
                    stamp,
                    options,
                }
            }
            Err(why) => {
                if before.plugin.is_some() {
                    tracing::error!(
                        plugin = id,
                        why,
                        "a plugin's new file is not taken; the version before it stays in use"
                    );
                }
                Slot {
                    plugin: before.plugin,
                    trouble: Some(why),
                    stamp,
                    options,
                }
            }
        };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.insert(id.to_owned(), after);
        drop(slots);
        self.swaps
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn load(
        &self,
        id: &str,
        file: &Path,
        options: &PluginOptions,
        before: Option<&Arc<Plugin>>,
        why: &Wanted,
    ) -> Result<Arc<Plugin>, String> {
        let source = Source {
            id: id.to_owned(),
            file: file.to_path_buf(),
            digest: options.digest,
            grants: options.grants.clone(),
            shipped: options.shipped.clone(),
        };
        let plugin = self
            .host
            .load(&source)
            .map_err(|error: LoadError| error.to_string())?;
        if let Some(before) = before {
            if plugin.kind() != before.kind() {
                return Err(format!(
                    "it is a {} now and was a {}: give it another name",
                    plugin.kind(),
                    before.kind()
                ));
            }
            if matches!(why, Wanted::Changed) && !plugin.grants().is_empty() {
                only_owner_writes(file).map_err(|why| {
                    format!(
                        "it holds grants, and {why}, so it is not taken by itself: `springtide plugin reload {id}` takes it"
                    )
                })?;
            }
            if plugin.kind() == Kind::Driver {
                self.lists_the_same(id, before, &plugin)?;
            }
        }
        Ok(Arc::new(plugin))
    }

    /// A driver that does not know the machines of the one before it would lose them.
    fn lists_the_same(&self, id: &str, old: &Plugin, new: &Plugin) -> Result<(), String> {
        let Some(contexts) = lock(&self.contexts).clone() else {
            return Ok(());
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("it could not be tried: {error}"))?;
        for context in contexts(id) {
            let listed = |plugin: &Plugin| -> Result<BTreeSet<String>, String> {
                let machines = runtime.block_on(plugin.list_machines(&context));
                let machines = machines.map_err(|error| error.to_string())?;
                Ok(machines.into_iter().map(|machine| machine.token).collect())
            };
            // What the old one can't tell, the new one can't be held to.
            let Ok(before) = listed(old) else { continue };
            let after = listed(new)
                .map_err(|why| format!("it can't list the machines there are: {why}"))?;
            let lost = before.difference(&after).count();
            if lost > 0 {
                return Err(format!(
                    "it does not list {lost} of the {} machines that the version in use lists",
                    before.len()
                ));
            }
        }
        Ok(())
    }

    fn reload(&self, id: &str) -> Result<(), RegistryError> {
        let _one = lock(&self.changing);
        let file = self
            .files()?
            .remove(id)
            .ok_or_else(|| RegistryError::Unknown {
                id: id.to_owned(),
                directory: self.directory.clone(),
            })?;
        self.look_at(id, &file, &Wanted::Asked);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        match slots.get(id).and_then(|slot| slot.trouble.clone()) {
            None => Ok(()),
            Some(why) => Err(RegistryError::Refused {
                id: id.to_owned(),
                why,
            }),
        }
    }

    /// Watches the directory and the directories of files elsewhere. Where that can't be done,
    /// changes are seen when the configuration is read again.
    fn watch(&self, wake: Sender<()>) -> Option<RecommendedWatcher> {
        let mut directories: BTreeSet<PathBuf> = lock(&self.options)
            .values()
            .filter_map(|options| options.file.as_deref()?.parent())
            .map(Path::to_path_buf)
            .collect();
        directories.insert(self.directory.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // The registry was dropped.
                wake.send(()).ok();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "plugin files can't be watched: changes are seen at a reload");
                return None;
            }
        };
        for directory in directories.iter().filter(|directory| directory.exists()) {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %directory.display(), %error, "plugin files can't be watched: changes are seen at a reload");
            }
        }
        Some(watcher)
    }

    /// Looks for changes when woken, once nothing has happened for a while.
    fn follow(&self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            loop {
                match woken.recv_timeout(QUIET) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            if let Err(error) = self.look(&Wanted::Changed) {
                tracing::error!(%error, "changed plugins are not taken");
            }
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    Some(Stamp {
        inode: data.ino(),
        size: data.size(),
        seconds: data.mtime(),
        nanoseconds: data.mtime_nsec(),
    })
}

/// Whether nobody but this process's user, or root, can put another file in the place of this one.
fn only_owner_writes(file: &Path) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    let directory = file.parent().unwrap_or(Path::new("."));
    for path in [directory, file] {
        let data = std::fs::metadata(path)
            .map_err(|error| format!("{} can't be looked at: {error}", path.display()))?;
        if data.mode() & 0o022 != 0 {
            return Err(format!("{} may be written by others", path.display()));
        }
        if data.uid() != user && data.uid() != 0 {
            return Err(format!("{} belongs to another user", path.display()));
        }
    }
    Ok(())
}
