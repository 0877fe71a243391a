//! The chain of policies, without the policies: what each link's answer does to the targets.
//!
//! A link that fails changes nothing: what it answered last holds for a while, except `wanted`,
//! which is never stale. The lowest ceiling of the chain wins, and the earliest time to look again.

use serde::{Deserialize, Serialize};
use springtide_pool::{Millis, Targets, Time};

/// What a policy wants changed; what it leaves out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Patch {
    /// Idle machines to keep.
    pub idle_count: Option<u32>,
    /// Least idle machines with a scale factor.
    pub idle_count_min: Option<u32>,
    /// Idle machines as a factor of busy ones.
    pub idle_scale_factor: Option<f64>,
    /// Seconds an idle machine beyond the idle count is kept.
    pub idle_time: Option<u32>,
    /// Machines wanted for waiting jobs.
    pub wanted: Option<u32>,
    /// Most machines.
    pub ceiling: Option<u32>,
    /// When the policy would answer differently, in epoch seconds.
    pub wake_at: Option<u32>,
}

/// What the links of one chain answered last.
#[derive(Clone, Debug)]
pub struct Chain {
    last: Vec<Option<(Time, Patch)>>,
    hold: Millis,
}

impl Chain {
    /// A chain of `links` policies whose last answers hold for `hold` while they fail.
    #[must_use]
    pub fn new(links: usize, hold: Millis) -> Chain {
        Chain {
            last: vec![None; links],
            hold,
        }
    }

    /// The targets after link `link` of the chain: its answer, or none where it failed.
    pub fn after(
        &mut self,
        link: usize,
        proposal: Targets,
        answer: Option<Patch>,
        now: Time,
    ) -> Targets {
        let Some(last) = self.last.get_mut(link) else {
            return proposal;
        };
        match answer {
            Some(patch) => {
                *last = Some((now, patch));
                patched(proposal, &patch)
            }
            None => match *last {
                Some((at, patch)) if now.since(at) <= self.hold => patched(
                    proposal,
                    &Patch {
                        wanted: None,
                        ..patch
                    },
                ),
                _ => {
                    *last = None;
                    proposal
                }
            },
        }
    }
}

fn patched(proposal: Targets, patch: &Patch) -> Targets {
    Targets {
        idle_count: patch.idle_count.unwrap_or(proposal.idle_count),
        idle_count_min: patch.idle_count_min.unwrap_or(proposal.idle_count_min),
        idle_scale_factor: patch
            .idle_scale_factor
            .unwrap_or(proposal.idle_scale_factor),
        idle_time: patch.idle_time.unwrap_or(proposal.idle_time),
        wanted: patch.wanted.unwrap_or(proposal.wanted),
        ceiling: lowest(proposal.ceiling, patch.ceiling),
        wake_at: lowest(proposal.wake_at, patch.wake_at),
    }
}

fn lowest(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Targets = Targets {
        idle_count: 2,
        idle_count_min: 0,
        idle_scale_factor: 0.0,
        idle_time: 1800,
        wanted: 0,
        ceiling: None,
        wake_at: None,
    };

    #[test]
    fn what_a_link_leaves_out_stays_and_the_lowest_ceiling_wins() {
        let mut chain = Chain::new(2, Millis::seconds(60));
        let night = Patch {
            idle_count: Some(0),
            ceiling: Some(5),
            wake_at: Some(90),
            ..Patch::default()
        };
        let targets = chain.after(0, START, Some(night), Time(0));
        assert_eq!((targets.idle_count, targets.idle_time), (0, 1800));
        let queue = Patch {
            wanted: Some(7),
            ceiling: Some(9),
            wake_at: Some(80),
            ..Patch::default()
        };
        let targets = chain.after(1, targets, Some(queue), Time(0));
        assert_eq!(targets.wanted, 7);
        assert_eq!((targets.ceiling, targets.wake_at), (Some(5), Some(80)));
        assert_eq!(targets.idle_count, 0, "the link before still counts");
    }

    #[test]
    fn a_link_that_fails_holds_for_a_while_but_never_what_it_wanted() {
        let mut chain = Chain::new(1, Millis::seconds(60));
        let patch = Patch {
            idle_count: Some(9),
            wanted: Some(7),
            ..Patch::default()
        };
        assert_eq!(chain.after(0, START, Some(patch), Time(0)).wanted, 7);
        let held = chain.after(0, START, None, Time(60_000));
        assert_eq!((held.idle_count, held.wanted), (9, 0));
        assert_eq!(chain.after(0, START, None, Time(60_001)), START);
        assert_eq!(chain.after(0, START, None, Time(1)), START, "it is over");
        assert_eq!(chain.after(5, START, Some(patch), Time(0)), START);
    }
}
