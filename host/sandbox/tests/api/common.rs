//! A runner that does as the protocol says, one request at a time.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use springtide_sandbox::{JobSpec, Sandbox, SandboxOptions};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TOKEN: &str = "glrt-sandbox-token";
pub const SYSTEM: &str = "s_0123456789ab";

pub async fn sandbox(change: impl FnOnce(&mut SandboxOptions)) -> Sandbox {
    let mut options = SandboxOptions::default();
    change(&mut options);
    Sandbox::start(options).await.expect("a sandbox")
}

pub fn client() -> reqwest::Client {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another test of this process may be first.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}

pub fn info(features: Value) -> Value {
    json!({"name": "test", "version": "1", "features": features})
}

pub struct Runner {
    pub client: reqwest::Client,
    pub url: String,
    pub token: String,
    pub features: Value,
}

impl Runner {
    pub fn of(sandbox: &Sandbox) -> Self {
        Self {
            client: client(),
            url: format!("{}/api/v4", sandbox.url()),
            token: TOKEN.to_owned(),
            features: json!({"cancel_gracefully": false, "two_phase_job_commit": false}),
        }
    }

    pub fn with(mut self, feature: &str) -> Self {
        self.features[feature] = json!(true);
        self
    }

    pub fn named(mut self, token: &str) -> Self {
        self.token = token.to_owned();
        self
    }

    pub fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}/{path}", self.url))
            .timeout(PATIENCE)
    }

    /// A JSON request with the runner's token.
    pub async fn say(&self, method: Method, path: &str, mut body: Value) -> Response {
        body["token"] = json!(self.token);
        self.call(method, path)
            .header("runner-token", &self.token)
            .json(&body)
            .send()
            .await
            .expect("an answer")
    }

    pub fn asking(&self, last_update: Option<&str>) -> reqwest::RequestBuilder {
        let mut body = json!({
            "info": info(self.features.clone()), "token": self.token, "system_id": SYSTEM,
        });
        if let Some(value) = last_update {
            body["last_update"] = json!(value);
        }
        self.call(Method::POST, "jobs/request")
            .header("runner-token", &self.token)
            .json(&body)
    }

    pub async fn ask(&self, last_update: Option<&str>) -> Response {
        self.asking(last_update).send().await.expect("an answer")
    }

    /// Takes a job that is there.
    pub async fn take(&self) -> Job {
        let response = self.ask(None).await;
        assert_eq!(response.status(), 201);
        let payload: Value = response.json().await.expect("a payload");
        Job {
            id: payload["id"].as_u64().expect("an id"),
            token: payload["token"].as_str().expect("a token").to_owned(),
            payload,
        }
    }

    pub async fn put(&self, job: &Job, mut body: Value) -> Response {
        body["token"] = json!(job.token);
        body["info"] = info(self.features.clone());
        self.call(Method::PUT, &format!("jobs/{}", job.id))
            .header("job-token", &job.token)
            .json(&body)
            .send()
            .await
            .expect("an answer")
    }

    pub async fn state(&self, job: &Job, state: &str) -> Response {
        self.put(job, json!({"state": state})).await
    }

    pub async fn patch(&self, job: &Job, start: usize, part: &str) -> Response {
        self.call(Method::PATCH, &format!("jobs/{}/trace", job.id))
            .header("job-token", &job.token)
            .header("content-type", "text/plain")
            .header("content-range", range(start, part))
            .body(part.to_owned())
            .send()
            .await
            .expect("an answer")
    }

    pub async fn finish(&self, job: &Job, state: &str, trace: &str) -> Response {
        self.put(job, last(state, trace)).await
    }
}

pub fn range(start: usize, part: &str) -> String {
    format!("{start}-{}", start + part.len() - 1)
}

/// A final update for a trace.
pub fn last(state: &str, trace: &str) -> Value {
    let checksum = format!("crc32:{:08x}", crc32fast::hash(trace.as_bytes()));
    let mut body = json!({
        "state": state, "checksum": checksum,
        "output": {"checksum": checksum, "bytesize": trace.len()},
    });
    if state == "failed" {
        body["failure_reason"] = json!("script_failure");
        body["exit_code"] = json!(1);
    }
    body
}

pub struct Job {
    pub id: u64,
    pub token: String,
    pub payload: Value,
}

pub fn job() -> JobSpec {
    JobSpec::script(["echo hello"])
}

pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

pub fn no_violations(sandbox: &Sandbox) {
    let found = sandbox.violations();
    assert!(found.is_empty(), "{found:#?}");
}
