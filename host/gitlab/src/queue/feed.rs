//! The reading of waiting jobs in the background: on a timer, and when a webhook asks for it.
//!
//! One reading runs at a time. What asks for a reading while one runs, or within the debounce,
//! gets one reading together. A failure leaves the last reading standing and lengthens the pause;
//! while GitLab wants nothing asked, webhooks do not change that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{QueueError, QueueSnapshot, ReadQueue};

/// The longest pause after failures, where the server names no longer one.
const LONGEST: Duration = Duration::from_secs(300);

/// When a feed reads.
#[derive(Clone, Copy, Debug)]
pub struct FeedOptions {
    /// The time from the end of one reading to the next, give or take a tenth.
    pub refresh: Duration,
    /// How long more notifications are waited for once one has come.
    pub debounce: Duration,
}

impl FeedOptions {
    /// A feed that reads every `refresh`, with a debounce of 500 ms.
    #[must_use]
    pub fn every(refresh: Duration) -> Self {
        Self {
            refresh,
            debounce: Duration::from_millis(500),
        }
    }
}

/// What a feed knows.
#[derive(Clone, Debug, Default)]
pub struct QueueNews {
    /// The last whole reading.
    pub snapshot: Option<Arc<QueueSnapshot>>,
    /// Readings that failed since then.
    pub failures: u32,
    /// Why the last one failed; `None` after a success.
    pub error: Option<Arc<QueueError>>,
}

/// A task that reads waiting jobs and publishes each reading. It ends when this is dropped.
#[derive(Debug)]
pub struct QueueFeed {
    news: watch::Receiver<QueueNews>,
    task: JoinHandle<()>,
}

impl QueueFeed {
    /// Starts to read: at once, then every so often, and soon after each `notify`.
    ///
    /// `jitter` gives a number from 0 to 1 for each pause, so that managers that were started
    /// together do not ask together.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<S: ReadQueue + 'static>(
        source: Arc<S>,
        notify: Arc<Notify>,
        options: FeedOptions,
        jitter: impl FnMut() -> f64 + Send + 'static,
    ) -> Self {
        let (sender, news) = watch::channel(QueueNews::default());
        let task = tokio::spawn(run(source, notify, options, jitter, sender));
        Self { news, task }
    }

    /// The readings. The receiver sees the latest one, not each.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<QueueNews> {
        self.news.clone()
    }
}

impl Drop for QueueFeed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<S: ReadQueue>(
    source: Arc<S>,
    notify: Arc<Notify>,
    options: FeedOptions,
    mut jitter: impl FnMut() -> f64,
    news: watch::Sender<QueueNews>,
) {
    let mut problems = Vec::new();
    loop {
        served(&notify).await;
        let result = source.refresh().await;
        let read = Instant::now();
        let error = result.as_ref().err().cloned();
        publish(&news, result, &mut problems);
        let failures = news.borrow().failures;
        let wait = error.as_ref().and_then(QueueError::wait);
        let pause = pause(failures, wait, options.refresh, jitter());
        if error.is_some() {
            tokio::time::sleep(pause).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep_until(read + pause) => {}
            () = notify.notified() => tokio::time::sleep(options.debounce).await,
        }
    }
}

/// Takes a notification that is there already: the reading that begins now serves it.
async fn served(notify: &Notify) {
    tokio::select! {
        biased;
        () = notify.notified() => {}
        () = std::future::ready(()) => {}
    }
}

fn publish(
    news: &watch::Sender<QueueNews>,
    result: Result<QueueSnapshot, QueueError>,
    problems: &mut Vec<String>,
) {
    match result {
        Ok(snapshot) => {
            if news.borrow().failures > 0 {
                tracing::info!("waiting jobs can be read again");
            }
            if snapshot.problems != *problems {
                problems.clone_from(&snapshot.problems);
                for problem in problems {
                    tracing::warn!(%problem, "a part of the waiting jobs cannot be read");
                }
            }
            news.send_replace(QueueNews {
                snapshot: Some(Arc::new(snapshot)),
                failures: 0,
                error: None,
            });
        }
        Err(error) => {
            let known = news.borrow().error.as_deref() == Some(&error);
            match known {
                true => tracing::debug!(%error, "waiting jobs cannot be read, still"),
                false => {
                    tracing::warn!(%error, "waiting jobs cannot be read; the last reading ages")
                }
            }
            news.send_modify(|news| {
                news.failures = news.failures.saturating_add(1);
                news.error = Some(Arc::new(error));
            });
        }
    }
}

/// The pause before the next reading: `refresh` give or take a tenth; after failures doubled each
/// time up to 5 minutes (or `refresh`, if that is longer); never shorter than the server's own
/// `wait`, to which the tenth is only added. `jitter` is from 0 to 1.
#[must_use]
pub fn pause(failures: u32, wait: Option<Duration>, refresh: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.5
    };
    let doubled = refresh.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    let own = doubled.min(LONGEST.max(refresh));
    let own = own.saturating_sub(own / 10) + (own / 5).mul_f64(jitter);
    let theirs = wait.map(|wait| wait + (wait / 10).mul_f64(jitter));
    own.max(theirs.unwrap_or_default())
}
