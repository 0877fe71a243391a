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
    insta::assert_snapshot!(problems(&file("Type = \"s3\"\n[runners.cache.s3]\nInsecure = true")), @r#"
    9:1: warning: `BucketName` is missing, and no cache is kept; write BucketName = and a name
    10:12: warning: `Insecure` is not used: AWS is reached by HTTPS; delete it
    "#);
    insta::assert_snapshot!(problems(&file("[runners.cache.gcs]\nBucketName = \"b\"")), @r#"8:16: warning: there is [runners.cache.gcs] and no `Type`, and no cache is kept; write Type = "gcs" in [runners.cache]"#);
    insta::assert_snapshot!(problems(&file("Type = \"gcs\"\n[runners.cache.gcs]\nBucketName = \"b/c\"")), @r#"
    9:1: warning: `AccessID` is missing, and no cache is kept; write CredentialsFile = and the path of a service account's key, or AccessID and PrivateKey; addresses can't be signed with the account of the manager's machine
    9:1: warning: `PrivateKey` is missing, and no cache is kept; write CredentialsFile = and the path of a service account's key, or AccessID and PrivateKey; addresses can't be signed with the account of the manager's machine
    10:14: warning: `BucketName` "b/c" can't be a part of an address, and no cache is kept; write BucketName = and letters, digits, '-', '.' and '_'; what comes before the names of archives is `Path` of [runners.cache]
    "#);
    insta::assert_snapshot!(problems(&file("Type = \"gcs\"\n[runners.cache.gcs]\nBucketName = \"b\"\nAccessID = \"a\"")), @r#"9:1: warning: `PrivateKey` is missing, and no cache is kept; write CredentialsFile = and the path of a service account's key, or AccessID and PrivateKey; addresses can't be signed with the account of the manager's machine"#);
    insta::assert_snapshot!(problems(&file("Type = \"azure\"\n[runners.cache.azure]\nContainerName = \"c\"\nAccountName = \"a\"")), @r#"9:1: warning: `AccountKey` is missing, and no cache is kept; write AccountKey = "...": addresses can't be signed with an identity of the manager's machine"#);
}

#[test]
fn keys_of_s3_that_are_not_obeyed_are_named() {
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"https://s3.example.com\"\nAuthenticationType = \"access-key\"").1, @r#"
    11:17: warning: `ServerAddress` is a host and a port, without a scheme; write ServerAddress = "host:port", and Insecure = true for plain HTTP
    12:22: warning: `AuthenticationType` is "access-key" and `AccessKey` is missing, and no cache is kept; write AccessKey = "...", or AuthenticationType = "iam"
    12:22: warning: `AuthenticationType` is "access-key" and `SecretKey` is missing, and no cache is kept; write SecretKey = "...", or AuthenticationType = "iam"
    "#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nAuthenticationType = \"role\"").1, @r#"11:22: warning: there is no `AuthenticationType` "role", and no cache is kept; write AuthenticationType = "access-key" or "iam""#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nAccessKey = \"a\"\nSecretKey = \"b\"").1, @r#"
    11:1: warning: `AccessKey` is not used: without `ServerAddress`, `AccessKey` and `SecretKey` together the keys are those of the manager's machine; write AuthenticationType = "access-key", or delete it
    12:1: warning: `SecretKey` is not used: without `ServerAddress`, `AccessKey` and `SecretKey` together the keys are those of the manager's machine; write AuthenticationType = "access-key", or delete it
    "#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nAuthenticationType = \"IAM\"\nSessionToken = \"a\"").1, @r#"12:1: warning: `SessionToken` is not used: `AuthenticationType` is "iam"; write AuthenticationType = "access-key", or delete it"#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"minio/ci\"").1, @r#"11:17: warning: `ServerAddress` is no address of a server, and no cache is kept; write ServerAddress = "host" or "host:port""#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerAddress = \"minio:9000\"\nAccelerate = true\nDualStack = true\nUploadRoleARN = \"arn:a\"").1, @r#"
    12:1: warning: `Accelerate` is not used: it is for s3.amazonaws.com alone; delete it, or delete `ServerAddress` and write the bucket's region in `BucketLocation`
    13:1: warning: `DualStack` is not used: it is for s3.amazonaws.com alone; delete it, or delete `ServerAddress` and write the bucket's region in `BucketLocation`
    14:1: warning: `UploadRoleARN` is the old name of `RoleARN`, and for uploads alone; write RoleARN
    "#);
    insta::assert_snapshot!(s3("BucketName = \"bucket\"\nInsecure = true\nAccelerate = true\nPathStyle = true").1, @r#"
    11:12: warning: `Insecure` is not used: AWS is reached by HTTPS; delete it
    13:13: warning: `PathStyle` is not used, for there is none with `Accelerate`; delete one of them
    "#);
    insta::assert_snapshot!(s3("BucketName = \"b.c\"\nAccelerate = true\nServerSideEncryption = \"rot13\"").1, @r#"
    11:14: warning: `Accelerate` is not used: the bucket's name would have to be one of a host, without dots; delete it, or take another bucket
    12:24: warning: there is no `ServerSideEncryption` "rot13", and none is used; write "S3", "KMS" or "DSSE-KMS"
    "#);
    insta::assert_snapshot!(s3("BucketName = \"b\"\nServerSideEncryption = \"S3\"\nServerSideEncryptionKeyID = \"k\"").1, @r#"12:1: warning: `ServerSideEncryptionKeyID` is not used: it is for `ServerSideEncryption` with KMS; write ServerSideEncryption = "KMS", or delete it"#);
}

#[test]
fn a_table_of_s3_without_a_type_is_taken_for_it() {
    let (cache, told) = cache("[runners.cache.s3]\nBucketName = \"b\"");
    assert!(matches!(cache.unwrap().store, CacheStore::S3(_)));
    insta::assert_snapshot!(told, @r#"8:16: warning: there is [runners.cache.s3] and no `Type`, and this is taken for it; write Type = "s3" in [runners.cache]"#);
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
