//! Why there is no signed address, in words for a job's trace: nothing secret is in them.

/// Why there is no signed address. The job goes on without its cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The configuration can't work.
    #[error("the cache is configured wrongly: {0}")]
    Misconfigured(String),
    /// There is nothing to sign with.
    #[error("there are no credentials for the cache: {0}")]
    NoCredentials(String),
    /// What was asked for was refused.
    #[error("access to the cache was refused: {0}")]
    Denied(String),
    /// What was asked did not answer, or with an error of its own.
    #[error("the cache can't be reached: {0}")]
    Unreachable(String),
}
