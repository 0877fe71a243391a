//! Where archives are: one configured store, asked for signed addresses.

use crate::azure::AzureStore;
use crate::gcs::GcsStore;
use crate::s3::S3Store;
use crate::signed::{Way, lifetime};
use crate::{CacheError, CacheKey, Keys, NameError, ObjectName, Signed};
use springtide_config::{Cache, CacheStore};
use std::time::{Duration, SystemTime};
use url::Url;

/// What is not in the file.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Where sessions of a role are asked for; `None`: at AWS, in the bucket's region.
    pub sts: Option<Url>,
}

/// A configured store. It is made once for a runner and kept: it remembers the bucket's region, keys
/// that were found and sessions of a role.
#[derive(Debug)]
pub struct Store {
    path: String,
    shared: bool,
    largest: u64,
    at: At,
}

#[derive(Debug)]
enum At {
    S3(Box<S3Store>),
    Gcs(GcsStore),
    Azure(AzureStore),
}

/// A key that a cache may be restored from.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The key.
    pub key: CacheKey,
    /// Where its archive is downloaded from.
    pub from: Signed,
}

impl Store {
    /// The store of a runner's `[runners.cache]`. Nothing is asked or read yet.
    ///
    /// # Errors
    /// [`CacheError::Misconfigured`].
    pub fn new(config: &Cache, options: &StoreOptions) -> Result<Store, CacheError> {
        let at = match &config.store {
            CacheStore::S3(s3) => At::S3(Box::new(S3Store::new(s3, options)?)),
            CacheStore::Gcs(gcs) => At::Gcs(GcsStore::new(gcs, config.max_uploaded_archive_size)),
            CacheStore::Azure(azure) => At::Azure(AzureStore::new(azure)?),
        };
        Ok(Store {
            path: config.path.clone(),
            shared: config.shared,
            largest: config.max_uploaded_archive_size,
            at,
        })
    }

    /// Most bytes of an archive that is uploaded; `None` is no limit.
    #[must_use]
    pub fn largest_archive(&self) -> Option<u64> {
        (self.largest > 0).then_some(self.largest)
    }

    /// The object of a key of a project's. `runner` is the runner's short token, which is in the name
    /// unless runners share their caches.
    ///
    /// # Errors
    /// Where the key can't have one.
    pub fn object(
        &self,
        runner: &str,
        project_id: i64,
        key: &CacheKey,
    ) -> Result<ObjectName, NameError> {
        let runner = (!self.shared).then_some(runner);
        ObjectName::new(&self.path, runner, project_id, key)
    }

    /// An address to download an object from, for as long as that: seven days at most.
    ///
    /// # Errors
    /// Where none can be signed.
    pub async fn download(
        &self,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        self.sign(Way::Download, object, valid_for, now).await
    }

    /// An address to upload an object to, for as long as that: seven days at most. It is best asked
    /// for when the archive is about to be made: keys it is signed with may end before the job.
    ///
    /// # Errors
    /// Where none can be signed.
    pub async fn upload(
        &self,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        self.sign(Way::Upload, object, valid_for, now).await
    }

    /// Where a cache may be restored from, in the order of its keys. A key without an address is left
    /// out, and why is added to `warnings`, in words for the trace.
    pub async fn restores(
        &self,
        runner: &str,
        project_id: i64,
        keys: &Keys,
        valid_for: Duration,
        now: SystemTime,
        warnings: &mut Vec<String>,
    ) -> Vec<Restore> {
        let mut restores = Vec::new();
        for key in keys.all() {
            let object = match self.object(runner, project_id, key) {
                Ok(object) => object,
                Err(error) => {
                    warnings.push(error.to_string());
                    continue;
                }
            };
            match self.download(&object, valid_for, now).await {
                Ok(from) => restores.push(Restore {
                    key: key.clone(),
                    from,
                }),
                Err(error) => {
                    let warning = error.to_string();
                    // What is wrong with one is mostly wrong with all.
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
            }
        }
        restores
    }

    async fn sign(
        &self,
        way: Way,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        let valid_for = lifetime(valid_for);
        match &self.at {
            At::S3(s3) => s3.sign(way, object, valid_for, now).await,
            At::Gcs(gcs) => gcs.sign(way, object, valid_for, now).await,
            At::Azure(azure) => azure.sign(way, object, valid_for, now),
        }
    }
}
