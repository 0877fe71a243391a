//! Scheme, host and port: what a grant of `http` names, exactly.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use url::{Host, Url};

/// An origin, as a browser compares them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: Host,
    port: u16,
}

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is no origin: {why}; write https://HOST or https://HOST:PORT")]
pub struct OriginError {
    text: String,
    why: &'static str,
}

impl Origin {
    /// The origin of a URL.
    ///
    /// # Errors
    /// Why it is none that a plugin may send to.
    pub fn of(url: &Url) -> Result<Origin, &'static str> {
        if !matches!(url.scheme(), "https" | "http") {
            return Err("its scheme is neither https nor http");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has a user or a password");
        }
        let host = url.host().ok_or("it has no host")?.to_owned();
        if matches!(&host, Host::Domain(name) if name.ends_with('.')) {
            return Err("its host ends in a dot");
        }
        let port = url.port_or_known_default().ok_or("it has no port")?;
        Ok(Origin {
            scheme: url.scheme().to_owned(),
            host,
            port,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let error = |why| OriginError {
            text: text.to_owned(),
            why,
        };
        if text.contains('*') {
            return Err(error("origins are exact, and * stands for nothing"));
        }
        let url = Url::parse(text).map_err(|_| error("it is no URL"))?;
        let origin = Origin::of(&url).map_err(error)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(error("it has a path or a query"));
        }
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_exact() {
        for (text, origin) in [
            ("https://API.example.com", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://10.0.0.7:8006", "http://10.0.0.7:8006"),
            ("https://0x7f.1", "https://127.0.0.1"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            (
                "https://b\u{fc}cher.example",
                "https://xn--bcher-kva.example",
            ),
        ] {
            let parsed: Origin = text.parse().unwrap();
            assert_eq!(parsed.to_string(), origin, "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_says_why() {
        for (text, why) in [
            ("api.example.com", "no URL"),
            ("ftp://example.com", "scheme"),
            ("https://*.example.com", "exact"),
            ("https://user@example.com", "user"),
            ("https://example.com/path", "path"),
            ("https://example.com?q", "query"),
            ("https://example.com.", "dot"),
            ("", "no URL"),
        ] {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
