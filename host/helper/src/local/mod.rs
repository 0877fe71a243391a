//! The provider behind the driver `local`: a machine is a directory on this host, and one process
//! that stands for its being on.
//!
//! Calls of one root wait for each other. A machine appears under its name in one rename, whole,
//! and goes by one rename too: what is cut short in between is a leftover with its owner's mark.

mod anchor;
mod provider;
mod record;

pub(crate) use anchor::anchor;

use crate::store::failed;
use provider::{CreateCall, DestroyCall, LeftoverCall, Provider, RenewCall};
use record::{RECORD, Record};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use springtide_helper::{Fault, FaultKind};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The variable that says where machines are kept.
const ROOT: &str = "SPRINGTIDE_LOCAL_ROOT";

/// The largest call taken, in bytes.
const LIMIT: u64 = 1 << 20;

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Runs one command of `springtide-helper local`, whose call is one JSON object on standard input.
pub(crate) fn command(words: &[&str]) -> ExitCode {
    let provider = match provider() {
        Ok(provider) => provider,
        Err(fault) => return crate::answer(Err::<(), _>(fault)),
    };
    match words {
        ["create"] => crate::answer(call(|call: CreateCall| provider.create(&call))),
        ["list"] => crate::answer(call(|_: Nothing| provider.list())),
        ["destroy"] => crate::answer(call(|call: DestroyCall| provider.destroy(&call))),
        ["renew"] => crate::answer(call(|call: RenewCall| provider.renew(&call))),
        ["leftovers"] => crate::answer(call(|_: Nothing| provider.leftovers())),
        ["destroy-leftover"] => {
            crate::answer(call(|call: LeftoverCall| provider.destroy_leftover(&call)))
        }
        _ => crate::answer(Err::<(), _>(Fault::new(
            FaultKind::BadCall,
            "springtide-helper local takes create, list, destroy, renew, leftovers or destroy-leftover",
        ))),
    }
}

fn provider() -> Result<Provider, Fault> {
    let root = std::env::var_os(ROOT).ok_or_else(|| {
        Fault::new(
            FaultKind::BadCall,
            format!("{ROOT} does not say where machines are kept"),
        )
    })?;
    Ok(Provider::new(PathBuf::from(root)))
}

/// What every call may carry.
#[derive(Deserialize)]
struct Slow {
    /// Milliseconds that are waited before anything is done.
    #[serde(default)]
    slow: u64,
}

#[derive(Deserialize)]
struct Nothing {}

fn call<C: DeserializeOwned, T>(run: impl FnOnce(C) -> Result<T, Fault>) -> Result<T, Fault> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("reading the call from standard input", error))?;
    let bad = |error| {
        Fault::new(
            FaultKind::BadCall,
            format!("the call on standard input can't be read: {error}"),
        )
    };
    let slow: Slow = serde_json::from_slice(&bytes).map_err(bad)?;
    let call = serde_json::from_slice(&bytes).map_err(bad)?;
    std::thread::sleep(Duration::from_millis(slow.slow));
    run(call)
}

/// Refuses where the root is a machine that does not take work: it boots, is off, or is going. A
/// root that is no machine of this provider's always takes work.
pub(crate) fn check_ready(root: &Path) -> Result<(), Fault> {
    let path = root.join(RECORD);
    let record: Option<Record> = crate::files::read_json(&path)
        .map_err(|error| failed(format!("reading {}", path.display()), error))?;
    match record {
        None => Ok(()),
        Some(record) => record.check_ready(root, now()),
    }
}
