//! A form with one file, as RFC 7578 has it, whose content streams.

use std::io::{self, Read};

/// What stands around the content.
pub(super) struct Form {
    boundary: String,
    name: String,
}

impl Form {
    /// A form for a file of a name.
    ///
    /// # Errors
    /// Where the machine has no randomness.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut noise = [0; 24];
        getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
        let boundary = noise.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            boundary,
            name: escaped(name),
        })
    }

    /// The type of the whole.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The form with its content.
    pub(super) fn around<'a>(&self, content: impl Read + 'a) -> impl Read + 'a {
        let Self { boundary, name } = self;
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let after = format!("\r\n--{boundary}--\r\n");
        io::Cursor::new(before)
            .chain(content)
            .chain(io::Cursor::new(after))
    }
}

/// A name between quotes.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("%0D"),
            '\n' => out.push_str("%0A"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_the_content_and_a_name_stays_in_its_quotes() {
        let form = Form::new("a\"b\r\nX-Evil: 1\\.zip").unwrap();
        let mut text = String::new();
        form.around(&b"content"[..])
            .read_to_string(&mut text)
            .unwrap();
        let boundary = form.content_type().split_once('=').unwrap().1.to_owned();
        assert_eq!(
            text,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
                 filename=\"a\\\"b%0D%0AX-Evil: 1\\\\.zip\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\ncontent\r\n--{boundary}--\r\n"
            )
        );
    }
}
