//! What must hold whatever runners and people do, in whatever order.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::options::Webhook;

fn ledger(seed: u64) -> Ledger {
    let options = SandboxOptions {
        two_phase: true,
        offer_expiry: Duration::from_secs(5),
        runner_tokens: vec![
            RunnerSeed::new("glrt-a", ["x"]),
            RunnerSeed::new("glrt-b", Vec::<String>::new()),
        ],
        webhook: Some(Webhook {
            url: String::new(),
            secret: String::new(),
        }),
        ..SandboxOptions::default()
    };
    Ledger::new(options, "http://h".to_owned(), StdRng::seed_from_u64(seed))
}

fn rank(status: JobStatus) -> u8 {
    match status {
        JobStatus::Pending => 0,
        JobStatus::Running => 1,
        JobStatus::Canceling => 2,
        JobStatus::Success | JobStatus::Failed | JobStatus::Canceled => 3,
    }
}

fn act(ledger: &mut Ledger, chance: &mut StdRng, now: Duration) {
    let any = chance.random_range(1..=ledger.last_job.max(1));
    let phase = ledger.jobs.get(&any).map(|job| job.phase);
    match chance.random_range(0..8) {
        0 => {
            let tags: &[&str] = [&[][..], &["x"], &["y"]][chance.random_range(0..3)];
            let spec = JobSpec::script(["a"]).tagged(tags.iter().copied());
            ledger.create(spec, crate::git::nowhere(None, None), now);
        }
        1 | 2 => {
            let (runner, graceful) = (chance.random_range(1..=2), chance.random());
            ledger.assign(runner, "s", graceful, chance.random(), now);
        }
        3 => ledger.keep_offer(any, now),
        4 if matches!(phase, Some(Phase::Offered { .. } | Phase::Running)) => {
            ledger.start(any, now);
        }
        5 if phase == Some(Phase::Running) => ledger.end(any, Phase::Success, None, now),
        6 => {
            ledger.cancel(any, now);
        }
        _ => {
            ledger.expire(now);
        }
    }
}

#[test]
fn a_job_is_in_one_place_moves_forward_and_ends_once() {
    for seed in 0..200 {
        let (mut ledger, mut chance) = (ledger(seed), StdRng::seed_from_u64(seed));
        let mut now = Duration::from_secs(1_000);
        let mut last: HashMap<u64, JobStatus> = HashMap::new();
        let mut ends: HashMap<u64, u32> = HashMap::new();
        for _ in 0..200 {
            now += Duration::from_millis(chance.random_range(0..2_000));
            act(&mut ledger, &mut chance, now);
            for event in ledger.outbox.drain(..) {
                let (id, status) = (event["build_id"].as_u64(), &event["build_status"]);
                let over = ["success", "failed", "canceled"];
                if status.as_str().is_some_and(|status| over.contains(&status)) {
                    *ends.entry(id.expect("an id")).or_default() += 1;
                }
            }
            for job in ledger.jobs.values() {
                let waits = job.phase == Phase::Pending;
                let offered = matches!(job.phase, Phase::Offered { .. });
                assert_eq!(ledger.pending.contains(&job.id), waits, "seed {seed}");
                assert_eq!(ledger.offered.contains(&job.id), offered, "seed {seed}");
                assert!(!(waits && job.holder.is_some()), "seed {seed}");
                let status = job.status();
                let before = last.insert(job.id, status).unwrap_or(status);
                assert!(
                    rank(before) <= rank(status),
                    "seed {seed}: {before:?} {status:?}"
                );
                assert!(!before.is_final() || before == status, "seed {seed}");
                let ended = ends.get(&job.id).copied().unwrap_or_default();
                assert_eq!(ended, u32::from(status.is_final()), "seed {seed}");
                if offered || status == JobStatus::Running {
                    assert_eq!(ledger.bearer(job.id, Some(&job.token)), Bearer::Holder);
                    assert!(ledger.live_job(&job.token).is_some());
                }
                assert!(!job.spec.tags.contains(&"y".to_owned()) || job.assignments == 0);
            }
        }
    }
}

#[test]
fn an_offer_runs_out_after_the_last_sign_and_its_token_with_it() {
    let mut ledger = ledger(0);
    let (start, spec) = (Duration::from_secs(100), JobSpec::script(["a"]));
    let (id, _) = ledger.create(spec, crate::git::nowhere(None, None), start);
    assert_eq!(ledger.assign(1, "s", false, true, start), Some(id));
    let old = ledger.jobs[&id].token.clone();
    ledger.keep_offer(id, start + Duration::from_secs(4));
    assert_eq!(
        ledger.expire(start + Duration::from_secs(8)),
        Some(start + Duration::from_secs(9))
    );
    assert_eq!(ledger.expire(start + Duration::from_secs(9)), None);
    assert_eq!(ledger.bearer(id, Some(&old)), Bearer::Former);
    assert_eq!(ledger.assign(2, "s", false, false, start), Some(id));
    assert_eq!(ledger.bearer(id, Some(&old)), Bearer::Former);
    assert_eq!(ledger.bearer(id + 1, Some(&old)), Bearer::Stranger);
    assert_eq!(ledger.bearer(id, Some("none")), Bearer::Unknown);
    assert_eq!(ledger.bearer(id, None), Bearer::Unknown);
}
