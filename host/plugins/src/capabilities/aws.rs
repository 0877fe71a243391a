//! The credential of type `aws`: keys as AWS's own tools find them, and a signature (SigV4) on a
//! request. The request itself goes where all requests go, by the host's own client.
//!
//! Keys that end are taken anew before they do. Where AWS says that a clock is wrong, the offset of
//! its own is kept and added from then on.

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use url::Url;

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

/// What a signature is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) service: String,
    pub(super) region: String,
}

impl Scope {
    /// From `SERVICE/REGION`, or from the host's name, such as `ec2.eu-west-1.amazonaws.com`.
    pub(super) fn of(given: Option<&str>, url: &Url) -> Option<Scope> {
        let host = url.host_str().unwrap_or_default();
        let (service, region) = match given {
            Some(given) => given.split_once('/')?,
            None => {
                let host = host.strip_suffix(".cn").unwrap_or(host);
                host.strip_suffix(".amazonaws.com")?.split_once('.')?
            }
        };
        let plain = |text: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !text.is_empty() && text.chars().all(fits)
        };
        (plain(service) && plain(region)).then(|| Scope {
            service: service.to_owned(),
            region: region.to_owned(),
        })
    }
}

/// A request as far as a signature covers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
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
    pub(super) async fn keys(&self, region: &str, now: SystemTime) -> Result<Credentials, String> {
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
    pub(super) async fn others(
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

    /// These keys were found some time ago.
    #[cfg(test)]
    pub(super) fn found_before(&self, access_key_id: &str) {
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
        found.map_err(|error| {
            format!(
                "looking for AWS's keys in {whence}: {}; give the runner keys of its own, or name a profile in the credential",
                causes(&error)
            )
        })
    }

    /// AWS's clock, by what it told of it.
    pub(super) fn clock(&self, now: SystemTime) -> SystemTime {
        let offset = self.0.offset.load(Ordering::Relaxed);
        let length = Duration::from_secs(offset.unsigned_abs());
        let shifted = match offset < 0 {
            true => now.checked_sub(length),
            false => now.checked_add(length),
        };
        shifted.unwrap_or(now)
    }

    /// Takes AWS's clock from an answer; whether what was signed by ours was off.
    pub(super) fn correct(&self, date: Option<&HeaderValue>, now: SystemTime) -> bool {
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

/// The fields that sign a request, at a time of AWS's clock.
pub(super) fn signature(
    request: &Unsigned<'_>,
    scope: &Scope,
    keys: &Credentials,
    at: SystemTime,
) -> Result<HeaderMap, String> {
    let mut settings = SigningSettings::default();
    if scope.service == "s3" {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    let identity = keys.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&scope.region)
        .name(&scope.service)
        .time(at)
        .settings(settings)
        .build()
        .map_err(|error| causes(&error))?
        .into();
    let named = request.headers.iter();
    let headers: Option<Vec<(&str, &str)>> = named
        .map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let headers = headers.ok_or("a header field is not plain text")?;
    let signable = SignableRequest::new(
        request.method,
        request.url.as_str(),
        headers.into_iter(),
        SignableBody::Bytes(request.body),
    )
    .map_err(|error| causes(&error))?;
    let signed = sign(signable, &parameters).map_err(|error| causes(&error))?;
    let (fields, _) = signed.into_parts().0.into_parts();
    let mut headers = HeaderMap::new();
    for field in fields {
        let mut value = HeaderValue::from_str(field.value())
            .map_err(|_| "the keys have characters a header field can't have".to_owned())?;
        value.set_sensitive(field.sensitive() || field.name() == "authorization");
        headers.insert(field.name(), value);
    }
    Ok(headers)
}

/// Why AWS refused a request, as far as the host can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The time of the signature may be what is wrong.
    pub(super) clock: bool,
    /// The keys may have ended.
    pub(super) keys: bool,
}

impl Refusal {
    /// Reads the code of an answer, in whatever form its service writes it.
    pub(super) fn of(status: u16, body: &[u8]) -> Option<Refusal> {
        if !matches!(status, 400 | 401 | 403) {
            return None;
        }
        let text = String::from_utf8_lossy(body.get(..body.len().min(4096))?);
        let has = |codes: &[&str]| {
            codes.iter().any(|code| {
                text.contains(&format!("<Code>{code}</Code>"))
                    || text.contains(&format!("{code}\""))
            })
        };
        let refusal = Refusal {
            // EC2 says RequestExpired of both, and AuthFailure of a time that is off by far.
            clock: has(&[
                "RequestExpired",
                "RequestTimeTooSkewed",
                "RequestInTheFuture",
                "SignatureDoesNotMatch",
                "InvalidSignatureException",
                "AuthFailure",
            ]),
            keys: has(&[
                "ExpiredToken",
                "ExpiredTokenException",
                "RequestExpired",
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "AuthFailure",
            ]),
        };
        (refusal.clock || refusal.keys).then_some(refusal)
    }
}

/// What the search for keys itself sends with.
static CLIENT: LazyLock<SharedHttpClient> = LazyLock::new(|| {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
});

/// An error with all that led to it: AWS's own say little at first.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
