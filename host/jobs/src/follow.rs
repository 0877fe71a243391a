//! Follows one piece of work to its end, through connections that break.

use bytes::Bytes;
use springtide_machines::{HelperClient, HelperError, Output, WorkEnd};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Chunks on their way to the trace; a script that is faster waits in its spool.
const AHEAD: usize = 16;

/// The first wait before a call is repeated.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What was heard of the work.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Output.
    Bytes(Bytes),
    /// Its end, and how many bytes of output were not kept.
    Ended(WorkEnd, u64),
    /// No more will be heard.
    Lost(HelperError),
}

/// Waits between calls that fail, until they have failed for too long.
pub(crate) struct Patience {
    lost_after: Duration,
    since: Option<Instant>,
    wait: Duration,
}

impl Patience {
    pub(crate) fn new(lost_after: Duration) -> Self {
        Self {
            lost_after,
            since: None,
            wait: FIRST_WAIT,
        }
    }

    /// Something came through.
    fn renew(&mut self) {
        self.since = None;
        self.wait = FIRST_WAIT;
    }

    /// Waits after a failure; gives it back where waiting any longer makes no sense.
    async fn after(&mut self, error: HelperError) -> Result<(), HelperError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() >= self.lost_after {
            return Err(error);
        }
        tracing::info!(%error, "the machine did not answer; it is tried again");
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}

/// Repeats a call while it fails for reasons that may pass.
pub(crate) async fn persist<T, F>(
    lost_after: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, HelperError>
where
    F: Future<Output = Result<T, HelperError>>,
{
    let mut patience = Patience::new(lost_after);
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.after(error).await?,
        }
    }
}

/// Follows work from its first byte, in a task of its own that ends with the set it is put in.
pub(crate) fn follow(
    client: HelperClient,
    id: String,
    lost_after: Duration,
    tasks: &mut tokio::task::JoinSet<()>,
) -> mpsc::Receiver<Heard> {
    let (to, from) = mpsc::channel(AHEAD);
    tasks.spawn(async move {
        let mut offset = 0;
        let mut patience = Patience::new(lost_after);
        loop {
            let broke = match once(&client, &id, &mut offset, &mut patience, &to).await {
                Ok(()) => return,
                Err(error) => patience.after(error).await,
            };
            if let Err(error) = broke {
                // Who listens no more has no use for it.
                to.send(Heard::Lost(error)).await.ok();
                return;
            }
        }
    });
    from
}

async fn once(
    client: &HelperClient,
    id: &str,
    offset: &mut u64,
    patience: &mut Patience,
    to: &mpsc::Sender<Heard>,
) -> Result<(), HelperError> {
    let mut follow = client.follow(id, *offset).await?;
    patience.renew();
    while let Some(output) = follow.next().await? {
        let heard = match output {
            Output::Bytes { offset: at, bytes } => {
                *offset = at + bytes.len() as u64;
                Heard::Bytes(bytes)
            }
            Output::Ended(end) => Heard::Ended(end, follow.discarded().unwrap_or_default()),
        };
        let over = matches!(heard, Heard::Ended(..));
        if to.send(heard).await.is_err() || over {
            return Ok(());
        }
    }
    Err(HelperError::Broken {
        call: "follow".into(),
        why: "the output ended without an end".into(),
    })
}
