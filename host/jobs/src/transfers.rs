//! What of a job is moved between its machine and GitLab or a cache, made of its payload: the helper
//! on the machine moves it, so that the data never goes through the manager.

use crate::plan::BadJob;
use crate::progress::Cause;
use crate::settings::JobSettings;
use crate::variables::Variables;
use secrecy::SecretString;
use springtide_cache::{CacheKey, Job, Keys, Signed, archive_path};
use springtide_gitlab::{Artifact, Payload, When};
use springtide_machines::{
    ArtifactFormat, ArtifactsDownload, ArtifactsItem, ArtifactsUpload, CacheFormat, CacheRestore,
    CacheSave, CacheSource, CacheUrl, Calls, Files, Level,
};
use std::time::Duration;

/// How long a cache may take on its way where `CACHE_REQUEST_TIMEOUT` does not say, in minutes.
const CACHE_MINUTES: i64 = 10;

/// The name of an archive that a job gives none.
const UNNAMED: &str = "artifacts";

/// A job's artifacts.
#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    /// Those of earlier jobs, which come first.
    pub(crate) download: Option<ArtifactsDownload>,
    /// The job's own, and when they are uploaded.
    pub(crate) uploads: Vec<(When, ArtifactsUpload)>,
}

impl Artifacts {
    /// Those a payload names.
    pub(crate) fn new(
        payload: &Payload,
        settings: &JobSettings,
        variables: &Variables,
    ) -> Result<Self, BadJob> {
        let calls = Calls {
            ca: settings.ca.clone(),
            ..Calls::default()
        };
        let items: Vec<ArtifactsItem> = payload
            .dependencies
            .iter()
            .filter(|one| !one.artifacts_file.filename.is_empty())
            .filter_map(|one| {
                Some(ArtifactsItem {
                    id: u64::try_from(one.id).ok()?,
                    token: one.token.clone(),
                    name: one.name.clone(),
                    filename: one.artifacts_file.filename.clone(),
                    size: u64::try_from(one.artifacts_file.size).ok(),
                })
            })
            .collect();
        let download = (!items.is_empty()).then(|| ArtifactsDownload {
            url: settings.gitlab_url.clone(),
            items,
            direct: variables.flag("FF_USE_DIRECT_DOWNLOAD").unwrap_or(true),
            unpacked_limit: None,
            calls: calls.clone(),
        });
        let uploads = payload
            .artifacts
            .iter()
            .map(|one| {
                let upload = ArtifactsUpload {
                    url: settings.gitlab_url.clone(),
                    job: payload.id,
                    token: payload.token.clone(),
                    files: files(&one.paths, &one.exclude, one.untracked, variables),
                    name: match one.name.as_str() {
                        "" => UNNAMED.into(),
                        name => variables.expand(name),
                    },
                    format: format(one)?,
                    kind: some(&one.artifact_type),
                    expire_in: some(&one.expire_in),
                    level: level(&variables.get("ARTIFACT_COMPRESSION_LEVEL")),
                    calls: calls.clone(),
                };
                Ok((one.when, upload))
            })
            .collect::<Result<_, BadJob>>()?;
        Ok(Self { download, uploads })
    }
}

/// One of a job's caches.
#[derive(Debug)]
pub(crate) struct PlannedCache {
    /// Its keys, or why it has none.
    pub(crate) keys: Result<Keys, &'static str>,
    /// What the trace is told about its keys.
    pub(crate) warnings: Vec<String>,
    pub(crate) when: When,
    policy: Policy,
    files: Files,
    level: Level,
    format: CacheFormat,
    calls: Calls,
    /// Where caches are on the machine, and which part of that is the project's.
    cache_dir: String,
    project_path: String,
}

/// Which ways a cache goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Both,
    Pull,
    Push,
}

impl PlannedCache {
    /// The caches a payload names. What is wrong with one is said in the trace, for no cache fails a
    /// job.
    pub(crate) fn all(
        payload: &Payload,
        settings: &JobSettings,
        variables: &Variables,
        cache_dir: &str,
    ) -> Vec<Self> {
        let job = Job {
            name: &payload.job_info.name,
            ref_name: &payload.git_info.ref_name,
            hash_keys: variables.flag("FF_HASH_CACHE_KEYS") == Some(true),
        };
        let minutes = variables.number("CACHE_REQUEST_TIMEOUT");
        let minutes = minutes
            .filter(|minutes| *minutes > 0)
            .unwrap_or(CACHE_MINUTES);
        let calls = Calls {
            ca: settings.ca.clone(),
            total_seconds: u32::try_from(minutes.saturating_mul(60)).unwrap_or(u32::MAX),
            ..Calls::default()
        };
        let wanted = payload
            .cache
            .iter()
            .filter(|one| !one.paths.is_empty() || one.untracked);
        wanted
            .map(|one| {
                let mut warnings = Vec::new();
                let keys = Keys::of(
                    &job,
                    &one.key,
                    &one.fallback_keys,
                    &variables.get("CACHE_FALLBACK_KEY"),
                    |text| variables.expand(text),
                    &mut warnings,
                );
                let policy = match variables.expand(&one.policy).as_str() {
                    "" | "pull-push" => Policy::Both,
                    "pull" => Policy::Pull,
                    "push" => Policy::Push,
                    other => {
                        warnings.push(format!(
                            "unknown cache policy {other:?}: it is taken as pull-push"
                        ));
                        Policy::Both
                    }
                };
                let word = variables.get("CACHE_COMPRESSION_FORMAT");
                let format = cache_format(&word).unwrap_or_else(|| {
                    warnings.push(format!(
                        "unknown CACHE_COMPRESSION_FORMAT {word:?}: it is taken as zip"
                    ));
                    CacheFormat::Zip
                });
                PlannedCache {
                    keys,
                    warnings,
                    when: one.when,
                    policy,
                    files: files(&one.paths, &[], one.untracked, variables),
                    level: level(&variables.get("CACHE_COMPRESSION_LEVEL")),
                    format,
                    calls: calls.clone(),
                    cache_dir: cache_dir.to_owned(),
                    project_path: payload.job_info.project_full_path.clone(),
                }
            })
            .collect()
    }

    /// Whether it is restored before the script.
    pub(crate) fn is_pulled(&self) -> bool {
        self.policy != Policy::Push
    }

    /// Whether it is saved after.
    pub(crate) fn is_pushed(&self) -> bool {
        self.policy != Policy::Pull
    }

    /// Restores it from the first of its keys that has something; `downloads` are the addresses there
    /// are.
    pub(crate) fn restore(
        &self,
        keys: &Keys,
        mut downloads: Vec<(CacheKey, Signed)>,
    ) -> CacheRestore {
        let sources = keys
            .all()
            .map(|key| {
                let at = downloads.iter().position(|(of, _)| of == key);
                CacheSource {
                    key: key.shown().to_owned(),
                    file: self.archive(key),
                    download: at.map(|at| url(downloads.swap_remove(at).1)),
                }
            })
            .collect();
        CacheRestore {
            sources,
            unpacked_limit: None,
            calls: self.calls.clone(),
        }
    }

    /// Saves it under its key. `limit` is in bytes of the archive, 0 for none.
    pub(crate) fn save(&self, key: &CacheKey, upload: Option<Signed>, limit: u64) -> CacheSave {
        CacheSave {
            key: key.shown().to_owned(),
            file: self.archive(key),
            files: self.files.clone(),
            upload: upload.map(url),
            upload_limit: limit,
            level: self.level,
            format: self.format,
            calls: self.calls.clone(),
        }
    }

    fn archive(&self, key: &CacheKey) -> String {
        archive_path(&self.cache_dir, &self.project_path, key)
    }
}

/// How long a signed address has to hold for a job: as long as the job may take.
pub(crate) fn validity(payload: &Payload) -> Duration {
    Duration::from_secs(payload.runner_info.timeout_seconds())
}

fn url(signed: Signed) -> CacheUrl {
    let headers = signed.headers.into_iter();
    CacheUrl {
        url: signed.url,
        headers: headers
            .map(|(name, value)| (name, SecretString::from(value)))
            .collect(),
    }
}

/// Files by patterns, in which variables are expanded.
pub(crate) fn files(
    paths: &[String],
    exclude: &[String],
    untracked: bool,
    variables: &Variables,
) -> Files {
    let expanded = |all: &[String]| all.iter().map(|one| variables.expand(one)).collect();
    Files {
        paths: expanded(paths),
        exclude: expanded(exclude),
        untracked,
    }
}

/// How much work goes into an archive; what is no known word is the default.
pub(crate) fn level(word: &str) -> Level {
    match word {
        "fastest" => Level::Fastest,
        "fast" => Level::Fast,
        "slow" => Level::Slow,
        "slowest" => Level::Slowest,
        _ => Level::Default,
    }
}

/// What a cache is written as; nothing, where the word is no format.
fn cache_format(word: &str) -> Option<CacheFormat> {
    match word {
        "" => Some(CacheFormat::Zip),
        word => CacheFormat::named(word),
    }
}

fn format(artifact: &Artifact) -> Result<Option<ArtifactFormat>, BadJob> {
    match artifact.artifact_format.as_str() {
        "" => Ok(None),
        "zip" => Ok(Some(ArtifactFormat::Zip)),
        "gzip" => Ok(Some(ArtifactFormat::Gzip)),
        "raw" => Ok(Some(ArtifactFormat::Raw)),
        other => Err(BadJob {
            cause: Cause::System,
            said: format!(
                "GitLab wants artifacts as `{other}`, and this version uploads zip, gzip and raw"
            ),
        }),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
