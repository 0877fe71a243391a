//! Embeds the digests of the shipped plugins, built before by `cargo xtask plugins`: a component
//! with one of these digests gets the narrow default grants of its name.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=SPRINGTIDE_SHIPPED");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let shipped = env::var_os("SPRINGTIDE_SHIPPED").map_or_else(|| beside(&out), PathBuf::from);
    println!("cargo::rerun-if-changed={}", shipped.display());
    let digests = fs::read_to_string(&shipped).unwrap_or_else(|_| "{}".to_owned());
    if let Err(error) = fs::write(out.join("shipped.json"), digests) {
        println!("cargo::error=the digests of the shipped plugins can't be embedded: {error}");
    }
}

/// The list `cargo xtask plugins` writes into the target directory this is built into.
fn beside(out: &Path) -> PathBuf {
    // <target>/<profile>/build/<package>/out
    out.ancestors()
        .nth(4)
        .unwrap_or(out)
        .join("plugins/SHIPPED.json")
}
