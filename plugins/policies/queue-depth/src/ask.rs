//! How many machines the waiting jobs need, and why.

use crate::coming;
use crate::settings::Settings;
use springtide_sdk::{Queue, View};

/// Jobs that wait, what of them counts, and the machines for that.
#[derive(Debug, PartialEq)]
pub(crate) struct Ask {
    /// Jobs that wait, whoever takes them.
    waiting: u64,
    /// Those this runner's tags take.
    ours: u64,
    /// How long the oldest of ours has waited, in seconds.
    oldest: u32,
    /// The boot time seen, in seconds: the median; 0 where none was seen.
    boot: u32,
    /// Those of ours that count.
    counted: u64,
    /// Jobs one machine absorbs in what is left of the target wait.
    absorbs: u32,
    /// Machines on their way already.
    coming: u32,
    /// Machines wanted.
    pub(crate) wanted: u32,
}

impl Ask {
    pub(crate) fn of(view: &View, queue: &Queue, settings: &Settings) -> Ask {
        let (mut waiting, mut ours, mut oldest) = (0_u64, 0_u64, 0_u32);
        for set in &queue.waiting {
            waiting += u64::from(set.count);
            if set.count > 0 && takes(queue, &set.tags) {
                ours += u64::from(set.count);
                oldest = oldest.max(set.oldest_age);
            }
        }
        let boot = median(&view.boot_times);
        let overdue = oldest > settings.target_wait;
        let counted = if overdue {
            ours
        } else {
            part(ours, settings.share)
        };
        let left = settings
            .target_wait
            .saturating_sub(oldest)
            .saturating_sub(boot);
        let absorbs = absorbed(settings, left);
        let machines = counted.div_ceil(u64::from(absorbs));
        let most = if settings.ceiling > 0 {
            settings.ceiling
        } else {
            u32::MAX
        };
        Ask {
            waiting,
            ours,
            oldest,
            boot,
            counted,
            absorbs,
            coming: coming(view),
            wanted: u32::try_from(machines)
                .unwrap_or(u32::MAX)
                .max(settings.floor)
                .min(most),
        }
    }

    /// The decision in a sentence, with its numbers.
    pub(crate) fn reason(&self, settings: &Settings) -> String {
        let Ask { waiting, ours, .. } = self;
        let mut text = format!("{ours} of {waiting} waiting jobs are this runner's");
        if *ours > 0 {
            text += &format!(", the oldest for {} s", self.oldest);
            if self.oldest > settings.target_wait {
                text += &format!(", longer than the {} s it should", settings.target_wait);
            }
            if self.counted < *ours {
                text += &format!("; {} of them count", self.counted);
            }
            if settings.jobs_per_machine > 1 {
                text += &format!(
                    "; {} to a machine, which takes {} s to boot",
                    self.absorbs, self.boot
                );
            }
        }
        text += &format!(": {} wanted", machines(self.wanted));
        let asked = self.counted.div_ceil(u64::from(self.absorbs));
        if u64::from(self.wanted) > asked {
            text += " by the floor";
        } else if u64::from(self.wanted) < asked {
            text += &format!(" by the ceiling, not {asked}");
        }
        if self.coming > 0 {
            text += &format!(", {} already on the way", self.coming);
        }
        text
    }
}

fn machines(count: u32) -> String {
    match count {
        1 => "1 machine".into(),
        count => format!("{count} machines"),
    }
}

/// Whether this runner takes jobs with these tags: it must have each, and untagged jobs are a
/// matter of its own.
fn takes(queue: &Queue, tags: &[String]) -> bool {
    if tags.is_empty() {
        return queue.run_untagged;
    }
    tags.iter().all(|tag| queue.tags.contains(tag))
}

/// A share of the jobs, rounded up: a job that waits is never nothing, unless the share is.
fn part(jobs: u64, share: f64) -> u64 {
    // Up to 2^53 both are exact, and there are fewer jobs.
    ((jobs as f64 * share).ceil() as u64).min(jobs)
}

/// Jobs a machine that is asked for now absorbs in the seconds that are left: its jobs in a whole
/// target wait, in proportion, and its first one in any case.
fn absorbed(settings: &Settings, left: u32) -> u32 {
    let jobs = u64::from(settings.jobs_per_machine) * u64::from(left);
    u32::try_from(jobs / u64::from(settings.target_wait))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// The middle one; of two, the longer. 0 of none.
fn median(times: &[u32]) -> u32 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
