//! A core module becomes a component, if it imports nothing but the contract's interfaces.

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};

/// What every import of a shipped plugin begins with.
const OURS: &str = "springtide:plugin/";

/// Makes a component of a core module that wit-bindgen's macros were compiled into.
///
/// # Errors
/// Where the module carries no component type, does not fit it, or imports anything else than the
/// interfaces of the contract.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .context("making a component of the module")?;
    check(&component)?;
    Ok(component)
}

/// Checks that a component imports nothing but the contract's interfaces.
///
/// # Errors
/// Where it is no component, or imports something else; all such imports are named.
pub fn check(component: &[u8]) -> Result<()> {
    let strangers: Vec<String> = imports(component)?
        .into_iter()
        .filter(|name| !name.starts_with(OURS))
        .collect();
    if !strangers.is_empty() {
        bail!(
            "it imports {}, but a shipped plugin may import only {OURS}*: find which dependency \
             brought it in",
            strangers.join(", ")
        );
    }
    Ok(())
}

fn imports(component: &[u8]) -> Result<Vec<String>> {
    match wit_component::decode(component).context("reading the component")? {
        DecodedWasm::Component(resolve, world) => Ok(resolve.worlds[world]
            .imports
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect()),
        DecodedWasm::WitPackage(..) => bail!("this is a WIT package and no component"),
    }
}
