//! `concurrent` is global: what each pool may use of it. Pure.

/// What one pool uses and could use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Jobs it has taken and requests under way.
    pub used: u32,
    /// Jobs known to wait for it beyond these.
    pub waiting: u32,
    /// `limit` of the runner; 0 is none.
    pub limit: u32,
}

/// The most jobs each pool may have, in the order of `demands`.
///
/// What is free goes to pools whose jobs wait, one each in turn beginning with the pool numbered
/// `turn`; what they leave is open to all, for a pool without a queue source can only ask. That all
/// together never pass `concurrent` is held by the slots, one taken before each request.
#[must_use]
pub fn shares(concurrent: u32, demands: &[Demand], turn: usize) -> Vec<u32> {
    let used = demands
        .iter()
        .fold(0_u32, |sum, demand| sum.saturating_add(demand.used));
    let mut free = concurrent.saturating_sub(used);
    let mut shares: Vec<u32> = demands.iter().map(|demand| demand.used).collect();
    let count = demands.len();
    let wants = |share: u32, demand: &Demand| {
        let most = demand.used.saturating_add(demand.waiting);
        let most = if demand.limit > 0 {
            most.min(demand.limit)
        } else {
            most
        };
        share < most
    };
    let mut moved = true;
    while moved && free > 0 {
        moved = false;
        for at in (0..count).map(|step| (turn + step) % count) {
            if free > 0 && wants(shares[at], &demands[at]) {
                shares[at] += 1;
                free -= 1;
                moved = true;
            }
        }
    }
    for share in &mut shares {
        *share = share.saturating_add(free);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(used: u32, waiting: u32, limit: u32) -> Demand {
        Demand {
            used,
            waiting,
            limit,
        }
    }

    #[test]
    fn what_is_free_goes_to_those_whose_jobs_wait_in_turn() {
        let cases = [
            (10, vec![], 0, vec![]),
            (10, vec![demand(0, 0, 0)], 0, vec![10]),
            (10, vec![demand(0, 0, 0), demand(0, 0, 0)], 0, vec![10, 10]),
            (10, vec![demand(4, 0, 0), demand(3, 0, 0)], 0, vec![7, 6]),
            (10, vec![demand(4, 100, 0), demand(3, 0, 0)], 0, vec![7, 3]),
            (10, vec![demand(4, 2, 0), demand(3, 0, 0)], 0, vec![7, 4]),
            (10, vec![demand(4, 100, 5), demand(3, 0, 5)], 0, vec![7, 5]),
            (5, vec![demand(0, 9, 0), demand(0, 9, 0)], 0, vec![3, 2]),
            (5, vec![demand(0, 9, 0), demand(0, 9, 0)], 1, vec![2, 3]),
            (1, vec![demand(1, 9, 0), demand(0, 9, 0)], 0, vec![1, 0]),
            (1, vec![demand(3, 9, 0), demand(0, 9, 0)], 0, vec![3, 0]),
        ];
        for (concurrent, demands, turn, expected) in cases {
            assert_eq!(
                shares(concurrent, &demands, turn),
                expected,
                "{concurrent} {demands:?} {turn}"
            );
        }
    }
}
