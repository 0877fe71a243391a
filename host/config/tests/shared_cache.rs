//! `[runners.cache]`: what is read, and what is told of what can't work.
#![allow(missing_docs)]

mod common;

use common::{lines, problems, read, runner};
use springtide_config::{Cache, CacheStore, GcsKey, S3, S3Encryption, S3Endpoint, S3Keys, S3Role};

/// A runner with this in `[runners.cache]`, which begins in line 7.
fn file(cache: &str) -> String {
    runner(&format!("[runners.cache]\n{cache}"))
}

fn cache(text: &str) -> (Option<Cache>, String) {
    let (config, problems) = read(&file(text));
    let cache = config.unwrap().runners.remove(0).cache;
    (cache, lines(&problems))
}

/// What is read of `[runners.cache.s3]`, and what is told; the table begins in line 9.
fn s3(text: &str) -> (Option<S3>, String) {
    let (cache, told) = cache(&format!("Type = \"s3\"\n[runners.cache.s3]\n{text}"));
    let s3 = cache.map(|cache| match cache.store {
        CacheStore::S3(s3) => *s3,
        other => panic!("{other:?}"),
    });
    (s3, told)
}

#[test]
fn caches_that_can_not_work_are_warnings() {
    insta::assert_snapshot!(problems(&file("Type = \"s4\"")), @r#"8:8: warning: there is no cache of type "s4", and none is kept; write Type = "s3""#);
    insta::assert_snapshot!(problems(&file("Type = \"s3\"")), @"8:8: warning: there is no [runners.cache.s3], and no cache is kept; write [runners.cache.s3]");
    insta::assert_snapshot!(problems(&file("Type = \"s3\"\n[runners.cache.s3]\nInsecure = true")), @"");
    insta::assert_snapshot!(problems(&file("[runners.cache.gcs]\nBucketName = \"b\"")), @"");
    insta::assert_snapshot!(problems(&file("Type = \"gcs\"\n[runners.cache.gcs]\nBucketName = \"b/c\"")), @"");
    insta::assert_snapshot!(problems(&file("Type = \"gcs\"\n[runners.cache.gcs]\nBucketName = \"b\"\nAccessID = \"a\"")), @"");
    insta::assert_snapshot!(problems(&file("Type = \"azure\"\n[runners.cache.azure]\nContainerName = \"c\"\nAccountName = \"a\"")), @"");
}

#[test]
fn keys_of_s3_that_are_not_obeyed_are_named() {
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"https://s3.example.com\"\nAuthenticationType = \"access-key\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b\"\nAuthenticationType = \"role\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b\"\nAccessKey = \"a\"\nSecretKey = \"b\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"minio/ci\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"minio:9000\"\nAccelerate = true\nDualStack = true\nUploadRoleARN = \"arn:a\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"bucket\"\nInsecure = true\nAccelerate = true\nPathStyle = true").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b.c\"\nAccelerate = true\nServerSideEncryption = \"rot13\"").1, @"");
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerSideEncryption = \"S3\"\nServerSideEncryptionKeyID = \"k\"").1, @"");
}

#[test]
fn a_table_of_s3_without_a_type_is_taken_for_it() {
    let (cache, told) = cache("[runners.cache.s3]\nBucketName = \"b\"");
    assert!(matches!(cache.unwrap().store, CacheStore::S3(_)));
    insta::assert_snapshot!(told, @"");
    let (cache, told) =
        self::cache("[runners.cache.s3]\n[runners.cache.gcs]\n[runners.cache.azure]");
    assert!(
        cache.is_none() && told.is_empty(),
        "as GitLab Runner's register writes it: {told}"
    );
}

#[test]
fn the_address_of_websites_is_taken_for_its_regions_own() {
    for (address, server) in [
        (
            "bucket.s3-website-eu-west-1.amazonaws.com",
            "s3.eu-west-1.amazonaws.com",
        ),
        (
            "s3-website.eu-central-1.amazonaws.com",
            "s3.eu-central-1.amazonaws.com",
        ),
    ] {
        let (s3, told) = s3(&format!(
            "BucketName = \"bucket\"\nServerAddress = \"{address}\""
        ));
        let s3 = s3.unwrap();
        let S3Endpoint::At { address, .. } = &s3.endpoint else {
            panic!("{s3:?}");
        };
        assert_eq!(address, server);
        assert!(s3.region.is_some() && !s3.in_path());
        assert!(told.contains("warning") && told.contains(server), "{told}");
    }
}

#[test]
fn where_the_keys_of_s3_come_from_is_as_in_gitlab_runner() {
    let all = "ServerAddress = \"minio:9000\"\nAccessKey = \"a\"\nSecretKey = \"b\"\n";
    let given = "AccessKey = \"a\"\nSecretKey = \"b\"\nSessionToken = \"c\"\n";
    for (text, these) in [
        (all.to_owned(), true),
        (format!("{all}AuthenticationType = \"IAM\""), false),
        (format!("{given}AuthenticationType = \"Access-Key\""), true),
        (given.to_owned(), false),
        (String::new(), false),
        ("ServerAddress = \"minio:9000\"".to_owned(), false),
    ] {
        let (s3, _) = s3(&format!("BucketName = \"b\"\n{text}"));
        let keys = s3.unwrap().keys;
        assert_eq!(matches!(keys, S3Keys::These { .. }), these, "{text}");
    }
}

#[test]
fn every_spelling_of_s3s_keys_is_read() {
    let read = |text: &str| {
        let (s3, told) = s3(&format!("BucketName = \"b\"\n{text}"));
        assert_eq!(told, "", "{text}");
        s3.unwrap()
    };
    for (text, encryption) in [
        ("S3", S3Encryption::S3),
        ("aes256", S3Encryption::S3),
        ("kms", S3Encryption::Kms(None)),
        ("AWS:KMS", S3Encryption::Kms(None)),
        ("Dsse-Kms", S3Encryption::DsseKms(None)),
        ("aws:kms:dsse", S3Encryption::DsseKms(None)),
    ] {
        let s3 = read(&format!("ServerSideEncryption = \"{text}\""));
        assert_eq!(s3.encryption, Some(encryption), "{text}");
    }
    let with_key = "ServerSideEncryption = \"KMS\"\nServerSideEncryptionKeyID = \"k\"";
    let key = Some("k".to_owned());
    assert_eq!(read(with_key).encryption, Some(S3Encryption::Kms(key)));
    let aws = |dual_stack, accelerate| S3Endpoint::Aws {
        dual_stack,
        accelerate,
    };
    for (text, endpoint) in [
        ("", aws(true, false)),
        ("DualStack = false", aws(false, false)),
        ("ServerAddress = \"s3.amazonaws.com:443\"", aws(true, false)),
        (
            "ServerAddress = \"minio:9000\"\nInsecure = true",
            S3Endpoint::At {
                address: "minio:9000".to_owned(),
                insecure: true,
            },
        ),
    ] {
        assert_eq!(read(text).endpoint, endpoint, "{text}");
    }
    let (accelerated, told) = s3("BucketName = \"bucket\"\nAccelerate = true");
    assert_eq!(
        (accelerated.unwrap().endpoint, told.as_str()),
        (aws(true, true), "")
    );
    for (text, at_once) in [
        ("", Some(5)),
        ("AssumeRoleMaxConcurrency = 0", Some(5)),
        ("AssumeRoleMaxConcurrency = 2", Some(2)),
        ("AssumeRoleMaxConcurrency = -1", None),
    ] {
        assert_eq!(read(text).sessions_at_once, at_once, "{text}");
    }
    assert!(read("").sessions_kept);
    assert!(!read("DisableAssumeRoleCredentialsCaching = true").sessions_kept);
    assert_eq!(
        read("RoleARN = \"arn:a\"").role,
        Some(S3Role::Transfers("arn:a".to_owned()))
    );
    let (s3, _) = s3("BucketName = \"b\"\nUploadRoleARN = \"arn:a\"");
    assert_eq!(s3.unwrap().role, Some(S3Role::Uploads("arn:a".to_owned())));
}

#[test]
fn googles_and_azures_tables_are_read() {
    let (google, told) = cache(
        "Type = \"gcs\"\nPath = \"ci\"\nShared = true\nMaxUploadedArchiveSize = 9\n[runners.cache.gcs]\nBucketName = \"b\"\nCredentialsFile = \"/k.json\"\nUniverseDomain = \"example.goog\"",
    );
    assert_eq!(told, "");
    let google = google.unwrap();
    assert_eq!(
        (
            google.path.as_str(),
            google.shared,
            google.max_uploaded_archive_size
        ),
        ("ci", true, 9)
    );
    let CacheStore::Gcs(gcs) = google.store else {
        panic!("no store at Google");
    };
    assert!(matches!(gcs.key, GcsKey::File(path) if path.to_str() == Some("/k.json")));
    assert_eq!(gcs.universe.as_deref(), Some("example.goog"));
    let (azure, told) = cache(
        "Type = \"azure\"\n[runners.cache.azure]\nContainerName = \"c\"\nAccountName = \"a\"\nAccountKey = \"aGlkZXRoaXM=\"",
    );
    assert_eq!(told, "");
    let azure = azure.unwrap();
    assert!(!format!("{azure:?}").contains("aGlkZXRoaXM"), "{azure:?}");
    let CacheStore::Azure(azure) = azure.store else {
        panic!("no store at Azure");
    };
    assert_eq!(azure.domain, "blob.core.windows.net");
}
