//! Requests to one GitLab: its address, its certificates, and another attempt where that helps.
//!
//! A token goes to the origin of `url` alone: a redirect is an error. An answer has
//! 16 MiB at most. Connections are given up after `connection_max_age`, and the certificate files
//! are then read anew, as they are after GitLab could not be reached.

use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::redirect;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use crate::address;
use crate::error::{Attempt, GitlabError};
use crate::observe::{Answered, Endpoint, Observer};
use crate::queue::server_wait;
use crate::retry::{MAX_ATTEMPTS, retriable, retry_wait};

/// Bytes one answer may have.
const BODY: usize = 16 * 1024 * 1024;
/// Characters of a refusal's text that are kept.
const MESSAGE: usize = 200;
/// How long nothing is asked after a 429 that does not say.
const LIMITED: Duration = Duration::from_secs(60);

/// Where GitLab is and how to reach it. The times are GitLab Runner's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientOptions {
    /// GitLab's address, with or without a slash, or `/ci`, at the end.
    pub url: String,
    /// Certificates to trust beside the system's: a PEM file.
    pub tls_ca_file: Option<PathBuf>,
    /// The client's own certificate: a PEM file, with `tls_key_file`.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate: a PEM file.
    pub tls_key_file: Option<PathBuf>,
    /// How long connections are used: 15 minutes.
    pub connection_max_age: Duration,
    /// How long a connection may take to be made: 30 seconds.
    pub connect_timeout: Duration,
    /// How long a server may say nothing: 10 minutes.
    pub response_timeout: Duration,
    /// How long a whole request may take: an hour.
    pub timeout: Duration,
}

impl ClientOptions {
    /// The address and GitLab Runner's times; no certificates.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            connection_max_age: Duration::from_secs(15 * 60),
            connect_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10 * 60),
            timeout: Duration::from_secs(60 * 60),
        }
    }
}

/// A client of one GitLab, cheap to clone: clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    observer: Option<Arc<dyn Observer>>,
}

struct Inner {
    options: ClientOptions,
    base: Url,
    transport: Mutex<Transport>,
}

struct Transport {
    client: reqwest::Client,
    made: Instant,
    /// Whether it is made anew before the next request.
    doubted: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.inner.base.as_str())
            .finish_non_exhaustive()
    }
}

/// A request to make.
pub(crate) struct Ask<'a> {
    /// In words, for errors and the log.
    pub(crate) what: &'static str,
    pub(crate) method: Method,
    /// Below `/api/v4/`.
    pub(crate) path: String,
    pub(crate) query: Option<(&'static str, &'static str)>,
    /// The header a token goes into, and the token.
    pub(crate) token: (&'static str, &'a SecretString),
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// Whether an answer that is worth another attempt gets one here.
    pub(crate) patient: bool,
    /// What an observer is told that it is; `None` is not told.
    pub(crate) endpoint: Option<Endpoint>,
}

impl<'a> Ask<'a> {
    /// A request with a JSON body.
    pub(crate) fn json(
        what: &'static str,
        method: Method,
        path: impl Into<String>,
        token: (&'static str, &'a SecretString),
        body: &impl Serialize,
    ) -> Result<Self, GitlabError> {
        let body = serde_json::to_vec(body).map_err(|error| GitlabError::BadOption {
            option: "request",
            problem: format!("cannot be written as JSON: {error}"),
        })?;
        let json = HeaderValue::from_static("application/json");
        Ok(Self {
            what,
            method,
            path: path.into(),
            query: None,
            token,
            headers: vec![(header::CONTENT_TYPE, json.clone()), (header::ACCEPT, json)],
            body: body.into(),
            patient: true,
            endpoint: None,
        })
    }

    pub(crate) fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    pub(crate) fn once(mut self) -> Self {
        self.patient = false;
        self
    }
}

/// What GitLab answered, whatever its status.
pub(crate) struct Answer {
    pub(crate) attempt: Attempt,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    message: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} {})", self.status, self.attempt)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let text = self.headers.get(name)?.to_str().ok()?.trim();
        Some(text).filter(|text| !text.is_empty())
    }

    /// The body as text, if it says that it is JSON.
    pub(crate) fn json_text(&self) -> Result<&str, GitlabError> {
        let kind = self.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/json") {
            return Err(self.malformed("it is not application/json"));
        }
        std::str::from_utf8(&self.body).map_err(|_| self.malformed("it is not UTF-8"))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, GitlabError> {
        serde_json::from_str(self.json_text()?).map_err(|error| {
            // The error's own text may quote the answer.
            let place = (error.line(), error.column());
            self.malformed(format!("bad JSON at line {}, column {}", place.0, place.1))
        })
    }

    pub(crate) fn malformed(&self, problem: impl Into<String>) -> GitlabError {
        GitlabError::Malformed {
            attempt: self.attempt.clone(),
            problem: problem.into(),
        }
    }

    /// The answer as the error it is.
    pub(crate) fn refusal(&self) -> GitlabError {
        let (attempt, message) = (self.attempt.clone(), self.message.clone());
        let wait = server_wait(&self.headers, epoch());
        match self.status {
            300..=399 => GitlabError::Redirected {
                to: self
                    .header("location")
                    .and_then(|to| Url::parse(&attempt.url).ok()?.join(to).ok())
                    .map_or("nowhere".to_owned(), |to| to.origin().ascii_serialization()),
                attempt,
            },
            403 => GitlabError::Forbidden {
                attempt,
                message,
                job_status: self.header("job-status").map(str::to_owned),
            },
            409 => GitlabError::Conflict { attempt },
            429 => GitlabError::RateLimited {
                attempt,
                wait: wait.unwrap_or(LIMITED),
            },
            status @ (408 | 500..) => GitlabError::Unavailable {
                attempt,
                status,
                message,
                wait,
            },
            status => GitlabError::Refused {
                attempt,
                status,
                message,
            },
        }
    }
}

impl Client {
    /// A client for these options. Nothing is asked yet.
    ///
    /// # Errors
    /// [`GitlabError::BadOption`]: the address or a certificate's file cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self, GitlabError> {
        let base = address::api(&options.url).map_err(|problem| bad("url", problem))?;
        let transport = Transport {
            client: build(&options)?,
            made: Instant::now(),
            doubted: false,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                base,
                transport: Mutex::new(transport),
            }),
            observer: None,
        })
    }

    /// The same client, which tells of answers.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// A client like this one for another GitLab.
    ///
    /// # Errors
    /// [`GitlabError::BadOption`]: the address or a certificate's file cannot be used.
    pub fn elsewhere(&self, url: impl Into<String>) -> Result<Self, GitlabError> {
        let options = ClientOptions {
            url: url.into(),
            ..self.options().clone()
        };
        let mut client = Self::new(options)?;
        client.observer.clone_from(&self.observer);
        Ok(client)
    }

    /// What the client was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// The API's address: `https://gitlab.example.com/api/v4/`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.inner.base.as_str()
    }

    fn transport(&self) -> std::sync::MutexGuard<'_, Transport> {
        let transport = &self.inner.transport;
        transport.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connections(&self) -> reqwest::Client {
        let now = Instant::now();
        let options = &self.inner.options;
        {
            let mut transport = self.transport();
            let age = now.saturating_duration_since(transport.made);
            if !transport.doubted && age < options.connection_max_age {
                return transport.client.clone();
            }
            // Others go on with the old one meanwhile.
            transport.made = now;
            transport.doubted = false;
        }
        let options = options.clone();
        match tokio::task::spawn_blocking(move || build(&options)).await {
            Ok(Ok(client)) => self.transport().client = client,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the certificates cannot be read anew; those read before are used on");
            }
            Err(error) => tracing::error!(%error, "no new connections were made"),
        }
        self.transport().client.clone()
    }

    /// Makes a request, and again while the answer is worth it.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, GitlabError> {
        let begun = Instant::now();
        let answer = self.persist(&ask).await?;
        if let (Some(observer), Some(endpoint)) = (&self.observer, ask.endpoint) {
            observer.answered(&Answered {
                endpoint,
                method: answer.attempt.method,
                status: answer.status,
                took: begun.elapsed(),
            });
        }
        Ok(answer)
    }

    async fn persist(&self, ask: &Ask<'_>) -> Result<Answer, GitlabError> {
        let mut tries = 1;
        loop {
            let answer = self.attempt(ask).await?;
            if !ask.patient || tries >= MAX_ATTEMPTS || !retriable(answer.status) {
                return Ok(answer);
            }
            let wait = retry_wait(
                tries,
                answer.header("ratelimit-resettime"),
                answer.header("retry-after"),
                epoch(),
                jitter(),
            );
            tracing::debug!(
                what = ask.what,
                status = answer.status,
                ?wait,
                "GitLab is asked again"
            );
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    async fn attempt(&self, ask: &Ask<'_>) -> Result<Answer, GitlabError> {
        let mut url = self
            .inner
            .base
            .join(&ask.path)
            .map_err(|error| bad("url", format!("cannot take {}: {error}", ask.path)))?;
        let attempt = Attempt {
            what: ask.what,
            method: match ask.method {
                Method::POST => "POST",
                Method::PUT => "PUT",
                Method::PATCH => "PATCH",
                Method::DELETE => "DELETE",
                _ => "GET",
            },
            url: url.to_string(),
        };
        if let Some((key, value)) = ask.query {
            url.query_pairs_mut().append_pair(key, value);
        }
        let (name, token) = ask.token;
        let mut value = HeaderValue::from_str(token.expose_secret())
            .map_err(|_| bad("token", "has blanks or other signs no token has"))?;
        value.set_sensitive(true);
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let mut request = self
            .connections()
            .await
            .request(ask.method.clone(), url)
            .header(name, value)
            .header("x-request-id", &request_id);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let unreachable = |error: reqwest::Error| GitlabError::Unreachable {
            attempt: attempt.clone(),
            problem: chain(error),
        };
        let sent = request.body(ask.body.clone()).send().await;
        let mut response = sent.map_err(|error| {
            self.transport().doubted = true;
            unreachable(error)
        })?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY {
                return Err(GitlabError::Malformed {
                    attempt,
                    problem: format!("it has more than {BODY} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        let theirs = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let correlation_id = theirs.unwrap_or(&request_id);
        tracing::debug!(what = ask.what, status, correlation_id, "GitLab answered");
        let message = message(&body, token);
        Ok(Answer {
            attempt,
            status,
            headers,
            body: body.freeze(),
            message,
        })
    }
}

/// What a refusal says, shortened, and without the token a server may have put into it.
fn message(body: &[u8], token: &SecretString) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(alias = "error")]
        message: serde_json::Value,
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(&body[..body.len().min(64 * 1024)]) else {
        return String::new();
    };
    let text = match refusal.message {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => return String::new(),
        other => other.to_string(),
    };
    let token = token.expose_secret();
    let text = match token {
        "" => text,
        token => text.replace(token, "[MASKED]"),
    };
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(MESSAGE).collect()
}

/// Seconds since the epoch.
pub(crate) fn epoch() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// A number from 0 to 1.
pub(crate) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

fn bad(option: &'static str, problem: impl Into<String>) -> GitlabError {
    let problem = problem.into();
    GitlabError::BadOption { option, problem }
}

/// `https://gitlab.example.com/api/v4/`, from an address as people write it.
/// Chooses the cryptography of the whole process, unless that was done.
pub(crate) fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
    {
        tracing::debug!("another part of the program chose the cryptography first");
    }
}

fn build(options: &ClientOptions) -> Result<reqwest::Client, GitlabError> {
    choose_cryptography();
    let mut builder = reqwest::Client::builder()
        .user_agent(format!(
            "springtide {} ({}/{})",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            crate::info::architecture(),
        ))
        .redirect(redirect::Policy::none())
        .referer(false)
        .tcp_keepalive(Duration::from_secs(30))
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.response_timeout)
        .timeout(options.timeout);
    if let Some(file) = &options.tls_ca_file {
        let pem = read("tls-ca-file", file)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| {
                let problem = format!("{} holds no certificate in PEM form", file.display());
                bad("tls-ca-file", problem)
            })?;
        builder = builder.tls_certs_merge(certificates);
    }
    match (&options.tls_cert_file, &options.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let mut pem = read("tls-cert-file", certificate)?;
            pem.push(b'\n');
            pem.extend(read("tls-key-file", key)?);
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
                let (certificate, key) = (certificate.display(), key.display());
                let problem =
                    format!("{certificate} and tls-key-file {key} are no certificate and its key in PEM form");
                bad("tls-cert-file", problem)
            })?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        (Some(_), None) => return Err(bad("tls-key-file", "is missing beside tls-cert-file")),
        (None, Some(_)) => return Err(bad("tls-cert-file", "is missing beside tls-key-file")),
    }
    builder
        .build()
        .map_err(|error| bad("url", format!("gets no client: {}", chain(error))))
}

fn read(option: &'static str, file: &std::path::Path) -> Result<Vec<u8>, GitlabError> {
    std::fs::read(file).map_err(|error| {
        bad(
            option,
            format!("{} cannot be read: {error}", file.display()),
        )
    })
}

/// The error and its causes in one line, without the address, which is told beside it.
pub(crate) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_quoted_short_and_without_the_token() {
        let token = SecretString::from("glrt-hidden");
        for (body, expected) in [
            (r#"{"message":"403 Forbidden"}"#, "403 Forbidden"),
            (r#"{"error":"no glrt-hidden\n here"}"#, "no [MASKED] here"),
            (
                r#"{"message":{"tag_list":["bad"]}}"#,
                r#"{"tag_list":["bad"]}"#,
            ),
            (r#"{"message":null}"#, ""),
            ("<html>glrt-hidden</html>", ""),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes(), &token), expected, "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(9000));
        assert_eq!(message(long.as_bytes(), &token).len(), MESSAGE);
    }

    #[test]
    fn certificates_that_cannot_be_used_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").expect("a file");
        type Change = fn(&mut ClientOptions, PathBuf);
        let cases: [(Change, &str); 5] = [
            (
                |o, _| o.tls_ca_file = Some("/nonexistent.pem".into()),
                "cannot be read",
            ),
            (
                |o, empty| o.tls_ca_file = Some(empty),
                "holds no certificate",
            ),
            (
                |o, empty| o.tls_cert_file = Some(empty),
                "`tls-key-file` is missing",
            ),
            (
                |o, empty| o.tls_key_file = Some(empty),
                "`tls-cert-file` is missing",
            ),
            (
                |o, empty| {
                    o.tls_key_file = Some(empty.clone());
                    o.tls_cert_file = Some(empty);
                },
                "are no certificate and its key",
            ),
        ];
        for (change, expected) in cases {
            let mut options = ClientOptions::new("https://gitlab.test");
            change(&mut options, empty.clone());
            let error = Client::new(options).expect_err(expected).to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
