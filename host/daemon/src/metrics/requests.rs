//! Requests to GitLab in metrics: how many there are and may be, and what they came to.

use super::{Metrics, RunnerLabels};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector,
};
use springtide_gitlab::{Answered, Observer};

const RUNNER: [&str; 2] = ["runner", "system_id"];

/// The metrics of requests.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    under_way: IntGaugeVec,
    exceeded: IntCounterVec,
    hard_limit: IntGaugeVec,
    used_limit: IntGaugeVec,
    statuses: IntCounterVec,
    durations: HistogramVec,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Result<Requests, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &RUNNER);
        let requests = Requests {
            under_way: gauge(
                "gitlab_runner_request_concurrency",
                "Requests for a job under way.",
            )?,
            exceeded: IntCounterVec::new(
                Opts::new(
                    "gitlab_runner_request_concurrency_exceeded_total",
                    "Requests for a job that `request_concurrency` held back.",
                ),
                &RUNNER,
            )?,
            hard_limit: gauge(
                "gitlab_runner_request_concurrency_hard_limit",
                "`request_concurrency` of a runner.",
            )?,
            used_limit: gauge(
                "gitlab_runner_request_concurrency_used_limit",
                "Requests for a job that may be under way at once.",
            )?,
            statuses: IntCounterVec::new(
                Opts::new(
                    "gitlab_runner_api_request_statuses_total",
                    "Answers of GitLab's, by endpoint and status.",
                ),
                &["runner", "system_id", "endpoint", "status", "method"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "gitlab_runner_api_request_duration_seconds",
                    "How long GitLab took to answer, with further attempts.",
                )
                .buckets(vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]),
                &["runner", "system_id", "endpoint", "status_class", "method"],
            )?,
        };
        let all: [Box<dyn Collector>; 6] = [
            Box::new(requests.under_way.clone()),
            Box::new(requests.exceeded.clone()),
            Box::new(requests.hard_limit.clone()),
            Box::new(requests.used_limit.clone()),
            Box::new(requests.statuses.clone()),
            Box::new(requests.durations.clone()),
        ];
        for one in all {
            registry.register(one)?;
        }
        Ok(requests)
    }
}

impl Metrics {
    /// Requests for a job a runner has under way, and how many it may have.
    pub fn requests(&self, runner: &RunnerLabels, under_way: usize, limit: u32) {
        let labels = short(runner);
        let requests = &self.requests;
        let under_way = i64::try_from(under_way).unwrap_or(i64::MAX);
        requests.under_way.with_label_values(&labels).set(under_way);
        // There from the beginning, so that its first increase is seen.
        requests.exceeded.with_label_values(&labels).inc_by(0);
        for gauge in [&requests.hard_limit, &requests.used_limit] {
            gauge.with_label_values(&labels).set(i64::from(limit));
        }
    }

    /// `request_concurrency` held a request back.
    pub fn request_held(&self, runner: &RunnerLabels) {
        let exceeded = &self.requests.exceeded;
        exceeded.with_label_values(&short(runner)).inc();
    }

    /// GitLab answered a runner.
    pub fn answered(&self, runner: &RunnerLabels, answered: &Answered) {
        let [runner, system_id] = short(runner);
        let endpoint = answered.endpoint.name();
        let method = answered.method.to_ascii_lowercase();
        let status = answered.status.to_string();
        self.requests
            .statuses
            .with_label_values(&[runner, system_id, endpoint, &status, &method])
            .inc();
        let class = format!("{}xx", answered.status / 100);
        self.requests
            .durations
            .with_label_values(&[runner, system_id, endpoint, &class, &method])
            .observe(answered.took.as_secs_f64());
    }

    /// Who counts the answers to a runner.
    #[must_use]
    pub fn observer(&self, runner: RunnerLabels) -> std::sync::Arc<dyn Observer> {
        std::sync::Arc::new(Counted {
            metrics: self.clone(),
            runner,
        })
    }

    pub(super) fn forget_requests(&self, runner: &RunnerLabels) {
        let requests = &self.requests;
        for gauge in [
            &requests.under_way,
            &requests.hard_limit,
            &requests.used_limit,
        ] {
            // A runner that never had a value has none to remove.
            gauge.remove_label_values(&short(runner)).ok();
        }
    }
}

/// These of GitLab Runner's have no name of the runner.
fn short(runner: &RunnerLabels) -> [&str; 2] {
    [&runner.short_token, &runner.system_id]
}

struct Counted {
    metrics: Metrics,
    runner: RunnerLabels,
}

impl Observer for Counted {
    fn answered(&self, answered: &Answered) {
        self.metrics.answered(&self.runner, answered);
    }
}
