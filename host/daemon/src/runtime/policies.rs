//! A pool's chain of policies: what each link says of the targets, and why.
//!
//! A link that fails changes nothing; what it said last holds for a while (see
//! [`springtide_control::chain`]).

use super::scope::Scope;
use crate::view::PoolView;
use serde::{Deserialize, Serialize};
use springtide_config::PolicyLink;
use springtide_control::{Chain, Patch};
use springtide_gitlab::queue::{QueueState, QueueSummary};
use springtide_plugins::contract::{
    self, CallContext, Decision as Answer, Queue, View, Waiting as TagSet,
};
use springtide_plugins::{Breaker, CallError, Outcome, Plugin};
use springtide_pool::{Limits, Millis, Targets, Time};
use std::sync::Arc;
use std::time::Duration;

/// How long the last answer of a policy holds that fails.
const HOLD: Millis = Millis::seconds(600);

/// Where plugins are found by their ids.
pub trait Find: Send + Sync {
    /// The plugin in use under this id.
    fn find(&self, id: &str) -> Option<Arc<Plugin>>;

    /// This owner's machines are made in this scope: a driver's new version must list them before it
    /// takes over.
    fn note_scope(&self, _scope: &Scope, _owner: &str) {}
}

/// What a link of the chain said last, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Heard {
    /// The policy's id.
    pub policy: String,
    /// Why it answered as it did; or why it did not.
    pub reason: String,
    /// Whether it failed.
    pub failed: bool,
}

/// The chain of one runner.
#[derive(Debug)]
pub struct Policies {
    runner: String,
    links: Vec<Link>,
    chain: Chain,
}

#[derive(Debug)]
struct Link {
    plugin: String,
    settings: String,
    /// What the policy keeps, and the major version it is of.
    state: Vec<u8>,
    major: Option<u64>,
    /// Keeps a policy that fails again and again from being asked at each change.
    breaker: Breaker,
}

impl Policies {
    /// The chain that a runner's entry asks for.
    #[must_use]
    pub fn new(runner: &str, links: &[PolicyLink]) -> Policies {
        Policies {
            runner: runner.to_owned(),
            chain: Chain::new(links.len(), HOLD),
            links: links
                .iter()
                .map(|link| Link {
                    plugin: link.plugin.clone(),
                    settings: link.settings.to_string(),
                    state: Vec::new(),
                    major: None,
                    breaker: Breaker::default(),
                })
                .collect(),
        }
    }

    /// A plugin was swapped: those that failed are given another chance.
    pub fn swapped(&mut self) {
        for link in &mut self.links {
            link.breaker = Breaker::default();
        }
    }

    /// Asks each link in turn, beginning with the targets of the file.
    pub fn ask(
        &mut self,
        plugins: &dyn Find,
        view: &View,
        start: Targets,
        now: Time,
    ) -> (Targets, Vec<Heard>) {
        let mut targets = start;
        let mut heard = Vec::with_capacity(self.links.len());
        for (number, link) in self.links.iter_mut().enumerate() {
            let answer = link.ask(plugins, &self.runner, view, targets, now);
            let (patch, said) = match answer {
                Ok(answer) => (Some(patch(answer.patch)), (answer.reason, false)),
                Err(why) => (None, (why, true)),
            };
            heard.push(Heard {
                policy: link.plugin.clone(),
                reason: said.0,
                failed: said.1,
            });
            targets = self.chain.after(number, targets, patch, now);
        }
        (targets, heard)
    }
}

impl Link {
    fn ask(
        &mut self,
        plugins: &dyn Find,
        runner: &str,
        view: &View,
        proposal: Targets,
        now: Time,
    ) -> Result<Answer, String> {
        let Some(plugin) = plugins.find(&self.plugin) else {
            return Err(format!(
                "there is no plugin {}; put its file into the plugin directory",
                self.plugin
            ));
        };
        let major = plugin.info().version.major;
        if self.major.is_some_and(|before| before != major) {
            self.state.clear();
        }
        self.major = Some(major);
        let context = CallContext {
            runner: runner.to_owned(),
            settings: self.settings.clone(),
            owner: String::new(),
        };
        let clock = Duration::from_millis(now.0);
        if let Err(wait) = self.breaker.ask(clock) {
            return Err(format!(
                "it failed again and again, and is left alone for {} s more",
                wait.as_secs().max(1)
            ));
        }
        let answer = plugin.evaluate(&context, view, &proposed(proposal), &self.state);
        self.breaker.tell(Outcome::from(&answer), clock);
        match answer {
            Ok(answer) => {
                self.state.clone_from(&answer.state);
                Ok(answer)
            }
            Err(error @ CallError::Plugin(_)) => Err(error.to_string()),
            Err(error) => Err(format!("it failed: {error}")),
        }
    }
}

fn proposed(targets: Targets) -> contract::Targets {
    contract::Targets {
        idle_count: targets.idle_count,
        idle_count_min: targets.idle_count_min,
        idle_scale_factor: targets.idle_scale_factor,
        idle_time: targets.idle_time,
        wanted: targets.wanted,
        ceiling: targets.ceiling,
        wake_at: targets.wake_at,
    }
}

fn patch(patch: contract::Patch) -> Patch {
    Patch {
        idle_count: patch.idle_count,
        idle_count_min: patch.idle_count_min,
        idle_scale_factor: patch.idle_scale_factor,
        idle_time: patch.idle_time,
        wanted: patch.wanted,
        ceiling: patch.ceiling,
        wake_at: patch.wake_at,
    }
}

/// What policies are shown of a pool.
#[must_use]
pub fn view(pool: &PoolView, queue: Option<(&QueueSummary, &[String], bool)>, now: Time) -> View {
    let counts = pool.counts;
    let (_, held) = pool.jobs();
    View {
        now: now.whole_seconds(),
        machines: contract::Counts {
            intended: counts.intended,
            creating: counts.creating,
            booting: counts.booting,
            idle: counts.idle,
            reserved: counts.reserved,
            busy: counts.busy,
            draining: counts.draining,
            retiring: counts.retiring,
            missing: counts.missing,
            held: counts.held,
        },
        limits: limits(&pool.limits),
        jobs_held: u32::try_from(held).unwrap_or(u32::MAX),
        queue: queue.map(|(summary, tags, run_untagged)| waiting(summary, tags, run_untagged)),
        boot_times: pool
            .boot_times
            .iter()
            .map(|time| time.whole_seconds())
            .collect(),
    }
}

fn limits(limits: &Limits) -> contract::Limits {
    contract::Limits {
        limit: limits.limit,
        max_growth_rate: limits.max_growth_rate,
        max_builds: limits.max_builds,
        // The contract has no word for a share that is nothing: one job is the least it can say.
        max_jobs: limits.max_jobs.map_or(0, |most| most.max(1)),
    }
}

fn waiting(summary: &QueueSummary, tags: &[String], run_untagged: bool) -> Queue {
    let seconds = |at: std::time::Duration| u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    Queue {
        age: seconds(summary.age),
        stale: summary.state == QueueState::Stale,
        waiting: summary
            .waiting
            .iter()
            .map(|set| TagSet {
                tags: set.tags.clone(),
                count: set.count,
                oldest_age: seconds(set.oldest),
            })
            .collect(),
        tags: tags.to_vec(),
        run_untagged,
        arrivals: summary.arrivals,
        completions: summary.completions,
    }
}
