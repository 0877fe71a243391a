//! What a pool's loop is told beside its own events: which jobs wait, and what the policies want.

use super::jobs::Shared;
use super::policies::{self, Find, Heard, Policies};
use super::setup::Setup;
use crate::pool_loop::now;
use crate::view::PoolView;
use springtide_control::Happening;
use springtide_gitlab::queue::{
    FeedOptions, QueueFeed, QueueNews, QueueSource, QueueState, QueueSummary, QueueView, TakenJob,
};
use springtide_plugins::contract::View;
use springtide_pool::{Millis, Source, Targets, Time};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, watch};

/// Policies are asked at least so often: the time of day is theirs to know.
const AT_LEAST: Millis = Millis::seconds(10);
/// What is known of the queue is looked at again so often: it ages.
const TICK: Duration = Duration::from_secs(1);

/// Between two tries to read the token of a queue.
const LATE: Duration = Duration::from_secs(5);

/// Everything an adviser needs.
pub struct Adviser {
    /// The pool's part of the daemon.
    pub shared: Arc<Shared>,
    /// The plugins.
    pub plugins: Arc<dyn Find>,
    /// Told when a plugin was swapped.
    pub swapped: watch::Receiver<u64>,
    /// The pool after each step.
    pub view: watch::Receiver<PoolView>,
    /// The pool's loop.
    pub tell: mpsc::UnboundedSender<Happening>,
    /// Jobs that were taken.
    pub taken: mpsc::UnboundedReceiver<TakenJob>,
    /// Woken by webhooks.
    pub notify: Arc<Notify>,
    /// Where policies' words are shown.
    pub heard: watch::Sender<Vec<Heard>>,
    /// The directory relative paths of the configuration are in.
    pub beside: PathBuf,
}

/// A queue that is read.
struct Waiting {
    /// The file with the token, and when it was written.
    token: (PathBuf, Option<SystemTime>),
    _feed: QueueFeed,
    news: watch::Receiver<QueueNews>,
    view: QueueView,
    tags: Vec<String>,
    run_untagged: bool,
}

/// What the loop was told last.
#[derive(Default)]
struct Told {
    source: Option<Source>,
    targets: Option<Targets>,
    asked: Option<(View, Time)>,
}

impl Adviser {
    /// Advises until the loop is over.
    pub async fn run(mut self) {
        let mut setups = self.shared.setup.subscribe();
        let mut setup = setups.borrow_and_update().clone();
        let mut policies = chain(&setup);
        let mut queue = self.open(&setup);
        let mut told = Told::default();
        let mut late = tokio::time::Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let fresh = tokio::select! {
                _ = tick.tick() => match &queue {
                    // A token that came late, or a new one, is read.
                    Some(at) if written(&at.token.0) != at.token.1 => {
                        queue = self.open(&setup);
                        true
                    }
                    None if setup.runner.queue.is_some() && late.elapsed() > LATE => {
                        late = tokio::time::Instant::now();
                        queue = self.open(&setup);
                        queue.is_some()
                    }
                    _ => false,
                },
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
                changed = setups.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    setup = setups.borrow_and_update().clone();
                    policies = chain(&setup);
                    queue = self.open(&setup);
                    told = Told::default();
                    true
                }
                Ok(()) = self.swapped.changed() => {
                    self.swapped.mark_unchanged();
                    policies.swapped();
                    true
                }
                Some(job) = self.taken.recv() => {
                    if let Some(queue) = &mut queue {
                        queue.view.note_taken(job, since_epoch());
                    }
                    false
                }
                news = news(&mut queue) => {
                    if let Some(queue) = &mut queue && let Some(snapshot) = &news.snapshot {
                        queue.view.apply(snapshot);
                    }
                    let trouble = news.error.map(|error| format!("waiting jobs can't be read: {error}"));
                    self.shared.troubles.set("queue", trouble);
                    false
                }
            };
            let summary = queue
                .as_ref()
                .map(|queue| queue.view.summary(since_epoch()));
            if summary.is_some() || setup.runner.queue.is_none() {
                self.tell_source(&mut told, summary.as_ref());
            }
            let view = {
                let pool = self.view.borrow_and_update();
                let queue = queue.as_ref().zip(summary.as_ref());
                let queue = queue
                    .map(|(queue, summary)| (summary, queue.tags.as_slice(), queue.run_untagged));
                policies::view(&pool, queue, now())
            };
            if fresh {
                told.asked = None;
            }
            if let Some(again) = self.tell_targets(&mut told, policies, &setup, view).await {
                policies = again;
            } else {
                policies = chain(&setup);
            }
        }
    }

    fn open(&self, setup: &Setup) -> Option<Waiting> {
        let token = self.beside.join(&setup.runner.queue.as_ref()?.token_file);
        let options = match setup.queue_options(&self.beside) {
            Ok(options) => options?,
            Err(why) => {
                self.shared.troubles.set("queue", Some(why));
                return None;
            }
        };
        let view = QueueView::of(&options, since_epoch());
        let (tags, run_untagged) = (options.tags.clone(), options.run_untagged);
        let refresh = options.refresh;
        let source = match QueueSource::new(options) {
            Ok(source) => source,
            Err(error) => {
                self.shared.troubles.set("queue", Some(error.to_string()));
                return None;
            }
        };
        let feed = QueueFeed::spawn(
            Arc::new(source),
            Arc::clone(&self.notify),
            FeedOptions::every(refresh),
            jitter,
        );
        Some(Waiting {
            token: (token.clone(), written(&token)),
            news: feed.subscribe(),
            _feed: feed,
            view,
            tags,
            run_untagged,
        })
    }

    /// The age of the oldest job alone is no news.
    fn tell_source(&self, told: &mut Told, summary: Option<&QueueSummary>) {
        let source = source(summary);
        let same = match (told.source, source) {
            (Some(Source::Fresh { waiting, .. }), Source::Fresh { waiting: now, .. }) => {
                waiting == now
            }
            (Some(Source::Stale { .. }), Source::Stale { .. }) => true,
            (before, now) => before == Some(now),
        };
        if !same {
            told.source = Some(source);
            // A loop that is over needs no news.
            self.tell.send(Happening::Source(source)).ok();
        }
    }

    /// Asks the policies where what they see has changed, or some time has passed.
    async fn tell_targets(
        &self,
        told: &mut Told,
        policies: Policies,
        setup: &Arc<Setup>,
        view: View,
    ) -> Option<Policies> {
        let at = now();
        if let Some((before, then)) = &told.asked {
            let woken = told
                .targets
                .and_then(|targets| targets.wake_at)
                .is_some_and(|wake| before.now < wake && wake <= view.now);
            if !woken && at.since(*then) < AT_LEAST && same_but_for_time(before, &view) {
                return Some(policies);
            }
        }
        let plugins = Arc::clone(&self.plugins);
        let start = setup.runner.targets();
        let asked = view.clone();
        // A policy that computes as long as it may would hold up a thread that others need.
        let answer = tokio::task::spawn_blocking(move || {
            let mut policies = policies;
            let (targets, heard) = policies.ask(&*plugins, &asked, start, at);
            (policies, targets, heard)
        });
        let (policies, targets, heard) = answer.await.ok()?;
        told.asked = Some((view, at));
        let failed: Vec<String> = heard
            .iter()
            .filter(|one| one.failed)
            .map(|one| format!("the policy {}: {}", one.policy, one.reason))
            .collect();
        for one in heard.iter().filter(|one| one.failed) {
            self.shared.metrics.plugin_failed(&one.policy, "evaluate");
        }
        let trouble = (!failed.is_empty()).then(|| failed.join("; "));
        self.shared.troubles.set("policies", trouble);
        self.heard.send_if_modified(|now| {
            let news = *now != heard;
            *now = heard;
            news
        });
        if told.targets != Some(targets) {
            told.targets = Some(targets);
            self.tell.send(Happening::Targets(targets)).ok();
        }
        Some(policies)
    }
}

fn written(file: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

fn chain(setup: &Setup) -> Policies {
    Policies::new(&setup.runner.name, &setup.runner.policy_chain())
}

/// The next reading; never, where no queue is read.
async fn news(queue: &mut Option<Waiting>) -> QueueNews {
    match queue {
        Some(queue) => match queue.news.changed().await {
            Ok(()) => queue.news.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn source(summary: Option<&QueueSummary>) -> Source {
    let millis = |length: Duration| Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    match summary {
        None => Source::None,
        Some(summary) => match summary.state {
            QueueState::Fresh => Source::Fresh {
                waiting: summary.count,
                oldest: millis(summary.oldest),
            },
            QueueState::Stale => Source::Stale {
                age: millis(summary.age),
            },
            QueueState::Silent => Source::Silent,
        },
    }
}

/// Whether a policy would see the same, were it not for clocks and ages.
fn same_but_for_time(one: &View, other: &View) -> bool {
    let plain = |view: &View| {
        let mut view = view.clone();
        view.now = 0;
        if let Some(queue) = &mut view.queue {
            queue.age = 0;
            for set in &mut queue.waiting {
                set.oldest_age = 0;
            }
        }
        view
    };
    plain(one) == plain(other)
}

/// A random number from 0 to 1, so that managers that were started together do not ask together.
/// Without randomness there is none of that either.
#[must_use]
pub fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

fn since_epoch() -> Duration {
    Duration::from_millis(now().0)
}
