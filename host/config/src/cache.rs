//! `[runners.cache]` as it was read: what can't work together can't be said.

use secrecy::SecretString;
use std::path::PathBuf;

/// `[runners.cache]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Before the name of every archive.
    pub path: String,
    /// Whether runners share archives.
    pub shared: bool,
    /// Most bytes of an archive; 0 is no limit.
    pub max_uploaded_archive_size: u64,
    /// Where archives are.
    pub store: CacheStore,
}

/// Where archives of caches are.
#[derive(Clone, Debug)]
pub enum CacheStore {
    /// `Type = "s3"`.
    S3(Box<S3>),
    /// `Type = "gcs"`.
    Gcs(Box<Gcs>),
    /// `Type = "azure"`.
    Azure(Box<Azure>),
}

/// `[runners.cache.s3]`.
#[derive(Clone, Debug)]
pub struct S3 {
    /// `ServerAddress` and what depends on it.
    pub endpoint: S3Endpoint,
    /// `AuthenticationType` and the keys.
    pub keys: S3Keys,
    /// `BucketName`.
    pub bucket: String,
    /// `BucketLocation`: the bucket's region; `None`: the bucket is asked.
    pub region: Option<String>,
    /// `PathStyle`: the bucket in the path instead of the host's name; `None`: yes, but at AWS,
    /// Google and Alibaba.
    pub path_style: Option<bool>,
    /// `ServerSideEncryption`.
    pub encryption: Option<S3Encryption>,
    /// `RoleARN`, or `UploadRoleARN`.
    pub role: Option<S3Role>,
    /// `AssumeRoleMaxConcurrency`: most sessions of a role asked for at once; `None` is no limit.
    /// Missing: 5.
    pub sessions_at_once: Option<u32>,
    /// Whether sessions of a role are used again, which `DisableAssumeRoleCredentialsCaching` turns
    /// off.
    pub sessions_kept: bool,
}

/// Which S3 it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Endpoint {
    /// AWS's, at the address for the bucket's region.
    Aws {
        /// `DualStack`: an address of both IP versions.
        dual_stack: bool,
        /// `Accelerate`: transfer acceleration.
        accelerate: bool,
    },
    /// A server.
    At {
        /// `host` or `host:port`.
        address: String,
        /// `Insecure`: plain HTTP.
        insecure: bool,
    },
}

/// Where the keys of S3 come from.
#[derive(Clone, Debug)]
pub enum S3Keys {
    /// `iam`: where AWS's tools find them on the manager's machine.
    Iam,
    /// `access-key`: these.
    These {
        /// Name of the key.
        access_key: SecretString,
        /// The key.
        secret_key: SecretString,
        /// The session it belongs to.
        session_token: Option<SecretString>,
    },
}

/// How S3 encrypts archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys of S3's own: `AES256`.
    S3,
    /// With a key of KMS: `aws:kms`.
    Kms(Option<String>),
    /// Twice, with a key of KMS: `aws:kms:dsse`.
    DsseKms(Option<String>),
}

/// A role that is taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Role {
    /// For downloads and uploads.
    Transfers(String),
    /// For uploads alone.
    Uploads(String),
}

impl S3Role {
    /// Its name.
    #[must_use]
    pub fn arn(&self) -> &str {
        match self {
            S3Role::Transfers(arn) | S3Role::Uploads(arn) => arn,
        }
    }
}

/// `[runners.cache.gcs]`.
#[derive(Clone, Debug)]
pub struct Gcs {
    /// `BucketName`.
    pub bucket: String,
    /// What addresses are signed with.
    pub key: GcsKey,
    /// `UniverseDomain`; `None`: what the key's file says, else `googleapis.com`.
    pub universe: Option<String>,
}

/// The key of a service account.
#[derive(Clone, Debug)]
pub enum GcsKey {
    /// `CredentialsFile`: a service account's file, as Google gives it out.
    File(PathBuf),
    /// `AccessID` and `PrivateKey`.
    This {
        /// The account's address.
        access_id: String,
        /// Its RSA key, PEM.
        private_key: SecretString,
    },
}

/// `[runners.cache.azure]`.
#[derive(Clone, Debug)]
pub struct Azure {
    /// `AccountName`.
    pub account: String,
    /// `AccountKey`, Base64.
    pub key: SecretString,
    /// `ContainerName`.
    pub container: String,
    /// `StorageDomain`. Missing: `blob.core.windows.net`.
    pub domain: String,
}

/// Whether a bucket's name can be a part of a host's: no dots, for certificates have none there.
pub(crate) fn is_host_name(bucket: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=63).contains(&bucket.len())
        && bucket.chars().all(fits)
        && !bucket.starts_with('-')
        && !bucket.ends_with('-')
}

impl S3 {
    /// Whether the bucket is in the path of addresses, instead of in the host's name.
    #[must_use]
    pub fn in_path(&self) -> bool {
        let (name, insecure) = match &self.endpoint {
            S3Endpoint::Aws { .. } => ("", false),
            S3Endpoint::At { address, insecure } => (address.as_str(), *insecure),
        };
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
        let named = match insecure {
            // No certificate is in the way of dots.
            true => is_host_name(&self.bucket.replace('.', "a")),
            false => is_host_name(&self.bucket),
        };
        let is_number = name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[');
        if !named || is_number {
            return true;
        }
        self.path_style.unwrap_or_else(|| {
            let ends = |end: &str| name.ends_with(end);
            let virtual_hosts = name.is_empty()
                || ends(".amazonaws.com")
                || ends(".amazonaws.com.cn")
                || name == "storage.googleapis.com"
                || ends(".aliyuncs.com");
            !virtual_hosts
        })
    }
}
