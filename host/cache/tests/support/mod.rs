//! What the tests of several files use.
#![allow(dead_code)]

use springtide_cache::{CacheKey, Job, Keys, Store, StoreOptions};
use springtide_config::{Cache, CacheStore, S3, S3Endpoint, S3Keys};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub fn key(text: &str) -> CacheKey {
    let job = Job {
        name: "build",
        ref_name: "main",
        hash_keys: false,
    };
    let keys = Keys::of(&job, text, &[], "", str::to_owned, &mut Vec::new());
    keys.unwrap().key
}

pub fn cache(store: CacheStore) -> Cache {
    Cache {
        path: String::new(),
        shared: false,
        max_uploaded_archive_size: 0,
        store,
    }
}

/// The same, shared by runners.
pub fn shared(cache: Cache) -> Cache {
    Cache {
        shared: true,
        ..cache
    }
}

pub fn store(config: &Cache) -> Store {
    Store::new(config, &StoreOptions::default()).unwrap()
}

pub fn these(access_key: &str, secret_key: &str, session_token: Option<&str>) -> S3Keys {
    S3Keys::These {
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        session_token: session_token.map(Into::into),
    }
}

/// A server of plain HTTP, with what else a file leaves out.
pub fn s3(address: &str) -> S3 {
    S3 {
        endpoint: S3Endpoint::At {
            address: address.to_owned(),
            insecure: true,
        },
        keys: these("access", "secret", None),
        bucket: "ci-cache".to_owned(),
        region: None,
        path_style: None,
        encryption: None,
        role: None,
        sessions_at_once: Some(5),
        sessions_kept: true,
    }
}
