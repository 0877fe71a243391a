//! Several sorts of user data in one: a MIME message, as cloud-init reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The longest line that is sent as it stands.
const LONGEST_LINE: usize = 900;
/// Characters of base64 in a line.
const WIDTH: usize = 76;

/// What the first line of user data says it is, to cloud-init.
const SORTS: [(&str, &str); 8] = [
    ("#!", "text/x-shellscript"),
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
];

/// The operator's user data and ours behind it. Where both are cloud-config, lists are joined and the
/// operator's other values win.
pub(super) fn joined(operators: &str, ours: &str) -> String {
    let boundary = boundary(operators, ours);
    let mut text = format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n--{boundary}\n"
    );
    if is_message(operators) {
        // A message in a message: its own headers are the part's.
        text.push_str(operators);
    } else {
        text.push_str(&part(sort(operators), "", operators));
    }
    let merge = "Merge-Type: list(append)+dict(recurse_array,no_replace)+str()\n";
    text.push_str(&format!("\n--{boundary}\n"));
    text.push_str(&part("text/cloud-config", merge, ours));
    text.push_str(&format!("\n--{boundary}--\n"));
    text
}

fn is_message(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().to_ascii_lowercase();
    first.starts_with("content-type: multipart/") || first.starts_with("mime-version:")
}

/// Its type; `text/plain` has cloud-init look for itself.
fn sort(text: &str) -> &'static str {
    let known = SORTS.iter().find(|(begin, _)| text.starts_with(begin));
    known.map_or("text/plain", |(_, sort)| sort)
}

fn part(sort: &str, headers: &str, text: &str) -> String {
    let plain = |line: &str| {
        let printable = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        line.len() <= LONGEST_LINE && line.bytes().all(printable)
    };
    if text.split('\n').all(plain) {
        return format!(
            "Content-Type: {sort}; charset=\"us-ascii\"\n{headers}Content-Transfer-Encoding: 7bit\n\n{text}\n"
        );
    }
    let coded = STANDARD.encode(text);
    let mut lines = String::new();
    for line in coded.as_bytes().chunks(WIDTH) {
        lines.extend(line.iter().copied().map(char::from));
        lines.push('\n');
    }
    format!(
        "Content-Type: {sort}; charset=\"utf-8\"\n{headers}Content-Transfer-Encoding: base64\n\n{lines}"
    )
}

/// A line that is in neither text, and the same one each time.
fn boundary(one: &str, other: &str) -> String {
    let mut digest = Sha256::new();
    for text in [one, other] {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    let digest = digest.finalize();
    let digits: String = digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("springtide-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_of_user_data_is_sent_as_what_it_is() {
        for (text, expected) in [
            ("#!/bin/sh\n", "text/x-shellscript"),
            ("#cloud-config\n", "text/cloud-config"),
            ("#cloud-config-archive\n", "text/cloud-config-archive"),
            ("#cloud-boothook\n", "text/cloud-boothook"),
            ("#include-once\n", "text/x-include-once-url"),
            ("#include\n", "text/x-include-url"),
            ("#part-handler\n", "text/part-handler"),
            ("## template: jinja\n#cloud-config\n", "text/jinja2"),
            ("nothing that is known", "text/plain"),
        ] {
            assert_eq!(sort(text), expected, "{text}");
        }
        assert!(is_message(
            "Content-Type: multipart/mixed; boundary=\"x\"\n"
        ));
        assert!(is_message("MIME-Version: 1.0\n"));
        assert!(!is_message("#cloud-config\n"));
    }

    #[test]
    fn text_that_mail_would_change_is_coded() {
        for text in ["gr\u{fc}n\n", "a\r\n", &"x".repeat(1000), "\u{7f}"] {
            let part = part("text/plain", "", text);
            let (head, body) = part.split_once("\n\n").unwrap();
            assert!(head.ends_with("base64"), "{head}");
            let coded = body.replace('\n', "");
            assert_eq!(STANDARD.decode(coded).unwrap(), text.as_bytes());
            assert!(body.lines().all(|line| line.len() <= WIDTH));
        }
        assert!(part("text/plain", "", "plain\n\ttext\n").ends_with("\n\nplain\n\ttext\n\n"));
    }

    #[test]
    fn a_boundary_is_made_of_both_texts() {
        assert_eq!(boundary("a", "b"), boundary("a", "b"));
        assert_ne!(boundary("ab", ""), boundary("a", "b"));
    }
}
