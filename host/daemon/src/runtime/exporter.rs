//! Serves the metrics at `listen_address`, and follows the pools to keep them true.

use super::pools::Pools;
use super::slots::Slots;
use crate::metrics::{MachineAction, Metrics, RunnerLabels};
use crate::view::Passage;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

/// What a scrape reads.
#[derive(Clone, Debug)]
struct Exported {
    metrics: Metrics,
    pools: Pools,
    slots: Slots,
}

/// Serves `/metrics`, and `/-/healthy` for load balancers, until the program ends.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(listen: &str, metrics: Metrics, pools: Pools, slots: Slots) -> Result<()> {
    // Like GitLab Runner's: `:9252` is every interface.
    let address = match listen.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => listen.to_owned(),
    };
    let listener = TcpListener::bind(&address).await.with_context(|| {
        format!("serving metrics at {address}; give `listen_address` another port")
    })?;
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/-/healthy", get(|| async { "ok\n" }))
        .with_state(Exported {
            metrics,
            pools,
            slots,
        });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

/// Gauges are set when somebody looks: the loops have better things to do.
async fn scrape(State(exported): State<Exported>) -> Response {
    let Exported {
        metrics,
        pools,
        slots,
    } = exported;
    let mut states = Vec::new();
    for (_, pool) in pools.all() {
        let view = pool.view.borrow();
        let (running, held) = view.jobs();
        metrics.jobs(&pool.labels, running, held);
        metrics.pool(&pool.labels, &view.counts, &view.targets);
        metrics.limit(&pool.labels, view.limits.limit);
        let requests = view.pool.requests.len();
        metrics.requests(&pool.labels, requests, view.limits.request_concurrency);
        states.push((view.counts, view.stuck()));
    }
    metrics.states(states.iter().map(|(counts, stuck)| (counts, *stuck)));
    metrics.slots(slots.operations().slots());
    // The process's own numbers are read from files.
    let text =
        tokio::task::spawn_blocking(move || metrics.text().map_err(|error| error.to_string()));
    match text.await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// Counts what became of a runner's machines and requests.
pub fn count(metrics: &Metrics, runner: &RunnerLabels, passages: &[Passage]) {
    for passage in passages {
        match passage {
            Passage::Made => metrics.machine(MachineAction::Created),
            Passage::Ready(after) => metrics.created_in(seconds(after.0)),
            Passage::Stage(stage, after) => metrics.boot_stage(stage.name(), seconds(after.0)),
            Passage::Used => metrics.machine(MachineAction::Used),
            Passage::Removed(after) => {
                metrics.machine(MachineAction::Removed);
                metrics.removed_in(seconds(after.0));
            }
            Passage::NotMade(after) => {
                metrics.machine(MachineAction::CreationFailed);
                metrics.not_made_in(seconds(after.0));
            }
            Passage::RequestHeld => metrics.request_held(runner),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a duration in milliseconds is far below 2^52"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
