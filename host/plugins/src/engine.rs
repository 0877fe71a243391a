//! The two engines, and the clock that ends calls which take too long.
//!
//! Policies run on the deterministic one: the same input gives the same bytes, on each host, and a
//! call that does too much ends at the same instruction. Drivers wait for the outside, so theirs is
//! the ordinary one.

use std::time::Duration;
use wasmtime::{Config, Engine, EngineWeak};

/// How often the clock of the engines advances.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Both engines, with one clock.
#[derive(Clone)]
pub(crate) struct Engines {
    pub(crate) policies: Engine,
    pub(crate) drivers: Engine,
}

impl Engines {
    pub(crate) fn new() -> wasmtime::Result<Engines> {
        let engines = Engines {
            policies: Engine::new(&deterministic())?,
            drivers: Engine::new(&ordinary())?,
        };
        let clocks = vec![engines.policies.weak(), engines.drivers.weak()];
        std::thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || tick(&clocks))?;
        Ok(engines)
    }
}

/// Ticks after which a call that may take this long has taken too long.
pub(crate) fn ticks(limit: Duration) -> u64 {
    let ticks = limit.as_millis().div_ceil(TICK.as_millis());
    u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
}

fn tick(clocks: &[EngineWeak]) {
    loop {
        std::thread::sleep(TICK);
        let mut any = false;
        for engine in clocks.iter().filter_map(EngineWeak::upgrade) {
            engine.increment_epoch();
            any = true;
        }
        if !any {
            return;
        }
    }
}

fn ordinary() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // The contract has no async function; what makes them possible stays off.
    config.concurrency_support(false);
    config
}

fn deterministic() -> Config {
    let mut config = ordinary();
    config.consume_fuel(true);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config
}
