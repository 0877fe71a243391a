//! Against a real S3 server that verifies signatures: what is signed is taken, and nothing else.
#![allow(missing_docs)]

#[path = "support/server.rs"]
mod server;
mod support;

use secrecy::ExposeSecret;
use server::{ACCESS, BUCKET, SECRET, Server};
use springtide_cache::{CacheError, Job, Keys, Signed, Store, StoreOptions};
use springtide_config::{CacheStore, S3, S3Encryption, S3Role};
use std::time::{Duration, SystemTime};
use support::{HOUR, cache, key, s3, shared, store, these};

fn config(server: &Server) -> S3 {
    S3 {
        bucket: BUCKET.to_owned(),
        keys: these(ACCESS, SECRET, None),
        ..s3(&server.address)
    }
}

fn store_of(config: S3) -> Store {
    store(&cache(CacheStore::S3(Box::new(config))))
}

async fn send(method: &str, signed: &Signed, body: &str) -> (u16, String) {
    let headers = signed.headers.clone();
    ask(method, signed.url.expose_secret(), &headers, body).await
}

async fn ask(method: &str, url: &str, headers: &[(String, String)], body: &str) -> (u16, String) {
    let client = reqwest::Client::builder()
        .resolve("ci-cache.localhost", ([127, 0, 0, 1], 0).into())
        .build();
    let mut request = client.unwrap().request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

const KEYS: [&str; 5] = [
    "default",
    "a b/ü+&=%'(~.zip",
    "%252e%252e/x",
    "日本/?x=y#z",
    "-protected:\"<>|*",
];

#[tokio::test]
async fn an_archive_comes_back_from_the_address_it_was_put_to() {
    let server = Server::start().await;
    let port = server.address.split_once(':').unwrap().1;
    let virtual_style = S3 {
        endpoint: s3(&format!("LocalHost:{port}")).endpoint,
        path_style: Some(false),
        ..config(&server)
    };
    for store in [store_of(config(&server)), store_of(virtual_style)] {
        for text in KEYS {
            let object = store.object("abcdefgh", 7, &key(text)).unwrap();
            let now = SystemTime::now();
            let up = store.upload(&object, HOUR, now).await.unwrap();
            let down = store.download(&object, HOUR, now).await.unwrap();
            assert_eq!(send("PUT", &up, text).await.0, 200, "{text}");
            assert_eq!(send("GET", &down, "").await, (200, text.to_owned()));
            let path = server.root.path().join(BUCKET).join(object.as_str());
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
    }
}

#[tokio::test]
async fn an_address_is_good_for_one_object_one_method_and_its_time() {
    let server = Server::start().await;
    let store = store_of(config(&server));
    let object = store.object("abcdefgh", 7, &key("default")).unwrap();
    let now = SystemTime::now();
    let up = store.upload(&object, HOUR, now).await.unwrap();
    assert_eq!(send("PUT", &up, "x").await.0, 200);
    let down = store.download(&object, HOUR, now).await.unwrap();
    assert_eq!(send("GET", &down, "").await.0, 200);

    assert_eq!(send("PUT", &down, "y").await.0, 403, "for reading alone");
    assert_eq!(send("GET", &up, "").await.0, 403, "for writing alone");
    assert_eq!(send("DELETE", &up, "").await.0, 403);
    let url = up.url.expose_secret();
    for (from, to) in [
        ("/default?", "/other?"),
        ("project/7/", "project/8/"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=9999"),
    ] {
        let other = url.replace(from, to);
        assert_ne!(url, other);
        let (status, text) = ask("PUT", &other, &up.headers, "y").await;
        assert_eq!(status, 403, "{to}: {text}");
        assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    }
    let before = now - 2 * HOUR;
    let ended = store.download(&object, HOUR, before).await.unwrap();
    assert!(ended.valid_until < now);
    let (status, text) = send("GET", &ended, "").await;
    assert!(status == 403 && text.contains("expired"), "{text}");

    let stranger = store_of(S3 {
        keys: these(ACCESS, "another secret", None),
        ..config(&server)
    });
    let up = stranger.upload(&object, HOUR, now).await.unwrap();
    assert_eq!(send("PUT", &up, "y").await.0, 403);
    assert_eq!(send("GET", &down, "").await, (200, "x".to_owned()));
}

#[tokio::test]
async fn an_upload_that_leaves_encryption_out_is_refused() {
    let server = Server::start().await;
    for encryption in [
        S3Encryption::S3,
        S3Encryption::Kms(Some("arn:aws:kms:eu-west-1:1:key/k".to_owned())),
        S3Encryption::DsseKms(None),
    ] {
        let store = store_of(S3 {
            encryption: Some(encryption.clone()),
            ..config(&server)
        });
        let object = store.object("abcdefgh", 7, &key("default")).unwrap();
        let up = store
            .upload(&object, HOUR, SystemTime::now())
            .await
            .unwrap();
        assert_eq!(send("PUT", &up, "x").await.0, 200, "{encryption:?}");
        let (status, _) = ask("PUT", up.url.expose_secret(), &[], "y").await;
        assert!((400..=403).contains(&status), "{encryption:?}: {status}");
        let mut wrong = up.headers.clone();
        wrong[0].1 = "none".to_owned();
        let (status, _) = ask("PUT", up.url.expose_secret(), &wrong, "y").await;
        assert!((400..=403).contains(&status), "{encryption:?}: {status}");
        let down = store.download(&object, HOUR, SystemTime::now()).await;
        assert_eq!(send("GET", &down.unwrap(), "").await, (200, "x".to_owned()));
    }
}

#[tokio::test]
async fn a_cache_is_restored_from_the_first_key_that_has_an_archive() {
    let server = Server::start().await;
    let store = store_of(config(&server));
    let job = Job {
        name: "build",
        ref_name: "main",
        hash_keys: false,
    };
    let mut warnings = Vec::new();
    let fallbacks = [String::from("second"), "k".repeat(1100)];
    let keys = Keys::of(
        &job,
        "first",
        &fallbacks,
        "last",
        str::to_owned,
        &mut warnings,
    )
    .unwrap();
    let object = store.object("abcdefgh", 7, &key("last")).unwrap();
    let up = store
        .upload(&object, HOUR, SystemTime::now())
        .await
        .unwrap();
    send("PUT", &up, "archive").await;
    let restores = store
        .restores("abcdefgh", 7, &keys, HOUR, SystemTime::now(), &mut warnings)
        .await;
    let mut seen = Vec::new();
    for one in &restores {
        seen.push((one.key.shown(), send("GET", &one.from, "").await.0));
    }
    assert_eq!(seen, [("first", 404), ("second", 404), ("last", 200)]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("FF_HASH_CACHE_KEYS"), "{warnings:?}");
}

fn with_role(server: &Server, role: S3Role, kept: bool, secret: &str) -> Store {
    let config = S3 {
        role: Some(role),
        sessions_kept: kept,
        keys: these(ACCESS, secret, None),
        encryption: Some(S3Encryption::Kms(None)),
        region: Some("eu-west-1".to_owned()),
        ..config(server)
    };
    let options = StoreOptions {
        sts: Some(format!("http://{}/", server.address).parse().unwrap()),
    };
    Store::new(&shared(cache(CacheStore::S3(Box::new(config)))), &options).unwrap()
}

#[tokio::test]
async fn a_roles_session_signs_for_one_object_and_is_used_again() {
    let server = Server::start().await;
    let arn = "arn:aws:iam::1:role/cache";
    let store = with_role(&server, S3Role::Transfers(arn.to_owned()), true, SECRET);
    let now = SystemTime::now();
    let object = store.object("", 7, &key("a*/${x}?")).unwrap();
    let up = store.upload(&object, 9 * HOUR, now).await.unwrap();
    assert_eq!(send("PUT", &up, "x").await.0, 200);
    assert!(
        up.valid_until <= now + HOUR + Duration::from_secs(5),
        "its session's end"
    );
    let down = store.download(&object, HOUR / 2, now).await.unwrap();
    assert_eq!(send("GET", &down, "").await, (200, "x".to_owned()));
    for url in [&up.url, &down.url] {
        let url = url.expose_secret();
        assert!(
            url.contains("X-Amz-Security-Token=token%2F1%3D%3D"),
            "{url}"
        );
        assert!(!url.contains(ACCESS), "{url}");
    }
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "the session was used again");
    assert_eq!(asked[0]["Action"], "AssumeRole");
    assert_eq!(asked[0]["RoleArn"], arn);
    assert!(asked[0]["RoleSessionName"].starts_with("springtide-cache-"));
    let policy: serde_json::Value = serde_json::from_str(&asked[0]["Policy"]).unwrap();
    assert_eq!(
        policy["Statement"],
        serde_json::json!([
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"],
             "Resource": "arn:aws:s3:::ci-cache/project/7/a${*}/${$}{x}${?}"},
            {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
        ])
    );
    // Another object, and the same one when its session is about to end.
    let other = store.object("", 7, &key("other")).unwrap();
    store.download(&other, HOUR, now).await.unwrap();
    store
        .download(&object, HOUR, now + Duration::from_secs(1900))
        .await
        .unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_role_for_uploads_is_for_uploads_alone_and_sessions_need_not_be_kept() {
    let server = Server::start().await;
    let store = with_role(&server, S3Role::Uploads("arn:x".to_owned()), false, SECRET);
    let object = store.object("", 7, &key("k")).unwrap();
    let now = SystemTime::now();
    let down = store.download(&object, HOUR, now).await.unwrap();
    assert!(down.url.expose_secret().contains(ACCESS));
    assert!(server.asked.lock().unwrap().is_empty());
    for _ in 0..2 {
        let up = store.upload(&object, HOUR, now).await.unwrap();
        assert_eq!(send("PUT", &up, "x").await.0, 200);
    }
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_role_that_is_not_given_says_why_and_what_to_do() {
    let server = Server::start().await;
    let role = || S3Role::Transfers("arn:aws:iam::1:role/cache".to_owned());
    let store = with_role(&server, role(), true, "another secret");
    let object = store.object("", 7, &key("k")).unwrap();
    let error = store
        .upload(&object, HOUR, SystemTime::now())
        .await
        .unwrap_err();
    assert!(matches!(error, CacheError::Denied(_)), "{error:?}");
    let text = error.to_string();
    for words in [
        "arn:aws:iam::1:role/cache",
        "sts:AssumeRole",
        "SignatureDoesNotMatch",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains("another secret"), "{text}");

    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let sts = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let config = S3 {
        role: Some(role()),
        region: Some("eu-west-1".to_owned()),
        ..config(&server)
    };
    let options = StoreOptions {
        sts: Some(sts.parse().unwrap()),
    };
    let store = Store::new(&cache(CacheStore::S3(Box::new(config))), &options).unwrap();
    let error = store
        .upload(&object, HOUR, SystemTime::now())
        .await
        .unwrap_err();
    assert!(matches!(error, CacheError::Unreachable(_)), "{error:?}");
}
