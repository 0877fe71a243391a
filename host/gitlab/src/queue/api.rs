//! GitLab's API as one reads lists from it: pages followed, sizes capped, requests paced.
//!
//! The token goes to one origin, that of `url`: a redirect elsewhere is an error, and of a link to
//! the next page only the query is used, so that a server that calls itself by another name
//! neither gets the token there nor breaks the reading.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, Response, redirect};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use crate::address;
use crate::client::{chain, choose_cryptography};

use super::pace::{Pace, Turn, server_wait, used_up};
use super::{QueueError, QueueOptions};

/// Pages of one list that are read.
const PAGES: usize = 100;
/// Bytes one answer may have.
const BODY: usize = 16 * 1024 * 1024;
/// Bytes of an answer kept for the next time, where the server names its version.
const KEPT: usize = 256 * 1024;
/// How long nothing is asked after a 429 that does not say.
const LIMITED: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 3;

/// Seconds since the epoch; zero for a clock set before it.
pub(super) fn epoch() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

struct Kept {
    etag: HeaderValue,
    body: Bytes,
    next: Option<String>,
    since: Instant,
}

struct Answer {
    body: Bytes,
    /// The query of the next page.
    next: Option<String>,
    /// How long ago the server gave this answer.
    age: Duration,
    content_type: String,
}

/// A list, each item with the age of the answer it was in.
pub(super) struct Listed<T> {
    pub(super) items: Vec<(T, Duration)>,
    pub(super) truncated: bool,
}

pub(super) struct Api {
    client: Client,
    base: Url,
    token: HeaderValue,
    pace: Mutex<Pace>,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Api {
    pub(super) fn new(options: &QueueOptions) -> Result<Self, QueueError> {
        let base = address::api(&options.url).map_err(|problem| bad("url", problem))?;
        let mut token = HeaderValue::from_str(options.token.expose_secret())
            .ok()
            .filter(|token| !token.is_empty())
            .ok_or_else(|| bad("token_file", "holds no token: one line, no blanks inside"))?;
        token.set_sensitive(true);
        Ok(Self {
            client: client(options)?,
            base,
            token,
            pace: Mutex::new(Pace::new(options.requests_per_minute)),
            kept: Mutex::default(),
        })
    }

    fn url(&self, path: &[&str]) -> Result<Url, QueueError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| bad("url", "must be the address of a server"))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// One object.
    pub(super) async fn one<T: DeserializeOwned>(
        &self,
        path: &[&str],
        what: &str,
    ) -> Result<T, QueueError> {
        let answer = self.get(&self.url(path)?, what).await?;
        parse(&answer, what)
    }

    /// A whole list, each item once by `id`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        id: fn(&T) -> Option<u64>,
        what: &str,
    ) -> Result<Listed<T>, QueueError> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(query);
        let mut seen = HashSet::new();
        let mut items = Vec::new();
        for _ in 0..PAGES {
            let answer = self.get(&url, what).await?;
            let page: Vec<T> = parse(&answer, what)?;
            let (before, on_page) = (seen.len(), page.len());
            for item in page {
                let id = id(&item).ok_or_else(|| malformed(what, "an item has no `id`"))?;
                if seen.insert(id) {
                    items.push((item, answer.age));
                }
            }
            let Some(next) = answer.next.filter(|_| on_page > 0) else {
                let truncated = false;
                return Ok(Listed { items, truncated });
            };
            if seen.len() == before {
                return Err(malformed(what, "its pages repeat themselves"));
            }
            url.set_query(Some(&next));
        }
        let truncated = true;
        Ok(Listed { items, truncated })
    }

    async fn turn(&self, what: &str) -> Result<(), QueueError> {
        loop {
            let turn = self.pace().turn(Instant::now());
            match turn {
                Turn::Go => return Ok(()),
                Turn::Wait(wait) => tokio::time::sleep(wait).await,
                Turn::Closed(wait) => {
                    return Err(QueueError::RateLimited {
                        what: what.to_owned(),
                        wait,
                    });
                }
            }
        }
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets kept answers older than `age`.
    pub(super) fn forget(&self, age: Duration) {
        let now = Instant::now();
        self.kept()
            .retain(|_, kept| now.saturating_duration_since(kept.since) < age);
    }

    async fn get(&self, url: &Url, what: &str) -> Result<Answer, QueueError> {
        self.turn(what).await?;
        let etag = self.kept().get(url.as_str()).map(|kept| kept.etag.clone());
        let mut request = self
            .client
            .get(url.clone())
            .header("private-token", self.token.clone());
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let asked = Instant::now();
        let response = request.send().await.map_err(|error| network(error, what))?;
        let (status, headers) = (response.status(), response.headers().clone());
        tracing::debug!(what, status = status.as_u16(), "read from GitLab");
        let wait = server_wait(&headers, i64::try_from(epoch().as_secs()).unwrap_or(0));
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = wait.unwrap_or(LIMITED);
            self.pace().close(Instant::now(), wait);
            let what = what.to_owned();
            return Err(QueueError::RateLimited { what, wait });
        }
        if let Some(wait) = wait.filter(|_| used_up(&headers)) {
            self.pace().close(Instant::now(), wait);
        }
        match status {
            StatusCode::OK => {
                let body = body(response, BODY, what).await?;
                let next = next(&headers, url);
                self.keep(url, &headers, &body, next.as_ref(), asked);
                Ok(Answer {
                    body,
                    next,
                    age: Duration::ZERO,
                    content_type: content_type(&headers),
                })
            }
            StatusCode::NOT_MODIFIED => {
                let kept = self.kept();
                let kept = kept
                    .get(url.as_str())
                    .ok_or_else(|| malformed(what, "304, though no version was named"))?;
                Ok(Answer {
                    body: kept.body.clone(),
                    next: kept.next.clone(),
                    age: asked.saturating_duration_since(kept.since),
                    content_type: String::new(),
                })
            }
            _ => Err(refusal(response, wait, what).await),
        }
    }

    fn keep(
        &self,
        url: &Url,
        headers: &HeaderMap,
        body: &Bytes,
        next: Option<&String>,
        since: Instant,
    ) {
        let mut kept = self.kept();
        match headers.get(header::ETAG) {
            Some(etag) if body.len() <= KEPT => {
                let entry = Kept {
                    etag: etag.clone(),
                    body: body.clone(),
                    next: next.cloned(),
                    since,
                };
                kept.insert(url.to_string(), entry);
            }
            _ => {
                kept.remove(url.as_str());
            }
        }
    }
}

fn bad(option: &'static str, problem: impl Into<String>) -> QueueError {
    let problem = problem.into();
    QueueError::BadOption { option, problem }
}

fn malformed(what: &str, problem: impl Into<String>) -> QueueError {
    QueueError::Malformed {
        what: what.to_owned(),
        problem: problem.into(),
    }
}

fn client(options: &QueueOptions) -> Result<Client, QueueError> {
    choose_cryptography();
    let same_origin = redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().map(Url::origin);
        if attempt.previous().len() <= REDIRECTS && first == Some(attempt.url().origin()) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("springtide ", env!("CARGO_PKG_VERSION")))
        .redirect(same_origin)
        .referer(false)
        .connect_timeout(Duration::from_secs(15))
        .timeout(options.request_timeout);
    if let Some(file) = &options.tls_ca_file {
        let unusable = |problem: String| {
            let problem = format!("{} {problem}", file.display());
            bad("tls-ca-file", problem)
        };
        let pem = std::fs::read(file).map_err(|e| unusable(format!("cannot be read: {e}")))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| unusable("holds no certificate in PEM form".to_owned()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .map_err(|error| bad("url", format!("gets no client: {}", chain(error))))
}

fn network(error: reqwest::Error, what: &str) -> QueueError {
    QueueError::Network {
        what: what.to_owned(),
        problem: chain(error),
    }
}

async fn body(mut response: Response, most: usize, what: &str) -> Result<Bytes, QueueError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| network(e, what))? {
        if body.len() + chunk.len() > most {
            return Err(malformed(what, format!("it has more than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE);
    let text = text.and_then(|value| value.to_str().ok());
    text.unwrap_or("nothing it names").to_owned()
}

fn parse<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T, QueueError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let kind = match answer.content_type.as_str() {
            kind if kind.starts_with("application/json") => String::new(),
            kind => format!("it is {kind}, not application/json; "),
        };
        // The error's own text may quote the answer.
        let place = (error.line(), error.column());
        let problem = format!("{kind}bad JSON at line {}, column {}", place.0, place.1);
        malformed(what, problem)
    })
}

/// The query of the next page: from `Link`, else from `X-Next-Page`.
fn next(headers: &HeaderMap, url: &Url) -> Option<String> {
    let links = headers.get_all(header::LINK).iter();
    let linked = links
        .filter_map(|value| value.to_str().ok())
        .find_map(next_link)
        .and_then(|link| Some(url.join(link).ok()?.query()?.to_owned()));
    linked.or_else(|| {
        let page: u64 = headers
            .get("x-next-page")?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let mut url = url.clone();
        let others: Vec<(String, String)> = url
            .query_pairs()
            .into_owned()
            .filter(|(key, _)| key != "page")
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("page", &page.to_string());
        url.query().map(str::to_owned)
    })
}

fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some((link, after)) = rest
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
    {
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = |word: &str| {
            let word = word.trim().trim_end_matches(',').trim();
            word == "rel=\"next\"" || word == "rel=next"
        };
        if parameters.split(';').any(is_next) {
            return Some(link);
        }
        rest = after;
    }
    None
}

async fn refusal(response: Response, wait: Option<Duration>, what: &str) -> QueueError {
    let (status, url) = (response.status(), response.url().clone());
    let what = what.to_owned();
    match status.as_u16() {
        300..=399 => {
            let location = response.headers().get(header::LOCATION);
            let to = location
                .and_then(|value| url.join(value.to_str().ok()?).ok())
                .map_or_else(
                    || "nowhere".to_owned(),
                    |to| to.origin().ascii_serialization(),
                );
            QueueError::Redirected { what, to }
        }
        401 => QueueError::Unauthorized { what },
        403 if lacks_scope(response).await => QueueError::Scope { what },
        403 => QueueError::Forbidden { what },
        404 => QueueError::NotFound { what },
        status => QueueError::Unavailable { what, status, wait },
    }
}

/// Whether a 403 is about the token, not about the place.
async fn lacks_scope(response: Response) -> bool {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    body(response, 64 * 1024, "")
        .await
        .ok()
        .and_then(|body| serde_json::from_slice::<Refusal>(&body).ok())
        .is_some_and(|refusal| refusal.error == "insufficient_scope")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let here = Url::parse("https://h/api/v4/projects/1/jobs?per_page=100&page=1").expect("url");
        let link = "link";
        type Case<'a> = (&'a [(&'static str, &'a str)], Option<&'a str>);
        let cases: [Case; 9] = [
            (&[], None),
            (
                &[(link, "<https://h/x?page=2>; rel=\"next\"")],
                Some("page=2"),
            ),
            (
                &[(
                    link,
                    "<https://other/x?a=1,2&page=3>; rel=\"next\", <https://h/x?page=9>; rel=\"last\"",
                )],
                Some("a=1,2&page=3"),
            ),
            (
                &[(
                    link,
                    "<https://h/x?page=1>; rel=\"first\", </y?page=4>; rel=next",
                )],
                Some("page=4"),
            ),
            (&[(link, "<https://h/x?page=9>; rel=\"last\"")], None),
            (&[(link, "<<<;;rel=\"next\"")], None),
            (&[("x-next-page", "")], None),
            (&[("x-next-page", "2")], Some("per_page=100&page=2")),
            (
                &[
                    ("x-next-page", "2"),
                    (link, "<https://h/x?cursor=z>; rel=\"next\""),
                ],
                Some("cursor=z"),
            ),
        ];
        for (headers, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name = http::HeaderName::from_static(name);
                map.append(name, value.parse().expect("a value"));
            }
            assert_eq!(next(&map, &here).as_deref(), expected, "{headers:?}");
        }
    }
}
