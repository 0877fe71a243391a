//! The world of a scaling policy, as generated from the contract. Plugins depend on
//! `springtide-sdk`, which has it as `policy::bindings`.
//!
//! It is a crate of its own because both worlds export `meta`, and the macros that are generated
//! for it would have one name in one crate.
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    world: "policy-plugin",
    path: "../../../wit",
    pub_export_macro: true,
    default_bindings_module: "springtide_policy_bindings",
    additional_derives: [PartialEq],
});
