//! Which proxy a request goes through: by the variables and the rules of Go's package `httpproxy`, which
//! GitLab Runner's helper goes by. `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count, then the same in lower
//! case; hosts of loopback are asked directly. Plain HTTP is handed to a proxy as it is; for HTTPS, and
//! of a SOCKS proxy, a tunnel is asked for.

use ipnet::IpNet;
use std::net::IpAddr;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// The proxies of an environment.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// How a request gets to its host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'p> {
    /// Without a proxy.
    Direct,
    /// Through a tunnel that the proxy opens.
    Tunnel(&'p Proxy),
    /// The proxy makes the request.
    Forward(&'p Proxy),
}

/// Hosts that are asked directly.
#[derive(Debug, PartialEq)]
enum Direct {
    All,
    Net(IpNet),
    /// An address, at one port or all.
    Address(IpAddr, Option<u16>),
    /// Names that end so, with the dot before; and, where it says so, the name without the dot.
    Domain {
        end: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Those that variables name, which are looked up by this.
    ///
    /// # Errors
    /// The name of a variable that holds no address of a proxy.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, &'static str> {
        let first = |names: [&'static str; 2]| {
            let held = names.map(|name| (name, variable(name).unwrap_or_default()));
            held.into_iter().find(|(_, value)| !value.is_empty())
        };
        let proxy = |names| {
            first(names)
                .map(|(name, value)| Proxy::new(&value).map_err(|_| name))
                .transpose()
        };
        let direct = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value);
        Ok(Self {
            http: proxy(["HTTP_PROXY", "http_proxy"])?,
            https: proxy(["HTTPS_PROXY", "https_proxy"])?,
            direct: direct
                .unwrap_or_default()
                .split(',')
                .filter_map(Direct::read)
                .collect(),
        })
    }

    /// The way to an address.
    pub(super) fn to(&self, url: &str) -> Way<'_> {
        match self.proxy(url) {
            None => Way::Direct,
            Some(proxy) => match proxy.protocol() {
                ProxyProtocol::Http | ProxyProtocol::Https if !url.starts_with("https:") => {
                    Way::Forward(proxy)
                }
                _ => Way::Tunnel(proxy),
            },
        }
    }

    fn proxy(&self, url: &str) -> Option<&Proxy> {
        let url: Uri = url.parse().ok()?;
        let (proxy, usual) = match url.scheme_str() {
            Some("https") => (self.https.as_ref()?, 443),
            _ => (self.http.as_ref()?, 80),
        };
        let host = url.host()?.to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(usual);
        (!self.is_direct(&host, port)).then_some(proxy)
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        let at = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        host == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self.direct.iter().any(|direct| match direct {
                Direct::All => true,
                Direct::Net(net) => address.is_some_and(|address| net.contains(&address)),
                Direct::Address(own, wanted) => address == Some(*own) && at(wanted),
                Direct::Domain {
                    end,
                    itself,
                    port: wanted,
                } => (host.ends_with(end) || (*itself && host == &end[1..])) && at(wanted),
            })
    }
}

impl Direct {
    fn read(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Direct::All);
        }
        if let Ok(net) = entry.parse() {
            return Some(Direct::Net(net));
        }
        let address = |text: &str| {
            let bare = text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'));
            bare.unwrap_or(text).parse().ok()
        };
        if let Some(own) = address(&entry) {
            return Some(Direct::Address(own, None));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        if let Some(own) = address(name) {
            return Some(Direct::Address(own, port));
        }
        let below = name.strip_prefix('*').unwrap_or(name);
        let itself = !below.starts_with('.');
        let end = match itself {
            true => format!(".{below}"),
            false => below.to_owned(),
        };
        Some(Direct::Domain { end, itself, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Proxies, &'static str> {
        Proxies::of(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_scheme_has_its_proxy_and_capitals_count_first() {
        let proxies = of(&[
            ("http_proxy", "lower:1"),
            ("HTTP_PROXY", ""),
            ("https_proxy", "http://lower:2"),
            ("HTTPS_PROXY", "http://user:word@upper:3"),
            ("ALL_PROXY", "http://all:4"),
        ])
        .unwrap();
        let host = |url| proxies.proxy(url).map(|proxy| (proxy.host(), proxy.port()));
        assert_eq!(host("http://gitlab.example.com/a"), Some(("lower", 1)));
        assert_eq!(host("https://gitlab.example.com/a"), Some(("upper", 3)));
        assert!(of(&[]).unwrap().proxy("https://a.example.com").is_none());
        assert_eq!(
            of(&[("HTTPS_PROXY", "http://")]).unwrap_err(),
            "HTTPS_PROXY"
        );
    }

    #[test]
    fn plain_http_is_handed_to_a_proxy_that_speaks_it() {
        let proxies = of(&[("HTTP_PROXY", "p:1"), ("HTTPS_PROXY", "p:1")]).unwrap();
        let socks = of(&[("HTTP_PROXY", "socks5://p:1"), ("NO_PROXY", "b.test")]).unwrap();
        assert!(matches!(proxies.to("http://a.test"), Way::Forward(_)));
        assert!(matches!(proxies.to("https://a.test"), Way::Tunnel(_)));
        assert!(matches!(socks.to("http://a.test"), Way::Tunnel(_)));
        assert!(matches!(socks.to("http://b.test"), Way::Direct));
        assert!(matches!(socks.to("https://a.test"), Way::Direct));
    }

    #[test]
    fn what_is_direct_is_told_as_go_tells_it() {
        let no = " example.com, .inner.test,*.star.test,host.test:8080, 10.0.0.0/8,192.0.2.7,192.0.2.8:81,[2001:db8::1]:443,2001:db8:1::/48,";
        let proxies = of(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", no)]).unwrap();
        for (host, direct) in [
            ("example.com", true),
            ("EXAMPLE.com", true),
            ("a.example.com:8080", true),
            ("badexample.com", false),
            ("inner.test", false),
            ("a.inner.test", true),
            ("star.test", false),
            ("a.star.test", true),
            ("host.test", false),
            ("host.test:8080", true),
            ("a.host.test:8080", true),
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.0.2.7:9", true),
            ("192.0.2.8", false),
            ("192.0.2.8:81", true),
            ("[2001:db8::1]:443", true),
            ("[2001:db8::1]", false),
            ("[2001:db8:1::9]", true),
            ("localhost:9", true),
            ("127.0.0.9", true),
            ("[::1]", true),
        ] {
            let proxy = proxies.proxy(&format!("http://{host}/"));
            assert_eq!(proxy.is_none(), direct, "{host}");
        }
        let all = of(&[("HTTP_PROXY", "p:1"), ("no_proxy", "a,*")]).unwrap();
        assert!(all.proxy("http://any.test").is_none());
    }
}
