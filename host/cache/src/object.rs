//! Objects' names: `[<Path>/][runner/<short token>/]project/<project's id>/[<2 digits>/]<key>`, and
//! nothing outside of the project's part.

use crate::key::{CacheKey, segments};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;

/// Bytes of a name that S3, Google and Azure take.
const LONGEST: usize = 1024;

/// What is encoded in a path: whatever any of the stores would, and not the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The name of an object in the cache's bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName(String);

/// Why a key has no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name would be another project's, or nobody's.
    #[error(
        "the cache key {0:?} leads out of the project's part of the bucket; remove `../` from the cache key"
    )]
    Outside(String),
    /// No store takes so long a name.
    #[error(
        "the cache key makes an object's name of {0} bytes, and stores take {LONGEST}; write a shorter key, or turn on FF_HASH_CACHE_KEYS"
    )]
    Long(usize),
}

impl ObjectName {
    /// The object of a key. `path` is `Path` of `[runners.cache]`; `runner` is the runner's short
    /// token, `None` where runners share their caches.
    ///
    /// # Errors
    /// Where the name would be outside of the project's part, or too long.
    pub fn new(
        path: &str,
        runner: Option<&str>,
        project_id: i64,
        key: &CacheKey,
    ) -> Result<ObjectName, NameError> {
        let id = project_id.to_string();
        let mut parts = segments(path);
        if let Some(runner) = runner {
            parts.push("runner");
            parts.extend(segments(runner));
        }
        parts.extend(["project", &id]);
        let inside = |part: &&str| !matches!(*part, "" | "." | "..");
        let own: Vec<&str> = key.name().split('/').collect();
        if !own.iter().all(inside) {
            return Err(NameError::Outside(key.shown().to_owned()));
        }
        parts.extend(key.shard());
        parts.extend(own);
        let name = parts.join("/");
        match name.len() {
            length if length > LONGEST => Err(NameError::Long(length)),
            _ => Ok(ObjectName(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a part of an address. There are no dots alone between slashes, and percent signs
    /// are encoded, so no reader of addresses takes a part of it for a step up.
    pub(crate) fn encoded(&self) -> String {
        utf8_percent_encode(&self.0, ENCODED).to_string()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
