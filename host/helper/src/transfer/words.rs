//! Lines for the trace, as GitLab Runner's helper prints them: a message, then what is known of it as
//! `name=value`, from the fiftieth column on where the message is short.

use std::io::Write;

const RESET: &str = "\x1b[0;m";
const GREEN: &str = "\x1b[32;1m";
const YELLOW: &str = "\x1b[0;33m";
const RED: &str = "\x1b[31;1m";

/// The column fields begin at.
const COLUMN: usize = 50;

/// What is known of a message.
pub(super) type Fields<'a> = [(&'a str, &'a str)];

/// What begins or went well.
pub(super) fn good(text: &str) {
    out(&format!("{GREEN}{text}{RESET}\n"));
}

/// What did not go well and changes nothing.
pub(super) fn bad(text: &str) {
    out(&format!("{YELLOW}{text}{RESET}\n"));
}

/// A plain line.
pub(super) fn info(text: &str, fields: &Fields) {
    out(&line("", "", text, fields));
}

/// A warning.
pub(super) fn warning(text: &str, fields: &Fields) {
    err(&line(YELLOW, "WARNING: ", text, fields));
}

/// An error.
pub(super) fn error_with(text: &str, fields: &Fields) {
    err(&line(RED, "ERROR: ", text, fields));
}

/// An error of which no more is known.
pub(super) fn error(text: &str) {
    error_with(text, &[]);
}

/// The last word of a transfer that failed.
pub(super) fn fatal(text: &str, fields: &Fields) {
    err(&line(RED, "FATAL: ", text, fields));
}

fn line(colour: &str, prefix: &str, text: &str, fields: &Fields) -> String {
    let reset = if colour.is_empty() { "" } else { RESET };
    let mut line = format!("{colour}{prefix}{text}{reset}");
    if !fields.is_empty() {
        let length = prefix.len() + text.chars().count();
        line.extend(std::iter::repeat_n(' ', COLUMN.saturating_sub(length) + 1));
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line.push('\n');
    line
}

/// A trace that nobody takes stops no transfer.
fn out(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).is_ok() {
        out.flush().unwrap_or_default();
    }
}

fn err(text: &str) {
    std::io::stderr()
        .lock()
        .write_all(text.as_bytes())
        .unwrap_or_default();
}

/// The beginning of a token, as GitLab Runner shows it: eight characters, and never more than a third.
pub(super) fn shortened(token: &str) -> &str {
    let most = (token.len() / 3).min(8);
    token.get(..most).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_people_grep_for_it() {
        let fields = [("id", "1"), ("responseStatus", "201 Created")];
        assert_eq!(
            line(
                "",
                "",
                "Uploading artifacts as \"archive\" to coordinator... 201 Created",
                &fields
            ),
            "Uploading artifacts as \"archive\" to coordinator... 201 Created  id=1 responseStatus=201 Created\n"
        );
        let short = line(YELLOW, "WARNING: ", "Retrying...", &fields[..1]);
        let padded = " ".repeat(30);
        assert_eq!(
            short,
            format!("\x1b[0;33mWARNING: Retrying...\x1b[0;m{padded}  id=1\n")
        );
    }

    #[test]
    fn of_a_token_its_beginning_is_shown() {
        assert_eq!(shortened("glcbt-64_abcdefghijklmnopq"), "glcbt-64");
        assert_eq!(shortened("short"), "s");
    }
}
