//! The bucket's region, where the file does not have it: the bucket is asked, once.
#![allow(missing_docs)]

mod support;

use secrecy::ExposeSecret;
use springtide_cache::Store;
use springtide_config::{CacheStore, S3};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use support::{HOUR, cache, key, s3, store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers each request so, and how many there were.
async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]);
            assert!(text.starts_with("HEAD /ci-cache HTTP/1.1"), "{text}");
            assert!(!text.to_lowercase().contains("authorization"), "{text}");
            counted.fetch_add(1, Ordering::SeqCst);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, count)
}

async fn region(store: &Store, now: SystemTime) -> String {
    let object = store.object("r", 7, &key("k")).unwrap();
    let signed = store.download(&object, HOUR, now).await.unwrap();
    let url = signed.url.expose_secret();
    let scope = url.split_once("X-Amz-Credential=").unwrap().1;
    scope.split("%2F").nth(2).unwrap().to_owned()
}

#[tokio::test]
async fn a_bucket_is_asked_once_and_its_refusal_says_it_too() {
    let close = "content-length: 0\r\nconnection: close\r\n\r\n";
    let answer = |head: &str| -> &'static str { format!("{head}\r\n{close}").leak() };
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nx-amz-bucket-region: eu-west-1",
            "eu-west-1",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nx-amz-bucket-region: eu-west-1",
            "eu-west-1",
        ),
        (
            "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: ap-south-1",
            "ap-south-1",
        ),
        ("HTTP/1.1 403 Forbidden", "us-east-1"),
        (
            "HTTP/1.1 200 OK\r\nx-amz-bucket-region: a/../b",
            "us-east-1",
        ),
    ];
    for (head, expected) in cases {
        let (address, count) = server(answer(head)).await;
        let store = store(&cache(CacheStore::S3(Box::new(s3(&address)))));
        let now = SystemTime::now();
        for later in [0, 1, 86400] {
            let now = now + Duration::from_secs(later);
            assert_eq!(region(&store, now).await, expected, "{head}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1, "{head}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_alone_for_some_minutes() {
    let (address, count) = server("").await;
    let store = store(&cache(CacheStore::S3(Box::new(s3(&address)))));
    let now = SystemTime::now();
    for (later, asked) in [(0, 1), (299, 1), (301, 2)] {
        let now = now + Duration::from_secs(later);
        assert_eq!(region(&store, now).await, "us-east-1");
        assert_eq!(count.load(Ordering::SeqCst), asked, "after {later} s");
    }
}

#[tokio::test]
async fn a_region_that_is_written_is_taken_unasked() {
    let (address, count) = server("").await;
    let config = S3 {
        region: Some("eu-north-1".to_owned()),
        ..s3(&address)
    };
    let store = store(&cache(CacheStore::S3(Box::new(config))));
    assert_eq!(region(&store, SystemTime::now()).await, "eu-north-1");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}
