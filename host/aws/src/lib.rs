//! Keys of AWS's as its own tools find them, and signatures (SigV4) made with them: on a request, or
//! in an address that somebody else asks with. No request is sent but by the search for keys.
//!
//! Keys that end are taken anew before they do. Where AWS says that a clock is wrong, the offset of
//! its own is kept and added from then on.

mod signature;

pub use aws_credential_types::Credentials;
pub use signature::{Refusal, Scope, Unsigned, Use, presigned, signature};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// How long before their end keys are taken anew.
const EARLY: Duration = Duration::from_secs(300);
/// A difference of clocks AWS may refuse; it allows 5 to 15 minutes, by the service.
const SKEW: i64 = 120;

/// Where keys come from.
#[derive(Clone, Debug, Default)]
pub enum AwsKeys {
    /// As AWS's tools find them: the environment, the default profile, a web identity, the role of
    /// the container or of the machine.
    #[default]
    Chain,
    /// A profile of AWS's files, and whatever that names.
    Profile(String),
    /// These.
    Static {
        /// The access key's id.
        access_key_id: String,
        /// Its secret part.
        secret_access_key: SecretString,
        /// The session they belong to.
        session_token: Option<SecretString>,
    },
}

/// A credential of AWS's. Clones share the keys that were found.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

struct Inner {
    keys: AwsKeys,
    found: arc_swap::ArcSwapOption<Credentials>,
    /// One looks for keys, and the others wait for what it finds.
    turn: Semaphore,
    /// Seconds that AWS's clock is before ours.
    offset: AtomicI64,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aws").field(&self.0.keys).finish()
    }
}

impl Aws {
    /// A credential with keys from there. Nothing is looked for before the first request.
    #[must_use]
    pub fn new(keys: AwsKeys) -> Aws {
        Aws(Arc::new(Inner {
            keys,
            found: arc_swap::ArcSwapOption::empty(),
            turn: Semaphore::new(1),
            offset: AtomicI64::new(0),
        }))
    }

    /// Keys that are good at this time.
    ///
    /// # Errors
    /// Where there are none, with where they were looked for.
    pub async fn keys(&self, region: &str, now: SystemTime) -> Result<Credentials, String> {
        if let Some(keys) = self.fresh(now) {
            return Ok(keys);
        }
        let _turn = self.0.turn.acquire().await;
        if let Some(keys) = self.fresh(now) {
            return Ok(keys);
        }
        match self.find(region).await {
            Ok(keys) => {
                self.0.found.store(Some(Arc::new(keys.clone())));
                Ok(keys)
            }
            // They are good for some minutes yet.
            Err(why) => match self.0.found.load_full() {
                Some(keys) if keys.expiry().is_some_and(|end| end > now) => {
                    tracing::warn!(why, "AWS's keys could not be taken anew before their end");
                    Ok(Credentials::clone(&keys))
                }
                _ => Err(why),
            },
        }
    }

    fn fresh(&self, now: SystemTime) -> Option<Credentials> {
        let keys = self.0.found.load_full()?;
        let good = keys.expiry().is_none_or(|end| end > now + EARLY);
        good.then(|| Credentials::clone(&keys))
    }

    /// AWS does not take these keys any more: others, if there are any by now.
    pub async fn others(
        &self,
        used: &Credentials,
        region: &str,
        now: SystemTime,
    ) -> Option<Credentials> {
        let same = |one: &Credentials| {
            one.access_key_id() == used.access_key_id()
                && one.session_token() == used.session_token()
        };
        let found = self.0.found.load_full();
        if found.is_some_and(|found| same(&found)) {
            self.0.found.store(None);
        }
        let others = self.keys(region, now).await.ok()?;
        (!same(&others)).then_some(others)
    }

    /// These keys were found some time ago: for tests of what becomes of keys that have ended.
    #[doc(hidden)]
    pub fn found_before(&self, access_key_id: &str) {
        let keys = Credentials::new(access_key_id, "x", None, None, "test");
        self.0.found.store(Some(Arc::new(keys)));
    }

    async fn find(&self, region: &str) -> Result<Credentials, String> {
        let region = Region::new(region.to_owned());
        let config = || {
            ProviderConfig::without_region()
                .with_region(Some(region.clone()))
                .with_http_client(CLIENT.clone())
        };
        let (found, whence) = match &self.0.keys {
            AwsKeys::Static {
                access_key_id,
                secret_access_key,
                session_token,
            } => {
                let token = session_token.as_ref();
                return Ok(Credentials::new(
                    access_key_id,
                    secret_access_key.expose_secret(),
                    token.map(|token| token.expose_secret().to_owned()),
                    None,
                    "springtide",
                ));
            }
            AwsKeys::Profile(name) => {
                let provider = ProfileFileCredentialsProvider::builder()
                    .configure(&config())
                    .profile_name(name)
                    .build();
                let whence = format!("the profile {name:?} of AWS's files");
                (provider.provide_credentials().await, whence)
            }
            AwsKeys::Chain => {
                let chain = DefaultCredentialsChain::builder()
                    .configure(config())
                    .region(region.clone())
                    .build()
                    .await;
                let whence = "the environment, AWS's files or the role of this machine";
                (chain.provide_credentials().await, whence.to_owned())
            }
        };
        found.map_err(|error| format!("looking for AWS's keys in {whence}: {}", causes(&error)))
    }

    /// AWS's clock, by what it told of it.
    #[must_use]
    pub fn clock(&self, now: SystemTime) -> SystemTime {
        let offset = self.0.offset.load(Ordering::Relaxed);
        let length = Duration::from_secs(offset.unsigned_abs());
        let shifted = match offset < 0 {
            true => now.checked_sub(length),
            false => now.checked_add(length),
        };
        shifted.unwrap_or(now)
    }

    /// Takes AWS's clock from an answer; whether what was signed by ours was off.
    pub fn correct(&self, date: Option<&HeaderValue>, now: SystemTime) -> bool {
        let date = date.and_then(|date| date.to_str().ok()).and_then(|text| {
            let parser = jiff::fmt::rfc2822::DateTimeParser::new();
            parser.parse_timestamp(text).ok()
        });
        let (Some(theirs), Ok(ours)) = (date, jiff::Timestamp::try_from(now)) else {
            return false;
        };
        let offset = theirs.as_second() - ours.as_second();
        let before = self.0.offset.swap(offset, Ordering::Relaxed);
        let off = (offset - before).abs() > SKEW;
        if off {
            tracing::warn!(
                seconds = offset,
                "AWS's clock is before this host's by so much: set the host's, for example by NTP"
            );
        }
        off
    }
}

/// What the search for keys itself sends with.
static CLIENT: LazyLock<SharedHttpClient> = LazyLock::new(|| {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
});

/// An error with all that led to it: AWS's own say little at first.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

#[cfg(test)]
mod tests;
