//! A job's trace: a file in the job's directory on the host, masked and limited, only ever growing.
//!
//! What is written is determined by what the job put out, so a manager that died writes the
//! current stage again from its beginning and the trace takes only what it does not have yet
//! ([`JobTrace::rewind`]): nothing is lost and nothing is there twice, wherever it died.

mod stamp;

use crate::masking::{Masker, Secrets};
use crate::variables::{Variables, own};
use crate::words;
use bytes::Bytes;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use springtide_gitlab::{Payload, TraceSource};
use stamp::{Stamper, Stream, is_stamped};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// The limit where the configuration names none, in bytes.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 4 * 1024 * 1024;

/// The trace's name in the job's directory.
const FILE: &str = "trace";

/// The flag that asks for timestamps.
const TIMESTAMPS: &str = "FF_TIMESTAMPS";

/// A place in a trace from which it can be written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    at: u64,
    /// Without timestamps.
    #[serde(default)]
    plain: u64,
    cut: bool,
}

/// How a job's trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// Bytes of the job's own output that are taken.
    pub limit: u64,
    /// Whether each line begins with a timestamp: the feature flag `FF_TIMESTAMPS`. A trace that has
    /// begun goes on as it began.
    pub timestamps: bool,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            limit: DEFAULT_OUTPUT_LIMIT,
            timestamps: false,
        }
    }
}

/// Whether a job asks for something by a variable of its own, else its runner, of whose variables
/// these are.
fn asks_for(payload: &Payload, environment: &[(String, String)], key: &str) -> bool {
    let of_job = payload.variables.iter().rev().find(|one| one.key == key);
    let of_runner = environment.iter().rev().find(|(name, _)| name == key);
    let value = of_job
        .map(|one| one.value.as_str())
        .or(of_runner.map(|(_, value)| value.as_str()));
    value.is_some_and(|value| crate::variables::is_on(value) == Some(true))
}

/// Whether a job's script is traced line by line, so that its trace may show what is secret: GitLab
/// is told, and shows it to fewer people. A runner may forbid it (`debug_trace_disabled`).
#[must_use]
pub fn is_debug_traced(
    payload: &Payload,
    environment: &[(String, String)],
    forbidden: bool,
) -> bool {
    let of_runner = environment.iter().map(|(key, value)| own(key, value));
    let list = of_runner.chain(payload.variables.iter().cloned()).collect();
    // As scripts see it: what is traced, and what GitLab is told of it, must be the same.
    Variables::expanded(list, "").is_debug_traced(forbidden)
}

impl TraceOptions {
    /// Those of a job: the flag is the job's own, else the runner's, of whose variables these are.
    #[must_use]
    pub fn of(payload: &Payload, environment: &[(String, String)], limit: u64) -> Self {
        Self {
            limit,
            timestamps: asks_for(payload, environment, TIMESTAMPS),
        }
    }
}

/// A job's trace. Writing is a copy into the page cache and does not wait for a disk.
pub struct JobTrace {
    file: File,
    limit: u64,
    inner: Mutex<Inner>,
    length: watch::Sender<u64>,
}

struct Inner {
    secrets: Secrets,
    masker: Masker,
    /// Where lines are stamped.
    stamper: Option<Stamper>,
    /// Bytes in the file.
    length: u64,
    checksum: crc32fast::Hasher,
    /// Where the writer is; behind `length` while a stage is written again.
    position: u64,
    /// The same without timestamps, which the limit does not count. Bytes that are held are in it.
    plain: u64,
    /// Whether the limit was reached and the notice of it written.
    cut: bool,
    /// Whether the file can't be written any more; the job goes on.
    broken: bool,
}

/// What of a job's own fields must not appear in its trace.
fn secrets_of(payload: &Payload) -> Secrets {
    use base64::Engine;
    let mut secrets = Secrets::default();
    let token = payload.token.expose_secret();
    secrets.hide(token);
    let login = format!("gitlab-ci-token:{token}");
    secrets.hide(&base64::engine::general_purpose::STANDARD.encode(login));
    for one in payload.variables.iter().filter(|one| one.masked) {
        secrets.hide_encoded(&one.value);
    }
    for credential in &payload.credentials {
        secrets.hide(credential.password.expose_secret());
    }
    for dependency in &payload.dependencies {
        secrets.hide(dependency.token.expose_secret());
    }
    for prefix in &payload.features.token_mask_prefixes {
        secrets.hide_after(prefix);
    }
    secrets
}

impl JobTrace {
    /// Opens a job's trace, new or as it was left, in the job's directory. Reads the file whole.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub fn open(directory: &Path, payload: &Payload, options: TraceOptions) -> io::Result<Self> {
        let path = directory.join(FILE);
        let in_file =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(in_file)?;
        let mut checksum = crc32fast::Hasher::new();
        let (mut length, mut stamped, mut last) = (0, options.timestamps, None);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut chunk).map_err(in_file)?;
            if read == 0 {
                break;
            }
            if length == 0 {
                stamped = is_stamped(&chunk[..read]);
            }
            last = chunk[..read].last().copied();
            checksum.update(&chunk[..read]);
            length += read as u64;
        }
        let secrets = secrets_of(payload);
        Ok(Self {
            file,
            limit: options.limit,
            inner: Mutex::new(Inner {
                masker: Masker::new(&secrets),
                secrets,
                stamper: stamped.then(|| Stamper::after(last)),
                length,
                checksum,
                position: length,
                plain: length,
                cut: false,
                broken: false,
            }),
            length: watch::Sender::new(length),
        })
    }

    /// Bytes of the job's own output the trace takes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Writes a line of the runner's own, whatever the limit: why a job waits, say.
    pub fn say(&self, line: &str) {
        self.write(&words::plain(line));
    }

    /// Hides more texts from here on.
    pub(crate) fn hide<'a>(&self, texts: impl Iterator<Item = &'a str>) {
        let mut inner = self.inner();
        self.flush(&mut inner);
        texts.for_each(|text| inner.secrets.hide_encoded(text));
        inner.masker = Masker::new(&inner.secrets);
    }

    /// Writes the runner's own words as they are, whatever the limit.
    pub(crate) fn write(&self, text: &str) {
        let mut inner = self.inner();
        self.flush(&mut inner);
        let mut out = Vec::new();
        inner.masker.feed(text.as_bytes(), &mut out);
        inner.masker.finish(&mut out);
        self.append(&mut inner, Stream::Runner, &out);
    }

    /// Writes what the job put out, as far as the limit allows.
    pub(crate) fn output(&self, bytes: &[u8]) {
        let mut inner = self.inner();
        if inner.cut {
            return;
        }
        let mut out = Vec::with_capacity(bytes.len());
        inner.masker.feed(bytes, &mut out);
        self.append_limited(&mut inner, out);
    }

    /// The job put out more than was kept: says so, unless the limit said it already.
    pub(crate) fn lost_output(&self) {
        let mut inner = self.inner();
        self.flush(&mut inner);
        if !inner.cut {
            inner.cut = true;
            let notice = words::limit_exceeded(self.limit);
            self.append(&mut inner, Stream::Runner, notice.as_bytes());
        }
    }

    /// The job's output ends here, for now: nothing is held back any longer.
    pub(crate) fn settle(&self) {
        let mut inner = self.inner();
        self.flush(&mut inner);
        self.part(&mut inner);
    }

    /// The place where the trace stands.
    pub(crate) fn mark(&self) -> Mark {
        let mut inner = self.inner();
        self.flush(&mut inner);
        self.part(&mut inner);
        // A stage that was written again put out less than before; what is there counts.
        inner.position = inner.length;
        Mark {
            at: inner.position,
            plain: inner.plain,
            cut: inner.cut,
        }
    }

    /// Goes back to a place: what is written next is taken to be what the trace has from there,
    /// and only what comes after its end is added.
    pub(crate) fn rewind(&self, mark: Mark) {
        let mut inner = self.inner();
        self.flush(&mut inner);
        self.part(&mut inner);
        inner.position = mark.at.min(inner.length);
        if inner.stamper.is_some() {
            inner.stamper = Some(Stamper::after(self.before(inner.position)));
        }
        inner.plain = mark.plain;
        inner.cut = mark.cut;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each write leaves the numbers as the file is, so a panic elsewhere leaves them right.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, inner: &mut Inner) {
        let mut out = Vec::new();
        inner.masker.finish(&mut out);
        if !inner.cut {
            self.append_limited(inner, out);
        }
    }

    fn append_limited(&self, inner: &mut Inner, mut out: Vec<u8>) {
        let room = self.limit.saturating_sub(inner.plain);
        if out.len() as u64 <= room {
            return self.append(inner, Stream::Job, &out);
        }
        inner.cut = true;
        // To the byte: where it is cut must not depend on the chunks it came in.
        out.truncate(room as usize);
        out.extend_from_slice(words::limit_exceeded(self.limit).as_bytes());
        self.append(inner, Stream::Job, &out);
    }

    /// Writes what is held of a line, which what comes next goes on with.
    fn part(&self, inner: &mut Inner) {
        let mut out = Vec::new();
        if let Some(stamper) = &mut inner.stamper {
            stamper.flush(SystemTime::now(), &mut out);
        }
        self.put(inner, &out);
    }

    /// The byte before a place.
    fn before(&self, at: u64) -> Option<u8> {
        let mut byte = [0];
        let read = self.file.read_exact_at(&mut byte, at.checked_sub(1)?);
        read.is_ok().then_some(byte[0])
    }

    fn append(&self, inner: &mut Inner, stream: Stream, bytes: &[u8]) {
        inner.plain += bytes.len() as u64;
        let Some(stamper) = &mut inner.stamper else {
            return self.put(inner, bytes);
        };
        let mut out = Vec::with_capacity(bytes.len() + stamp::HEADER);
        stamper.feed(bytes, stream, SystemTime::now(), &mut out);
        self.put(inner, &out);
    }

    fn put(&self, inner: &mut Inner, bytes: &[u8]) {
        let known = (inner.length - inner.position).min(bytes.len() as u64);
        inner.position += known;
        let new = &bytes[known as usize..];
        if new.is_empty() || inner.broken {
            return;
        }
        if let Err(error) = (&self.file).write_all(new) {
            inner.broken = true;
            tracing::error!(%error, "a job's trace can't be written; the job goes on without");
            // A part may have been written; without it the length and the file would differ.
            if let Err(error) = self.file.set_len(inner.length) {
                tracing::error!(%error, "nor can it be cut back");
            }
            return;
        }
        inner.checksum.update(new);
        inner.length += new.len() as u64;
        inner.position = inner.length;
        self.length.send_replace(inner.length);
    }
}

impl TraceSource for JobTrace {
    fn len(&self) -> u64 {
        self.inner().length
    }

    fn read(&self, from: u64, max: usize) -> io::Result<Bytes> {
        let there = self.len().saturating_sub(from).min(max as u64);
        let mut bytes = vec![0; there as usize];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes.into())
    }

    fn checksum(&self) -> u32 {
        self.inner().checksum.clone().finalize()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }
}

impl std::fmt::Debug for JobTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobTrace")
            .field("length", &self.inner().length)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
