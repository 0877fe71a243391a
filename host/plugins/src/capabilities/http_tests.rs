//! The rules of `http`, and exchanges with a server of the test's own.

use super::*;
use crate::capabilities::AwsKeys;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

const SOON: Duration = Duration::from_secs(20);

fn web(grant: Option<HttpGrant>) -> Web {
    let credentials = Credentials::default();
    let header = |name: &str, value: &str| Credential::Header {
        name: name.into(),
        value: value.to_owned().into(),
    };
    credentials.set(BTreeMap::from([
        ("pve".into(), Credential::Bearer("s3cret".to_owned().into())),
        ("key".into(), header("X-Key", "k3y")),
        ("aws".into(), Credential::Aws(Aws::new(keys()))),
        ("odd".into(), header("X-Key", "new\nline")),
    ]));
    Web::new("it", grant, Arc::new(credentials))
}

fn keys() -> AwsKeys {
    AwsKeys::Static {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "s3cret".to_owned().into(),
        session_token: None,
    }
}

fn caller() -> Caller {
    Caller::default()
}

fn grant(origin: &str, allow_private: bool) -> Option<HttpGrant> {
    Some(HttpGrant {
        origins: vec![origin.into()],
        allow_private,
        actions: None,
        credentials: ["pve", "key", "aws", "odd", "missing"]
            .map(Into::into)
            .into(),
    })
}

fn get(url: &str) -> Request {
    Request {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        credential: None,
    }
}

fn denied(web: &Web, request: Request) -> String {
    match web.prepare(request, &caller()) {
        Err(HttpError::Denied(text)) => text,
        other => panic!("not denied: {other:?}"),
    }
}

/// Answers one request with these bytes; gives what it was sent.
fn serve(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = peer.read(&mut buffer).unwrap();
            assert!(count > 0, "the request is whole");
            seen.extend_from_slice(&buffer[..count]);
        }
        // A client that has read enough closes the connection.
        peer.write_all(&answer).ok();
        String::from_utf8_lossy(&seen).into_owned()
    });
    (origin, server)
}

fn until() -> Instant {
    Instant::now() + SOON
}

#[tokio::test]
async fn a_granted_request_is_answered_and_a_credential_is_applied_by_name() {
    for (credential, field) in [
        ("pve", "authorization: Bearer s3cret"),
        ("key", "x-key: k3y"),
    ] {
        let answer = b"HTTP/1.1 201 Created\r\nx-it: yes\r\ncontent-length: 2\r\n\r\nhi";
        let (origin, server) = serve(answer.to_vec());
        let mut request = get(&format!("{origin}/path?q=1"));
        request.credential = Some(credential.into());
        let response = web(grant(&origin, true))
            .send(request, &caller(), until())
            .await
            .unwrap();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (201, &b"hi"[..])
        );
        assert!(response.headers.iter().any(|one| one.key == "x-it"));
        let seen = server.join().unwrap();
        assert!(seen.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains(field), "{seen}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (origin, _server) = serve(answer.to_vec());
    let response = web(grant(&origin, true))
        .send(get(&origin), &caller(), until())
        .await;
    assert_eq!(response.unwrap().status, 302);
}

#[tokio::test]
async fn an_answer_beyond_the_cap_is_too_large_whether_it_says_so_or_not() {
    let said = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        RESPONSE + 1
    );
    let mut unsaid = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    unsaid.resize(unsaid.len() + RESPONSE + 1, b'x');
    for answer in [said.into_bytes(), unsaid] {
        let (origin, _server) = serve(answer);
        let end = web(grant(&origin, true))
            .send(get(&origin), &caller(), until())
            .await;
        assert_eq!(end, Err(HttpError::TooLarge));
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_timed_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let soon = Instant::now() + MARGIN + Duration::from_millis(100);
    let end = web(grant(&origin, true))
        .send(get(&origin), &caller(), soon)
        .await;
    assert_eq!(end, Err(HttpError::TimedOut));
}

#[tokio::test]
async fn a_name_that_points_inward_is_denied_at_the_connection() {
    let web = web(grant("http://localhost:9", false));
    let end = web
        .send(get("http://localhost:9/"), &caller(), until())
        .await;
    let Err(HttpError::Denied(text)) = end else {
        panic!("{end:?}");
    };
    assert!(text.contains("allow_private"), "{text}");
}

#[test]
fn an_origin_that_is_not_granted_is_denied_with_the_lines_to_add() {
    for origin in [None, grant("https://api.example.com", false)] {
        let web = web(origin);
        for url in [
            "https://api.example.com:444/",
            "http://api.example.com/",
            "https://api.example.com.evil.test/",
        ] {
            let text = denied(&web, get(url));
            assert!(
                text.contains("[plugins.it.grants.http] origins = [\""),
                "{text}"
            );
        }
        for url in [
            "https://user@api.example.com/",
            "https://api.example.com./",
            "file:///etc/passwd",
        ] {
            denied(&web, get(url));
        }
    }
    let granted = web(grant("https://api.example.com", false));
    assert!(
        granted
            .prepare(get("https://API.example.com:443/x?y"), &caller())
            .is_ok()
    );
}

#[test]
fn header_fields_that_are_the_hosts_are_denied() {
    let web = web(grant("https://api.example.com", false));
    for name in [
        "Host",
        "Authorization",
        "COOKIE",
        "Proxy-Authorization",
        "Connection",
        "Transfer-Encoding",
        "Content-Length",
        "Upgrade",
    ] {
        let mut request = get("https://api.example.com/");
        request.headers.push(KeyValue {
            key: name.into(),
            value: "x".into(),
        });
        assert!(denied(&web, request).contains("the host's"), "{name}");
    }
    let mut request = get("https://api.example.com/");
    request.headers.push(KeyValue {
        key: "X-Split".into(),
        value: "a\r\nHost: b".into(),
    });
    assert!(matches!(
        web.prepare(request, &caller()),
        Err(HttpError::Failed(_))
    ));
}

#[test]
fn a_credential_must_be_granted_and_be_there_and_is_never_told() {
    let ask = |web: &Web, name: &str| {
        let mut request = get("https://api.example.com/");
        request.credential = Some(name.into());
        web.prepare(request, &caller()).map(|_| ())
    };
    let web = web(grant("https://api.example.com", false));
    let text = format!("{:?}", ask(&web, "other"));
    assert!(text.contains("credentials = ["), "{text}");
    let text = format!("{:?}", ask(&web, "missing"));
    assert!(text.contains("[credentials.missing]"), "{text}");
    let text = format!("{:?}", ask(&web, "aws"));
    assert!(text.contains("aws/SERVICE/REGION"), "{text}");
    assert!(ask(&web, "aws/ec2/eu-west-1").is_ok());
    let text = format!("{:?}", ask(&web, "pve/ec2/eu-west-1"));
    assert!(text.contains("type aws"), "{text}");
    let text = format!("{:?}", ask(&web, "odd"));
    assert!(!text.contains("line"), "{text}");
    assert!(!format!("{web:?}").contains("s3cret"));
}

#[test]
fn methods_and_bodies_have_their_limits() {
    let web = web(grant("https://api.example.com", false));
    for method in ["CONNECT", "TRACE", "get", ""] {
        let mut request = get("https://api.example.com/");
        request.method = method.into();
        denied(&web, request);
    }
    let mut request = get("https://api.example.com/");
    request.body = vec![0; REQUEST + 1];
    assert!(matches!(
        web.prepare(request, &caller()),
        Err(HttpError::Failed(_))
    ));
}

#[test]
fn addresses_of_the_inside_need_a_grant_and_metadata_has_none() {
    const ALWAYS: &[&str] = &["1.1.1.1", "93.184.216.34", "2606:4700::1111", "172.32.0.1"];
    const PRIVATE: &[&str] = &[
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ];
    const NEVER: &[&str] = &[
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
    ];
    let reach = |text: &str, private| may_reach(text.parse().unwrap(), private);
    for text in ALWAYS {
        assert!(reach(text, false) && reach(text, true), "{text}");
    }
    for text in PRIVATE {
        assert!(!reach(text, false) && reach(text, true), "{text}");
    }
    for text in NEVER {
        assert!(!reach(text, false) && !reach(text, true), "{text}");
    }
    let literal = web(grant("http://127.0.0.1:9", false));
    assert!(denied(&literal, get("http://127.0.0.1:9/")).contains("allow_private"));
    assert!(denied(&literal, get("http://0x7f.1:9/")).contains("allow_private"));
}

#[test]
fn of_a_names_addresses_those_that_are_open_are_left() {
    let addresses = ["127.0.0.1:0", "1.1.1.1:0"].map(|text| text.parse().unwrap());
    let left = open("mixed.test", addresses, false).unwrap();
    assert_eq!(left, ["1.1.1.1:0".parse().unwrap()]);
    assert!(open("in.test", ["10.0.0.1:0".parse().unwrap()], false).is_err());
}

/// Answers a request a connection with these; gives what each was sent.
fn serve_each(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let serve = |answer: String| {
            let (mut peer, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut buffer = [0; 1024];
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = peer.read(&mut buffer).unwrap();
                assert!(count > 0, "the request is whole");
                seen.extend_from_slice(&buffer[..count]);
            }
            peer.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&seen).into_owned()
        };
        answers.into_iter().map(serve).collect()
    });
    (origin, server)
}

fn refusal(code: &str, date: &str) -> String {
    let body = format!("<Code>{code}</Code>");
    format!(
        "HTTP/1.1 403 No\r\nconnection: close\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_signature_refused_for_its_time_is_made_once_more_by_awss_clock() {
    let date = "Sun, 30 Aug 2015 12:36:00 GMT";
    let (origin, server) = serve_each(vec![
        refusal("SignatureDoesNotMatch", date),
        refusal("SignatureDoesNotMatch", date),
    ]);
    let mut request = get(&format!("{origin}/?Action=DescribeInstances"));
    request.credential = Some("aws/ec2/eu-west-1".into());
    let answer = web(grant(&origin, true))
        .send(request, &caller(), until())
        .await;
    assert_eq!(answer.unwrap().status, 403, "and no third time");
    let seen = server.join().unwrap();
    assert!(!seen[0].contains("x-amz-date: 20150830"), "{}", seen[0]);
    assert!(seen[1].contains("x-amz-date: 20150830T1236"), "{}", seen[1]);
    let field = "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/ec2/";
    assert!(seen[1].contains(field), "{}", seen[1]);
}

#[tokio::test]
async fn keys_that_ended_are_taken_anew_once_and_a_refusal_without_others_is_the_answer() {
    // What was found is not what there is now: a session that ended in the middle.
    let ended = |web: &Web| {
        let Some(Credential::Aws(aws)) = web.credentials.get("", "aws") else {
            panic!("there is one");
        };
        aws.found_before("ENDED");
    };
    let date =
        jiff::fmt::rfc2822::to_string(&jiff::Timestamp::now().in_tz("UTC").unwrap()).unwrap();
    let good = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (origin, server) = serve_each(vec![refusal("RequestExpired", &date), good.to_owned()]);
    let mut request = get(&format!("{origin}/?Action=DescribeInstances"));
    request.credential = Some("aws/ec2/eu-west-1".into());
    let web = web(grant(&origin, true));
    ended(&web);
    let answer = web.send(request, &caller(), until()).await;
    assert_eq!(answer.unwrap().status, 200);
    let seen = server.join().unwrap();
    assert!(seen[0].contains("Credential=ENDED/"), "{}", seen[0]);
    assert!(seen[1].contains("Credential=AKIDEXAMPLE/"), "{}", seen[1]);

    let (origin, server) = serve_each(vec![refusal("ExpiredToken", &date)]);
    let mut request = get(&format!("{origin}/"));
    request.credential = Some("aws/ec2/eu-west-1".into());
    let web = self::web(grant(&origin, true));
    let answer = web.send(request, &caller(), until()).await;
    assert_eq!(answer.unwrap().status, 403);
    assert_eq!(server.join().unwrap().len(), 1);
}

#[test]
fn of_awss_actions_those_that_are_granted_may_be_named_and_one_at_a_time() {
    let origin = "https://ec2.eu-west-1.amazonaws.com";
    let mut grant = grant(origin, false).unwrap();
    grant.actions = Some(vec!["DescribeInstances".into(), "GetParameter".into()]);
    let web = web(Some(grant));
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>);
    let cases: [Case<'_>; 9] = [
        ("/?Action=DescribeInstances", &[], "", None),
        (
            "/",
            &[("content-type", form)],
            "Action=DescribeInstances&A=b",
            None,
        ),
        (
            "/",
            &[
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", "AmazonSSM.GetParameter"),
            ],
            "{}",
            None,
        ),
        (
            "/?Action=RunInstances",
            &[],
            "",
            Some("`actions` of [plugins.it"),
        ),
        (
            "/?%41ction=RunInstances",
            &[],
            "",
            Some("\"RunInstances\" is not granted"),
        ),
        ("/", &[], "", Some("names 0 actions")),
        (
            "/?Action=DescribeInstances",
            &[("content-type", form)],
            "Action=RunInstances",
            Some("names 2 actions"),
        ),
        (
            "/?Action=DescribeInstances",
            &[("x-amz-target", "X.RunInstances")],
            "",
            Some("names 2 actions"),
        ),
        (
            "/?Action=DescribeInstances",
            &[("content-type", "multipart/form-data")],
            "Action=RunInstances",
            Some("can't be seen"),
        ),
    ];
    for (path, fields, body, refused) in cases {
        let mut request = get(&format!("{origin}{path}"));
        request.method = "POST".into();
        request.credential = Some("aws".into());
        request.body = body.into();
        request.headers = fields
            .iter()
            .map(|(key, value)| KeyValue {
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect();
        match refused {
            None => assert!(web.prepare(request, &caller()).is_ok(), "{path} {body}"),
            Some(part) => {
                let text = denied(&web, request);
                assert!(text.contains(part), "{path} {body}: {text}");
            }
        }
    }
}
