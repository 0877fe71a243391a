//! The text of a file, and where in it a byte is.

use crate::{Position, Problem, Severity};
use std::ops::Range;
use std::path::Path;

/// A configuration's text, read and known to be UTF-8.
#[derive(Clone)]
pub struct Source {
    text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

impl std::fmt::Debug for Source {
    // Tokens are in the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("lines", &self.lines.len())
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it can't be read or is not UTF-8, as a problem of the file.
    pub fn read(path: &Path) -> Result<Source, Problem> {
        let bytes = std::fs::read(path).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "write one, make one with `springtide register`, or name another with --config"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "run as a user who may read it, or name another with --config"
                }
                std::io::ErrorKind::IsADirectory => "name the file in it with --config",
                _ => "name another file with --config",
            };
            Problem::new(
                Severity::Error,
                Position::FILE,
                format!("reading {} failed: {error}", path.display()),
                advice,
            )
        })?;
        Source::of_bytes(bytes)
    }

    /// A source of bytes that were read elsewhere.
    ///
    /// # Errors
    /// Where they are not UTF-8.
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Source, Problem> {
        String::from_utf8(bytes).map(Source::of).map_err(|error| {
            let wrong = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let byte = bytes.get(wrong).copied().unwrap_or_default();
            let before = String::from_utf8_lossy(&bytes[..wrong]).into_owned();
            let mut at = Source::of(before).position(wrong..wrong);
            at.width = 1;
            let utf_16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
            let text = if utf_16 {
                "the file is UTF-16, and a configuration is UTF-8".to_owned()
            } else {
                format!("byte 0x{byte:02x} is not UTF-8")
            };
            Problem::new(Severity::Error, at, text, "save the file as UTF-8")
        })
    }

    /// A source of a text.
    #[must_use]
    pub fn of(text: String) -> Source {
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Source { text, lines }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line, numbered from 1, without its end. Empty where there is none.
    #[must_use]
    pub fn line(&self, number: usize) -> &str {
        let Some(begin) = number
            .checked_sub(1)
            .and_then(|index| self.lines.get(index))
        else {
            return "";
        };
        let end = self.lines.get(number).copied().unwrap_or(self.text.len());
        self.text
            .get(*begin..end)
            .unwrap_or_default()
            .trim_end_matches(['\r', '\n'])
    }

    /// Where a span of bytes is.
    pub(crate) fn position(&self, span: Range<usize>) -> Position {
        let start = floor(&self.text, span.start);
        let line = self.lines.partition_point(|begin| *begin <= start);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(begin..start).unwrap_or_default();
        let end = floor(&self.text, span.end.max(start));
        let meant = self.text.get(start..end).unwrap_or_default();
        let meant = meant.lines().next().unwrap_or_default();
        // Some editors put a mark of the byte order before the first line; nobody counts it.
        let mark = usize::from(line == 1 && before.starts_with('\u{feff}'));
        Position {
            line,
            column: before.chars().count() - mark + 1,
            width: meant.chars().count().max(1),
        }
    }
}

/// The nearest boundary between characters at or before a byte.
fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}
