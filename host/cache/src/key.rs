//! A cache's keys as GitLab Runner makes them, with its warnings.
//!
//! A key is a path within a root of its own: `..`, in whatever spelling GitLab Runner reads, leads
//! nowhere above it.

use sha2::{Digest, Sha256};
use std::fmt;

/// What protected branches' caches end in: no other job may name one.
const PROTECTED: &str = "-protected";

/// What a job's keys depend on, beside what it calls them.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its branch or tag.
    pub ref_name: &'a str,
    /// Whether `FF_HASH_CACHE_KEYS` is on.
    pub hash_keys: bool,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheKey {
    shown: String,
    hash: Option<String>,
}

impl CacheKey {
    /// Reads a key, variables filled in. Gives what to say in the trace, too.
    ///
    /// # Errors
    /// Words for the trace, where nothing is left of it.
    fn read(text: &str, hashed: bool) -> (Result<CacheKey, &'static str>, Option<String>) {
        const EMPTY: &str = "empty cache key";
        if hashed {
            // A hash is safe whatever it is of.
            let key = CacheKey {
                shown: text.to_owned(),
                hash: Some(hex(&Sha256::digest(text))),
            };
            return (if text.is_empty() { Err(EMPTY) } else { Ok(key) }, None);
        }
        let shown = sanitized(text);
        let warning = match shown.as_str() {
            "" if text.is_empty() => None,
            "" => Some(format!("cache key {text:?} could not be sanitized")),
            same if same == text => None,
            other => Some(format!("cache key {text:?} sanitized to {other:?}")),
        };
        match shown.is_empty() {
            true => (Err(EMPTY), warning),
            false => (Ok(CacheKey { shown, hash: None }), warning),
        }
    }

    /// What the trace calls it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What files and objects are called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.hash.as_deref().unwrap_or(&self.shown)
    }

    /// The first two digits of a hash, which its object's name has before it.
    pub(crate) fn shard(&self) -> Option<&str> {
        self.hash.as_deref().map(|hash| &hash[..2])
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The keys of one of a job's caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What it is restored from, and saved as.
    pub key: CacheKey,
    /// What it is restored from where there is none of that key, in this order.
    pub fallbacks: Vec<CacheKey>,
}

impl Keys {
    /// The keys of a cache: what the job calls it (empty: the job and its branch), `fallback_keys`,
    /// and `CACHE_FALLBACK_KEY` (empty: none) at last. `expand` fills in variables. What is to be said
    /// of them in the trace, one line each, is added to `warnings`.
    ///
    /// # Errors
    /// Where there is no key, and with it no cache; in words that follow `Skipping cache extraction
    /// due to`.
    pub fn of(
        job: &Job<'_>,
        key: &str,
        fallback_keys: &[String],
        fallback_variable: &str,
        expand: impl Fn(&str) -> String,
        warnings: &mut Vec<String>,
    ) -> Result<Keys, &'static str> {
        let text = match key {
            "" => segments(&format!("{}/{}", job.name, job.ref_name)).join("/"),
            key => expand(key),
        };
        let (key, warning) = CacheKey::read(&text, job.hash_keys);
        warnings.extend(warning);
        let key = key?;
        let mut fallbacks: Vec<CacheKey> = Vec::new();
        let mut add = |text: String, reserved: bool| {
            if reserved && is_protected(&text) {
                warnings.push(format!(
                    "CACHE_FALLBACK_KEY {text:?} not allowed to end in {PROTECTED:?}"
                ));
                return;
            }
            let (one, warning) = CacheKey::read(&text, job.hash_keys);
            warnings.extend(warning);
            if let Ok(one) = one
                && one != key
                && !fallbacks.contains(&one)
            {
                fallbacks.push(one);
            }
        };
        for text in fallback_keys {
            add(expand(text), false);
        }
        if !fallback_variable.is_empty() {
            add(expand(fallback_variable), true);
        }
        Ok(Keys { key, fallbacks })
    }

    /// All of them, in the order in which they are tried.
    pub fn all(&self) -> impl Iterator<Item = &CacheKey> {
        std::iter::once(&self.key).chain(&self.fallbacks)
    }
}

/// Whether a key is one of a protected branch, as it stands or once it is read.
fn is_protected(text: &str) -> bool {
    let end = |text: &str| {
        let text =
            text.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '/' | '\\'));
        text.ends_with(PROTECTED)
    };
    end(text) || end(&sanitized(text))
}

/// Where a cache's archive is on a machine: `<cache_dir>/<project's path>/<key>/cache.zip`.
#[must_use]
pub fn archive_path(cache_dir: &str, project_path: &str, key: &CacheKey) -> String {
    let cache_dir = cache_dir.trim_end_matches('/');
    let project = segments(project_path).join("/");
    format!("{cache_dir}/{project}/{}/cache.zip", key.name())
}

/// A key within its root; empty where nothing is left of it.
fn sanitized(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let coded = rest.get(..3).map(str::to_ascii_lowercase);
        let (put, length) = match (coded.as_deref(), first) {
            (Some("%2f"), _) => ('/', 3),
            (Some("%2e"), _) => ('.', 3),
            (_, '\\') => ('/', 1),
            // Neither a file's name nor a variable can have it.
            (_, '\0') => return String::new(),
            (_, other) => (other, other.len_utf8()),
        };
        plain.push(put);
        rest = &rest[length..];
    }
    let mut parts = segments(&plain);
    while let Some(last) = parts.pop() {
        // What is trimmed may be a dot or two by now, which GitLab Runner does not look at again.
        match last.trim_end() {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            last => {
                parts.push(last);
                break;
            }
        }
    }
    parts.join("/")
}

/// The parts of a path in a root of its own, dots followed.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text can't fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}
