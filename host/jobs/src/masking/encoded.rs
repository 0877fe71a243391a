//! The forms a secret takes in base64 and in URLs.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// A form of fewer bytes is in too much that is no secret.
const SHORTEST: usize = 8;

/// All forms of a secret that differ from it.
pub(super) fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        forms.extend((0..3).map(|offset| within_base64(secret, offset, alphabet)));
        forms.push(base64(secret, alphabet));
    }
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        for space in [&b"%20"[..], b"+"] {
            forms.push(in_url(secret, digits, space));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST && form != secret);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// What of a text's base64 the secret alone determines, so many bytes after a group of three begins.
fn within_base64(secret: &[u8], offset: usize, alphabet: &Alphabet) -> Vec<u8> {
    let mut text = vec![0; offset];
    text.extend_from_slice(secret);
    let all = base64(&text, alphabet);
    // A digit that has a bit of what stands before or after could be another.
    let first = (offset * 8).div_ceil(6);
    let last = text.len() * 8 / 6;
    all.get(first..last).unwrap_or_default().to_vec()
}

fn base64(text: &[u8], alphabet: &Alphabet) -> Vec<u8> {
    let plain = GeneralPurposeConfig::new().with_encode_padding(false);
    GeneralPurpose::new(alphabet, plain)
        .encode(text)
        .into_bytes()
}

/// As a part of a URL or of a form (RFC 3986, section 2.3, has what stays).
fn in_url(secret: &[u8], digits: &[u8; 16], space: &[u8]) -> Vec<u8> {
    let mut form = Vec::with_capacity(secret.len());
    for byte in secret {
        match byte {
            b' ' => form.extend_from_slice(space),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => form.push(*byte),
            byte => form.extend([
                b'%',
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]),
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::super::{Masker, Secrets};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    fn masked(secret: &str, input: &str) -> String {
        let mut secrets = Secrets::default();
        secrets.hide_encoded(secret);
        let (mut masker, mut out) = (Masker::new(&secrets), Vec::new());
        // In pieces, as a pipe gives it.
        for piece in input.as_bytes().chunks(3) {
            masker.feed(piece, &mut out);
        }
        masker.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_secret_in_base64_is_hidden_wherever_it_stands() {
        let secret = "s3cr\u{e9}t/va?ue>~";
        for (before, after) in [
            ("", ""),
            ("a", ""),
            ("ab", "c"),
            ("user:", "@host\n"),
            ("abcd", "ef"),
        ] {
            let text = format!("{before}{secret}{after}");
            for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let shown = masked(secret, &format!("Authorization: Basic {encoded} end"));
                let mask = shown.find("[MASKED]");
                assert!(mask.is_some(), "{text}: {shown}");
                // What is left has too little of it to tell.
                let left: usize = shown.len() - "Authorization: Basic [MASKED] end".len();
                assert!(
                    left <= (before.len() + after.len()).div_ceil(3) * 4 + 6,
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn a_secret_in_a_url_is_hidden() {
        let secret = "p&ss w/rd+1";
        for form in ["p%26ss%20w%2Frd%2B1", "p%26ss+w%2frd%2b1", secret] {
            let shown = masked(secret, &format!("https://h/?q={form}&x=1"));
            assert_eq!(shown, "https://h/?q=[MASKED]&x=1");
        }
    }

    #[test]
    fn short_secrets_are_hidden_as_they_are_alone() {
        assert_eq!(masked("ab", "YWI= ab"), "YWI= [MASKED]");
        assert_eq!(
            super::forms(b"abcdefgh")
                .iter()
                .filter(|form| form.len() < 8)
                .count(),
            0
        );
    }
}
