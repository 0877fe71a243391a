//! Signals, as GitLab Runner understands them: SIGQUIT finishes what runs, SIGTERM and SIGINT do so
//! within `shutdown_timeout`, a second one stops at once, SIGHUP reloads.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Take no more jobs and finish those that run, however long they take.
    Finish,
    /// The same within `shutdown_timeout`; asked twice, at once.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// All signals the daemon listens to, in the order they come.
///
/// # Errors
/// Where the system refuses a handler.
pub fn listen() -> std::io::Result<mpsc::UnboundedReceiver<Asked>> {
    let (to, from) = mpsc::unbounded_channel();
    let kinds = [
        (SignalKind::quit(), Asked::Finish),
        (SignalKind::terminate(), Asked::Stop),
        (SignalKind::interrupt(), Asked::Stop),
        (SignalKind::hangup(), Asked::Reload),
    ];
    for (kind, asked) in kinds {
        tokio::spawn(pass_on(signal(kind)?, asked, to.clone()));
    }
    Ok(from)
}

async fn pass_on(mut signals: Signal, asked: Asked, to: mpsc::UnboundedSender<Asked>) {
    while signals.recv().await.is_some() {
        if to.send(asked).is_err() {
            return;
        }
    }
}

/// Returns when the process is asked to stop; never where no handler can be had.
pub async fn asked_to_stop() {
    let Ok(mut signals) = listen() else {
        return std::future::pending().await;
    };
    while let Some(asked) = signals.recv().await {
        if asked != Asked::Reload {
            return;
        }
    }
}
