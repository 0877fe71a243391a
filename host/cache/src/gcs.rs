//! Google Cloud Storage: V4 signed URLs (GOOG4-RSA-SHA256) with a service account's key.
//!
//! <https://cloud.google.com/storage/docs/authentication/canonical-requests>

use crate::key::hex;
use crate::signed::{Way, written};
use crate::{CacheError, ObjectName, Signed};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use springtide_config::{Gcs, GcsKey};
use std::time::{Duration, SystemTime};

const UNIVERSE: &str = "googleapis.com";

/// What Google has encoded in a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[derive(Debug)]
pub(crate) struct GcsStore {
    config: Gcs,
    largest: u64,
}

/// A service account's file.
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: SecretString,
    #[serde(default)]
    universe_domain: Option<String>,
}

/// What is signed with.
struct Signer {
    account: String,
    pair: RsaKeyPair,
    universe: String,
}

impl GcsStore {
    pub(crate) fn new(config: &Gcs, largest: u64) -> GcsStore {
        GcsStore {
            config: config.clone(),
            largest,
        }
    }

    pub(crate) async fn sign(
        &self,
        way: Way,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        let signer = self.signer().await?;
        let mut headers = Vec::new();
        if way == Way::Upload {
            headers.push(("content-type", "application/octet-stream".to_owned()));
            if self.largest > 0 {
                // Google itself refuses what is larger.
                let range = format!("0,{}", self.largest);
                headers.push(("x-goog-content-length-range", range));
            }
        }
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let path = format!("/{}/{}", self.config.bucket, object.encoded());
        let request = Request {
            method: way.method(),
            path: &path,
            headers: &headers,
            valid_for,
        };
        Ok(Signed {
            url: signer.address(&request, now)?,
            headers,
            valid_until: now + valid_for,
        })
    }

    /// The key; a file is read each time, so that another one counts at once.
    async fn signer(&self) -> Result<Signer, CacheError> {
        let (account, key, universe, whence) = match &self.config.key {
            GcsKey::This {
                access_id,
                private_key,
            } => (
                access_id.clone(),
                private_key.clone(),
                None,
                "`PrivateKey` of [runners.cache.gcs]".to_owned(),
            ),
            GcsKey::File(path) => {
                let shown = path.display();
                let text = tokio::fs::read(path).await.map_err(|error| {
                    CacheError::NoCredentials(format!(
                        "reading `CredentialsFile` {shown}: {error}; write a path that the manager can read"
                    ))
                })?;
                // The error of a value would show it.
                let account: Account = serde_json::from_slice(&text).map_err(|error| {
                    CacheError::NoCredentials(format!(
                        "`CredentialsFile` {shown} is no key of a service account: line {}, column {}",
                        error.line(),
                        error.column()
                    ))
                })?;
                if account.kind != "service_account" || account.client_email.is_empty() {
                    return Err(CacheError::NoCredentials(format!(
                        "`CredentialsFile` {shown} is of type {:?}, and only that of a service account can sign; make a key of one",
                        account.kind
                    )));
                }
                let whence = format!("`private_key` of {shown}");
                (
                    account.client_email,
                    account.private_key,
                    account.universe_domain,
                    whence,
                )
            }
        };
        let configured = self.config.universe.clone();
        Ok(Signer {
            account,
            pair: pair(&key, &whence)?,
            universe: configured
                .or(universe)
                .unwrap_or_else(|| UNIVERSE.to_owned()),
        })
    }
}

fn pair(key: &SecretString, whence: &str) -> Result<RsaKeyPair, CacheError> {
    let wrong = |why: &str| {
        CacheError::NoCredentials(format!(
            "{whence} is no RSA key in PEM form ({why}); write the whole of it, with its lines"
        ))
    };
    // Between single quotes TOML leaves `\n` as two letters.
    let pem = key.expose_secret().replace("\\n", "\n");
    let read = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        Ok(_) => return Err(wrong("it is of another kind")),
        Err(_) => return Err(wrong("it has no key in it")),
    };
    read.map_err(|error| wrong(&error.to_string()))
}

/// What an address is for.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    valid_for: Duration,
}

impl Signer {
    fn address(&self, request: &Request<'_>, now: SystemTime) -> Result<SecretString, CacheError> {
        let time = written(now, "%Y%m%dT%H%M%SZ")?;
        let scope = format!("{}/auto/storage/goog4_request", &time[..8]);
        let host = format!("storage.{}", self.universe);
        let (query, text) = to_sign(request, &host, &self.account, &time, &scope);
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .map_err(|_| CacheError::NoCredentials("the RSA key does not sign".to_owned()))?;
        let path = request.path;
        Ok(format!(
            "https://{host}{path}?{query}&X-Goog-Signature={}",
            hex(&signature)
        )
        .into())
    }
}

/// The query of an address, and the text whose signature comes behind it.
fn to_sign(
    request: &Request<'_>,
    host: &str,
    account: &str,
    time: &str,
    scope: &str,
) -> (String, String) {
    let mut fields: Vec<(&str, &str)> = vec![("host", host)];
    fields.extend(
        request
            .headers
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str())),
    );
    fields.sort_unstable();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let seconds = request.valid_for.as_secs().to_string();
    let query: Vec<String> = [
        ("X-Goog-Algorithm", "GOOG4-RSA-SHA256"),
        ("X-Goog-Credential", &format!("{account}/{scope}")),
        ("X-Goog-Date", time),
        ("X-Goog-Expires", &seconds),
        ("X-Goog-SignedHeaders", &names),
    ]
    .iter()
    .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)))
    .collect();
    let query = query.join("&");
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let Request { method, path, .. } = request;
    let canonical = format!("{method}\n{path}\n{query}\n{fields}\n{names}\nUNSIGNED-PAYLOAD");
    let digest = hex(&Sha256::digest(canonical));
    (
        query,
        format!("GOOG4-RSA-SHA256\n{time}\n{scope}\n{digest}"),
    )
}
