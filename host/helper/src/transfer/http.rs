//! Requests. Certificates are the machine's own (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and
//! those of the order; proxies come from the environment; no redirect is followed unseen.

use super::Stop;
use super::forward::{Forward, Forwarded};
use super::proxy::{Proxies, Way};
use super::tcp::Forgiving;
use rustls::crypto::CryptoProvider;
use secrecy::{ExposeSecret, SecretString};
use springtide_helper::Calls;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::Uri;
use ureq::http::response::Parts;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector, RustlsConnector, SocksConnector, TcpConnector,
};
use ureq::{Agent, Body, RequestBuilder, SendBody};

/// The most that is read of an answer to find its message in, in bytes.
const MESSAGE: u64 = 64 << 10;
/// How long a server may take to say that it wants the body; then it is sent anyway.
const CONTINUE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(30);

/// Makes requests.
pub(super) struct Client {
    agent: Agent,
    /// For requests that are handed to a proxy.
    forwarding: Agent,
    gone: Arc<AtomicBool>,
    proxies: Proxies,
    /// Whether there are certificates to trust at all.
    trusts: bool,
}

/// An answer, whose body is not read yet.
pub(super) struct Answer {
    pub(super) parts: Parts,
    pub(super) body: Body,
}

impl Client {
    /// A client for the requests of one order.
    ///
    /// # Errors
    /// Where the order's certificates, or an address of a proxy, can't be read.
    pub(super) fn new(calls: &Calls) -> Result<Self, Stop> {
        let proxies = Proxies::of(|name| std::env::var(name).ok()).map_err(|name| {
            // Not its value: there may be a password in it.
            Stop::here(
                "finding the proxy",
                format!("{name} holds no address of one"),
            )
        })?;
        let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        if let Some(pem) = &calls.ca {
            for item in parse_pem(pem.as_bytes()) {
                let item = item.map_err(|error| {
                    Stop::here("reading the certificates of the order (tls-ca-file)", error)
                })?;
                if let PemItem::Certificate(certificate) = item {
                    roots.push(certificate);
                }
            }
        }
        let trusts = !roots.is_empty();
        let provider: CryptoProvider = rustls::crypto::ring::default_provider();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .build();
        let seconds = |count: u32| Some(Duration::from_secs(count.into()));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("springtide-helper ", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_await_100(Some(CONTINUE))
            .timeout_recv_response(seconds(calls.response_seconds))
            .timeout_global(seconds(calls.total_seconds))
            .build();
        let gone = Arc::new(AtomicBool::new(false));
        let forgiving = || Forgiving {
            gone: Arc::clone(&gone),
        };
        let connector =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(forgiving())
                .chain(RustlsConnector::default());
        let forwarding = TcpConnector::default()
            .chain(forgiving())
            .chain(RustlsConnector::default())
            .chain(Forward);
        let resolver = DefaultResolver::default;
        Ok(Self {
            agent: Agent::with_parts(config.clone(), connector, resolver()),
            forwarding: Agent::with_parts(config, forwarding, resolver()),
            gone,
            proxies,
            trusts,
        })
    }

    /// A request, led the way there is to its address.
    fn led<B>(
        &self,
        url: &str,
        make: impl FnOnce(&Agent, &str) -> RequestBuilder<B>,
    ) -> Result<RequestBuilder<B>, Stop> {
        Ok(match self.proxies.to(url) {
            Way::Direct => make(&self.agent, url),
            Way::Tunnel(proxy) => {
                let proxy = Some(proxy.clone());
                make(&self.agent, url).config().proxy(proxy).build()
            }
            Way::Forward(proxy) => {
                let forwarded = Forwarded::of(url, proxy).ok_or_else(|| not_an_address(url))?;
                let request = make(&self.forwarding, &forwarded.url).header("host", forwarded.host);
                match forwarded.login {
                    Some(login) => request.header("proxy-authorization", login.expose_secret()),
                    None => request,
                }
            }
        })
    }

    /// Asks for something.
    pub(super) fn get(&self, url: &str, headers: &[(&str, &SecretString)]) -> Result<Answer, Stop> {
        let mut request = self.led(url, |agent, url| agent.get(url))?;
        for (name, value) in headers {
            request = request.header(*name, value.expose_secret());
        }
        self.answered(url, request.call())
    }

    /// Sends something: `put` instead of post where the length is known.
    pub(super) fn send(
        &self,
        url: &str,
        length: Option<u64>,
        headers: &[(&str, &str)],
        body: &mut dyn Read,
    ) -> Result<Answer, Stop> {
        let mut request = self.led(url, |agent, url| match length {
            Some(length) => agent.put(url).header("content-length", length),
            None => agent.post(url),
        })?;
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut body = UntilGone {
            body,
            gone: &self.gone,
            known: length.is_some(),
        };
        self.answered(url, request.send(SendBody::from_reader(&mut body)))
    }

    fn answered(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<Body>, ureq::Error>,
    ) -> Result<Answer, Stop> {
        match answer {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                Ok(Answer { parts, body })
            }
            Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => Err(not_an_address(url)),
            Err(error) if !self.trusts && url.starts_with("https:") => Err(Stop::ForGood(format!(
                "{error}; this machine has no certificates to check {} with: install \
                 ca-certificates, or set SSL_CERT_FILE or tls-ca-file",
                cleaned(url)
            ))),
            Err(error) => Err(Stop::MayBeRetried(error.to_string())),
        }
    }
}

fn not_an_address(url: &str) -> Stop {
    Stop::ForGood(format!("{} is no address of a request", cleaned(url)))
}

/// A body that ends when its receiver is gone, so that the answer is read.
struct UntilGone<'a> {
    body: &'a mut dyn Read,
    gone: &'a AtomicBool,
    known: bool,
}

impl Read for UntilGone<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.gone.load(Ordering::Relaxed) {
            // A length that was told has to be kept, though nobody reads it.
            return if self.known {
                self.body.read(buffer)
            } else {
                Ok(0)
            };
        }
        self.body.read(buffer)
    }
}

impl Answer {
    /// Its status, as a number.
    pub(super) fn code(&self) -> u16 {
        self.parts.status.as_u16()
    }

    /// Its status as it is shown: `201 Created`.
    pub(super) fn status(&self) -> String {
        let reason = match self.code() {
            // As servers and GitLab Runner still say.
            413 => "Request Entity Too Large",
            _ => self.parts.status.canonical_reason().unwrap_or_default(),
        };
        format!("{} {reason}", self.code()).trim_end().to_owned()
    }

    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The status with the message of a body that has one.
    pub(super) fn told(mut self) -> String {
        let status = self.status();
        let mut bytes = Vec::new();
        let read = self.body.as_reader().take(MESSAGE).read_to_end(&mut bytes);
        let value: Option<serde_json::Value> =
            read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
        let message = match value.as_ref().and_then(|value| value.get("message")) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) if !other.is_null() => other.to_string(),
            _ => return status,
        };
        // GitLab's messages often repeat the status.
        if status.eq_ignore_ascii_case(&message) {
            status
        } else {
            format!("{status} ({message})")
        }
    }
}

/// Scheme and host of an address, where it has both.
pub(super) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.authority()?.as_str().rsplit('@').next()?.to_owned();
    Some(format!("{}://{host}", uri.scheme_str()?))
}

/// The host of an address, for words.
pub(super) fn host(url: &str) -> String {
    origin(url)
        .and_then(|origin| Some(origin.split_once("://")?.1.to_owned()))
        .unwrap_or_default()
}

/// An address without what is secret in it: user, query and fragment.
pub(super) fn cleaned(url: &str) -> String {
    let path = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some(uri.path().to_owned())
    };
    match (origin(url), path(url)) {
        (Some(origin), Some(path)) => origin + &path,
        _ => "the address of the order".to_owned(),
    }
}

/// GitLab's API below an address as runners have it.
pub(super) fn api(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix("/ci").unwrap_or(url).trim_end_matches('/');
    format!("{url}/api/v4/")
}

/// A text as a value in a query.
pub(super) fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(api("https://g.example/ci/"), "https://g.example/api/v4/");
        assert_eq!(
            api("https://g.example/sub"),
            "https://g.example/sub/api/v4/"
        );
        let secret = "https://me:pw@b.example:9000/c/key?X-Amz-Signature=abc#x";
        assert_eq!(cleaned(secret), "https://b.example:9000/c/key");
        assert_eq!(host(secret), "b.example:9000");
        assert_eq!(cleaned("pw"), "the address of the order");
        assert_eq!(query("1 week & more"), "1%20week%20%26%20more");
    }
}
