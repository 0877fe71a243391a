//! Serves the metrics at `listen_address`, and follows the pools to keep them true.

use super::pools::Pools;
use crate::metrics::{MachineAction, Metrics};
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
}

/// Serves `/metrics`, and `/-/healthy` for load balancers, until the program ends.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(listen: &str, metrics: Metrics, pools: Pools) -> Result<()> {
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
        .with_state(Exported { metrics, pools });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

/// Gauges are set when somebody looks: the loops have better things to do.
async fn scrape(State(exported): State<Exported>) -> Response {
    let pools = exported.pools.all();
    let views: Vec<_> = pools
        .iter()
        .map(|(_, pool)| {
            let view = pool.view.borrow();
            let stuck = view.stuck();
            (
                pool.labels.clone(),
                view.counts,
                view.targets,
                view.limits,
                stuck,
                view.jobs(),
            )
        })
        .collect();
    exported.metrics.states(
        views
            .iter()
            .map(|(_, counts, _, _, stuck, _)| (counts, *stuck)),
    );
    for (labels, counts, targets, limits, _, (running, held)) in &views {
        exported.metrics.jobs(labels, *running, *held);
        exported.metrics.pool(labels, counts, targets);
        exported.metrics.limit(labels, limits.limit);
    }
    match exported.metrics.text() {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Counts what became of machines.
pub fn count(metrics: &Metrics, passages: &[Passage]) {
    for passage in passages {
        match passage {
            Passage::Made => metrics.machine(MachineAction::Created),
            Passage::Ready(after) => metrics.created_in(seconds(after.0)),
            Passage::Used => metrics.machine(MachineAction::Used),
            Passage::Removed(after) => {
                metrics.machine(MachineAction::Removed);
                metrics.removed_in(seconds(after.0));
            }
            Passage::NotMade => metrics.machine(MachineAction::CreationFailed),
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
