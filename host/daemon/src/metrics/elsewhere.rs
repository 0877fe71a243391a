//! Counters that are kept elsewhere and read when somebody looks.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

/// A counter with one label.
pub(super) struct Elsewhere<R> {
    opts: Opts,
    label: &'static str,
    /// Never counts: it is there to be described.
    described: IntCounterVec,
    read: R,
}

impl<R> Elsewhere<R>
where
    R: Fn() -> Vec<(&'static str, u64)> + Send + Sync,
{
    /// `read` gives the label's values, each with its sum so far.
    pub(super) fn new(
        name: &str,
        help: &str,
        label: &'static str,
        read: R,
    ) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(name, help);
        Ok(Elsewhere {
            described: IntCounterVec::new(opts.clone(), &[label])?,
            opts,
            label,
            read,
        })
    }
}

impl<R> Collector for Elsewhere<R>
where
    R: Fn() -> Vec<(&'static str, u64)> + Send + Sync,
{
    fn desc(&self) -> Vec<&Desc> {
        self.described.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // It could be made once already.
        let Ok(counter) = IntCounterVec::new(self.opts.clone(), &[self.label]) else {
            return Vec::new();
        };
        for (value, sum) in (self.read)() {
            counter.with_label_values(&[value]).inc_by(sum);
        }
        counter.collect()
    }
}
