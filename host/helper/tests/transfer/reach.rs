//! How a server is reached: certificates and proxies.

use crate::server::{Reply, Server, status};
use crate::support::{Project, upload};
use crate::tls::Identity;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
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

impl Tunnels {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (_, to) = server.url.split_once("://").unwrap();
        let to = to.to_owned();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (to, kept) = (to.clone(), Arc::clone(&kept));
                std::thread::spawn(move || tunnel(stream.unwrap(), &to, &kept));
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

fn tunnel(stream: TcpStream, to: &str, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        from.read_line(&mut head)?;
    }
    kept.lock().unwrap().push(head);
    let mut back = stream;
    back.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let mut server = TcpStream::connect(to)?;
    let mut answers = server.try_clone()?;
    std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
    std::io::copy(&mut from, &mut server)?;
    server.shutdown(std::net::Shutdown::Write)
}

#[test]
fn a_scheme_has_its_proxy_and_who_needs_none_is_asked_directly() {
    let project = Project::new(&["a"]);
    let identity = Identity::of("gitlab.test");
    let server = Server::with_tls(&identity, created());
    let proxy = Tunnels::to(&server);
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

    let server = Server::new(created());
    let proxy = Tunnels::to(&server);
    let environment = [
        ("http_proxy", &*proxy.address),
        ("https_proxy", "http://127.0.0.1:9"),
    ];
    let ran = project.transfer_with(&order("http://gitlab.test:8080", None), &environment);
    ran.ended(0).says("201 Created");
    assert!(proxy.head().starts_with("connect gitlab.test:8080 "));

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
