//! How a server is reached: certificates and proxies.

use crate::server::{Reply, Server, status};
use crate::support::{Project, upload};
use crate::tls::{Identity, TlsStream};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

fn order(url: &str, ca: Option<&str>) -> Value {
    let mut order = upload(url, json!({"paths": ["a"]}));
    if let Some(ca) = ca {
        order["artifacts-upload"]["calls"]["ca"] = json!(ca);
    }
    order
}

fn created() -> [Reply; 1] {
    [status("201 Created")]
}

#[test]
fn the_certificates_of_the_order_and_of_the_environment_are_trusted_and_no_others() {
    let project = Project::new(&["a"]);
    let identity = Identity::of("127.0.0.1");
    let file = project.path().join("../ca.pem");
    std::fs::write(&file, &identity.ca).unwrap();
    let by_variable = [("SSL_CERT_FILE", file.to_str().unwrap())];
    for (ca, environment) in [(Some(&*identity.ca), &[][..]), (None, &by_variable[..])] {
        let server = Server::with_tls(&identity, created());
        let ran = project.transfer_with(&order(&server.url, ca), environment);
        ran.ended(0).says("201 Created");
        assert_eq!(server.requests()[0].form().0, "default.zip");
    }
    let server = Server::with_tls(&identity, created());
    let foreign = Identity::of("127.0.0.1");
    let ran = project.transfer(&order(&server.url, Some(&foreign.ca)));
    ran.ended(10).says("invalid peer certificate");
    assert!(server.requests().is_empty());
    let named = Identity::of("gitlab.test");
    let server = Server::with_tls(&named, created());
    let ran = project.transfer(&order(&server.url, Some(&named.ca)));
    ran.ended(10).says("not valid for name");
}

#[test]
fn an_answer_in_the_middle_of_a_large_upload_is_read_by_https_too() {
    let project = Project::new(&[]);
    let mut noise = Vec::new();
    let mut state = 1_u32;
    while noise.len() < 30_000_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push(state.to_be_bytes()[0]);
    }
    project.write("a", &noise);
    let identity = Identity::of("127.0.0.1");
    let too_large = Reply::Amid(100_000, "413 Payload Too Large".into());
    let server = Server::with_tls(&identity, [too_large]);
    let ran = project.transfer(&order(&server.url, Some(&identity.ca)));
    ran.ended(11).says("too large: the archive was refused");
}

/// A proxy that leads every tunnel to one server, and what it was asked.
struct Tunnels {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

/// How a proxy is asked for a tunnel.
#[derive(Clone)]
enum Asked {
    Http,
    Https(Arc<rustls::ServerConfig>),
    Socks,
}

impl Tunnels {
    fn to(server: &Server, asked: Asked) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (_, to) = server.url.split_once("://").unwrap();
        let to = to.to_owned();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (to, kept, asked) = (to.clone(), Arc::clone(&kept), asked.clone());
                std::thread::spawn(move || {
                    let stream = stream?;
                    match asked {
                        Asked::Http => tunnel(stream.try_clone()?, stream, &to, &kept, connect),
                        Asked::Socks => tunnel(stream.try_clone()?, stream, &to, &kept, socks),
                        Asked::Https(tls) => {
                            let stream = TlsStream::new(tls, stream);
                            tunnel(stream.clone(), stream, &to, &kept, connect)
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn head(&self) -> String {
        let heads = self.heads.lock().unwrap();
        let [head] = &heads[..] else {
            panic!("one tunnel: {heads:?}")
        };
        head.to_ascii_lowercase()
    }
}

fn tunnel<W: Write + Send + 'static>(
    from: impl Read,
    mut back: W,
    to: &str,
    kept: &Mutex<Vec<String>>,
    open: fn(&mut dyn BufRead, &mut dyn Write) -> std::io::Result<String>,
) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let head = open(&mut from, &mut back)?;
    kept.lock().unwrap().push(head);
    let mut server = TcpStream::connect(to)?;
    let mut answers = server.try_clone()?;
    std::thread::spawn(move || pass(&mut answers, &mut back));
    pass(&mut from, &mut server)?;
    server.shutdown(std::net::Shutdown::Write)
}

/// What is written is on its way at once.
fn pass(from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..count])?;
        to.flush()?;
    }
}

/// HTTP's CONNECT.
fn connect(from: &mut dyn BufRead, back: &mut dyn Write) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    back.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    back.flush()?;
    Ok(head)
}

/// RFC 1928, of a name, by a user that nobody asks for a password.
fn socks(from: &mut dyn BufRead, back: &mut dyn Write) -> std::io::Result<String> {
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = take(2)?[1];
    take(methods.into())?;
    back.write_all(&[5, 0])?;
    let asked = take(5)?;
    assert_eq!(asked[..4], [5, 1, 0, 3], "a connection to a name");
    let name = take(asked[4].into())?;
    let port = take(2)?;
    back.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    Ok(format!("{}:{port}", String::from_utf8_lossy(&name)))
}

#[test]
fn a_scheme_has_its_proxy_and_who_needs_none_is_asked_directly() {
    let project = Project::new(&["a"]);
    let identity = Identity::of("gitlab.test");
    let server = Server::with_tls(&identity, created());
    let proxy = Tunnels::to(&server, Asked::Http);
    let with_login = format!("http://user:open-sesame@{}", proxy.address);
    let ran = project.transfer_with(
        &order("https://gitlab.test", Some(&identity.ca)),
        &[
            ("HTTPS_PROXY", &with_login),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
        ],
    );
    let ran = ran.ended(0);
    ran.says("201 Created");
    ran.says_not("open-sesame");
    let head = proxy.head();
    assert!(head.starts_with("connect gitlab.test:443 "), "{head}");
    let login = "proxy-authorization: basic dXNlcjpvcGVuLXNlc2FtZQ==";
    assert!(head.contains(&login.to_ascii_lowercase()), "{head}");
    assert_eq!(server.requests().len(), 1);

    // Loopback, and what the environment says.
    let direct = [
        ("http_proxy", "http://127.0.0.1:9"),
        ("no_proxy", "gitlab.test"),
    ];
    let server = Server::new(created());
    let ran = project.transfer_with(&order(&server.url, None), &direct);
    ran.ended(0).says("201 Created");
    let ran = project.transfer_with(&order("http://gitlab.test", None), &direct);
    ran.ended(10).says_not("proxy");
    let ran = project.transfer_with(
        &order("http://gitlab.test", None),
        &[("http_proxy", "http://user:open-sesame@")],
    );
    let ran = ran.ended(11);
    ran.says("http_proxy holds no address");
    ran.says_not("open-sesame");
}

#[test]
fn a_plain_request_is_handed_to_the_proxy_as_it_is() {
    // Most of what is sent comes after the first piece of the request.
    let project = Project::new(&[]);
    project.write("a", &[7; 300_000]);
    let identity = Identity::of("127.0.0.1");
    let file = project.path().join("../ca.pem");
    std::fs::write(&file, &identity.ca).unwrap();
    for proxy in [
        Server::new(created()),
        Server::with_tls(&identity, created()),
    ] {
        let address = proxy.url.replace("://", "://user:open-sesame@");
        let ran = project.transfer_with(
            &order("http://gitlab.test:8080", None),
            &[
                ("http_proxy", &*address),
                ("https_proxy", "http://127.0.0.1:9"),
                ("SSL_CERT_FILE", file.to_str().unwrap()),
            ],
        );
        let ran = ran.ended(0);
        ran.says("201 Created");
        ran.says_not("open-sesame");
        let [request] = &proxy.requests()[..] else {
            panic!("one request");
        };
        let whole = "http://gitlab.test:8080/api/v4/jobs/";
        assert!(request.target.starts_with(whole), "{}", request.target);
        assert_eq!(request.header("host"), Some("gitlab.test:8080"));
        let login = Some("Basic dXNlcjpvcGVuLXNlc2FtZQ==");
        assert_eq!(request.header("proxy-authorization"), login);
        assert_eq!(request.form().0, "default.zip");
    }
}

#[test]
fn requests_after_the_first_are_handed_to_the_proxy_too() {
    let project = Project::new(&["a"]);
    let busy = status("503 Service Unavailable");
    let proxy = Server::new([busy, status("201 Created")]);
    let ran = project.transfer_with(
        &order("http://gitlab.test", None),
        &[("HTTP_PROXY", &*proxy.url)],
    );
    ran.ended(0).says("201 Created");
    let requests = proxy.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(request.target.starts_with("http://gitlab.test/api/"));
        assert_eq!(request.header("proxy-authorization"), None);
    }
}

#[test]
fn tunnels_are_asked_for_by_https_and_socks_too() {
    let project = Project::new(&["a"]);
    let identity = Identity::of("127.0.0.1");
    let named = Identity::of("gitlab.test");
    let file = project.path().join("../ca.pem");
    std::fs::write(&file, format!("{}{}", identity.ca, named.ca)).unwrap();
    let trusted = ("SSL_CERT_FILE", file.to_str().unwrap());
    for (scheme, asked, head) in [
        (
            "https",
            Asked::Https(identity.server()),
            "connect gitlab.test:443 ",
        ),
        ("socks5h", Asked::Socks, "gitlab.test:443"),
    ] {
        let server = Server::with_tls(&named, created());
        let proxy = Tunnels::to(&server, asked);
        let address = format!("{scheme}://{}", proxy.address);
        let ran = project.transfer_with(
            &order("https://gitlab.test", None),
            &[("HTTPS_PROXY", &*address), trusted],
        );
        ran.ended(0).says("201 Created");
        assert!(proxy.head().starts_with(head), "{}", proxy.head());
    }
    let server = Server::new(created());
    let proxy = Tunnels::to(&server, Asked::Socks);
    let address = format!("socks5h://{}", proxy.address);
    let ran = project.transfer_with(
        &order("http://gitlab.test:8080", None),
        &[("HTTP_PROXY", &*address)],
    );
    ran.ended(0).says("201 Created");
    assert_eq!(proxy.head(), "gitlab.test:8080");
}
