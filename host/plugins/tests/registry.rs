//! The plugins of a directory: loaded at the start, swapped when a file changes, and only for one
//! that passes.

mod common;

use common::{Policy, driver};
use springtide_plugins::contract::{CallContext, Kind, Targets, View};
use springtide_plugins::{
    Digest, Grants, Host, HostOptions, PluginOptions, Registry, RegistryError, RegistryOptions,
    ToolGrant,
};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

struct Site {
    base: TempDir,
}

impl Site {
    fn new() -> Site {
        let base = tempfile::tempdir().unwrap();
        let site = Site { base };
        std::fs::create_dir(site.directory()).unwrap();
        mode(&site.directory(), 0o755);
        site
    }

    fn directory(&self) -> PathBuf {
        self.base.path().join("plugins")
    }

    /// Puts a file in place as a careful installer does, whole.
    fn put(&self, name: &str, bytes: &[u8]) {
        let beside = self.base.path().join("new");
        std::fs::write(&beside, bytes).unwrap();
        mode(&beside, 0o644);
        std::fs::rename(beside, self.directory().join(name)).unwrap();
    }

    fn open(&self, plugins: BTreeMap<String, PluginOptions>) -> Result<Registry, RegistryError> {
        Registry::open(RegistryOptions {
            host: Host::new(&HostOptions::default()).unwrap(),
            directory: self.directory(),
            plugins,
        })
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn version(version: &str) -> Vec<u8> {
    Policy {
        version: version.into(),
        ..Policy::default()
    }
    .component()
}

fn driver_version(version: &str, body: &str) -> Vec<u8> {
    Policy {
        version: version.into(),
        ..driver("", body)
    }
    .component()
}

fn running(registry: &Registry, id: &str) -> Option<String> {
    Some(registry.find(id)?.info().version.to_string())
}

fn trouble(registry: &Registry, id: &str) -> Option<String> {
    let all = registry.all();
    all.into_iter().find(|one| one.id == id)?.trouble
}

/// Waits until something changed that makes this true.
async fn until(registry: &Registry, what: impl Fn() -> bool) {
    let mut swaps = registry.swapped();
    let wait = async {
        while !what() {
            swaps.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it happens");
}

fn a_tool() -> BTreeMap<String, PluginOptions> {
    let tool = ToolGrant {
        path: "/bin/true".into(),
        ..ToolGrant::default()
    };
    let options = PluginOptions {
        grants: Grants {
            tools: BTreeMap::from([("true".to_owned(), tool)]),
            ..Grants::default()
        },
        ..PluginOptions::default()
    };
    BTreeMap::from([("it".to_owned(), options)])
}

#[test]
fn a_bad_file_stops_no_other() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    site.put("bad.wasm", b"no");
    site.put("README.md", b"not a plugin's name");
    let registry = site.open(BTreeMap::new()).unwrap();
    assert_eq!(running(&registry, "it").as_deref(), Some("1.0.0"));
    assert!(registry.find("bad").is_none());
    assert!(
        trouble(&registry, "bad")
            .unwrap()
            .contains("no WebAssembly")
    );
    assert_eq!(registry.all().len(), 2);
}

#[test]
fn a_directory_that_is_missing_is_empty_and_one_open_to_all_is_refused() {
    let site = Site::new();
    mode(&site.directory(), 0o777);
    let open = site.open(BTreeMap::new());
    assert!(
        matches!(open, Err(RegistryError::OpenToAll { .. })),
        "{open:?}"
    );
    std::fs::remove_dir(site.directory()).unwrap();
    assert!(site.open(BTreeMap::new()).unwrap().all().is_empty());
    std::fs::write(site.directory(), b"a file").unwrap();
    let open = site.open(BTreeMap::new());
    assert!(
        matches!(open, Err(RegistryError::Unreadable { .. })),
        "{open:?}"
    );
}

#[test]
fn a_file_elsewhere_and_a_pinned_digest_are_the_operators() {
    let site = Site::new();
    let elsewhere = site.base.path().join("elsewhere.wasm");
    let bytes = version("2.0.0");
    std::fs::write(&elsewhere, &bytes).unwrap();
    let pinned = |digest| PluginOptions {
        file: Some(elsewhere.clone()),
        digest: Some(digest),
        ..PluginOptions::default()
    };
    let plugins = BTreeMap::from([
        ("it".to_owned(), pinned(Digest::of(&bytes))),
        ("other".to_owned(), pinned(Digest::of(b"other"))),
    ]);
    let registry = site.open(plugins).unwrap();
    assert_eq!(running(&registry, "it").as_deref(), Some("2.0.0"));
    assert!(trouble(&registry, "other").unwrap().contains("pins"));
}

#[tokio::test]
async fn a_changed_file_is_swapped_in_and_calls_end_on_what_they_began_with() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    let registry = site.open(BTreeMap::new()).unwrap();
    let old = registry.find("it").unwrap();
    site.put("it.wasm", &version("1.1.0"));
    until(&registry, || {
        running(&registry, "it").as_deref() == Some("1.1.0")
    })
    .await;
    let answer = old.evaluate(
        &CallContext::default(),
        &View::default(),
        &Targets::default(),
        &[],
    );
    assert!(answer.is_ok());
    assert_eq!(old.info().version.to_string(), "1.0.0");
}

#[tokio::test]
async fn a_bad_file_leaves_the_old_version_in_use_and_says_so() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    let registry = site.open(BTreeMap::new()).unwrap();
    site.put("it.wasm", b"half a file");
    until(&registry, || trouble(&registry, "it").is_some()).await;
    assert_eq!(running(&registry, "it").as_deref(), Some("1.0.0"));
    let again = registry.reload("it").await;
    assert!(
        matches!(again, Err(RegistryError::Refused { .. })),
        "{again:?}"
    );
    site.put("it.wasm", &version("1.2.0"));
    until(&registry, || trouble(&registry, "it").is_none()).await;
    assert_eq!(running(&registry, "it").as_deref(), Some("1.2.0"));
    let unknown = registry.reload("nobody").await;
    assert!(matches!(unknown, Err(RegistryError::Unknown { .. })));
}

#[tokio::test]
async fn a_new_file_is_loaded_and_one_that_is_gone_stays_in_use() {
    let site = Site::new();
    let registry = site.open(BTreeMap::new()).unwrap();
    site.put("it.wasm", &version("1.0.0"));
    until(&registry, || running(&registry, "it").is_some()).await;
    std::fs::remove_file(site.directory().join("it.wasm")).unwrap();
    registry.reload("it").await.expect_err("there is no file");
    assert_eq!(running(&registry, "it").as_deref(), Some("1.0.0"));
}

#[tokio::test]
async fn with_grants_a_plugin_is_swapped_by_itself_only_where_the_owner_alone_writes() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    mode(&site.directory(), 0o775);
    let registry = site.open(a_tool()).unwrap();
    assert!(!registry.find("it").unwrap().grants().is_empty());
    site.put("it.wasm", &version("1.1.0"));
    until(&registry, || trouble(&registry, "it").is_some()).await;
    assert_eq!(running(&registry, "it").as_deref(), Some("1.0.0"));
    assert!(
        trouble(&registry, "it")
            .unwrap()
            .contains("plugin reload it")
    );
    registry.reload("it").await.expect("a person asked");
    assert_eq!(running(&registry, "it").as_deref(), Some("1.1.0"));
    mode(&site.directory(), 0o755);
    site.put("it.wasm", &version("1.2.0"));
    until(&registry, || {
        running(&registry, "it").as_deref() == Some("1.2.0")
    })
    .await;
}

#[tokio::test]
async fn what_the_operator_changes_is_loaded_anew() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    let registry = site.open(BTreeMap::new()).unwrap();
    assert!(registry.find("it").unwrap().grants().is_empty());
    registry.reconfigure(a_tool());
    until(&registry, || {
        !registry.find("it").unwrap().grants().is_empty()
    })
    .await;
}

#[test]
fn grants_of_a_shipped_plugin_are_its_digests_alone() {
    let site = Site::new();
    let bytes = version("1.0.0");
    site.put("it.wasm", &bytes);
    for (digest, granted) in [(Digest::of(&bytes), true), (Digest::of(b"x"), false)] {
        let mut plugins = a_tool();
        let options = plugins.get_mut("it").unwrap();
        options.shipped = Some((digest, std::mem::take(&mut options.grants)));
        let registry = site.open(plugins).unwrap();
        assert_eq!(!registry.find("it").unwrap().grants().is_empty(), granted);
    }
}

/// An empty list of machines.
const NONE: &str = "(i32.const 2048)";
/// The case `transient` of an error.
const FAILS: &str = "(i32.store8 (i32.const 2048) (i32.const 1))
    (i32.store8 (i32.const 2052) (i32.const 6)) (i32.const 2048)";
/// One machine: id, name and token "because", billing free, and nothing else.
const ONE: &str = "(i32.store (i32.const 2052) (i32.const 3072))
    (i32.store (i32.const 2056) (i32.const 1))
    (i32.store (i32.const 3072) (i32.const 4096)) (i32.store (i32.const 3076) (i32.const 7))
    (i32.store (i32.const 3080) (i32.const 4096)) (i32.store (i32.const 3084) (i32.const 7))
    (i32.store (i32.const 3088) (i32.const 4096)) (i32.store (i32.const 3092) (i32.const 7))
    (i32.store8 (i32.const 3152) (i32.const 2))
    (i32.const 2048)";

#[tokio::test]
async fn a_drivers_new_version_must_list_the_machines_of_its_old_one() {
    let site = Site::new();
    site.put("it.wasm", &driver_version("1.0.0", ONE));
    let registry = site.open(BTreeMap::new()).unwrap();
    registry.list_with(Arc::new(|_| vec![CallContext::default()]));
    let machines = registry.find("it").unwrap();
    let machines = machines
        .list_machines(&CallContext::default())
        .await
        .unwrap();
    assert_eq!(machines[0].token, "because");
    for (version, body, says) in [
        ("1.1.0", NONE, "does not list 1 of the 1 machines"),
        ("1.2.0", FAILS, "can't list"),
    ] {
        site.put("it.wasm", &driver_version(version, body));
        until(&registry, || {
            trouble(&registry, "it").is_some_and(|why| why.contains(says))
        })
        .await;
        assert_eq!(running(&registry, "it").as_deref(), Some("1.0.0"));
        assert!(
            registry.reload("it").await.is_err(),
            "nor when a person asks"
        );
    }
    site.put("it.wasm", &driver_version("1.3.0", ONE));
    until(&registry, || {
        running(&registry, "it").as_deref() == Some("1.3.0")
    })
    .await;
}

#[tokio::test]
async fn a_policy_does_not_become_a_driver() {
    let site = Site::new();
    site.put("it.wasm", &version("1.0.0"));
    let registry = site.open(BTreeMap::new()).unwrap();
    site.put("it.wasm", &driver_version("2.0.0", NONE));
    until(&registry, || trouble(&registry, "it").is_some()).await;
    assert_eq!(registry.find("it").unwrap().kind(), Kind::Policy);
}
