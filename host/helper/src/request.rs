//! What to move between a machine and GitLab or a cache's bucket. A manager writes it as JSON to the
//! standard input of `springtide-helper transfer`, never into arguments: it holds tokens and URLs
//! that are as good as tokens.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// One thing to move. Paths are those of the directory the helper is started in, the project's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transfer {
    /// Files of the job to GitLab.
    ArtifactsUpload(ArtifactsUpload),
    /// Artifacts of earlier jobs into the project.
    ArtifactsDownload(ArtifactsDownload),
    /// Files of the project into the cache.
    CacheSave(CacheSave),
    /// What is cached into the project.
    CacheRestore(CacheRestore),
}

/// Which files, in GitLab's terms. Variables in them are expanded by the manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Patterns with `*`, `?`, `[a-z]`, `{a,b}` and `**`; a directory takes all below it.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Patterns of the same sort. A directory here is the directory alone: `dir/**` is what is below.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What git does not track, too: `git ls-files --others`.
    #[serde(default)]
    pub untracked: bool,
}

/// How requests are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// Certificates in PEM, trusted besides the machine's own.
    pub ca: Option<String>,
    /// The longest a request may take in all, in seconds.
    pub total_seconds: u32,
    /// The longest an answer may take once the request is sent, in seconds.
    pub response_seconds: u32,
    /// How often a request is tried. An upload that GitLab answers with 503 is tried twice as often.
    pub attempts: u32,
    /// The first pause between two tries; each next one is twice as long, 5 times this at most.
    pub pause_milliseconds: u32,
}

impl Default for Calls {
    /// GitLab Runner's own: an hour, ten minutes, three tries, a second.
    fn default() -> Self {
        Self {
            ca: None,
            total_seconds: 3600,
            response_seconds: 600,
            attempts: 3,
            pause_milliseconds: 1000,
        }
    }
}

/// `ARTIFACT_COMPRESSION_LEVEL` and `CACHE_COMPRESSION_LEVEL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Stored as it is.
    Fastest,
    /// deflate's 1.
    Fast,
    /// deflate's 6.
    #[default]
    Default,
    /// deflate's 7.
    Slow,
    /// deflate's 9.
    Slowest,
}

/// `CACHE_COMPRESSION_FORMAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFormat {
    /// A zip, of deflated files.
    #[default]
    Zip,
    /// A zip of files packed by Zstandard.
    ZipZstd,
    /// A tar, packed by Zstandard as a whole.
    TarZstd,
}

impl CacheFormat {
    /// The one of this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "zip" => Some(CacheFormat::Zip),
            "zipzstd" => Some(CacheFormat::ZipZstd),
            "tarzstd" => Some(CacheFormat::TarZstd),
            _ => None,
        }
    }
}

/// `artifact_format` of the job's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactFormat {
    /// An archive.
    Zip,
    /// Each file as a member, one after the other.
    Gzip,
    /// One file as it is.
    Raw,
}

impl ArtifactFormat {
    /// As GitLab writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ArtifactFormat::Zip => "zip",
            ArtifactFormat::Gzip => "gzip",
            ArtifactFormat::Raw => "raw",
        }
    }
}

/// Files of the job to GitLab: one entry of `artifacts` in the job's payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsUpload {
    /// GitLab's address, as runners have it.
    pub url: String,
    /// The job's id.
    pub job: u64,
    /// The job's token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// Which files.
    pub files: Files,
    /// Names the archive; empty is `default`. A suffix is added by the format.
    #[serde(default)]
    pub name: String,
    /// Nothing is a zip, and GitLab is not told.
    #[serde(default)]
    pub format: Option<ArtifactFormat>,
    /// `artifact_type`: archive, junit, dotenv and so on.
    #[serde(default)]
    pub kind: Option<String>,
    /// `expire_in` as it was written in the job.
    #[serde(default)]
    pub expire_in: Option<String>,
    /// How much work is put into a small archive.
    #[serde(default)]
    pub level: Level,
    /// How requests are made.
    #[serde(default)]
    pub calls: Calls,
}

/// Artifacts of earlier jobs into the project: `dependencies` of the job's payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsDownload {
    /// GitLab's address, as runners have it.
    pub url: String,
    /// Whose artifacts, in the order they are unpacked.
    pub items: Vec<ArtifactsItem>,
    /// Whether object storage is asked directly at the first try (`FF_USE_DIRECT_DOWNLOAD`).
    #[serde(default = "yes")]
    pub direct: bool,
    /// The most an archive may unpack to, in bytes; the room on the disk if nothing is said.
    #[serde(default)]
    pub unpacked_limit: Option<u64>,
    /// How requests are made.
    #[serde(default)]
    pub calls: Calls,
}

/// One earlier job with artifacts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsItem {
    /// That job's id.
    pub id: u64,
    /// That job's token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// Its name, for the trace.
    pub name: String,
    /// The archive's name, for errors.
    #[serde(default)]
    pub filename: String,
    /// The archive's size in bytes as GitLab tells it; nothing where it does not.
    #[serde(default)]
    pub size: Option<u64>,
}

/// Files of the project into the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSave {
    /// The key, for the trace.
    pub key: String,
    /// The archive on this machine, absolute or from the project.
    pub file: String,
    /// Which files.
    pub files: Files,
    /// Where it goes besides; nothing without a cache server.
    #[serde(default)]
    pub upload: Option<CacheUrl>,
    /// A larger archive stays on this machine, in bytes (`MaxUploadedArchiveSize`); 0 is no limit.
    #[serde(default)]
    pub upload_limit: u64,
    /// How much work is put into a small archive.
    #[serde(default)]
    pub level: Level,
    /// What the archive is. Whoever restores it looks.
    #[serde(default)]
    pub format: CacheFormat,
    /// How requests are made.
    #[serde(default)]
    pub calls: Calls,
}

/// What is cached into the project.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheRestore {
    /// Where it may be: the job's own key, then the fallback keys. The first that is there is taken.
    pub sources: Vec<CacheSource>,
    /// The most an archive may unpack to, in bytes; the room on the disk if nothing is said.
    #[serde(default)]
    pub unpacked_limit: Option<u64>,
    /// How requests are made.
    #[serde(default)]
    pub calls: Calls,
}

/// One place to look for a cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSource {
    /// The key, for the trace.
    pub key: String,
    /// The archive on this machine, absolute or from the project.
    pub file: String,
    /// Where it is fetched from; nothing without a cache server.
    #[serde(default)]
    pub download: Option<CacheUrl>,
}

/// A presigned request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheUrl {
    /// Whoever has it may make the request.
    #[serde(serialize_with = "expose")]
    pub url: SecretString,
    /// Sent with it.
    #[serde(default, serialize_with = "expose_all")]
    pub headers: BTreeMap<String, SecretString>,
}

/// How a transfer ended, as its exit code tells. A wrong call ends with 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    /// Moved.
    Done,
    /// Failed in a way that may pass: the network, a server that is busy.
    MayBeRetried,
    /// Failed, and would again: refused, too large, not there, a broken archive, a full disk.
    ForGood,
    /// There was nothing to move: no file matched, no cache was found.
    Nothing,
}

impl TransferEnd {
    /// The exit code that tells it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            TransferEnd::Done => 0,
            TransferEnd::MayBeRetried => 10,
            TransferEnd::ForGood => 11,
            TransferEnd::Nothing => 12,
        }
    }

    /// What an exit code tells; nothing for one that is not of a transfer that was made.
    #[must_use]
    pub fn of_exit_code(code: i32) -> Option<Self> {
        [Self::Done, Self::MayBeRetried, Self::ForGood, Self::Nothing]
            .into_iter()
            .find(|end| i32::from(end.exit_code()) == code)
    }
}

fn yes() -> bool {
    true
}

fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

fn expose_all<S: Serializer>(
    secrets: &BTreeMap<String, SecretString>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(
        secrets
            .iter()
            .map(|(name, value)| (name, value.expose_secret())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 4] = [
        r#"{"artifacts-upload": {"url": "https://g", "job": 1, "token": "s3cret", "files": {"paths": ["a"]},
            "format": "gzip", "kind": "junit", "expire_in": "1 week", "level": "slowest"}}"#,
        r#"{"artifacts-download": {"url": "https://g", "items": [{"id": 1, "token": "s3cret", "name": "b"}]}}"#,
        r#"{"cache-save": {"key": "k", "file": "c.zip", "files": {"paths": []},
            "upload": {"url": "https://b/?s3cret", "headers": {"x-key": "s3cret"}}}}"#,
        r#"{"cache-restore": {"sources": [{"key": "k", "file": "c.zip", "download": {"url": "https://b/?s3cret"}}]}}"#,
    ];

    #[test]
    fn what_a_manager_writes_the_helper_reads_and_nothing_shows_a_secret() {
        for text in ALL {
            let transfer: Transfer = serde_json::from_str(text).unwrap();
            assert!(!format!("{transfer:?}").contains("s3cret"), "{transfer:?}");
            let written = serde_json::to_string(&transfer).unwrap();
            assert!(written.contains("s3cret"));
            let again: Transfer = serde_json::from_str(&written).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
        }
    }

    #[test]
    fn an_exit_code_tells_the_end() {
        for end in [0, 10, 11, 12] {
            assert_eq!(
                TransferEnd::of_exit_code(end).map(|end| i32::from(end.exit_code())),
                Some(end)
            );
        }
        for other in [1, 2, 101, 127, -1] {
            assert_eq!(TransferEnd::of_exit_code(other), None);
        }
    }
}
