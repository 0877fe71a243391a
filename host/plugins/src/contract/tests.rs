//! The types here are those of `wit/`: each function of the contract takes and returns them.

use super::*;
use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Linker, Lower};
use wasmtime::{Engine, Store};

/// A component that exports all of a world, and does nothing.
fn component(world: &str) -> Vec<u8> {
    let mut map = wit_parser::SourceMap::new();
    for (name, text) in WIT {
        map.push_str(name, *text);
    }
    let mut resolve = wit_parser::Resolve::default();
    let group = map.parse().map_err(|(_, error)| error).unwrap();
    let package = resolve.push_group(group).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let abi = wit_parser::ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let mut module = wit_component::dummy_module(&resolve, world, abi);
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
    wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

struct World {
    store: Store<()>,
    instance: Instance,
}

impl World {
    fn new(world: &str) -> World {
        let engine = Engine::default();
        let component = Component::new(&engine, component(world)).unwrap();
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &component).unwrap();
        World { store, instance }
    }

    /// Holds the types of a function to the contract's.
    fn is<P, R>(&mut self, interface: &str, name: &str)
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let store = &mut self.store;
        let interface = format!("{PACKAGE}/{interface}@{VERSION}");
        let (_, interface) = self
            .instance
            .get_export(&mut *store, None, &interface)
            .expect("the interface");
        let (_, function) = self
            .instance
            .get_export(&mut *store, Some(&interface), name)
            .expect("the function");
        self.instance
            .get_typed_func::<P, R>(store, function)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

type Answer<T> = (Result<T, PluginError>,);

#[test]
fn a_policys_functions_take_and_return_these_types() {
    let mut world = World::new("policy-plugin");
    world.is::<(), (Description,)>("meta", "describe");
    world.is::<(Travelling<'_>, &View, &Targets, &[u8]), Answer<Decision>>("policy", "evaluate");
}

#[test]
fn a_drivers_functions_take_and_return_these_types() {
    let mut world = World::new("driver-plugin");
    world.is::<(), (Description,)>("meta", "describe");
    world.is::<(Travelling<'_>, &Creation), Answer<Machine>>("driver", "create");
    world.is::<(Travelling<'_>,), Answer<Vec<Machine>>>("driver", "list-machines");
    world.is::<(Travelling<'_>, &str), Answer<Machine>>("driver", "get");
    world.is::<(Travelling<'_>, &str), Answer<()>>("driver", "destroy");
    world.is::<(Travelling<'_>, &[String], u32), Answer<()>>("driver", "renew-leases");
    world.is::<(Travelling<'_>,), Answer<Vec<Leftover>>>("driver", "list-leftovers");
    world.is::<(Travelling<'_>, &str), Answer<()>>("driver", "destroy-leftover");
}

#[test]
fn a_view_has_wit_names_and_what_it_leaves_out_is_zero_or_empty() {
    let view: View = serde_json::from_str(
        r#"{"now":5,"machines":{"idle":1},"queue":{"run-untagged":true,"waiting":[{"oldest-age":3}]}}"#,
    )
    .unwrap();
    assert_eq!(
        (view.now, view.machines.idle, view.machines.busy),
        (5, 1, 0)
    );
    assert_eq!(view.queue.unwrap().waiting[0].oldest_age, 3);
    for unknown in [r#"{"nwo":5}"#, r#"{"machines":{"Idle":1}}"#] {
        assert!(serde_json::from_str::<View>(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn a_decision_leaves_out_what_it_does_not_change() {
    let decision = Decision {
        patch: Patch {
            idle_count: Some(5),
            idle_count_min: Some(0),
            idle_scale_factor: Some(0.0),
            idle_time: Some(600),
            ..Patch::default()
        },
        reason: "because".into(),
        state: b"kept".to_vec(),
    };
    let text = r#"{"patch":{"idle-count":5,"idle-count-min":0,"idle-scale-factor":0.0,"idle-time":600},"reason":"because","state":"a2VwdA=="}"#;
    assert_eq!(serde_json::to_string(&decision).unwrap(), text);
    assert_eq!(serde_json::from_str::<Decision>(text).unwrap(), decision);
    let error = PluginError::InvalidConfig("no".into());
    assert_eq!(
        serde_json::to_string(&error).unwrap(),
        r#"{"invalid-config":"no"}"#
    );
}
