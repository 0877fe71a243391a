//! A bucket as S3 has one, with nothing in it at first: of moto, or of a server that verifies
//! signatures.

mod moto;
mod verifying;

use anyhow::Result;
use moto::MotoBucket;
use std::net::Ipv4Addr;
use verifying::VerifyingBucket;

/// The bucket's name.
const NAME: &str = "compat";

/// Whoever may use it, as `tests/compat/runners.toml` has it.
const ACCESS: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A bucket.
pub enum Bucket {
    /// Everything of S3's API, and no signature verified.
    Moto(Box<MotoBucket>),
    /// Signatures are verified.
    Verifying(VerifyingBucket),
}

impl Bucket {
    /// Starts moto at an address of this host and makes the bucket.
    ///
    /// # Errors
    /// Where moto is not set up or does not start.
    pub async fn of_moto(host: Ipv4Addr) -> Result<Bucket> {
        let bucket = MotoBucket::start(host).await?;
        Ok(Bucket::Moto(Box::new(bucket)))
    }

    /// Starts a server that verifies signatures at an address of this host, and makes the bucket.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn verifying(host: Ipv4Addr) -> Result<Bucket> {
        VerifyingBucket::start(host).await.map(Bucket::Verifying)
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Bucket::Moto(bucket) => bucket.host(),
            Bucket::Verifying(bucket) => bucket.host(),
        }
    }

    /// The names of all objects, sorted.
    ///
    /// # Errors
    /// Where the server does not list them.
    pub async fn keys(&self) -> Result<Vec<String>> {
        match self {
            Bucket::Moto(bucket) => bucket.keys().await,
            Bucket::Verifying(bucket) => bucket.keys(),
        }
    }

    /// Puts an object there.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        match self {
            Bucket::Moto(bucket) => bucket.put(key, bytes).await,
            Bucket::Verifying(bucket) => bucket.put(key, &bytes),
        }
    }

    /// What is in an object; nothing where there is none.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Bucket::Moto(bucket) => bucket.get(key).await,
            Bucket::Verifying(bucket) => bucket.get(key),
        }
    }
}
