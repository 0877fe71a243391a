//! The daemon's own log: to standard error, as text or as JSON, at the level the file or the command
//! line names. Its warnings and errors are counted.

use crate::machine_log::MachineLog;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. `level` is one of GitLab Runner's (`debug`, `info`, `warn`, `error`, `fatal`,
/// `panic`); RUST_LOG, where it is set, is stronger.
pub fn start(level: Option<&str>, format: Format) {
    let level = match level.unwrap_or("info").to_ascii_lowercase().as_str() {
        "debug" | "trace" => "debug",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        _ => "info",
    };
    // What libraries say below a warning is of interest to their authors alone.
    let ours = format!(
        "warn,springtide={level},springtide_control={level},springtide_gitlab={level},\
         springtide_jobs={level},springtide_machines={level},springtide_plugins={level},plugin={level}"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let text = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = tracing_subscriber::registry().with(filter).with(&COUNTED);
    let started = match format {
        Format::Text => log.with(MachineLog).with(text).try_init(),
        Format::Json => log.with(MachineLog).with(text.json()).try_init(),
    };
    if let Err(error) = started {
        eprintln!("springtide: the log was started before: {error}");
    }
}

/// What was logged so far in this process.
static COUNTED: Counted = Counted::new();

/// Lines of the log so far, by GitLab Runner's names of the levels: those that tell of trouble.
#[must_use]
pub fn counted() -> Vec<(&'static str, u64)> {
    COUNTED.lines()
}

/// Counts lines of the log.
#[derive(Debug)]
struct Counted {
    warnings: AtomicU64,
    errors: AtomicU64,
}

impl Counted {
    const fn new() -> Counted {
        Counted {
            warnings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    fn lines(&self) -> Vec<(&'static str, u64)> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![("warning", of(&self.warnings)), ("error", of(&self.errors))]
    }
}

impl<S: Subscriber> Layer<S> for &'static Counted {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let count = match *event.metadata().level() {
            Level::ERROR => &self.errors,
            Level::WARN => &self.warnings,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_counted_where_they_are_logged() {
        static COUNTED: Counted = Counted::new();
        let log = tracing_subscriber::registry()
            .with(EnvFilter::new("warn,quiet=off"))
            .with(&COUNTED);
        tracing::subscriber::with_default(log, || {
            tracing::info!("not counted");
            tracing::warn!("counted");
            tracing::warn!(target: "quiet", "not logged");
            tracing::error!("counted");
            tracing::error!("counted");
        });
        assert_eq!(COUNTED.lines(), [("warning", 1), ("error", 2)]);
    }
}
