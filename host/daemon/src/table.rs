//! Tables for people: columns as wide as their widest cell, and colour only on a terminal.

use std::fmt::Write;

/// A table with a heading. Numbers are put to the right where a whole column is of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Table {
        Table {
            heading: heading.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; control characters in it are replaced, for a cell may come from far away.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let clean = |cell: C| {
            let cell: String = cell.into();
            cell.replace(|c: char| c.is_control(), " ")
        };
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, one line a row, each ending in a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, bool)> = self
            .heading
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let cells = || self.rows.iter().map(|row| cell(row, column));
                let width = cells().map(|text| text.chars().count()).max().unwrap_or(0);
                let numbers = cells().all(|text| text == "-" || text.parse::<f64>().is_ok());
                (width.max(name.chars().count()), numbers)
            })
            .collect();
        let mut text = String::new();
        let heading: Vec<String> = self.heading.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (column, (width, numbers)) in columns.iter().enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let value = cell(row, column);
                // Writing to a string can't fail.
                match numbers {
                    true => write!(line, "{gap}{value:>width$}").ok(),
                    false => write!(line, "{gap}{value:<width$}").ok(),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Writes to standard output. A reader that has seen enough is no error.
///
/// # Errors
/// Where it can't be written.
pub fn say(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// A length of time for people: `45s`, `12m`, `3h05m`, `2d04h`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["machine", "age", "phase"]);
        table.row(["ci-1", "5", "idle"]);
        table.row(["a-longer-name", "1200", "busy\n"]);
        insta::assert_snapshot!(table.text(), @r"
        machine         age  phase
        ci-1              5  idle
        a-longer-name  1200  busy
        ");
    }

    #[test]
    fn a_duration_has_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3900, "1h05m"),
            (187_200, "2d04h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
