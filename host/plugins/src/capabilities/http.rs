//! `http`: requests to origins the operator granted.
//!
//! What is compared with the grant is what is sent to: both come from one parsed URL. Names are
//! resolved here, and the connection goes to an address that was looked at, so that a name can't
//! point inward. No redirect is followed and no proxy of the environment's is used. A credential is
//! named by the plugin and applied here.

use super::credential::{Credential, Credentials};
use super::origin::Origin;
use super::toml_key;
use crate::contract::KeyValue;
use crate::grants::HttpGrant;
use crate::guest::{Caller, Guest};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::ExposeSecret;
use springtide_aws::{Aws, Refusal, Scope, Unsigned};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use url::{Host, Url};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// Bytes of a request's body.
const REQUEST: usize = 1 << 20;
/// Bytes of an answer's body.
const RESPONSE: usize = 4 << 20;
/// Header fields of a request or an answer.
const HEADERS: usize = 100;
/// Requests of one plugin at once.
const AT_ONCE: usize = 16;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long before its call a request ends, so that the plugin can say what it was doing.
const MARGIN: Duration = Duration::from_millis(500);

/// One request.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Request {
    method: String,
    url: String,
    headers: Vec<KeyValue>,
    body: Vec<u8>,
    credential: Option<String>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<KeyValue>,
    body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum HttpError {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "timed-out")]
    TimedOut,
    #[component(name = "failed")]
    Failed(String),
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "other")]
    Other(String),
}

/// Where one plugin may send requests.
#[derive(Debug)]
pub(crate) struct Web {
    plugin: String,
    grant: Option<HttpGrant>,
    credentials: Arc<Credentials>,
    /// Made at the first request: most plugins send none. Connections are this plugin's alone, for
    /// one that is kept skips the look at its address.
    client: OnceLock<Result<reqwest::Client, String>>,
    sending: Semaphore,
}

impl Web {
    pub(crate) fn new(
        plugin: &str,
        grant: Option<HttpGrant>,
        credentials: Arc<Credentials>,
    ) -> Web {
        Web {
            plugin: plugin.to_owned(),
            grant,
            credentials,
            client: OnceLock::new(),
            sending: Semaphore::new(AT_ONCE),
        }
    }

    async fn send(
        &self,
        request: Request,
        caller: &Caller,
        until: Instant,
    ) -> Result<Response, HttpError> {
        let prepared = self.prepare(request, caller)?;
        let until = tokio::time::Instant::from_std(until.checked_sub(MARGIN).unwrap_or(until));
        let work = async {
            let _turn = self.sending.acquire().await;
            prepared.exchange().await
        };
        tokio::time::timeout_at(until, work)
            .await
            .unwrap_or(Err(HttpError::TimedOut))
    }

    /// Checks a request against the grant, and adds what the host adds.
    fn prepare(&self, request: Request, caller: &Caller) -> Result<Prepared, HttpError> {
        let url = Url::parse(&request.url)
            .map_err(|error| HttpError::Failed(format!("its URL is none: {error}")))?;
        let grant = self.granted(&url)?;
        let method = method(&request.method)?;
        if request.body.len() > REQUEST {
            return Err(HttpError::Failed(format!(
                "the body has {} bytes, and may have {REQUEST}",
                request.body.len()
            )));
        }
        let mut headers = headers(&request.headers)?;
        let mut signer = None;
        if let Some(credential) = &request.credential {
            let (name, scope) = match credential.split_once('/') {
                Some((name, scope)) => (name, Some(scope)),
                None => (credential.as_str(), None),
            };
            match self.credential(name, grant, caller)? {
                Credential::Aws(aws) => {
                    let scope = Scope::of(scope, &url).ok_or_else(|| {
                        HttpError::Failed(format!(
                            "the credential {credential:?} does not say what to sign for; name it as {name}/SERVICE/REGION"
                        ))
                    })?;
                    self.action(grant, &url, &headers, &request.body)?;
                    signer = Some((aws, scope));
                }
                _ if scope.is_some() => {
                    return Err(HttpError::Denied(format!(
                        "the credential {name:?} is for no service and region: only those of type aws are"
                    )));
                }
                plain => apply(name, plain, &mut headers)?,
            }
        }
        let client = self
            .client
            .get_or_init(|| client(grant.allow_private))
            .clone()
            .map_err(HttpError::Other)?;
        Ok(Prepared {
            client,
            method,
            url,
            headers,
            body: request.body.into(),
            signer,
        })
    }

    /// The grant, if the URL's origin is one of its.
    fn granted(&self, url: &Url) -> Result<&HttpGrant, HttpError> {
        let origin = Origin::of(url).map_err(|why| HttpError::Denied(why.to_owned()))?;
        let granted = self.grant.as_ref().filter(|grant| {
            let same = |text: &String| text.parse::<Origin>().is_ok_and(|one| one == origin);
            grant.origins.iter().any(same)
        });
        let table = format!("[plugins.{}.grants.http]", toml_key(&self.plugin));
        let grant = granted.ok_or_else(|| {
            HttpError::Denied(format!(
                "the origin {origin} is not granted; to grant it, add to the configuration: {table} origins = [\"{origin}\"]"
            ))
        })?;
        // A host that is an address is never resolved, so it is looked at here.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        if let Some(address) = address
            && !may_reach(address, grant.allow_private)
        {
            return Err(HttpError::Denied(format!(
                "{}; if that is meant, add to the configuration: {table} allow_private = true",
                kept_from(address)
            )));
        }
        Ok(grant)
    }

    /// A credential that is granted and that there is.
    fn credential(
        &self,
        name: &str,
        grant: &HttpGrant,
        caller: &Caller,
    ) -> Result<Credential, HttpError> {
        if !grant.credentials.iter().any(|granted| granted == name) {
            return Err(HttpError::Denied(format!(
                "the credential {name:?} is not granted; to grant it, add to the configuration: [plugins.{}.grants.http] credentials = [{name:?}]",
                toml_key(&self.plugin)
            )));
        }
        self.credentials.get(&caller.runner, name).ok_or_else(|| {
            HttpError::Denied(format!(
                "there is no credential {name:?}; add to the configuration: [credentials.{}] type = \"bearer\" token_file = \"/path/to/it\"",
                toml_key(name)
            ))
        })
    }

    /// Whether a request to AWS names one action, and one that is granted.
    fn action(
        &self,
        grant: &HttpGrant,
        url: &Url,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), HttpError> {
        let Some(granted) = &grant.actions else {
            return Ok(());
        };
        let named = named_actions(url, headers, body).map_err(|why| {
            HttpError::Denied(format!("{why}; which action it asks for can't be seen"))
        })?;
        let [action] = named.as_slice() else {
            return Err(HttpError::Denied(format!(
                "the request names {} actions of AWS's, and may name one",
                named.len()
            )));
        };
        if granted.contains(action) {
            return Ok(());
        }
        let shown: String = action.chars().take(100).collect();
        Err(HttpError::Denied(format!(
            "the action {shown:?} is not granted; to grant it, add {shown:?} to `actions` of [plugins.{}.grants.http]",
            toml_key(&self.plugin)
        )))
    }
}

/// The actions a request names: in its query, in its form, or in the field services with JSON look at.
fn named_actions(url: &Url, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, &'static str> {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = field("content-type")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let form = kind.starts_with("application/x-www-form-urlencoded");
    if !body.is_empty() && !form && !kind.starts_with("application/x-amz-json-") {
        return Err("the body is neither a form nor AWS's JSON");
    }
    let in_form = url::form_urlencoded::parse(if form { body } else { &[] });
    let pairs = url.query_pairs().chain(in_form);
    let mut named: Vec<String> = pairs
        .filter(|(key, _)| key == "Action")
        .map(|(_, action)| action.into_owned())
        .collect();
    // `AmazonSSM.GetParameter`
    let targets = headers.get_all("x-amz-target").iter();
    named.extend(targets.map(|target| {
        let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
        let action = target.rsplit('.').next().map(str::to_owned);
        action.unwrap_or(target)
    }));
    Ok(named)
}

/// A request that may be sent.
#[derive(Debug)]
struct Prepared {
    client: reqwest::Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: bytes::Bytes,
    signer: Option<(Aws, Scope)>,
}

impl Prepared {
    async fn exchange(&self) -> Result<Response, HttpError> {
        let Some((aws, scope)) = &self.signer else {
            return self.once(self.headers.clone()).await;
        };
        let denied = |why| {
            HttpError::Denied(format!(
                "signing the request: {why}; give the runner keys of its own, or name a profile in the credential"
            ))
        };
        let region = &scope.region;
        let keys = aws.keys(region, SystemTime::now()).await.map_err(denied)?;
        let answer = self.signed(aws, scope, &keys).await?;
        let Some(refusal) = Refusal::of(answer.status, &answer.body) else {
            return Ok(answer);
        };
        let now = SystemTime::now();
        let date = answer.headers.iter().find(|field| field.key == "date");
        let date = date.and_then(|field| HeaderValue::from_str(&field.value).ok());
        if refusal.clock && aws.correct(date.as_ref(), now) {
            return self.signed(aws, scope, &keys).await;
        }
        if refusal.keys
            && let Some(others) = aws.others(&keys, region, now).await
        {
            return self.signed(aws, scope, &others).await;
        }
        Ok(answer)
    }

    async fn signed(
        &self,
        aws: &Aws,
        scope: &Scope,
        keys: &springtide_aws::Credentials,
    ) -> Result<Response, HttpError> {
        let unsigned = Unsigned {
            method: self.method.as_str(),
            url: &self.url,
            headers: &self.headers,
            body: &self.body,
        };
        let at = aws.clock(SystemTime::now());
        let signature = springtide_aws::signature(&unsigned, scope, keys, at)
            .map_err(|why| HttpError::Failed(format!("signing the request: {why}")))?;
        let mut headers = self.headers.clone();
        headers.extend(signature);
        self.once(headers).await
    }

    async fn once(&self, headers: HeaderMap) -> Result<Response, HttpError> {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = headers;
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        exchange(&self.client, request).await
    }
}

/// Puts a credential that is a header field on a request.
fn apply(name: &str, credential: Credential, headers: &mut HeaderMap) -> Result<(), HttpError> {
    let (field, value) = match credential {
        Credential::Bearer(token) => (
            http::header::AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())),
        ),
        Credential::Header { name: field, value } => (
            field.parse::<HeaderName>().map_err(|_| {
                HttpError::Other(format!(
                    "the credential {name:?} names a header field that can't be"
                ))
            })?,
            HeaderValue::from_str(value.expose_secret()),
        ),
        Credential::Aws(_) => {
            return Err(HttpError::Other(format!(
                "the credential {name:?} signs requests, and is no header field"
            )));
        }
    };
    // The error of a value would show it.
    let mut value = value.map_err(|_| {
        HttpError::Other(format!(
            "the credential {name:?} has characters a header field can't have"
        ))
    })?;
    value.set_sensitive(true);
    headers.insert(field, value);
    Ok(())
}

fn method(name: &str) -> Result<Method, HttpError> {
    match name {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "HEAD" => Ok(Method::HEAD),
        other => {
            let shown: String = other.chars().take(20).collect();
            Err(HttpError::Denied(format!(
                "the method is {shown:?}: write GET, POST, PUT, PATCH, DELETE or HEAD"
            )))
        }
    }
}

/// Fields a plugin may not set: they say who is asking, or are between the host and its peer.
fn is_the_hosts(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("proxy-")
        || matches!(
            name,
            "host"
                | "authorization"
                | "cookie"
                | "x-amz-date"
                | "x-amz-security-token"
                | "x-amz-content-sha256"
                | "connection"
                | "keep-alive"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "content-length"
                | "expect"
        )
}

fn headers(given: &[KeyValue]) -> Result<HeaderMap, HttpError> {
    if given.len() > HEADERS {
        return Err(HttpError::Failed(format!(
            "there are {} header fields, and there may be {HEADERS}",
            given.len()
        )));
    }
    let mut headers = HeaderMap::new();
    for field in given {
        let shown: String = field.key.chars().take(100).collect();
        let name: HeaderName = field
            .key
            .parse()
            .map_err(|_| HttpError::Failed(format!("{shown:?} is no header field")))?;
        if is_the_hosts(&name) {
            return Err(HttpError::Denied(format!(
                "the header field {name} is the host's to set; a credential is applied by its name"
            )));
        }
        let value = HeaderValue::from_str(&field.value).map_err(|_| {
            HttpError::Failed(format!("the header field {name} has a value that can't be"))
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<Response, HttpError> {
    let mut answer = client.execute(request).await.map_err(failed)?;
    let most = u64::try_from(RESPONSE).unwrap_or(u64::MAX);
    if answer.content_length().is_some_and(|length| length > most) {
        return Err(HttpError::TooLarge);
    }
    let headers = answer
        .headers()
        .iter()
        .take(HEADERS)
        .map(|(name, value)| KeyValue {
            key: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        })
        .collect();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > RESPONSE {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status: answer.status().as_u16(),
        headers,
        body,
    })
}

/// Why a request failed, with all its causes; without its URL, whose query may hold anything.
fn failed(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        if let Some(Kept(why)) = one.downcast_ref() {
            return HttpError::Denied(why.clone());
        }
        text = format!("{text}: {one}");
        cause = one.source();
    }
    HttpError::Failed(text)
}

fn client(allow_private: bool) -> Result<reqwest::Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::debug!("another part of this process chose how TLS is encrypted");
    }
    reqwest::Client::builder()
        .dns_resolver(Arc::new(Resolver { allow_private }))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT)
        .user_agent(concat!("springtide/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the host's HTTP client does not start: {error}"))
}

/// Resolves names, and keeps what a plugin may not reach from the connection.
#[derive(Debug)]
struct Resolver {
    allow_private: bool,
}

/// All addresses of a name were kept back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Kept(String);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = open(name.as_str(), found, allow_private)?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// The addresses of a name that may be reached.
fn open(
    name: &str,
    found: impl IntoIterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Kept> {
    let (open, kept): (Vec<SocketAddr>, Vec<SocketAddr>) = found
        .into_iter()
        .partition(|address| may_reach(address.ip(), allow_private));
    match kept.first() {
        Some(address) if open.is_empty() => Err(Kept(format!(
            "{name} is at {}; if that is meant, add allow_private = true to the grant",
            kept_from(address.ip())
        ))),
        _ => Ok(open),
    }
}

fn kept_from(address: IpAddr) -> String {
    format!("{address}, an address of this host's own or its network's")
}

/// Whether a plugin may reach an address. Metadata services hand out credentials, and nothing
/// answers at the rest of what is refused in any case.
fn may_reach(address: IpAddr, allow_private: bool) -> bool {
    let address = canonical(address);
    let never = match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240
                || v4.octets() == [169, 254, 169, 254]
                || v4.octets() == [100, 100, 100, 200]
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_multicast()
                || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    };
    let private = match address {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_documentation()
                || (octets[0] == 100 && octets[1] & 0xc0 == 64)
                || (octets[0] == 192 && octets[1] == 0 && octets[2] == 0)
                || (octets[0] == 198 && octets[1] & 0xfe == 18)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_loopback()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                || (first == 0x2001 && v6.segments()[1] == 0xdb8)
        }
    };
    !never && (allow_private || !private)
}

/// An IPv4 address that is written as an IPv6 one is that IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let segments = v6.segments();
    let last = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::from([a, b, c, d])
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => last(high, low),
        // NAT64, and what is left of the addresses that only embed one.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => last(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => last(high, low),
        [0x2002, high, low, ..] => last(high, low),
        _ => address,
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .instance("springtide:plugin/http@0.1.0")?
        .func_wrap_async(
            "send",
            |store: StoreContextMut<'_, Guest>, (request,): (Request,)| {
                let capabilities = store.data().capabilities.clone();
                let (until, caller) = (store.data().until, store.data().caller.clone());
                Box::new(async move { Ok((capabilities.web.send(request, &caller, until).await,)) })
            },
        )
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
