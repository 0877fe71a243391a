//! Waiting until jobs are as a test wants them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::JobView;
use crate::server::Sandbox;

/// A busy sandbox is looked at no more often: a look at a thousand jobs takes its time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

impl Sandbox {
    /// Waits until one job and its trace are as `wanted` says, for `timeout` at most; gives the job.
    ///
    /// # Errors
    /// The time is over, or there is no such job.
    pub async fn wait_for_job(
        &self,
        id: u64,
        mut wanted: impl FnMut(&JobView, &[u8]) -> bool,
        timeout: Duration,
    ) -> Result<JobView, WaitError> {
        let mut events = self.shared.events.subscribe();
        let waiting = async {
            loop {
                events.borrow_and_update();
                let found = self.shared.with(|ledger, _| {
                    let job = ledger.jobs.get(&id)?;
                    let view = job.view();
                    wanted(&view, &job.trace.bytes).then_some(view)
                });
                if found.is_some() || events.changed().await.is_err() {
                    return found;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(Some(view)) => Ok(view),
            _ => Err(self.not_so(timeout)),
        }
    }

    /// Waits until the jobs are as `wanted` says, for `timeout` at most.
    ///
    /// # Errors
    /// The time is over; the error tells how many jobs are in which state.
    pub async fn wait_for(
        &self,
        mut wanted: impl FnMut(&[JobView]) -> bool,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let mut events = self.shared.events.subscribe();
        let waiting = async {
            loop {
                events.borrow_and_update();
                if wanted(&self.jobs()) || events.changed().await.is_err() {
                    return;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        if tokio::time::timeout(timeout, waiting).await.is_ok() {
            return Ok(());
        }
        Err(self.not_so(timeout))
    }

    fn not_so(&self, timeout: Duration) -> WaitError {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for job in self.jobs() {
            *states.entry(job.status.as_str()).or_default() += 1;
        }
        WaitError { timeout, states }
    }
}

/// The jobs did not become what was waited for.
#[derive(Debug, thiserror::Error)]
#[error("after {timeout:?} the jobs are not as awaited; by state they are {states:?}")]
pub struct WaitError {
    timeout: Duration,
    states: BTreeMap<&'static str, usize>,
}
