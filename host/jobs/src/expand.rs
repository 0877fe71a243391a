//! Expansion of `$NAME` and `${NAME}` in the values of variables, to the letter as GitLab Runner
//! does it (Go's `os.Expand`): once, without looking into what was put in.

use std::borrow::Cow;

/// Names a shell gives a meaning of its own; they are one byte long.
fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9'
    )
}

fn is_of_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The name after a `$`, and how many bytes it takes up. No name and some bytes: these are
/// dropped. No name and no bytes: the `$` stands for itself.
fn name_after(rest: &str) -> (&str, usize) {
    let bytes = rest.as_bytes();
    match bytes.first() {
        Some(b'{') => {
            if bytes.len() > 2 && is_special(bytes[1]) && bytes[2] == b'}' {
                return (&rest[1..2], 3);
            }
            match rest.find('}') {
                Some(1) => ("", 2),
                Some(end) => (&rest[1..end], end + 1),
                None => ("", 1),
            }
        }
        Some(byte) if is_special(*byte) => (&rest[..1], 1),
        _ => {
            let end = bytes
                .iter()
                .position(|byte| !is_of_name(*byte))
                .unwrap_or(bytes.len());
            (&rest[..end], end)
        }
    }
}

/// Puts values in place of names. `value` is asked for real names only; `$$` is a `$`, and what
/// else a shell gives a meaning (`$1`, `$?`, ...) is nothing.
pub(crate) fn expand<'a>(text: &'a str, value: impl Fn(&str) -> String) -> Cow<'a, str> {
    if !text.contains('$') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.is_empty() {
            out.push('$');
            break;
        }
        let (name, length) = name_after(rest);
        match (name, length) {
            ("", 0) => out.push('$'),
            ("", _) => {}
            ("$", _) => out.push('$'),
            (name, _) if name.len() == 1 && is_special(name.as_bytes()[0]) => {}
            (name, _) => out.push_str(&value(name)),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_replaced_as_gitlab_runner_does_it() {
        let cases = [
            ("plain", "plain"),
            ("$A", "1"),
            ("${A}", "1"),
            ("a$A-b", "a1-b"),
            ("$AB", "2"),
            ("${A}B", "1B"),
            ("$MISSING.", "."),
            ("$$A", "$A"),
            ("$${A}", "${A}"),
            ("${$}", "$"),
            ("$1$?$*$#", ""),
            ("${}x", "x"),
            ("${A", "A"),
            ("$", "$"),
            ("a$", "a$"),
            ("$ A", "$ A"),
            ("$.A", "$.A"),
            ("50% $é", "50% $é"),
            ("${a b}", "spaced"),
            // What is put in is not expanded again.
            ("$LOOP", "$A"),
        ];
        let value = |name: &str| {
            match name {
                "A" => "1",
                "AB" => "2",
                "a b" => "spaced",
                "LOOP" => "$A",
                _ => "",
            }
            .to_owned()
        };
        for (text, expected) in cases {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[${}A é*]{0,12}") {
            expand(&text, |name| name.to_uppercase());
        }
    }
}
