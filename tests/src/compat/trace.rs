//! A trace as a person reads it, and its sections.

use std::sync::LazyLock;

use regex::Regex;

/// A section's mark, with what clears its line.
static MARK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("section_(start|end):[0-9]+:([^\r\n]*)\r\x1b\\[0K").expect("an expression")
});

/// What colours a text or clears a line.
static COLOUR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("\x1b\\[[0-9;]*[mK]").expect("an expression"));

/// The text without colours and marks of sections.
#[must_use]
pub fn plain(text: &str) -> String {
    let unmarked = MARK.replace_all(text, "");
    COLOUR.replace_all(&unmarked, "").into_owned()
}

/// The names of the sections in order.
///
/// # Errors
/// Where one begins within another, or is not closed: which.
pub fn sections(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut open: Option<String> = None;
    for found in MARK.captures_iter(text) {
        let name = found[2].to_owned();
        match (&found[1], open.take()) {
            ("start", None) => {
                names.push(name.clone());
                open = Some(name);
            }
            ("end", Some(begun)) if begun == name => {}
            (mark, before) => {
                let before = before.unwrap_or_else(|| "no section".to_owned());
                return Err(format!("the {mark} of {name} within {before}"));
            }
        }
    }
    match open {
        None => Ok(names),
        Some(name) => Err(format!("{name} is not closed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_listed_and_what_is_left_is_text() {
        let text = "section_start:1:a\r\x1b[0K\x1b[0K\x1b[36;1mTitle\x1b[0;m\x1b[0;m\nx\r\nsection_end:2:a\r\x1b[0Ksection_start:2:b\r\x1b[0Ky\nsection_end:3:b\r\x1b[0K";
        assert_eq!(plain(text), "Title\nx\r\ny\n");
        assert_eq!(sections(text), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let open = &text[..text.len() - 20];
        assert!(sections(open).is_err(), "{open:?}");
        assert!(sections("section_end:1:a\r\x1b[0K").is_err());
    }
}
