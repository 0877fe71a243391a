//! Whether a component fits the world of its kind, with the inert WASI it imports added.
//!
//! Linking alone does not tell: it looks at the names of exports and not at their types, and a
//! component of the wrong type would fail at its first call.

use super::error::LoadError;
use crate::contract::{Kind, WIT};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, Span, WorldId, WorldItem, WorldKey};

/// The contract, parsed.
pub(crate) struct Contract {
    resolve: Resolve,
    policy: WorldId,
    driver: WorldId,
}

impl Contract {
    /// Parses the contract this host was built with.
    pub(crate) fn new() -> anyhow::Result<Contract> {
        let mut map = wit_parser::SourceMap::new();
        for (name, text) in WIT {
            map.push_str(name, *text);
        }
        let group = map.parse().map_err(|(_, error)| error)?;
        let mut resolve = Resolve::default();
        let package = resolve.push_group(group)?;
        let policy = resolve.select_world(&[package], Some("policy-plugin"))?;
        let driver = resolve.select_world(&[package], Some("driver-plugin"))?;
        Ok(Contract {
            resolve,
            policy,
            driver,
        })
    }

    fn world(&self, kind: Kind) -> (&'static str, WorldId) {
        match kind {
            Kind::Policy => ("policy-plugin", self.policy),
            Kind::Driver => ("driver-plugin", self.driver),
        }
    }

    /// Checks a component against the world of its kind.
    pub(super) fn check(&self, kind: Kind, bytes: &[u8], inert: bool) -> Result<(), LoadError> {
        let (name, world) = self.world(kind);
        let fits = if inert {
            self.with_inert(world, bytes)
                .and_then(|(resolve, world)| wit_component::targets(&resolve, world, bytes))
        } else {
            wit_component::targets(&self.resolve, world, bytes)
        };
        fits.map_err(|error| LoadError::World {
            world: name,
            why: why(&error),
        })
    }

    /// The world with the WASI interfaces this component imports, as the component has them: whether
    /// they are those the host has is found when it is linked.
    fn with_inert(&self, world: WorldId, bytes: &[u8]) -> anyhow::Result<(Resolve, WorldId)> {
        let (mut guest, root) = match wit_component::decode(bytes)? {
            DecodedWasm::Component(resolve, world) => (resolve, world),
            DecodedWasm::WitPackage(..) => anyhow::bail!("it is a WIT package and no component"),
        };
        // Its idea of the contract must not be merged with ours: it is what is to be checked.
        for (id, package) in guest.packages.iter_mut() {
            if package.name.namespace == "springtide" {
                guest.package_names.shift_remove(&package.name);
                package.name.namespace = "guest".into();
                guest.package_names.insert(package.name.clone(), id);
            }
        }
        let inert: Vec<_> = guest.worlds[root]
            .imports
            .iter()
            .filter_map(|(key, item)| match (key, item) {
                (WorldKey::Interface(id), WorldItem::Interface { .. }) => {
                    let package = guest.interfaces[*id].package?;
                    (guest.packages[package].name.namespace == "wasi").then(|| (*id, item.clone()))
                }
                _ => None,
            })
            .collect();
        let mut resolve = self.resolve.clone();
        let remap = resolve.merge(guest)?;
        for (id, item) in inert {
            let id = remap.map_interface(id, Span::default())?;
            let WorldItem::Interface {
                stability,
                span,
                docs,
                external_id,
                ..
            } = item
            else {
                continue;
            };
            let item = WorldItem::Interface {
                id,
                stability,
                span,
                docs,
                external_id,
            };
            resolve.worlds[world]
                .imports
                .insert(WorldKey::Interface(id), item);
        }
        Ok((resolve, world))
    }
}

/// The validator's words without its frame: where it differs, not that it does.
fn why(error: &anyhow::Error) -> String {
    let root = error.root_cause().to_string();
    let text = root.split(" (at offset").next().unwrap_or(&root);
    text.to_owned()
}
