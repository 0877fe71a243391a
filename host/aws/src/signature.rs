//! Signatures (SigV4) with keys that are there: on a request, and in an address.

use crate::causes;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningInstructions, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use std::time::{Duration, SystemTime};
use url::Url;

/// What a signature is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name in AWS's addresses, such as `ec2`.
    pub service: String,
    /// Where.
    pub region: String,
}

impl Scope {
    /// From `SERVICE/REGION`, or from the host's name, such as `ec2.eu-west-1.amazonaws.com`.
    #[must_use]
    pub fn of(given: Option<&str>, url: &Url) -> Option<Scope> {
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
pub struct Unsigned<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Where it goes.
    pub url: &'a Url,
    /// What is signed beside the host.
    pub headers: &'a HeaderMap,
    /// All of it.
    pub body: &'a [u8],
}

/// The fields that sign a request, at a time of AWS's clock.
///
/// # Errors
/// Where a field or a key has characters that can't be in a header.
pub fn signature(
    request: &Unsigned<'_>,
    scope: &Scope,
    keys: &Credentials,
    at: SystemTime,
) -> Result<HeaderMap, String> {
    let mut settings = settings_for(scope);
    if scope.service == "s3" {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
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
    let (fields, _) = instructions(signable, scope, keys, at, settings)?.into_parts();
    let mut headers = HeaderMap::new();
    for field in fields {
        let mut value = HeaderValue::from_str(field.value())
            .map_err(|_| "the keys have characters a header field can't have".to_owned())?;
        value.set_sensitive(field.sensitive() || field.name() == "authorization");
        headers.insert(field.name(), value);
    }
    Ok(headers)
}

/// What a signed address may be used for.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Where it goes: path percent-encoded, no query.
    pub address: &'a str,
    /// Fields, their names in small letters, that whoever uses it has to send as they are here.
    pub headers: &'a [(String, String)],
    /// How long it can be used; whole seconds.
    pub valid_for: Duration,
}

/// An address with a signature in it, made at a time of AWS's clock: whoever has it can use it so,
/// with any body.
///
/// # Errors
/// Where the address is none, or a field is not plain text.
pub fn presigned(
    wanted: &Use<'_>,
    scope: &Scope,
    keys: &Credentials,
    at: SystemTime,
) -> Result<SecretString, String> {
    let mut settings = settings_for(scope);
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(wanted.valid_for);
    let fields = wanted.headers.iter();
    let signable = SignableRequest::new(
        wanted.method,
        wanted.address,
        fields.map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::UnsignedPayload,
    )
    .map_err(|error| causes(&error))?;
    let (_, query) = instructions(signable, scope, keys, at, settings)?.into_parts();
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)))
        .collect();
    Ok(format!("{}?{}", wanted.address, query.join("&")).into())
}

/// What AWS has encoded in a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn settings_for(scope: &Scope) -> SigningSettings {
    let mut settings = SigningSettings::default();
    // S3 alone takes a path as it is: a key may have dots and slashes anywhere.
    if scope.service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    settings
}

fn instructions(
    signable: SignableRequest<'_>,
    scope: &Scope,
    keys: &Credentials,
    at: SystemTime,
    settings: SigningSettings,
) -> Result<SigningInstructions, String> {
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
    let signed = sign(signable, &parameters).map_err(|error| causes(&error))?;
    Ok(signed.into_parts().0)
}

/// Why AWS refused a request, as far as the host can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The time of the signature may be what is wrong.
    pub clock: bool,
    /// The keys may have ended.
    pub keys: bool,
}

impl Refusal {
    /// Reads the code of an answer, in whatever form its service writes it.
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> Option<Refusal> {
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
