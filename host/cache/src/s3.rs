//! S3: SigV4 in the query of an address, with keys that are given, found or of a role's session.

mod address;
mod region;
mod role;

use crate::signed::Way;
use crate::{CacheError, ObjectName, Signed, StoreOptions};
use region::Region;
use role::Role;
use secrecy::ExposeSecret;
use springtide_aws::{Aws, AwsKeys, Credentials, Scope, Use};
use springtide_config::{S3, S3Encryption, S3Keys, S3Role};
use std::time::{Duration, SystemTime};

/// How long the manager waits for a connection, and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// Bytes of an answer that are looked at.
const LARGEST: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct S3Store {
    config: S3,
    aws: Aws,
    client: reqwest::Client,
    region: Region,
    role: Option<Role>,
}

impl S3Store {
    pub(crate) fn new(config: &S3, options: &StoreOptions) -> Result<S3Store, CacheError> {
        let keys = match &config.keys {
            S3Keys::Iam => AwsKeys::Chain,
            S3Keys::These {
                access_key,
                secret_key,
                session_token,
            } => AwsKeys::Static {
                access_key_id: access_key.expose_secret().to_owned(),
                secret_access_key: secret_key.clone(),
                session_token: session_token.clone(),
            },
        };
        let role = config
            .role
            .as_ref()
            .map(|role| Role::new(role.arn(), config, options.sts.clone()));
        Ok(S3Store {
            config: config.clone(),
            aws: Aws::new(keys),
            client: client()?,
            region: Region::default(),
            role,
        })
    }

    pub(crate) async fn sign(
        &self,
        way: Way,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        let region = self.region.of(&self.config, &self.client, now).await;
        let keys = self.keys(way, object, &region, valid_for, now).await?;
        let headers = match way {
            Way::Download => Vec::new(),
            Way::Upload => encryption(self.config.encryption.as_ref()),
        };
        let address = address::of(&self.config, &region, object);
        let wanted = Use {
            method: way.method(),
            address: &address,
            headers: &headers,
            valid_for,
        };
        let scope = Scope {
            service: "s3".to_owned(),
            region,
        };
        let url = springtide_aws::presigned(&wanted, &scope, &keys, self.aws.clock(now)).map_err(
            |why| CacheError::Misconfigured(format!("signing an address of S3's: {why}")),
        )?;
        let end = now + valid_for;
        Ok(Signed {
            url,
            headers,
            valid_until: keys.expiry().map_or(end, |expiry| expiry.min(end)),
        })
    }

    /// What an object's address is signed with.
    async fn keys(
        &self,
        way: Way,
        object: &ObjectName,
        region: &str,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Credentials, CacheError> {
        let own = self.aws.keys(region, now).await.map_err(|why| {
            CacheError::NoCredentials(format!(
                "{why}; give this machine a role, or write AccessKey, SecretKey and AuthenticationType = \"access-key\" in [runners.cache.s3]"
            ))
        })?;
        let uploads_alone = matches!(self.config.role, Some(S3Role::Uploads(_)));
        let Some(role) = &self.role else {
            return Ok(own);
        };
        if uploads_alone && way == Way::Download {
            return Ok(own);
        }
        let asking = role::Asking {
            client: &self.client,
            aws: &self.aws,
            own: &own,
            region,
        };
        role.session(&asking, object, valid_for, now).await
    }
}

/// What an upload has to say of encryption.
fn encryption(wanted: Option<&S3Encryption>) -> Vec<(String, String)> {
    let (name, key) = match wanted {
        None => return Vec::new(),
        Some(S3Encryption::S3) => ("AES256", None),
        Some(S3Encryption::Kms(key)) => ("aws:kms", key.as_ref()),
        Some(S3Encryption::DsseKms(key)) => ("aws:kms:dsse", key.as_ref()),
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![field("x-amz-server-side-encryption", name)];
    if let Some(key) = key {
        headers.push(field("x-amz-server-side-encryption-aws-kms-key-id", key));
    }
    headers
}

fn client() -> Result<reqwest::Client, CacheError> {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::debug!("another part of this process chose how TLS is encrypted");
    }
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .user_agent(concat!("springtide/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            CacheError::Misconfigured(format!("the manager's HTTP client does not start: {error}"))
        })
}

/// An answer's body, as far as anybody looks at it.
async fn body(mut answer: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST {
            break;
        }
    }
    Ok(bytes)
}

/// An error of a request, without the address it was to.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}
