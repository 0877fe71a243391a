//! The latest lines of the log about each machine, for `springtide machine logs`: what carries a
//! field `machine`, and is logged at all.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines kept over all machines.
const KEPT: usize = 5000;
/// Characters kept of a line.
const LONGEST: usize = 500;

static LINES: Mutex<VecDeque<(String, Line)>> = Mutex::new(VecDeque::new());

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How bad: `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// What, with its fields behind it.
    pub text: String,
}

/// The lines about a machine, oldest first.
#[must_use]
pub fn about(machine: &str) -> Vec<Line> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let about = lines.iter().filter(|(name, _)| name == machine);
    about.map(|(_, line)| line.clone()).collect()
}

/// Keeps what is logged about machines.
#[derive(Clone, Copy, Debug)]
pub struct MachineLog;

impl<S: Subscriber> Layer<S> for MachineLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().fields().field("machine").is_none() {
            return;
        }
        let mut read = Read::default();
        event.record(&mut read);
        let text = format!("{}{}", read.message, read.fields);
        let line = Line {
            at: crate::pool_loop::now().0,
            level: event.metadata().level().as_str().to_ascii_lowercase(),
            text: text.chars().take(LONGEST).collect(),
        };
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back((read.machine, line));
    }
}

/// An event's fields as text.
#[derive(Default)]
struct Read {
    machine: String,
    message: String,
    fields: String,
}

impl Read {
    fn keep(&mut self, field: &Field, value: fmt::Arguments) {
        // Writing to a string can't fail.
        match field.name() {
            "machine" => self.machine.write_fmt(value).ok(),
            "message" => self.message.write_fmt(value).ok(),
            name => write!(self.fields, " {name}={value}").ok(),
        };
    }
}

impl Visit for Read {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn lines_about_a_machine_are_kept_and_others_are_not() {
        let log = tracing_subscriber::registry().with(MachineLog);
        tracing::subscriber::with_default(log, || {
            tracing::warn!(machine = "kept-1", tries = 2, "it does not answer");
            tracing::info!(machine = "kept-2", "another");
            tracing::info!("of nobody");
        });
        let lines = about("kept-1");
        let shown: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| (line.level.as_str(), line.text.as_str()))
            .collect();
        assert_eq!(shown, [("warn", "it does not answer tries=2")]);
    }
}
