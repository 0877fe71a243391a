//! GitLab's webhooks, received: an event asks for a reading of the queue, and is never more than
//! that, for it does not say enough to be the truth and may be lost.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

/// The path at which GitLab posts its events.
pub const PATH: &str = "/webhooks/gitlab";
/// Bytes an event may have.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// How long the body of an event may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Receiver {
    /// The digest of the secret; `None` where it is empty.
    secret: Option<[u8; 32]>,
    notify: Arc<Notify>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// A receiver at [`PATH`] for events that carry `secret` as `X-Gitlab-Token`; each event of a job
/// or pipeline wakes `notify`.
///
/// It answers at once: 200 (other kinds of events too, so that GitLab does not switch the webhook
/// off), 401 for a wrong secret before a byte of the body is read, 400 for what is not JSON, 408
/// for a body that does not come, 413 for one over [`BODY_LIMIT`]. An empty secret lets nobody in.
pub fn router(secret: &SecretString, notify: Arc<Notify>) -> Router {
    let secret = match secret.expose_secret() {
        "" => {
            tracing::warn!("the webhook's secret is empty: no event is taken");
            None
        }
        secret => Some(digest(secret.as_bytes())),
    };
    Router::new()
        .route(PATH, post(receive))
        .with_state(Receiver { secret, notify })
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether both are the same, in a time that does not tell where they differ: digests are
/// compared, and all of them.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0
}

impl Receiver {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let mut tokens = headers.get_all("x-gitlab-token").iter();
        match (&self.secret, tokens.next(), tokens.next()) {
            (Some(secret), Some(token), None) => same(secret, &digest(token.as_bytes())),
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    object_kind: String,
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    let refuse =
        |status: StatusCode, text: &'static str| -> Response { (status, text).into_response() };
    if !receiver.admits(request.headers()) {
        tracing::warn!("an event came whose X-Gitlab-Token is not the webhook's secret");
        let text = "X-Gitlab-Token is not the secret of this webhook\n";
        return refuse(StatusCode::UNAUTHORIZED, text);
    }
    let header = request.headers().get("x-gitlab-event");
    let named = header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = match tokio::time::timeout(PATIENCE, body(request)).await {
        Ok(Ok(body)) => body,
        Ok(Err(response)) => return response,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the event did not come\n"),
    };
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "an event is a JSON object\n");
    };
    let concerns = matches!(named.as_str(), "Job Hook" | "Pipeline Hook")
        || matches!(event.object_kind.as_str(), "build" | "pipeline");
    if concerns {
        tracing::debug!("an event asks for a reading of the queue");
        receiver.notify.notify_one();
    }
    StatusCode::OK.into_response()
}

async fn body(request: Request) -> Result<BytesMut, Response> {
    let mut stream = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let broken = |_| (StatusCode::BAD_REQUEST, "the event broke off\n").into_response();
        let chunk = chunk.map_err(broken)?;
        if body.len() + chunk.len() > BODY_LIMIT {
            let text = "an event has 1 MiB at most\n";
            return Err((StatusCode::PAYLOAD_TOO_LARGE, text).into_response());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
