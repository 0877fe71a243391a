//! The pools of a daemon, as everything beside their own loops sees them.

use super::policies::Heard;
use crate::metrics::RunnerLabels;
use crate::view::PoolView;
use springtide_control::Happening;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// One pool, from outside its loop.
#[derive(Clone, Debug)]
pub struct PoolHandle {
    /// The runner's name in the configuration.
    pub name: String,
    /// The pool's key in the state, once it is known.
    pub pool: Option<String>,
    /// Woken to read waiting jobs again.
    pub notify: Arc<Notify>,
    /// How it is named in metrics.
    pub labels: RunnerLabels,
    /// The pool as it stood after its latest step.
    pub view: watch::Receiver<PoolView>,
    /// Where to tell it something; `None` where it does not work yet.
    pub tell: Option<mpsc::UnboundedSender<Happening>>,
    /// What keeps it from working as configured, if anything does: for people.
    pub trouble: watch::Receiver<Option<String>>,
    /// What its policies said last.
    pub heard: watch::Receiver<Vec<Heard>>,
}

/// All pools, by their keys.
#[derive(Clone, Debug, Default)]
pub struct Pools(Arc<Mutex<BTreeMap<String, PoolHandle>>>);

impl Pools {
    /// Adds a pool, or puts another in its place.
    pub fn insert(&self, key: String, pool: PoolHandle) {
        self.with(|pools| pools.insert(key, pool));
    }

    /// Forgets a pool.
    pub fn remove(&self, key: &str) {
        self.with(|pools| pools.remove(key));
    }

    /// All of them now, by key.
    #[must_use]
    pub fn all(&self) -> Vec<(String, PoolHandle)> {
        self.with(|pools| {
            pools
                .iter()
                .map(|(key, pool)| (key.clone(), pool.clone()))
                .collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, PoolHandle>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
