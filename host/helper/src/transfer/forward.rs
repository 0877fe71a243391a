//! Plain HTTP through a proxy: the request itself is handed to it, with the whole address in its first
//! line (RFC 9112, section 3.2.2). Many proxies open a tunnel to port 443 alone.
//!
//! Such a request is made of the proxy, with the address as its path: `/http://HOST/PATH`. The
//! connection leaves out the slash, which no URL is without.

use super::http::{host, origin};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use ureq::http::Uri;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Error, Proxy};

/// A request as a proxy is asked it.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// The proxy's address, with the one that is asked for as its path.
    pub(super) url: String,
    /// Whom it is for.
    pub(super) host: String,
    /// What the proxy knows its user by, if it asks for that.
    pub(super) login: Option<SecretString>,
}

impl Forwarded {
    /// A request of this address.
    pub(super) fn of(url: &str, proxy: &Proxy) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let own = origin(&proxy.uri().to_string())?;
        let login = proxy.username().map(|user| {
            let pair = format!("{user}:{}", proxy.password().unwrap_or_default());
            format!("Basic {}", STANDARD.encode(pair)).into()
        });
        Some(Self {
            url: format!("{own}/{}{path}", origin(url)?),
            host: host(url),
            login,
        })
    }
}

/// Wraps connections to proxies, each for one request.
#[derive(Debug, Default)]
pub(super) struct Forward;

impl<In: Transport> Connector<In> for Forward {
    type Out = Connection<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Connection {
            inner,
            began: false,
        }))
    }
}

/// A connection that takes the slash out of its first line.
#[derive(Debug)]
pub(super) struct Connection<In> {
    inner: In,
    began: bool,
}

impl<In: Transport> Transport for Connection<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !self.began {
            let output = &mut self.inner.buffers().output()[..amount];
            if let Some(blank) = output.iter().position(|byte| *byte == b' ') {
                self.began = true;
                if output.get(blank + 1) == Some(&b'/') {
                    output.copy_within(blank + 2.., blank + 1);
                    amount -= 1;
                }
            }
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        // A second request would have a first line too.
        false
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn the_address_is_whole_and_whose_login_is_whose_is_kept_apart() {
        for (url, proxy, made, host, login) in [
            (
                "http://gitlab.test:8080/api/v4/jobs/1/artifacts?a=b%2Fc",
                "http://proxy.test:3128",
                "http://proxy.test:3128/http://gitlab.test:8080/api/v4/jobs/1/artifacts?a=b%2Fc",
                "gitlab.test:8080",
                None,
            ),
            (
                "http://token:word@gitlab.test",
                "https://user:open%20sesame@[2001:db8::1]:3128",
                "https://[2001:db8::1]:3128/http://gitlab.test/",
                "gitlab.test",
                Some("Basic dXNlcjpvcGVuIHNlc2FtZQ=="),
            ),
        ] {
            let proxy = Proxy::new(proxy).unwrap();
            let forwarded = Forwarded::of(url, &proxy).unwrap();
            assert_eq!(forwarded.url, made);
            assert_eq!(forwarded.host, host);
            let told = forwarded.login.as_ref().map(|login| login.expose_secret());
            assert_eq!(told, login);
            let shown = format!("{forwarded:?}");
            assert!(!shown.contains("Basic"), "{shown}");
        }
    }
}
