//! An EC2 to test against: moto, and before it what moto lacks of the real one. A token of a client
//! makes one instance, an instance that was just made is not shown at once and one that was removed
//! still is, requests are signed or refused, capacity may be short, and calls fail on demand.
//!
//! Each request is kept, so that [`Ec2::check`] can hold all of them against botocore.

mod signature;
mod state;

pub use signature::{Key, Signed};
pub use state::{Fault, Faults};

use crate::moto::Moto;
use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use state::{Answer, State};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// An EC2 that listens on loopback, with nothing in it.
pub struct Ec2 {
    /// Where it is asked.
    pub url: String,
    /// Who may ask.
    pub key: Key,
    inner: Arc<Inner>,
    moto: Moto,
}

struct Inner {
    upstream: String,
    client: reqwest::Client,
    key: Key,
    state: Mutex<State>,
    /// Held by a launch from the look at its token to its answer.
    launching: tokio::sync::Mutex<()>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ec2 {
    /// Starts moto and what stands before it.
    ///
    /// # Errors
    /// Where moto is not set up or does not start.
    pub async fn start() -> Result<Ec2> {
        let moto = Moto::start().await?;
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        };
        let inner = Arc::new(Inner {
            upstream: moto.url(),
            client: crate::client()?,
            key: key.clone(),
            state: Mutex::default(),
            launching: tokio::sync::Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(inner.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the EC2 before moto ended: {error}");
            }
        });
        Ok(Ec2 {
            url,
            key,
            inner,
            moto,
        })
    }

    /// What is to go wrong from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inner.state().faults);
    }

    /// How often each action was asked for.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, usize> {
        self.inner.state().calls.clone()
    }

    /// Counts from nothing again.
    pub fn forget_calls(&self) {
        self.inner.state().calls.clear();
    }

    /// Asks moto itself, as a person at the console would: nothing fails, and nothing is counted.
    ///
    /// # Errors
    /// Where it refuses.
    pub async fn ask(&self, region: &str, form: &str) -> Result<String> {
        let host = self.inner.upstream.trim_start_matches("http://");
        let headers = [
            (
                "content-type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            ),
            ("host".to_owned(), host.to_owned()),
        ];
        let signed = Signed {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: form.as_bytes(),
        };
        let mut request = self.inner.client.post(&self.inner.upstream);
        for (name, value) in signed.sign(&self.key, region, &now()) {
            request = request.header(name, value);
        }
        let answer = request.body(form.to_owned()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{form}: {status}: {text}");
        }
        Ok(text)
    }

    /// The ids of instances that are not over.
    ///
    /// # Errors
    /// Where moto can't be asked.
    pub async fn instances(&self, region: &str) -> Result<Vec<String>> {
        let form = "Action=DescribeInstances&Version=2016-11-15&MaxResults=1000\
            &Filter.1.Name=instance-state-name&Filter.1.Value.1=pending&Filter.1.Value.2=running\
            &Filter.1.Value.3=stopping&Filter.1.Value.4=stopped&Filter.1.Value.5=shutting-down";
        let text = self.ask(region, form).await?;
        Ok(texts(&text, "instanceId"))
    }

    /// Holds every request there was against botocore: its parameters against the service model, its
    /// signature against botocore's own.
    ///
    /// # Errors
    /// With every fault.
    pub async fn check(&self) -> Result<()> {
        let lines = self.inner.state().requests.join("\n") + "\n";
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/check_ec2.py");
        let mut child = Command::new(self.moto.python())
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting Python")?;
        let mut stdin = child.stdin.take().context("Python has no input")?;
        let write = async move {
            stdin.write_all(lines.as_bytes()).await?;
            stdin.shutdown().await
        };
        let (written, output) = tokio::join!(write, child.wait_with_output());
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(written?)
    }
}

/// The texts of all elements of this name.
#[must_use]
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let Ok(document) = roxmltree::Document::parse(xml) else {
        return Vec::new();
    };
    let all = document.descendants();
    all.filter(|node| node.tag_name().name() == name)
        .filter_map(|node| node.text().map(str::to_owned))
        .collect()
}

/// The time as signatures have it.
#[must_use]
pub fn now() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.replace(['-', ':'], "")
}

async fn answer(
    Shared(inner): Shared<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        })
        .collect();
    let signed = Signed {
        method: method.as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &fields,
        body: &body,
    };
    if let Err((code, message)) = signed.verify(&inner.key, &now()) {
        let status = if code == "RequestExpired" { 400 } else { 403 };
        return respond(Answer::error(status, code, &message));
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    let line = json!({
        "method": signed.method,
        "url": format!("http://{}{uri}", host.unwrap_or_default()),
        "headers": fields,
        "body": String::from_utf8_lossy(&body),
        "key_id": inner.key.id,
        "secret": inner.key.secret,
    });
    inner.state().requests.push(line.to_string());
    let form = state::form(&body);
    // What EC2 has begun it ends, also where nobody waits for the answer any more.
    let asked = tokio::spawn(async move { ask(&inner, &form, &fields, body).await });
    match asked.await {
        Ok(answer) => respond(answer),
        Err(error) => respond(Answer::error(500, "InternalError", &error.to_string())),
    }
}

/// What the real one would answer: moto's word, changed where it is more obliging.
async fn ask(
    inner: &Inner,
    form: &BTreeMap<String, String>,
    fields: &[(String, String)],
    body: Bytes,
) -> Answer {
    let action = form.get("Action").cloned().unwrap_or_default();
    let fault = match inner.state().before(&action, form) {
        Ok(fault) => fault,
        Err(refused) => return refused,
    };
    if fault == Some(Fault::Before) {
        return Answer::error(500, "InternalError", "An internal error has occurred");
    }
    let is_launch = action == "RunInstances";
    let _alone = match is_launch {
        true => Some(inner.launching.lock().await),
        false => None,
    };
    if is_launch && let Some(answer) = inner.state().launched(form) {
        return answer;
    }
    let mut request = inner.client.post(format!("{}/", inner.upstream));
    for (name, value) in fields {
        if name != "host" && name != "content-length" {
            request = request.header(name, value);
        }
    }
    let body = state::upstream(form).map_or(body, Bytes::from);
    let answered = async {
        let answer = request.body(body).send().await?;
        let status = answer.status().as_u16();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let answer = match answered.await {
        Ok((status, text)) => Answer { status, text },
        Err(error) => return Answer::error(502, "Unavailable", &error.to_string()),
    };
    let answer = inner.state().after(&action, form, answer);
    match fault {
        // It was done, and nobody is told.
        Some(Fault::After) => Answer::error(503, "Unavailable", "The answer was lost"),
        Some(Fault::Truncated) => Answer {
            text: answer.text.chars().take(answer.text.len() / 2).collect(),
            ..answer
        },
        _ => answer,
    }
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = Response::new(Body::from(answer.text));
    *response.status_mut() = status;
    response
}
