//! One call: a store of its own that the call uses up, under limits of time, work, memory and answer.
//!
//! After a trap, or a future that was dropped, a store is dead for good; here none outlives its
//! call, so that none can be used again.

use crate::contract::PluginError;
use crate::engine::ticks;
use crate::guest::Guest;
use std::time::Duration;
use thiserror::Error;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower};
use wasmtime::{Store, Trap, UpdateDeadline};

/// Instructions a policy may take for each second of its deadline. A second of work is less than
/// this, so that what ends a policy does not depend on how fast a host is.
const FUEL: u64 = 100_000_000;
/// What a guest may hand the host in one host call or answer, in bytes as the host keeps it.
pub(crate) const ANSWER: usize = 1 << 20;
/// The same of a driver, whose lists may be of thousands of machines.
pub(crate) const DRIVER_ANSWER: usize = 16 << 20;
/// Component handles one store may have: the contract has no resources, inert WASI has few.
const HANDLES: usize = 1_000;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin says so.
    #[error("{0}")]
    Plugin(PluginError),
    /// It took too long.
    #[error("it did not answer within {} s and was ended", .0.as_secs_f64())]
    Deadline(Duration),
    /// It did more than a policy may do.
    #[error("it did more work than {} s of a policy allow and was ended", .0.as_secs_f64())]
    Fuel(Duration),
    /// It wanted more memory than there is for it.
    #[error("it wanted more than the {} MiB of memory a call has", .0 >> 20)]
    Memory(usize),
    /// It handed over more than a call may.
    #[error("it handed over more than the {} KiB a call may", .0 >> 10)]
    TooLarge(usize),
    /// It broke off.
    #[error("it broke off: {0}")]
    Trap(String),
    /// A policy waited for something, which is nothing it can do.
    #[error("it waited for time or input, of which a policy has none")]
    Waited,
    /// Its answer can't be.
    #[error("its answer can't be: {0}")]
    Invalid(String),
}

impl CallError {
    /// Whether this is an answer rather than a failure: the plugin works, and says that the request
    /// can't. Such a thing opens no breaker.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            CallError::Plugin(
                PluginError::InvalidConfig(_)
                    | PluginError::Denied(_)
                    | PluginError::Quota(_)
                    | PluginError::Throttled(_)
                    | PluginError::NotFound(_)
                    | PluginError::Capacity(_)
            )
        )
    }
}

/// What one call may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) time: Duration,
    pub(crate) memory: usize,
    pub(crate) answer: usize,
    pub(crate) fuel: bool,
}

impl Allowance {
    fn store(&self, pre: &InstancePre<Guest>, guest: Guest) -> Result<Store<Guest>, CallError> {
        let mut store = Store::new(pre.engine(), guest);
        store.limiter(|guest| &mut guest.bounds);
        store.set_hostcall_fuel(self.answer);
        store.set_max_component_handles(HANDLES);
        // Before anything of the guest runs: a start function loops as well as any other.
        store.set_epoch_deadline(ticks(self.time));
        if self.fuel {
            let seconds = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
            store
                .set_fuel(FUEL.saturating_mul(seconds) / 1000)
                .map_err(|error| CallError::Trap(error.to_string()))?;
        }
        Ok(store)
    }

    /// What an error of the engine's means.
    fn failed(&self, error: &wasmtime::Error, guest: &Guest) -> CallError {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => return CallError::Deadline(self.time),
            Some(Trap::OutOfFuel) => return CallError::Fuel(self.time),
            _ => {}
        }
        if guest.bounds.refused {
            return CallError::Memory(self.memory);
        }
        let root = error.root_cause().to_string();
        if root.starts_with("too much data is being copied") {
            return CallError::TooLarge(self.answer);
        }
        CallError::Trap(crate::capabilities::clean(&root))
    }
}

/// Calls a function whose host functions never wait.
pub(crate) fn call<P, R>(
    pre: &InstancePre<Guest>,
    function: &ComponentExportIndex,
    parameters: P,
    allowance: &Allowance,
    guest: Guest,
) -> Result<R, CallError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift + 'static,
{
    let mut store = allowance.store(pre, guest)?;
    let answer = (|| {
        let instance = pre.instantiate(&mut store)?;
        instance
            .get_typed_func::<P, R>(&mut store, function)?
            .call(&mut store, parameters)
    })();
    answer.map_err(|error| allowance.failed(&error, store.data()))
}

/// Calls a function whose host functions may wait; ends at its deadline wherever it is. It shares
/// its thread: a guest that computes gives way at each tick.
pub(crate) async fn call_async<P, R>(
    pre: &InstancePre<Guest>,
    function: &ComponentExportIndex,
    parameters: P,
    allowance: &Allowance,
    guest: Guest,
) -> Result<R, CallError>
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let mut store = allowance.store(pre, guest)?;
    if !allowance.fuel {
        store.set_epoch_deadline(1);
        let until = store.data().until;
        store.epoch_deadline_callback(move |_| {
            if std::time::Instant::now() >= until {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
    }
    let answer = async {
        let instance = pre.instantiate_async(&mut store).await?;
        instance
            .get_typed_func::<P, R>(&mut store, function)?
            .call_async(&mut store, parameters)
            .await
    }
    .await;
    answer.map_err(|error| allowance.failed(&error, store.data()))
}
