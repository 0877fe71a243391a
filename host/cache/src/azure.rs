//! Azure Blob Storage: a service SAS for one blob, signed with the account's key.
//!
//! <https://learn.microsoft.com/rest/api/storageservices/create-service-sas>

use crate::signed::{Way, written};
use crate::{CacheError, ObjectName, Signed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use springtide_config::Azure;
use std::time::{Duration, SystemTime};

/// The first version in which what is signed here is signed so. Blobs of one request are up to
/// 5000 MiB in it.
const VERSION: &str = "2020-12-06";
const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";

#[derive(Debug)]
pub(crate) struct AzureStore {
    account: String,
    key: SecretString,
    container: String,
    domain: String,
}

impl AzureStore {
    pub(crate) fn new(config: &Azure) -> Result<AzureStore, CacheError> {
        let store = AzureStore {
            account: config.account.clone(),
            key: config.key.clone(),
            container: config.container.clone(),
            domain: config.domain.clone(),
        };
        store.key().map(|_| store)
    }

    fn key(&self) -> Result<Hmac<Sha256>, CacheError> {
        let wrong = || {
            CacheError::Misconfigured(
                "`AccountKey` of [runners.cache.azure] is not Base64; write it as Azure shows it"
                    .to_owned(),
            )
        };
        let bytes = STANDARD
            .decode(self.key.expose_secret().trim())
            .map_err(|_| wrong())?;
        Hmac::new_from_slice(&bytes).map_err(|_| wrong())
    }

    pub(crate) fn sign(
        &self,
        way: Way,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Signed, CacheError> {
        let (permissions, headers) = match way {
            Way::Download => ("r", Vec::new()),
            Way::Upload => (
                "cw",
                vec![
                    (
                        "content-type".to_owned(),
                        "application/octet-stream".to_owned(),
                    ),
                    ("x-ms-blob-type".to_owned(), "BlockBlob".to_owned()),
                ],
            ),
        };
        let valid_until = now + valid_for;
        let end = written(valid_until, TIME)?;
        let resource = format!("/blob/{}/{}/{object}", self.account, self.container);
        let fields = [
            permissions,
            "",
            &end,
            &resource,
            "",
            "",
            "https",
            VERSION,
            "b",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
        ];
        let mut mac = self.key()?;
        mac.update(fields.join("\n").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let query: Vec<String> = [
            ("sv", VERSION),
            ("spr", "https"),
            ("se", &end),
            ("sr", "b"),
            ("sp", permissions),
            ("sig", &signature),
        ]
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
        let url = format!(
            "https://{}.{}/{}/{}?{}",
            self.account,
            self.domain,
            self.container,
            object.encoded(),
            query.join("&")
        );
        Ok(Signed {
            url: url.into(),
            headers,
            valid_until,
        })
    }
}
