//! Caches: on the machine, and with a server.

use crate::server::{Server, body, status, with};
use crate::support::{Project, Ran, calls, info_zip, unzip_names};
use serde_json::{Value, json};

fn save(file: &str, paths: &[&str]) -> Value {
    json!({"cache-save": {"key": "main-1", "file": file, "files": {"paths": paths}, "calls": calls()}})
}

fn restore(sources: Value) -> Value {
    json!({"cache-restore": {"sources": sources, "calls": calls()}})
}

/// Restores into an empty project from a server that answers with one cache.
fn restored(bytes: &[u8]) -> (Project, Ran) {
    let server = Server::new([body(bytes)]);
    let to = Project::new(&[]);
    let url = format!("{}/bucket/key?X-Amz-Signature=secret", server.url);
    let file = "../cache/cache.zip";
    let ran = to.transfer(&restore(
        json!([{"key": "main-1", "file": file, "download": {"url": url}}]),
    ));
    (to, ran)
}

#[test]
fn a_cache_is_kept_on_the_machine_and_found_again() {
    let project = Project::new(&["vendor/a", "vendor/b/c"]);
    let order = save("../cache/main-1/cache.zip", &["vendor/"]);
    let ran = project.transfer(&order).ended(0);
    ran.says("Creating cache main-1...\n");
    ran.says("vendor/: found 4 matching artifact files and directories\n");
    ran.says("No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.\n");
    ran.says("Created cache\n");
    project
        .transfer(&order)
        .ended(0)
        .says("Archive is up to date!\n");
    std::fs::remove_dir_all(project.path().join("vendor")).unwrap();
    let sources = json!([
        {"key": "other", "file": "../cache/other/cache.zip"},
        {"key": "main-1", "file": "../cache/main-1/cache.zip"},
    ]);
    let ran = project.transfer(&restore(sources)).ended(0);
    ran.says("Checking cache for other...\n");
    ran.says("WARNING: Cache file does not exist\n");
    ran.says("Failed to extract cache\n");
    ran.says("Checking cache for main-1...\n");
    ran.says("Successfully extracted cache\n");
    assert_eq!(project.read("vendor/b/c"), "vendor/b/c");
}

#[test]
fn nothing_to_cache_is_told() {
    let project = Project::new(&[]);
    let ran = project.transfer(&save("../c.zip", &["vendor"])).ended(12);
    ran.says("WARNING: vendor: no matching files. Ensure that the artifact path");
    ran.says("WARNING: No files to cache.");
    assert!(!project.path().join("../c.zip").exists());
}

#[test]
fn a_cache_goes_to_its_server_with_the_headers_of_the_order() {
    let project = Project::new(&["vendor/a"]);
    let server = Server::new([status("503 Slow Down"), status("200 OK")]);
    let mut order = save("../cache.zip", &["vendor"]);
    order["cache-save"]["upload"] = json!({
        "url": format!("{}/bucket/key?X-Amz-Signature=secret", server.url),
        "headers": {"x-amz-server-side-encryption": "AES256"},
    });
    let ran = project.transfer(&order).ended(0);
    ran.says(&format!(
        "Uploading cache.zip to {}/bucket/key\n",
        server.url
    ));
    ran.says("WARNING: Retrying...");
    ran.says("Created cache");
    ran.says_not("secret");
    let put = &server.requests()[1];
    assert_eq!(put.method, "PUT");
    assert_eq!(put.target, "/bucket/key?X-Amz-Signature=secret");
    assert_eq!(put.header("x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert_eq!(put.header("transfer-encoding"), None);
    assert_eq!(unzip_names(&put.body), ["vendor/", "vendor/a"]);
}

#[test]
fn a_cache_that_is_refused_or_too_large_stays_on_the_machine() {
    let project = Project::new(&["vendor/a"]);
    let server = Server::new([status("403 Forbidden")]);
    let mut order = save("../cache.zip", &["vendor"]);
    order["cache-save"]["upload"] = json!({"url": format!("{}/b/k", server.url)});
    let ran = project.transfer(&order).ended(11);
    ran.says("FATAL: received: 403 Forbidden");
    ran.says("Failed to create cache");
    ran.says_not("Created cache");
    assert!(project.path().join("../cache.zip").exists());
    std::fs::remove_file(project.path().join("../cache.zip")).unwrap();
    order["cache-save"]["upload_limit"] = json!(10);
    let ran = project.transfer(&order).ended(0);
    ran.says("is too big (Limit is set to 10). Cache will be stored only locally.");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cache_comes_from_its_server_and_only_when_it_is_newer() {
    let zip = info_zip(&Project::new(&["vendor/a"]).path(), &["."]);
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server = Server::new([
        with("200 OK", "Last-Modified", date, &zip),
        with("200 OK", "Last-Modified", date, b"never read"),
    ]);
    let url = format!("{}/bucket/key?X-Amz-Signature=secret", server.url);
    let order = restore(json!([{"key": "k", "file": "../c/cache.zip", "download": {"url": url}}]));
    let project = Project::new(&[]);
    let ran = project.transfer(&order).ended(0);
    ran.says(&format!(
        "Downloading cache from {}/bucket/key\n",
        server.url
    ));
    ran.says("Successfully extracted cache");
    ran.says_not("secret");
    project
        .transfer(&order)
        .ended(0)
        .says("cache.zip is up to date");
    assert_eq!(project.names(), ["vendor", "vendor/a"]);
}

#[test]
fn a_cache_that_is_not_there_leads_to_the_next_key() {
    let zip = info_zip(&Project::new(&["a"]).path(), &["."]);
    let server = Server::new([status("404 Not Found"), body(&zip)]);
    let source = |key: &str| {
        json!({"key": key, "file": format!("../{key}/cache.zip"),
            "download": {"url": format!("{}/{key}", server.url)}})
    };
    let project = Project::new(&[]);
    let ran = project
        .transfer(&restore(json!([source("new"), source("old")])))
        .ended(0);
    ran.says("WARNING: file does not exist\n");
    ran.says("Checking cache for old...\n");
    assert_eq!(project.read("a"), "a");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_broken_cache_is_discarded_and_fails_nothing() {
    let zip = info_zip(&Project::new(&["a", "b"]).path(), &["a", "b"]);
    let mut flipped = zip.clone();
    // The first file's content stands after its header of 30 bytes, its name and what follows that.
    let after: usize = [26, 28]
        .map(|at| usize::from(zip[at]) + 256 * usize::from(zip[at + 1]))
        .iter()
        .sum();
    flipped[30 + after] ^= 1;
    for bytes in [&b"no zip"[..], &zip[..zip.len() - 9], &flipped] {
        let (project, ran) = restored(bytes);
        let ran = ran.ended(12);
        ran.says("WARNING: cache.zip is discarded: the archive is broken");
        ran.says("Failed to extract cache");
        assert!(!project.path().join("../cache/cache.zip").exists());
        assert!(!project.names().contains(&"a".to_owned()));
    }
}

#[test]
fn a_cache_server_that_is_out_of_reach_fails_nothing() {
    let project = Project::new(&[]);
    let order = restore(
        json!([{"key": "k", "file": "../c.zip", "download": {"url": "http://127.0.0.1:9/k"}}]),
    );
    project
        .transfer(&order)
        .ended(12)
        .says("Failed to extract cache");
}
