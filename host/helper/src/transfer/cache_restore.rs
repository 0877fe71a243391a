//! What is cached into the project. Nothing here fails a job: a cache that is missing, broken or out of
//! reach is told, and the next key is tried.

use super::artifacts_download::copy;
use super::cache_save::beside;
use super::http::{Answer, Client, cleaned};
use super::retry::{Failed, retry};
use super::{Stop, words};
use crate::archive::{Beneath, UnpackError, unpack};
use secrecy::ExposeSecret;
use springtide_helper::{CacheRestore, CacheSource, CacheUrl, TransferEnd};
use std::fs::{File, FileTimes};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Redirects followed for one archive.
const REDIRECTS: usize = 5;

/// Restores the first cache that is there.
pub(super) fn run(order: &CacheRestore, project: &Path) -> TransferEnd {
    for source in &order.sources {
        words::good(&format!("Checking cache for {}...", source.key));
        match restore(order, source, project) {
            Ok(()) => {
                words::good("Successfully extracted cache");
                return TransferEnd::Done;
            }
            Err(stop) => {
                words::warning(stop.why(), &[]);
                words::bad("Failed to extract cache");
            }
        }
    }
    TransferEnd::Nothing
}

fn restore(order: &CacheRestore, source: &CacheSource, project: &Path) -> Result<(), Stop> {
    let path = project.join(&source.file);
    match &source.download {
        Some(from) => {
            let client = Client::new(&order.calls)?;
            retry(&order.calls, "cache-extractor", |_| {
                download(&client, from, &path)
            })?;
        }
        None => words::info(
            "No URL provided, cache will not be downloaded from shared cache server. Instead a local \
             version of cache will be extracted.",
            &[],
        ),
    }
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Stop::ForGood("Cache file does not exist".to_owned()),
        _ => Stop::here(&format!("opening {}", path.display()), error),
    })?;
    let into = Beneath::at(project).map_err(|error| Stop::here("opening the project", error))?;
    match unpack(file, &into, order.unpacked_limit) {
        Ok(_) => Ok(()),
        Err(error @ (UnpackError::Broken(_) | UnpackError::Refused { .. })) => {
            // Or every job to come would find it again.
            std::fs::remove_file(&path)
                .map_err(|error| Stop::here(&format!("removing {}", path.display()), error))?;
            Err(Stop::ForGood(format!(
                "{} is discarded: {error}",
                path.file_name().unwrap_or_default().to_string_lossy()
            )))
        }
        Err(error) => Err(Stop::ForGood(error.to_string())),
    }
}

/// Fetches an archive, unless the one on the machine is as new.
fn download(client: &Client, from: &CacheUrl, path: &Path) -> Result<(), Failed> {
    let url = from.url.expose_secret();
    let headers: Vec<_> = from
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let mut answer = client.get(url, &headers)?;
    for _ in 0..REDIRECTS {
        let to = answer.header("location").map(str::to_owned);
        match to.filter(|_| matches!(answer.code(), 301 | 302 | 303 | 307 | 308)) {
            Some(to) => answer = client.get(&to, &[])?,
            None => break,
        }
    }
    match answer.code() {
        200..=299 => {}
        404 => return Err(Stop::ForGood("file does not exist".to_owned()).into()),
        500.. => return Err(Stop::MayBeRetried(format!("received: {}", answer.status())).into()),
        _ => return Err(Stop::ForGood(format!("received: {}", answer.status())).into()),
    }
    let changed = answer.header("last-modified").and_then(http_date);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let (Ok(own), Some(changed)) = (std::fs::metadata(path), changed)
        && own.modified().is_ok_and(|own| own >= changed)
    {
        words::info(&format!("{name} is up to date"), &[]);
        return Ok(());
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = format!("Downloading {stem} from {}", cleaned(url));
    match answer.header("etag") {
        Some(tag) => words::info(&text, &[("ETag", tag)]),
        None => words::info(&text, &[]),
    }
    let keeping = |error: io::Error| Stop::here(&format!("keeping {}", path.display()), error);
    let (part, file) = beside(path).map_err(keeping)?;
    let kept = keep(&mut answer, file, changed, keeping)
        .and_then(|()| std::fs::rename(&part, path).map_err(keeping));
    if kept.is_err() {
        std::fs::remove_file(&part).map_err(keeping)?;
    }
    Ok(kept?)
}

fn keep(
    answer: &mut Answer,
    mut file: File,
    changed: Option<SystemTime>,
    keeping: impl Fn(io::Error) -> Stop,
) -> Result<(), Stop> {
    copy(answer, &mut file, &keeping)?;
    match changed {
        Some(changed) => file
            .set_times(FileTimes::new().set_modified(changed))
            .map_err(keeping),
        None => Ok(()),
    }
}

/// A time as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = 1 + i64::try_from(MONTHS.iter().position(|own| *own == month)?).ok()?;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.splitn(3, ':');
    let mut part = || clock.next()?.parse::<i64>().ok();
    let (hour, minute, second) = (part()?, part()?, part()?);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) || !(1..32).contains(&day) {
        return None;
    }
    let seconds =
        crate::archive::days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_http_is_read() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), at(784_111_777));
        assert_eq!(
            http_date("Thu, 29 Feb 2024 13:37:42 GMT"),
            at(1_709_213_862)
        );
        for other in [
            "",
            "now",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(http_date(other), None, "{other}");
        }
    }
}
