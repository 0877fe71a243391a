//! Hides secrets in a stream of bytes, whatever chunks it comes in.
//!
//! Hidden are: each occurrence of a secret, as it is and as base64 or a URL has it, what follows the prefix of a GitLab token, and the
//! values of URL parameters that carry tokens. Occurrences that overlap are hidden as one, so no
//! part of either shows. Each becomes `[MASKED]`. Held back are only bytes that may still become a
//! part of a secret: fewer than the longest secret has.

mod automaton;
mod encoded;

use automaton::{Automaton, Word};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// What stands in place of a secret.
const MASK: &[u8] = b"[MASKED]";

/// Prefixes of GitLab's own tokens.
const TOKENS: [&str; 14] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// URL parameters whose values are hidden, in any case.
const PARAMETERS: [&str; 6] = [
    "private_token",
    "authenticity_token",
    "rss_token",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
];

/// Prefixes beyond this many are left out; GitLab sends at most ten.
const MOST_PREFIXES: usize = 64;

/// What is to be hidden. Not shown by `Debug`.
#[derive(Clone, Default)]
pub struct Secrets {
    words: BTreeSet<Vec<u8>>,
    prefixes: BTreeSet<Vec<u8>>,
}

impl Secrets {
    /// Hides a text wherever it occurs. An empty one hides nothing.
    pub fn hide(&mut self, text: &str) {
        if !text.is_empty() {
            self.words.insert(text.as_bytes().to_vec());
        }
    }

    /// Hides a text wherever it occurs, and its forms in base64 and in URLs.
    pub fn hide_encoded(&mut self, text: &str) {
        self.hide(text);
        self.words.extend(encoded::forms(text.as_bytes()));
    }

    /// Hides what follows a prefix, as far as it is made of letters, digits and `-._=`.
    pub fn hide_after(&mut self, prefix: &str) {
        if !prefix.is_empty() && self.prefixes.len() < MOST_PREFIXES {
            self.prefixes.insert(prefix.as_bytes().to_vec());
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("words", &self.words.len())
            .field("prefixes", &self.prefixes.len())
            .finish()
    }
}

/// A byte that is held back, and what is known of it.
#[derive(Clone, Copy)]
struct Held {
    byte: u8,
    hidden: bool,
    /// Whether one secret has both this byte and the one before.
    joined: bool,
}

/// Whether bytes are being hidden because of what came before them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Off,
    Begins,
    Goes,
}

impl Tail {
    /// Whether this byte is hidden, and whether with the one before.
    fn take(&mut self, goes_on: bool) -> (bool, bool) {
        let before = *self;
        match (before, goes_on) {
            (Tail::Off, _) => (false, false),
            (_, false) => {
                *self = Tail::Off;
                (false, false)
            }
            (_, true) => {
                *self = Tail::Goes;
                (true, before == Tail::Goes)
            }
        }
    }
}

/// Hides secrets in a stream.
pub struct Masker {
    words: Automaton,
    parameters: Automaton,
    word: u32,
    parameter: u32,
    token_tail: Tail,
    value_tail: Tail,
    held: VecDeque<Held>,
}

impl Masker {
    /// A masker at the beginning of a stream.
    #[must_use]
    pub fn new(secrets: &Secrets) -> Self {
        let words = secrets
            .words
            .iter()
            .map(|word| (word.as_slice(), Word::Secret));
        let leads = TOKENS
            .iter()
            .map(|prefix| prefix.as_bytes())
            .chain(secrets.prefixes.iter().map(Vec::as_slice))
            .map(|prefix| (prefix, Word::Lead));
        let named: Vec<String> = PARAMETERS
            .iter()
            .flat_map(|name| [format!("?{name}="), format!("&{name}=")])
            .collect();
        Self {
            words: Automaton::new(words.chain(leads)),
            parameters: Automaton::new(named.iter().map(|name| (name.as_bytes(), Word::Lead))),
            word: 0,
            parameter: 0,
            token_tail: Tail::Off,
            value_tail: Tail::Off,
            held: VecDeque::new(),
        }
    }

    /// Takes bytes and appends to `out` what may be shown of all so far.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.is_calm() {
                let plain = rest.iter().position(|byte| self.matters(*byte));
                let (shown, unclear) = rest.split_at(plain.unwrap_or(rest.len()));
                if !shown.is_empty() {
                    out.extend_from_slice(shown);
                    rest = unclear;
                    continue;
                }
            }
            self.take(byte, out);
            rest = after;
        }
    }

    /// The stream is over, or something else is written into it: what is held back can't become
    /// a secret any more. Starts anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(0, out);
        self.word = 0;
        self.parameter = 0;
        self.token_tail = Tail::Off;
        self.value_tail = Tail::Off;
    }

    /// Bytes held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn is_calm(&self) -> bool {
        self.word == 0
            && self.parameter == 0
            && self.token_tail == Tail::Off
            && self.value_tail == Tail::Off
    }

    fn matters(&self, byte: u8) -> bool {
        self.words.begins(byte) || self.parameters.begins(byte.to_ascii_lowercase())
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        let (in_token, token_joined) = self.token_tail.take(is_of_token(byte));
        let (in_value, value_joined) = self.value_tail.take(is_of_value(byte));
        self.held.push_back(Held {
            byte,
            hidden: in_token || in_value,
            joined: token_joined || value_joined,
        });
        self.word = self.words.step(self.word, byte);
        self.parameter = self
            .parameters
            .step(self.parameter, byte.to_ascii_lowercase());
        let found = self.words.secret(self.word);
        for (index, held) in self.held.iter_mut().rev().take(found).enumerate() {
            held.hidden = true;
            held.joined |= index + 1 < found;
        }
        // A prefix within a token does not begin another.
        if self.words.lead(self.word) && self.token_tail == Tail::Off {
            self.token_tail = Tail::Begins;
        }
        if self.parameters.lead(self.parameter) && self.value_tail == Tail::Off {
            self.value_tail = Tail::Begins;
        }
        let open = self.words.open(self.word);
        self.release(open, out);
    }

    /// Lets go of all held bytes but the last few.
    fn release(&mut self, keep: usize, out: &mut Vec<u8>) {
        while self.held.len() > keep {
            let Some(held) = self.held.pop_front() else {
                return;
            };
            if !held.hidden {
                out.push(held.byte);
            } else if !held.joined {
                out.extend_from_slice(MASK);
            }
        }
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker")
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'=')
}

fn is_of_value(byte: u8) -> bool {
    !(byte.is_ascii_whitespace()
        || byte.is_ascii_control()
        || matches!(byte, b'&' | b'"' | b'\'' | b'<' | b'>' | b'`'))
}

#[cfg(test)]
mod tests;
