//! Signed addresses, against those that AWS publishes and those that the vendors' own libraries make:
//! botocore 1.44.8, google-cloud-storage 3.17.1 and azure-storage-blob 12.31.1.
#![allow(missing_docs)]

mod support;

use secrecy::ExposeSecret;
use springtide_cache::{CacheError, Signed, Store, StoreOptions};
use springtide_config::{Azure, Cache, CacheStore, Gcs, GcsKey, S3, S3Encryption, S3Endpoint};
use std::path::Path;
use std::time::Duration;
use support::{HOUR, at, cache, key, s3, shared, store, these};

/// 2026-03-02T12:00:00Z.
const NOW: u64 = 1_772_452_800;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
// Made for this test, and for nothing else.
const PKCS8: &str = include_str!("data/service-account.pkcs8.pem");
const PKCS1: &str = include_str!("data/service-account.pkcs1.pem");
const ACCOUNT: &str = "cache@ci.iam.gserviceaccount.com";

/// Both addresses of a key's object.
async fn both(store: &Store, text: &str, valid_for: Duration) -> (Signed, Signed) {
    let object = store.object("abcdefgh", 7, &key(text)).unwrap();
    let down = store.download(&object, valid_for, at(NOW)).await.unwrap();
    let up = store.upload(&object, valid_for, at(NOW)).await.unwrap();
    (down, up)
}

fn query(signed: &Signed, name: &str) -> String {
    let url: url::Url = signed.url.expose_secret().parse().unwrap();
    let found = url.query_pairs().find(|(key, _)| key == name);
    let value = found.map(|(_, value)| value.into_owned());
    value.unwrap_or_default()
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn of_s3(config: S3) -> Cache {
    cache(CacheStore::S3(Box::new(config)))
}

#[test]
fn awss_published_example_comes_out() {
    // docs.aws.amazon.com, "Authenticating Requests: Using Query Parameters".
    let keys = springtide_aws::Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "test",
    );
    let scope = springtide_aws::Scope {
        service: "s3".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let wanted = springtide_aws::Use {
        method: "GET",
        address: "https://examplebucket.s3.amazonaws.com/test.txt",
        headers: &[],
        valid_for: Duration::from_secs(86400),
    };
    let url = springtide_aws::presigned(&wanted, &scope, &keys, at(1_369_353_600)).unwrap();
    assert_eq!(
        url.expose_secret(),
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
}

#[tokio::test]
async fn s3s_addresses_are_those_of_botocore() {
    let aws = S3 {
        endpoint: S3Endpoint::Aws {
            dual_stack: true,
            accelerate: false,
        },
        region: Some("eu-west-1".to_owned()),
        keys: these("AKIDEXAMPLE", SECRET, None),
        ..s3("")
    };
    let (down, _) = both(&store(&of_s3(aws.clone())), "default", HOUR).await;
    assert_eq!(
        query(&down, "X-Amz-Signature"),
        "649d1d0688401b3516c26a8c951a93794f7b4b54345f67d8ed852a0328acc4f0"
    );
    let base =
        "https://ci-cache.s3.dualstack.eu-west-1.amazonaws.com/runner/abcdefgh/project/7/default?";
    assert!(down.url.expose_secret().starts_with(base));
    assert_eq!(down.valid_until, at(NOW + 3600));

    let minio = S3 {
        keys: these("AKIDEXAMPLE", SECRET, Some("session/token==")),
        region: Some("us-east-1".to_owned()),
        ..s3("MinIO.internal:9000")
    };
    let minio = store(&shared(of_s3(minio)));
    let (down, _) = both(&minio, "a b/ü+&=%'(~.zip", HOUR).await;
    assert_eq!(
        query(&down, "X-Amz-Signature"),
        "3fcd76c536fa37e3b19fcc9a3fbb3cb5c605be66fd27ae049c0a1a447cdcd969"
    );
    let base = "http://minio.internal:9000/ci-cache/project/7/a%20b/%C3%BC%2B%26%3D%25%27%28~.zip?";
    assert!(down.url.expose_secret().starts_with(base));
    assert_eq!(query(&down, "X-Amz-Security-Token"), "session/token==");

    let kms = S3 {
        encryption: Some(S3Encryption::Kms(Some(
            "arn:aws:kms:eu-west-1:1:key/k".to_owned(),
        ))),
        ..aws
    };
    let (down, up) = both(&store(&shared(of_s3(kms))), "default", 1000 * HOUR).await;
    assert_eq!(
        query(&up, "X-Amz-Signature"),
        "a11a62817d626fc096492af7589ef37cdff011d13558b9268ea09b7ccb0c0365"
    );
    assert_eq!(query(&up, "X-Amz-Expires"), "604800", "seven days at most");
    assert_eq!(
        up.headers,
        [
            field("x-amz-server-side-encryption", "aws:kms"),
            field(
                "x-amz-server-side-encryption-aws-kms-key-id",
                "arn:aws:kms:eu-west-1:1:key/k"
            ),
        ]
    );
    assert!(down.headers.is_empty());
}

fn gcs(private_key: &str, universe: Option<&str>) -> Cache {
    cache(CacheStore::Gcs(Box::new(Gcs {
        bucket: "ci-cache".to_owned(),
        key: GcsKey::This {
            access_id: ACCOUNT.to_owned(),
            private_key: private_key.into(),
        },
        universe: universe.map(str::to_owned),
    })))
}

#[tokio::test]
async fn googles_addresses_are_those_of_its_library() {
    let one_line = PKCS8.replace('\n', "\\n");
    for private_key in [PKCS8, PKCS1, &one_line] {
        let (down, up) = both(&store(&gcs(private_key, None)), "default", HOUR).await;
        assert_eq!(
            down.url.expose_secret(),
            "https://storage.googleapis.com/ci-cache/runner/abcdefgh/project/7/default?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=cache%40ci.iam.gserviceaccount.com%2F20260302%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20260302T120000Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature=47bd4dc56eb9111a47e26d5e16d14592d13e15abba46df77c2bd2024d2151edc5dfb7ffc345c89b9aad9f67e7ce1b4d66c045fcf3c5d0986a70a4329649cd1ba034411fd0c8ba2f5ec05e9cb202bc528774fc91d0b398a9975de3b84fee86ed129da6d2ebf1079ba1bf791814a6b7c53add178823dfff3b9332f287ca97ff4dd2402ed2e7cb34c815ad150117d4fd7e6af2e0a31fd39ff67cb9c7a01fdb79ab762517dbaf286c03aec7230224eb77ba1bee7bde3e72e14664270f73c2ebb42d72448740ba332579e5421a99a864bdb2e357c3b88b8b82bba7331383b582aa01a7a53f5e0a55dabd376128a2bd1e6b0b8216d303058f1d456ff85e18a7b32b695"
        );
        assert!(down.headers.is_empty());
        let kind = field("content-type", "application/octet-stream");
        assert_eq!(up.headers, [kind]);
    }
    let limited = Cache {
        max_uploaded_archive_size: 1000,
        ..shared(gcs(PKCS8, None))
    };
    let (_, up) = both(&store(&limited), "a b/ü~.zip", HOUR).await;
    assert_eq!(
        up.url.expose_secret(),
        "https://storage.googleapis.com/ci-cache/project/7/a%20b/%C3%BC~.zip?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=cache%40ci.iam.gserviceaccount.com%2F20260302%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20260302T120000Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=content-type%3Bhost%3Bx-goog-content-length-range&X-Goog-Signature=717bf450f0353b1a427d756c97dce9fa5a7d2501f3de2c29b9708481be75e2e735b165785fda343f1c8eb8c308b14e3f70a3baa7a2c14af599476454ec5edee1b0ffac4c39f0c98d6577d709c7a40e85ce9d0cc318289ae51cb65afe2bdebd63a7e09e9632a19ca9819020809002f22979d51d73daecaa1fcc7b47138afa04e7a2ce062ddd7430a08bd23b8c1627a26e95eaf7d4db21498622fac0bed013f02bbba53800def4c4f11966b0d991a7c02c3cc153d4acb8d7a20eafa3047a26f4db6c07851496063bdf6c1e2fd1f95171f958999746aa620475f5ffc628b92b29a11a96bdc7df925fd040018913110ccc80ec302d87886eed2295527051b8946b2d"
    );
    assert_eq!(
        up.headers[1],
        field("x-goog-content-length-range", "0,1000")
    );
    let elsewhere = shared(gcs(PKCS8, Some("example.goog")));
    let (down, _) = both(&store(&elsewhere), "default", HOUR).await;
    assert_eq!(
        down.url.expose_secret(),
        "https://storage.example.goog/ci-cache/project/7/default?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=cache%40ci.iam.gserviceaccount.com%2F20260302%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20260302T120000Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature=2fcd9eb89a9c62e1e164a8c9339c95cbe8a2a65de8014dc4f9745861d23fb97ec019d9bd0dec7e4146d962373ac34ccf42f592b57a4fc310a0ad3825b43916b79546284e8d6c66431f91f8be181d2ef36bb233235eb2d551d852b1c759fea17d5921cbe2f77e7c6122839305b5999ea3cfedf456aa117e65158fa1dec98239da251bd77e86e7ee07026d853b96753d6443999a0b659ea9cb9586f7c6c1fb86e9773902a516509ebc27acf42aeda534e6f0d310906b07324c9d3456aadd518e878dc53a4ca0fdc3f79232e540d3abab992dd0a64c508491c04965248c597a2d0005a7ee7d2f9509bd01dda1ef4c1ee5d0ca34b9f12d372b1ab6294bd1a3ce808a"
    );
}

#[tokio::test]
async fn a_service_accounts_file_is_read_when_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    let store = store(&shared(cache(CacheStore::Gcs(Box::new(Gcs {
        bucket: "ci-cache".to_owned(),
        key: GcsKey::File(path.clone()),
        universe: None,
    })))));
    let object = store.object("", 7, &key("default")).unwrap();
    let ask = || store.download(&object, HOUR, at(NOW));
    let refused = |error: CacheError, words: &str| {
        assert!(matches!(error, CacheError::NoCredentials(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words) && !text.contains("MIIE"), "{text}");
    };
    let write = |path: &Path, value: &serde_json::Value| {
        std::fs::write(path, value.to_string()).unwrap();
    };
    refused(ask().await.unwrap_err(), "No such file");
    std::fs::write(&path, "{\"private_key\": \"MIIE").unwrap();
    refused(ask().await.unwrap_err(), "line 1");
    write(&path, &serde_json::json!({"type": "authorized_user"}));
    refused(ask().await.unwrap_err(), "authorized_user");
    let account = |key: &str| {
        serde_json::json!({
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key": key,
            "universe_domain": "example.goog",
        })
    };
    write(&path, &account("MIIE"));
    refused(ask().await.unwrap_err(), "PEM");
    write(&path, &account(PKCS8));
    let signed = ask().await.unwrap();
    assert_eq!(
        signed.url.expose_secret(),
        "https://storage.example.goog/ci-cache/project/7/default?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=cache%40ci.iam.gserviceaccount.com%2F20260302%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20260302T120000Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature=2fcd9eb89a9c62e1e164a8c9339c95cbe8a2a65de8014dc4f9745861d23fb97ec019d9bd0dec7e4146d962373ac34ccf42f592b57a4fc310a0ad3825b43916b79546284e8d6c66431f91f8be181d2ef36bb233235eb2d551d852b1c759fea17d5921cbe2f77e7c6122839305b5999ea3cfedf456aa117e65158fa1dec98239da251bd77e86e7ee07026d853b96753d6443999a0b659ea9cb9586f7c6c1fb86e9773902a516509ebc27acf42aeda534e6f0d310906b07324c9d3456aadd518e878dc53a4ca0fdc3f79232e540d3abab992dd0a64c508491c04965248c597a2d0005a7ee7d2f9509bd01dda1ef4c1ee5d0ca34b9f12d372b1ab6294bd1a3ce808a",
        "and the file's universe counts"
    );
}

#[tokio::test]
async fn azures_addresses_are_those_of_its_library() {
    let azure = |key: &str| {
        cache(CacheStore::Azure(Box::new(Azure {
            account: "ciaccount".to_owned(),
            key: key.into(),
            container: "ci-cache".to_owned(),
            domain: "blob.core.windows.net".to_owned(),
        })))
    };
    let right = azure("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let (down, _) = both(&store(&right), "default", HOUR).await;
    assert_eq!(
        query(&down, "sig"),
        "ngx3Sp2BP2Q44p77QlxW4DZytQE+3+qSLB/xROhQ34M="
    );
    let base =
        "https://ciaccount.blob.core.windows.net/ci-cache/runner/abcdefgh/project/7/default?";
    assert!(down.url.expose_secret().starts_with(base));
    for (name, value) in [
        ("sv", "2020-12-06"),
        ("se", "2026-03-02T13:00:00Z"),
        ("sp", "r"),
        ("spr", "https"),
        ("sr", "b"),
    ] {
        assert_eq!(query(&down, name), value);
    }
    let (_, up) = both(&store(&shared(right)), "a b/ü+.zip", HOUR).await;
    assert_eq!(
        query(&up, "sig"),
        "9NZpcjYTGMsvCcJ6O1hWuLdfQ1lRuFxY/zlczPuXKbI="
    );
    assert_eq!(query(&up, "sp"), "cw");
    assert!(up.url.expose_secret().contains("/a%20b/%C3%BC%2B.zip?"));
    assert_eq!(up.headers[1], field("x-ms-blob-type", "BlockBlob"));
    let wrong = azure("not base64!");
    let error = Store::new(&wrong, &StoreOptions::default()).unwrap_err();
    assert!(matches!(error, CacheError::Misconfigured(_)));
    assert!(!error.to_string().contains("not base64!"), "{error}");
}

#[tokio::test]
async fn a_bucket_is_where_its_server_has_it() {
    let aws = |dual_stack, accelerate| S3Endpoint::Aws {
        dual_stack,
        accelerate,
    };
    let at = |address: &str, insecure| S3Endpoint::At {
        address: address.to_owned(),
        insecure,
    };
    let west = Some("eu-west-1");
    #[rustfmt::skip]
    let cases = [
        (aws(true, false), "b-1", west, None, "https://b-1.s3.dualstack.eu-west-1.amazonaws.com/"),
        (aws(false, false), "b-1", west, None, "https://b-1.s3.eu-west-1.amazonaws.com/"),
        (aws(false, false), "b-1", west, Some(true), "https://s3.eu-west-1.amazonaws.com/b-1/"),
        (aws(true, true), "b-1", west, None, "https://b-1.s3-accelerate.dualstack.amazonaws.com/"),
        (aws(false, true), "b-1", west, None, "https://b-1.s3-accelerate.amazonaws.com/"),
        (aws(false, false), "b.c", west, None, "https://s3.eu-west-1.amazonaws.com/b.c/"),
        (aws(false, false), "b.c", west, Some(false), "https://s3.eu-west-1.amazonaws.com/b.c/"),
        (aws(true, false), "b-1", Some("cn-north-1"), None, "https://b-1.s3.dualstack.cn-north-1.amazonaws.com.cn/"),
        (at("s3.eu-central-1.amazonaws.com", false), "b-1", None, None, "https://b-1.s3.eu-central-1.amazonaws.com/"),
        (at("s3-eu-central-1.amazonaws.com", false), "b-1", None, None, "https://b-1.s3-eu-central-1.amazonaws.com/"),
        (at("s3.dualstack.eu-central-1.amazonaws.com:443", false), "b-1", None, None, "https://b-1.s3.dualstack.eu-central-1.amazonaws.com/"),
        (at("minio:9000", true), "b-1", west, None, "http://minio:9000/b-1/"),
        (at("minio:9000", true), "b-1", west, Some(false), "http://b-1.minio:9000/"),
        (at("minio:9000", true), "b.c", west, Some(false), "http://b.c.minio:9000/"),
        (at("minio:9000", false), "b_c", west, Some(false), "https://minio:9000/b_c/"),
        (at("10.0.0.7:9000", true), "b-1", west, Some(false), "http://10.0.0.7:9000/b-1/"),
        (at("[::1]:9000", true), "b-1", west, Some(false), "http://[::1]:9000/b-1/"),
        (at("minio:443", false), "b-1", west, None, "https://minio/b-1/"),
        (at("minio:80", true), "b-1", west, None, "http://minio/b-1/"),
        (at("minio:80", false), "b-1", west, None, "https://minio:80/b-1/"),
        (at("storage.googleapis.com", false), "b-1", west, None, "https://b-1.storage.googleapis.com/"),
        (at("oss-cn-x.aliyuncs.com", false), "b-1", west, None, "https://b-1.oss-cn-x.aliyuncs.com/"),
    ];
    for (endpoint, bucket, region, path_style, expected) in cases {
        let config = S3 {
            endpoint: endpoint.clone(),
            bucket: bucket.to_owned(),
            region: region.map(str::to_owned),
            path_style,
            ..s3("")
        };
        let (down, _) = both(&store(&shared(of_s3(config))), "k", HOUR).await;
        let url = down.url.expose_secret();
        let expected = format!("{expected}project/7/k?");
        assert!(url.starts_with(&expected), "{endpoint:?} {bucket}: {url}");
        let scope = format!("/{}/s3/", region.unwrap_or("eu-central-1"));
        assert!(query(&down, "X-Amz-Credential").contains(&scope), "{url}");
    }
}

#[tokio::test]
async fn neither_keys_nor_addresses_are_shown() {
    let config = of_s3(S3 {
        keys: these("AKIDEXAMPLE", SECRET, Some("session/token==")),
        region: Some("us-east-1".to_owned()),
        ..s3("minio:9000")
    });
    let store = store(&config);
    let (down, _) = both(&store, "k", HOUR).await;
    for shown in [
        format!("{down:?}"),
        format!("{store:?}"),
        format!("{config:?}"),
    ] {
        for secret in ["X-Amz-Signature", SECRET, "session/token=="] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
