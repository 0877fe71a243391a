//! `springtide-helper transfer`: moves artifacts and caches, with the lines GitLab Runner prints.

mod artifacts_download;
mod artifacts_upload;
mod cache_restore;
mod cache_save;
mod forward;
mod http;
mod multipart;
mod pipe;
mod proxy;
mod retry;
mod tcp;
mod words;

use crate::archive::Line;
use springtide_helper::{Transfer, TransferEnd};
use std::io::Read;
use std::process::ExitCode;

/// The largest order read, in bytes of JSON.
const LIMIT: u64 = 16 << 20;

/// Reads an order from `input` and carries it out in the current directory. The exit code is
/// [`TransferEnd::exit_code`], or 2 for an order that is none.
pub(crate) fn command(input: impl Read) -> ExitCode {
    let mut bytes = Vec::new();
    let read = input.take(LIMIT + 1).read_to_end(&mut bytes);
    let wrong = |why: String| {
        words::error(&format!("reading the transfer from standard input: {why}"));
        ExitCode::from(2)
    };
    if let Err(error) = read {
        return wrong(error.to_string());
    }
    if bytes.len() as u64 > LIMIT {
        return wrong("it is larger than 16 MiB".to_owned());
    }
    // The parser's message tells a place and never the text, which is secret.
    let transfer: Transfer = match serde_json::from_slice(&bytes) {
        Ok(transfer) => transfer,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return wrong(format!(
                "line {line}, column {column} is not as it should be"
            ));
        }
    };
    drop(bytes);
    ExitCode::from(run(&transfer).exit_code())
}

fn run(transfer: &Transfer) -> TransferEnd {
    let project = match std::env::current_dir() {
        Ok(project) => project,
        Err(error) => {
            words::fatal(&format!("finding the current directory: {error}"), &[]);
            return TransferEnd::ForGood;
        }
    };
    let done = match transfer {
        Transfer::ArtifactsUpload(order) => artifacts_upload::run(order, &project),
        Transfer::ArtifactsDownload(order) => artifacts_download::run(order, &project),
        Transfer::CacheSave(order) => return cache_save::run(order, &project),
        Transfer::CacheRestore(order) => return cache_restore::run(order, &project),
    };
    done.unwrap_or_else(|stop| {
        words::fatal(stop.why(), &[]);
        stop.end()
    })
}

/// Why a transfer stops, for a person.
#[derive(Debug)]
enum Stop {
    /// It may pass.
    MayBeRetried(String),
    /// It will not.
    ForGood(String),
}

impl Stop {
    fn why(&self) -> &str {
        match self {
            Stop::MayBeRetried(why) | Stop::ForGood(why) => why,
        }
    }

    fn end(&self) -> TransferEnd {
        match self {
            Stop::MayBeRetried(_) => TransferEnd::MayBeRetried,
            Stop::ForGood(_) => TransferEnd::ForGood,
        }
    }

    /// Something on this machine failed.
    fn here(doing: &str, error: impl std::fmt::Display) -> Self {
        Stop::ForGood(format!("{doing}: {error}"))
    }
}

/// Prints what archiving has to say.
fn say(line: Line) {
    match line {
        Line::Info(text) => words::info(&text, &[]),
        Line::Warning(text) => words::warning(&text, &[]),
    }
}
