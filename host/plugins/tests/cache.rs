//! The cache of compiled components: used, never trusted.

mod common;

use common::Policy;
use springtide_plugins::{Host, HostError, HostOptions, Source, Stage};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Cached {
    base: TempDir,
    source: Source,
}

impl Cached {
    fn new() -> Cached {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("it.wasm");
        std::fs::write(&file, Policy::default().component()).unwrap();
        let source = Source::file(file);
        Cached { base, source }
    }

    fn directory(&self) -> PathBuf {
        self.base.path().join("cache")
    }

    /// Loads with a new host; whether it came from the cache.
    fn load(&self) -> bool {
        let options = HostOptions {
            cache: Some(self.directory()),
            ..HostOptions::default()
        };
        let report = Host::new(&options).unwrap().check(&self.source);
        report.outcome.unwrap();
        let compile = report.stages.iter().find(|one| one.stage == Stage::Compile);
        compile.unwrap().detail.contains("cache")
    }

    fn entry(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(self.directory()).unwrap();
        let entry = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none(), "one entry");
        entry
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_compiled_once_is_used_again_and_is_the_owners_alone() {
    let cached = Cached::new();
    assert!(!cached.load());
    assert!(cached.load());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&cached.directory()), mode(&cached.entry())),
        (0o700, 0o600)
    );
}

#[test]
fn an_entry_that_was_changed_is_compiled_again() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("one byte changed", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("emptied", |path| std::fs::write(path, b"").unwrap()),
        ("readable to others", |path| mode(path, 0o644)),
        ("a link", |path| {
            let elsewhere = path.with_extension("moved");
            std::fs::rename(path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, path).unwrap();
        }),
        ("a directory", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let cached = Cached::new();
        cached.load();
        harm(&cached.entry());
        assert!(!cached.load(), "{what}");
        if what != "a directory" {
            assert!(cached.load(), "{what}: it was written anew");
        }
    }
}

#[test]
fn a_directory_open_to_others_is_no_cache() {
    let cached = Cached::new();
    std::fs::create_dir(cached.directory()).unwrap();
    let open = || {
        Host::new(&HostOptions {
            cache: Some(cached.directory()),
            ..HostOptions::default()
        })
    };
    for open_to in [0o755, 0o770, 0o777] {
        mode(&cached.directory(), open_to);
        assert!(matches!(open(), Err(HostError::Cache(_))), "{open_to:o}");
    }
    mode(&cached.directory(), 0o700);
    assert!(open().is_ok());
    let elsewhere = cached.base.path().join("elsewhere");
    std::fs::rename(cached.directory(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, cached.directory()).unwrap();
    assert!(matches!(open(), Err(HostError::Cache(_))), "a link");
}
