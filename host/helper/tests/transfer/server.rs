//! A server that is told what to answer, request by request, and keeps what it was sent.

use super::tls::{Identity, TlsStream};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        Some(all.find(|(own, _)| own == name)?.1.as_str())
    }

    /// The one file of a form: its name and its content.
    pub fn form(&self) -> (String, Vec<u8>) {
        let kind = self.header("content-type").unwrap();
        let boundary = kind
            .strip_prefix("multipart/form-data; boundary=")
            .unwrap()
            .as_bytes();
        let head = self
            .body
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let text = std::str::from_utf8(&self.body[..head]).unwrap();
        assert!(text.contains("name=\"file\""), "{text}");
        let name = text.split("filename=\"").nth(1).unwrap();
        let name = name.split('"').next().unwrap().to_owned();
        let end = [b"\r\n--", boundary, b"--\r\n"].concat();
        let content = self.body[head + 4..].strip_suffix(&*end).unwrap();
        (name, content.to_vec())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status line's rest, headers and a body, once the request is read.
    Full(String, Vec<(String, String)>, Vec<u8>),
    /// The same before the body is read, which is not asked for.
    Early(String),
    /// The same in the middle of the body, after so many bytes; then the connection is closed.
    Amid(usize, String),
    /// A body that ends after so many bytes of those it tells.
    Cut(usize, Vec<u8>),
}

pub fn status(status: &str) -> Reply {
    Reply::Full(status.into(), Vec::new(), Vec::new())
}

pub fn body(bytes: &[u8]) -> Reply {
    Reply::Full("200 OK".into(), Vec::new(), bytes.to_vec())
}

pub fn with(status: &str, name: &str, value: &str, bytes: &[u8]) -> Reply {
    let header = (name.to_owned(), value.to_owned());
    Reply::Full(status.into(), vec![header], bytes.to_vec())
}

pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers in this order, and 500 after that.
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::that(None, replies)
    }

    /// The same by HTTPS.
    pub fn with_tls(identity: &Identity, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::that(Some(identity.server()), replies)
    }

    fn that(
        tls: Option<Arc<rustls::ServerConfig>>,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies: Arc<Mutex<VecDeque<Reply>>> =
            Arc::new(Mutex::new(replies.into_iter().collect()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, replies) = (Arc::clone(&kept), Arc::clone(&replies));
                let stream = stream.unwrap();
                let tls = tls.clone();
                // A client that goes away ends its connection only.
                std::thread::spawn(move || match tls {
                    None => serve(stream.try_clone().ok()?, stream, &kept, &replies),
                    Some(tls) => {
                        let stream = TlsStream::new(tls, stream);
                        serve(stream.clone(), stream, &kept, &replies)
                    }
                });
            }
        });
        Self { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    from: impl Read,
    mut to: impl Write,
    kept: &Mutex<Vec<Request>>,
    replies: &Mutex<VecDeque<Reply>>,
) -> Option<()> {
    let mut from = BufReader::new(from);
    loop {
        let mut request = head(&mut from)?;
        let reply = replies.lock().unwrap().pop_front();
        let reply = reply.unwrap_or_else(|| status("500 Internal Server Error"));
        if let Reply::Early(status) = &reply {
            kept.lock().unwrap().push(request);
            send(
                &mut to,
                &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            )?;
            return None;
        }
        if request.header("expect").is_some() {
            to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if let Reply::Amid(most, status) = &reply {
            let mut some = vec![0; *most];
            from.read_exact(&mut some).ok()?;
            kept.lock().unwrap().push(request);
            send(
                &mut to,
                &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            )?;
            // Closed with what was sent unread: the client's next write is answered by a reset.
            return None;
        }
        request.body = content(&request, &mut from)?;
        kept.lock().unwrap().push(request);
        match reply {
            Reply::Full(status, headers, bytes) => {
                let headers: String = headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                let length = bytes.len();
                send(
                    &mut to,
                    &format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n"),
                )?;
                to.write_all(&bytes).ok()?;
            }
            Reply::Cut(most, bytes) => {
                send(
                    &mut to,
                    &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()),
                )?;
                to.write_all(&bytes[..most]).ok()?;
                return None;
            }
            Reply::Early(_) | Reply::Amid(..) => unreachable!("answered above"),
        }
    }
}

/// All at once: what is left of an answer in several pieces is lost when the connection is closed.
fn send(to: &mut impl Write, head: &str) -> Option<()> {
    to.write_all(head.as_bytes()).ok()
}

fn head(from: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    if from.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(request);
        }
        let (name, value) = line.split_once(':')?;
        request
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn content(request: &Request, from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim(), 16).ok()?;
            let read = from.take(length).read_to_end(&mut body).ok()?;
            let mut end = String::new();
            from.read_line(&mut end).ok()?;
            if read as u64 != length {
                return None;
            }
            if length == 0 {
                return Some(body);
            }
        }
    }
    let length: u64 = request
        .header("content-length")
        .map_or(Some(0), |text| text.parse().ok())?;
    from.take(length).read_to_end(&mut body).ok()?;
    Some(body)
}
