//! The WASI that default toolchains link in without being asked, with nothing behind it: no file, no
//! argument, no variable, no input; what is written goes nowhere. For policies time stands still and
//! chance is always the same.

use std::time::Duration;
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder,
    WasiCtxView,
};

/// Most resources a guest may hold at once.
const RESOURCES: usize = 1_000;
/// Most random bytes in a call.
const RANDOM: u64 = 64 << 10;

/// An empty context.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    pub(crate) fn empty(deterministic: bool) -> Wasi {
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM);
        if deterministic {
            // Any bytes do, as long as they are always these.
            let chance = || Deterministic::new(b"springtide policies are pure functions".to_vec());
            builder
                .secure_random(chance())
                .insecure_random(chance())
                .insecure_random_seed(0)
                .wall_clock(Still)
                .monotonic_clock(Still);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Wasi {
            context: builder.build(),
            table,
        }
    }

    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.context,
            table: &mut self.table,
        }
    }
}

/// A clock that stands at its beginning: a policy's time is in its view.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}
