//! What the host keeps for one call: its memory's limit, its voice in the log, its capabilities.

use crate::capabilities::{Capabilities, Voice};
use crate::contract::CallContext;
use crate::wasi::Wasi;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::ResourceLimiter;
use wasmtime_wasi::{WasiCtxView, WasiView};

/// Table elements of all tables of one instance together.
const ELEMENTS: usize = 200_000;
/// Core instances, tables and memories one component may be made of.
pub(crate) const INSTANCES: usize = 64;
pub(crate) const TABLES: usize = 32;
pub(crate) const MEMORIES: usize = 16;

/// Holds the sum of an instance's memories and of its tables to a cap.
#[derive(Debug)]
pub(crate) struct Bounds {
    cap: usize,
    used: usize,
    elements: usize,
    /// Whether memory was refused: then a trap that follows is most likely because of that.
    pub(crate) refused: bool,
}

impl Bounds {
    /// Bounds of `cap` bytes.
    pub(crate) fn new(cap: usize) -> Bounds {
        Bounds {
            cap,
            used: 0,
            elements: 0,
            refused: false,
        }
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.cap {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self
            .elements
            .saturating_add(desired.saturating_sub(current));
        if elements > ELEMENTS {
            self.refused = true;
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// Who a call is made for: what grants and credentials go by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The runner's name; empty for the host itself.
    pub(crate) runner: Arc<str>,
    /// The owner mark of the runner's pool; empty where there is none.
    pub(crate) owner: Arc<str>,
}

impl Caller {
    pub(crate) fn of(context: &CallContext) -> Caller {
        Caller {
            runner: context.runner.as_str().into(),
            owner: context.owner.as_str().into(),
        }
    }
}

/// One call's data. A call is all a store lives for.
pub(crate) struct Guest {
    pub(crate) bounds: Bounds,
    pub(crate) voice: Voice,
    pub(crate) caller: Caller,
    pub(crate) capabilities: Arc<Capabilities>,
    /// When the call ends, whatever it does; what it started ends then too.
    pub(crate) until: Instant,
    /// Made when it is first used: most components import no WASI.
    wasi: Option<Box<Wasi>>,
    deterministic: bool,
}

impl Guest {
    pub(crate) fn new(
        bounds: Bounds,
        voice: Voice,
        caller: Caller,
        capabilities: Arc<Capabilities>,
        until: Instant,
        deterministic: bool,
    ) -> Guest {
        Guest {
            bounds,
            voice,
            caller,
            capabilities,
            until,
            wasi: None,
            deterministic,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let deterministic = self.deterministic;
        self.wasi
            .get_or_insert_with(|| Box::new(Wasi::empty(deterministic)))
            .view()
    }
}
