//! Artifacts of earlier jobs into the project.

use super::http::{Answer, Client, api, host};
use super::retry::{Failed, retry};
use super::{Stop, words};
use crate::archive::{Beneath, UnpackError, unnamed, unpack};
use secrecy::ExposeSecret;
use springtide_helper::{ArtifactsDownload, ArtifactsItem, TransferEnd};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Redirects followed for one archive.
const REDIRECTS: usize = 5;
const DOING: &str = "Downloading artifacts from coordinator...";

/// Downloads and unpacks every item, in order.
pub(super) fn run(order: &ArtifactsDownload, project: &Path) -> Result<TransferEnd, Stop> {
    if order.items.is_empty() {
        return Ok(TransferEnd::Nothing);
    }
    let into = Beneath::at(project).map_err(|error| Stop::here("opening the project", error))?;
    let client = Client::new(&order.calls)?;
    for item in &order.items {
        words::good(&format!(
            "Downloading artifacts for {} ({})...",
            item.name, item.id
        ));
        let archive = retry(&order.calls, "artifacts-downloader", |tried| {
            once(&client, order, item, tried)
        })?;
        unpack(archive, &into, order.unpacked_limit).map_err(|error| unpacking(item, &error))?;
    }
    Ok(TransferEnd::Done)
}

/// One try, into a file without a name.
fn once(
    client: &Client,
    order: &ArtifactsDownload,
    item: &ArtifactsItem,
    tried: u32,
) -> Result<File, Failed> {
    let direct = order.direct && tried == 0;
    let mut url = format!(
        "{}jobs/{}/artifacts?direct_download={direct}",
        api(&order.url),
        item.id
    );
    let mut answer = client.get(&url, &[("JOB-TOKEN", &item.token)]);
    for _ in 0..REDIRECTS {
        let to = match &answer {
            Ok(answer) if matches!(answer.code(), 301 | 302 | 303 | 307 | 308) => {
                answer.header("location").map(str::to_owned)
            }
            _ => None,
        };
        let Some(to) = to else { break };
        // Object storage has its own key in the address and must not see the job's token.
        url = to;
        answer = client.get(&url, &[]);
    }
    let (id, host) = (item.id.to_string(), host(&url));
    let token = words::shortened(item.token.expose_secret());
    let answer = answer.inspect_err(|stop| {
        let fields = [("error", stop.why()), ("id", &*id), ("token", token)];
        words::error_with(&format!("{DOING} error"), &fields);
    })?;
    let status = answer.status();
    let fields = [
        ("host", &*host),
        ("id", &*id),
        ("responseStatus", &*status),
        ("token", token),
    ];
    let fatal = match answer.code() {
        200 => {
            let file = save(answer, item).inspect_err(|stop| {
                let fields = [("error", stop.why()), ("id", &*id), ("token", token)];
                words::error_with(&format!("{DOING} error"), &fields);
            })?;
            words::info(&format!("{DOING} ok"), &fields);
            return Ok(file);
        }
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        _ => {
            words::warning(&format!("{DOING} failed"), &fields);
            let why = format!("{host} answered {} to a download", answer.told());
            return Err(Stop::MayBeRetried(why).into());
        }
    };
    words::error_with(&format!("{DOING} {fatal}"), &fields);
    Err(Stop::ForGood(format!(
        "the artifacts of {} ({}) can't be had: {}",
        item.name,
        item.id,
        answer.told()
    ))
    .into())
}

fn save(mut answer: Answer, item: &ArtifactsItem) -> Result<File, Stop> {
    let directory = std::env::temp_dir();
    let keeping = |error: io::Error| {
        Stop::ForGood(format!(
            "keeping the artifacts of {} in {}: {error}",
            item.name,
            directory.display()
        ))
    };
    let mut file = unnamed(&directory).map_err(keeping)?;
    copy(&mut answer, &mut file, keeping)?;
    Ok(file)
}

/// Copies a body to a file. The two sides fail in different ways: a connection may come back, a full
/// disk does not.
pub(super) fn copy(
    answer: &mut Answer,
    file: &mut File,
    keeping: impl Fn(io::Error) -> Stop,
) -> Result<(), Stop> {
    let mut body = answer.body.as_reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => file.write_all(&buffer[..read]).map_err(&keeping)?,
            Err(error) => return Err(Stop::MayBeRetried(error.to_string())),
        }
    }
}

fn unpacking(item: &ArtifactsItem, error: &UnpackError) -> Stop {
    let (name, id) = (&item.name, item.id);
    let file = match item.filename.as_str() {
        "" => "artifacts",
        file => file,
    };
    Stop::ForGood(format!("unpacking {file} of {name} ({id}): {error}"))
}
