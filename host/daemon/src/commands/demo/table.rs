//! How the demo ended: the table, and whether all was as it should be.

use serde::Serialize;
use springtide_sandbox::{JobStatus, JobView, Sandbox};
use std::fmt;

/// Sums the daemon told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) made: u64,
    pub(super) idle_ms: u64,
    pub(super) busy_ms: u64,
}

/// The table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Outcome {
    jobs: usize,
    succeeded: usize,
    traces_whole: usize,
    queue_wait_p50_seconds: f64,
    queue_wait_p95_seconds: f64,
    machines_made: u64,
    machines_removed: u64,
    machines_left: usize,
    machine_seconds_idle: f64,
    machine_seconds_busy: f64,
    protocol_violations: usize,
}

impl Outcome {
    pub(super) fn new(
        sandbox: &Sandbox,
        jobs: &[u64],
        totals: Totals,
        machines_left: usize,
        protocol_violations: usize,
    ) -> Outcome {
        let views: Vec<JobView> = jobs.iter().filter_map(|job| sandbox.job(*job)).collect();
        let mut waits: Vec<f64> = views
            .iter()
            .filter_map(|job| Some(job.timings.started? - job.timings.queued))
            .collect();
        waits.sort_by(f64::total_cmp);
        let left = u64::try_from(machines_left).unwrap_or(u64::MAX);
        Outcome {
            jobs: jobs.len(),
            succeeded: views
                .iter()
                .filter(|job| job.status == JobStatus::Success)
                .count(),
            traces_whole: jobs
                .iter()
                .filter(|job| is_whole(**job, &sandbox.trace(**job)))
                .count(),
            queue_wait_p50_seconds: percentile(&waits, 50),
            queue_wait_p95_seconds: percentile(&waits, 95),
            machines_made: totals.made,
            machines_removed: totals.made.saturating_sub(left),
            machines_left,
            machine_seconds_idle: seconds(totals.idle_ms),
            machine_seconds_busy: seconds(totals.busy_ms),
            protocol_violations,
        }
    }

    pub(super) fn good(&self) -> bool {
        self.jobs > 0
            && self.succeeded == self.jobs
            && self.traces_whole == self.jobs
            && self.machines_left == 0
            && self.protocol_violations == 0
    }
}

/// Whether a trace has its first line, the lines of the script in their order, and its last.
fn is_whole(job: u64, trace: &[u8]) -> bool {
    let text = String::from_utf8_lossy(trace);
    let saw = format!("job {job} saw commit ");
    let marks = [
        "Running with springtide",
        "testing app",
        "1 test passed",
        &saw,
        "\nspringtide-demo-last-line",
        "Job succeeded",
    ];
    let mut from = 0;
    for mark in marks {
        match text[from..].find(mark) {
            Some(at) => from += at + mark.len(),
            None => return false,
        }
    }
    true
}

/// The smallest value that so many percent do not exceed; 0 where there is none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a duration in milliseconds is far below 2^52"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            (
                "jobs succeeded",
                format!("{} of {}", self.succeeded, self.jobs),
            ),
            (
                "traces whole",
                format!("{} of {}", self.traces_whole, self.jobs),
            ),
            (
                "queue wait, median",
                format!("{:.1} s", self.queue_wait_p50_seconds),
            ),
            (
                "queue wait, 95 %",
                format!("{:.1} s", self.queue_wait_p95_seconds),
            ),
            ("machines made", self.machines_made.to_string()),
            ("machines removed", self.machines_removed.to_string()),
            ("machines left", self.machines_left.to_string()),
            (
                "machine-seconds idle",
                format!("{:.1}", self.machine_seconds_idle),
            ),
            (
                "machine-seconds busy",
                format!("{:.1}", self.machine_seconds_busy),
            ),
            ("protocol violations", self.protocol_violations.to_string()),
        ];
        writeln!(f)?;
        for (name, value) in rows {
            writeln!(f, "{name:<22} {value:>10}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_there_are() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        for (values, percent, expected) in [
            (&ten[..], 50, 5.0),
            (&ten, 95, 10.0),
            (&ten[..1], 95, 1.0),
            (&[], 50, 0.0),
        ] {
            assert_eq!(percentile(values, percent), expected);
        }
    }

    #[test]
    fn a_trace_is_whole_with_all_its_lines_in_order() {
        let whole = "Running with springtide 0.1.0\ntesting app\n1 test passed\njob 7 saw commit ab\nspringtide-demo-last-line\nJob succeeded\n";
        assert!(is_whole(7, whole.as_bytes()));
        assert!(!is_whole(8, whole.as_bytes()));
        for cut in [
            "testing app\n",
            "springtide-demo-last-line\n",
            "Job succeeded",
        ] {
            assert!(!is_whole(7, whole.replace(cut, "").as_bytes()), "{cut}");
        }
    }
}
