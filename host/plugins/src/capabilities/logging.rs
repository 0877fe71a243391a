//! `logging`: a plugin's lines in the host's log, under the target `plugin`. Always granted.
//!
//! What comes from a plugin can't forge a line of the log nor move a terminal's cursor, and can't
//! fill a disk: control characters are replaced, a line has 4 KiB and a call 100 lines.

use crate::guest::Guest;
use std::sync::Arc;
use tracing::{Level as Severity, event};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// Bytes of a line.
const LINE: usize = 4 << 10;
/// Lines of a call.
const LINES: u32 = 100;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "they are made by plugins")]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// One call's right to speak.
#[derive(Debug)]
pub(crate) struct Voice {
    plugin: Arc<str>,
    runner: String,
    lines: u32,
}

impl Voice {
    pub(crate) fn new(plugin: Arc<str>, runner: &str) -> Voice {
        Voice {
            plugin,
            runner: runner.to_owned(),
            lines: 0,
        }
    }

    fn say(&mut self, level: Level, message: &str) {
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..=LINES => self.write(level, &clean(message)),
            _ if self.lines == LINES + 1 => self.write(
                Level::Warn,
                "it has written its 100 lines of this call; the rest is left out",
            ),
            _ => {}
        }
    }

    fn write(&self, level: Level, line: &str) {
        let (plugin, runner) = (&*self.plugin, self.runner.as_str());
        match level {
            Level::Trace => event!(target: "plugin", Severity::TRACE, plugin, runner, "{line}"),
            Level::Debug => event!(target: "plugin", Severity::DEBUG, plugin, runner, "{line}"),
            Level::Info => event!(target: "plugin", Severity::INFO, plugin, runner, "{line}"),
            Level::Warn => event!(target: "plugin", Severity::WARN, plugin, runner, "{line}"),
            Level::Error => event!(target: "plugin", Severity::ERROR, plugin, runner, "{line}"),
        }
    }
}

/// A line of at most 4 KiB without control characters, nor those that turn the direction of text.
pub(crate) fn clean(message: &str) -> String {
    let mut end = message.len().min(LINE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    message[..end].replace(hostile, " ")
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .instance("springtide:plugin/logging@0.1.0")?
        .func_wrap(
            "log",
            |mut store: StoreContextMut<'_, Guest>, (level, message): (Level, String)| {
                store.data_mut().voice.say(level, &message);
                Ok(())
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_not_forge_another_nor_move_a_cursor() {
        for (message, line) in [
            ("plain", "plain"),
            ("one\ntwo\r\u{1b}[31mred", "one two  [31mred"),
            ("a\u{202e}b\u{2028}c", "a b c"),
            ("zwölf ✓", "zwölf ✓"),
        ] {
            assert_eq!(clean(message), line);
        }
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let long = format!("a{}", "ü".repeat(LINE));
        let line = clean(&long);
        assert_eq!(line.len(), LINE - 1);
        assert!(line.ends_with('ü'));
    }

    #[test]
    fn a_call_has_a_hundred_lines() {
        let mut voice = Voice::new("it".into(), "elastic");
        for _ in 0..1000 {
            voice.say(Level::Info, "again");
        }
        assert_eq!(voice.lines, 1000);
    }
}
