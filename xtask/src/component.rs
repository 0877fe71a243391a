//! A core module becomes a component, if it imports nothing but the contract's interfaces.

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};

/// What every import of a shipped plugin begins with.
const OURS: &str = "springtide:plugin/";

/// What every plugin exports, whatever it does.
const META: &str = "springtide:plugin/meta@";

/// Makes a component of a core module that wit-bindgen's macros were compiled into.
///
/// # Errors
/// Where the module carries no component type, does not fit it, or imports anything else than the
/// interfaces of the contract, or does not export `meta`.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .context("making a component of the module")?;
    check(&component)?;
    Ok(component)
}

/// Checks that a component is a plugin, and that it imports nothing but the contract's interfaces.
///
/// # Errors
/// Where it is no component, exports no `meta`, or imports something else; all such imports are
/// named.
pub fn check(component: &[u8]) -> Result<()> {
    let (imports, exports) = names(component)?;
    if !exports.iter().any(|name| name.starts_with(META)) {
        bail!(
            "it exports nothing of the contract: end its crate with springtide_sdk::export_policy! \
             or export_driver!"
        );
    }
    let strangers: Vec<String> = imports
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

/// The names of what a component imports, and of what it exports.
fn names(component: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    match wit_component::decode(component).context("reading the component")? {
        DecodedWasm::Component(resolve, world) => {
            let world = &resolve.worlds[world];
            let names = |keys: Vec<&wit_parser::WorldKey>| {
                keys.into_iter()
                    .map(|key| resolve.name_world_key(key))
                    .collect()
            };
            Ok((
                names(world.imports.keys().collect()),
                names(world.exports.keys().collect()),
            ))
        }
        DecodedWasm::WitPackage(..) => bail!("this is a WIT package and no component"),
    }
}
