//! Files of the project into the cache: an archive on the machine, and a copy of it at the cache
//! server where there is one. What goes wrong is told and fails no job.

use super::http::{Client, cleaned};
use super::retry::{Failed, retry};
use super::{Stop, say, words};
use crate::archive::{Packing, Project, Selection, select, write_tar, write_zip};
use secrecy::ExposeSecret;
use springtide_helper::{CacheFormat, CacheSave, CacheUrl, TransferEnd};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A body that is smaller, in bytes, is sent without asking first.
const ASKED: u64 = 1 << 20;

/// Saves what matches.
pub(super) fn run(order: &CacheSave, project: &Path) -> TransferEnd {
    words::good(&format!("Creating cache {}...", order.key));
    match save(order, project) {
        Ok(end) => {
            words::good("Created cache");
            end
        }
        Err(stop) => {
            words::fatal(stop.why(), &[]);
            words::bad("Failed to create cache");
            stop.end()
        }
    }
}

fn save(order: &CacheSave, path: &Path) -> Result<TransferEnd, Stop> {
    let project = Project::at(path).map_err(|error| Stop::here("opening the project", error))?;
    let selection = select(&project, &order.files, &say)
        .map_err(|error| Stop::here("looking for files to cache", error))?;
    if selection.is_empty() {
        words::warning("No files to cache.", &[]);
        return Ok(TransferEnd::Nothing);
    }
    let file = path.join(&order.file);
    if is_current(&file, &selection) {
        words::info("Archive is up to date!", &[]);
        return Ok(TransferEnd::Done);
    }
    let size = archive(order, &project, &selection, &file)?;
    let Some(to) = &order.upload else {
        words::info(
            "No URL provided, cache will not be uploaded to shared cache server. Cache will be \
             stored only locally.",
            &[],
        );
        return Ok(TransferEnd::Done);
    };
    if order.upload_limit > 0 && size > order.upload_limit {
        words::info(
            &format!(
                "Cache archive size ({size}) is too big (Limit is set to {}). Cache will be stored \
                 only locally.",
                order.upload_limit
            ),
            &[],
        );
        return Ok(TransferEnd::Done);
    }
    let client = Client::new(&order.calls)?;
    retry(&order.calls, "cache-archiver", |_| {
        upload(&client, to, &file)
    })?;
    Ok(TransferEnd::Done)
}

/// Whether the archive is as new as the newest file, which is how GitLab Runner sees it too.
fn is_current(file: &Path, selection: &Selection) -> bool {
    let (Ok(archive), Some(newest)) = (std::fs::metadata(file), selection.newest()) else {
        return false;
    };
    let nanoseconds = u32::try_from(archive.mtime_nsec()).unwrap_or(0);
    (archive.mtime(), nanoseconds) >= newest
}

/// Writes the archive so that the old one stays whole until the new one is.
fn archive(
    order: &CacheSave,
    project: &Project,
    selection: &Selection,
    file: &Path,
) -> Result<u64, Stop> {
    let writing =
        |error: io::Error| Stop::here(&format!("writing the cache {}", file.display()), error);
    let (path, part) = beside(file).map_err(writing)?;
    let mut to = BufWriter::with_capacity(256 << 10, part);
    let level = order.level;
    let written = match order.format {
        CacheFormat::Zip => write_zip(project, selection, Packing::Deflate(level), &say, &mut to),
        CacheFormat::ZipZstd => write_zip(project, selection, Packing::Zstd(level), &say, &mut to),
        CacheFormat::TarZstd => write_tar(project, selection, level, &say, &mut to),
    };
    let written = written
        .map_err(|error| Stop::ForGood(format!("{error} ({})", file.display())))
        .and_then(|size| {
            std::fs::rename(&path, file).map_err(writing)?;
            Ok(size)
        });
    if written.is_err() {
        std::fs::remove_file(&path).map_err(writing)?;
    }
    written
}

/// A file of a new name beside one that is to be replaced, whose directory is made if it is missing.
pub(super) fn beside(file: &Path) -> io::Result<(PathBuf, File)> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut noise = [0; 8];
    getrandom::fill(&mut noise).map_err(|error| io::Error::other(error.to_string()))?;
    let path = directory.join(format!("archive_{:016x}", u64::from_le_bytes(noise)));
    let part = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    Ok((path, part))
}

fn upload(client: &Client, to: &CacheUrl, path: &Path) -> Result<(), Failed> {
    let url = to.url.expose_secret();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    words::info(&format!("Uploading {name} to {}", cleaned(url)), &[]);
    let reading = |error: io::Error| Stop::here(&format!("reading {}", path.display()), error);
    let mut file = File::open(path).map_err(reading)?;
    let length = file.metadata().map_err(reading)?.len();
    let mut headers: Vec<(&str, &str)> = to
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose_secret()))
        .collect();
    let has = |wanted| {
        to.headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case(wanted))
    };
    if !has("content-type") {
        headers.push(("content-type", "application/octet-stream"));
    }
    if length >= ASKED && !has("expect") {
        headers.push(("expect", "100-continue"));
    }
    let answer = client.send(url, Some(length), &headers, &mut file)?;
    match answer.code() {
        200..=299 => Ok(()),
        code => {
            let why = format!("received: {}", answer.status());
            Err(if code >= 500 {
                Stop::MayBeRetried(why).into()
            } else {
                Stop::ForGood(why).into()
            })
        }
    }
}
