//! The region a bucket is in: as configured, as its server's address says, or as the bucket says
//! itself, which is asked once.

use super::{CONNECT, address, causes};
use springtide_config::S3;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What servers that know no regions take, and what GitLab Runner falls back to.
const FALLBACK: &str = "us-east-1";
/// How long a bucket that did not answer is left alone.
const AGAIN: Duration = Duration::from_secs(300);

/// What is known of the bucket's region.
#[derive(Debug, Default)]
pub(super) struct Region {
    known: Mutex<Known>,
    /// One asks, and the others wait for the answer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Said(String),
    Silent {
        until: SystemTime,
    },
}

impl Region {
    pub(super) async fn of(
        &self,
        config: &S3,
        client: &reqwest::Client,
        now: SystemTime,
    ) -> String {
        let written = config.region.clone();
        if let Some(region) = written.or_else(|| address::region_in(&config.endpoint)) {
            return region;
        }
        if let Some(region) = self.known(now) {
            return region;
        }
        let _turn = self.turn.lock().await;
        if let Some(region) = self.known(now) {
            return region;
        }
        let known = match ask(config, client).await {
            Ok(region) => Known::Said(region),
            Err(why) => {
                tracing::debug!(
                    bucket = config.bucket,
                    why,
                    "the bucket was not to be asked for its region, and {FALLBACK} is taken"
                );
                Known::Silent { until: now + AGAIN }
            }
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        self.known(now).unwrap_or_else(|| FALLBACK.to_owned())
    }

    fn known(&self, now: SystemTime) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Known::Said(region) => Some(region.clone()),
            Known::Silent { until } if *until > now => Some(FALLBACK.to_owned()),
            Known::Silent { .. } | Known::Nothing => None,
        }
    }
}

/// Asks without keys: an answer that refuses says the region too.
async fn ask(config: &S3, client: &reqwest::Client) -> Result<String, String> {
    let request = client.head(address::of_bucket(config)).timeout(CONNECT);
    let answer = request.send().await.map_err(causes)?;
    let field = answer.headers().get("x-amz-bucket-region");
    let region = field.and_then(|field| field.to_str().ok());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    Ok(match region {
        Some(region) if !region.is_empty() && region.chars().all(fits) => region.to_owned(),
        _ => FALLBACK.to_owned(),
    })
}
