//! An address that is signed: whoever has it can use it, so it is a secret.

use crate::CacheError;
use secrecy::SecretString;
use std::time::{Duration, SystemTime};

/// The longest that S3 and Google take: seven days.
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// An address that is signed for one object and one method.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The address.
    pub url: SecretString,
    /// Header fields that a request to it has to have, as they are here; names in small letters.
    pub headers: Vec<(String, String)>,
    /// When it ends. Before the time that was asked for where the keys it is signed with end first.
    pub valid_until: SystemTime,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Download,
    Upload,
}

impl Way {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Way::Download => "GET",
            Way::Upload => "PUT",
        }
    }
}

/// Whole seconds that an address is good for, within what stores take.
pub(crate) fn lifetime(asked: Duration) -> Duration {
    Duration::from_secs(asked.as_secs()).clamp(Duration::from_secs(1), LONGEST)
}

/// An instant as signatures have it.
pub(crate) fn written(at: SystemTime, format: &str) -> Result<String, CacheError> {
    let at = jiff::Timestamp::try_from(at).map_err(|error| {
        CacheError::Misconfigured(format!("this machine's clock is off: {error}"))
    })?;
    Ok(at.strftime(format).to_string())
}
