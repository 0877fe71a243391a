//! The helper for tests of other crates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The helper beside the test's own program; built first where it is missing, for cargo builds
/// the programs of no other package with a test.
pub fn helper() -> &'static Path {
    static HELPER: OnceLock<PathBuf> = OnceLock::new();
    HELPER.get_or_init(|| {
        let test = std::env::current_exe().expect("this program's path");
        let profile = test.ancestors().nth(2).expect("the profile's directory");
        let helper = profile.join("springtide-helper");
        if !helper.exists() {
            let release = profile.ends_with("release").then_some("--release");
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "springtide-helper"])
                .args(release)
                .arg("--target-dir")
                .arg(profile.parent().expect("the target directory"))
                .status()
                .expect("cargo");
            assert!(
                built.success() && helper.exists(),
                "the helper was not built"
            );
        }
        helper
    })
}
