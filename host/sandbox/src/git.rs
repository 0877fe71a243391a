//! git over HTTP with the job's token, for fetching alone: `git http-backend` does the work, and
//! its answer is streamed. Files of Git LFS are beside it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::io::ReaderStream;

use crate::asked::text;
use crate::ledger::{DEFAULT_BRANCH, Head, Ledger, NO_SHA};
use crate::lfs;
use crate::queue_api::pairs;
use crate::server::Shared;
use crate::spec::SpecError;

/// Bytes one request may send to git.
const REQUEST_LIMIT: usize = 64 * 1024 * 1024;
/// Bytes the headers of git's answer may have.
const HEAD_LIMIT: u64 = 16 * 1024;
/// How long one request may keep a git process.
const LONGEST: Duration = Duration::from_secs(600);

/// A project's path and what is wanted of its repository.
fn split(path: &str) -> Option<(String, &str)> {
    let (project, service) = path.trim_start_matches('/').split_once(".git/")?;
    let project = percent_decode_str(project).decode_utf8().ok()?;
    Some((project.into_owned(), service))
}

/// The password of basic authentication.
fn password(parts: &Parts) -> Option<String> {
    let encoded = text(&parts.headers, "authorization")?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded.trim())
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    Some(decoded.split_once(':')?.1.to_owned())
}

/// Why a repository is not read.
enum Denied {
    NoRepository,
    NoToken,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::NoRepository => {
                (StatusCode::NOT_FOUND, "there is no such repository\n").into_response()
            }
            Self::NoToken => {
                let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"GitLab\"")];
                (StatusCode::UNAUTHORIZED, ask, "HTTP Basic: Access denied\n").into_response()
            }
        }
    }
}

/// Whether a token of a job of one project reads the repository of another.
fn reads(ledger: &Ledger, own: &str, wanted: &str) -> bool {
    let group = |project: &str| project.rsplit_once('/').map(|(group, _)| group.to_owned());
    own == wanted || (ledger.options.group_reads && group(own) == group(wanted))
}

/// The repository a request may read. Who has no token does not learn which there are.
fn admit(ledger: &Ledger, project: &str, password: Option<&str>) -> Result<PathBuf, Denied> {
    let known = ledger.options.open_git
        || password.is_some_and(|password| {
            password == ledger.options.api_token
                || ledger
                    .live_job(password)
                    .is_some_and(|job| reads(ledger, &job.project, project))
        });
    if !known {
        return Err(Denied::NoToken);
    }
    ledger
        .projects
        .get(project)
        .and_then(|project| project.repository.clone())
        .ok_or(Denied::NoRepository)
}

/// Everything no other route takes: git, or nothing.
pub(crate) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some((project, service)) = split(parts.uri.path()) else {
        return crate::asked::refuse(StatusCode::NOT_FOUND);
    };
    let fetch = pairs(parts.uri.query())
        .iter()
        .any(|(key, value)| key == "service" && value == "git-upload-pack");
    let large = lfs::asked(parts.method.as_str(), service);
    let allowed = match (parts.method.as_str(), service) {
        ("GET", "info/refs") => fetch,
        ("POST", "git-upload-pack") => true,
        _ => large.is_some(),
    };
    if !allowed {
        let only = "only fetching over the smart protocol is served\n";
        return (StatusCode::FORBIDDEN, only).into_response();
    }
    let password = password(&parts);
    let repository = match shared.with(|ledger, _| admit(ledger, &project, password.as_deref())) {
        Ok(repository) => repository,
        Err(denied) => return denied.into_response(),
    };
    if let Some(asked) = large {
        let url = shared.with(|ledger, _| format!("{}/{project}.git", ledger.url));
        return lfs::serve(asked, &repository, &url, &parts.headers, body).await;
    }
    match run(&repository, service, &parts, body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%project, %error, "git http-backend failed");
            crate::asked::refuse(StatusCode::BAD_GATEWAY)
        }
    }
}

fn backend(repository: &Path, service: &str, parts: &Parts) -> std::io::Result<Command> {
    let (Some(root), Some(name)) = (repository.parent(), repository.file_name()) else {
        return Err(std::io::Error::other("the repository is a root directory"));
    };
    let mut path_info = std::ffi::OsString::from("/");
    path_info.push(name);
    path_info.push("/");
    path_info.push(service);
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path_info)
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REMOTE_USER", "gitlab-ci-token")
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // A commit may be fetched by its id and a repository of another user is served, as GitLab does.
    let settings = [
        ("safe.directory", "*"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("uploadpack.allowFilter", "true"),
        ("http.receivepack", "false"),
    ];
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (index, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{index}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
    }
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-length", "CONTENT_LENGTH"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = text(&parts.headers, header) {
            command.env(variable, value);
        }
    }
    Ok(command)
}

async fn run(
    repository: &Path,
    service: &str,
    parts: &Parts,
    body: Body,
) -> std::io::Result<Response> {
    let mut child = backend(repository, service, parts)?.spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("git has no pipes"));
    };
    tokio::spawn(feed(body, stdin));
    tokio::spawn(reap(child));
    let mut stdout = BufReader::new(stdout);
    let (status, headers) = head(&mut stdout).await?;
    let mut response = Response::new(Body::from_stream(ReaderStream::new(stdout)));
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Sends a request's body to git; git sees its end where the body ends, breaks off or is too long.
async fn feed(body: Body, mut stdin: ChildStdin) {
    let mut left = REQUEST_LIMIT;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let Ok(part) = part else {
            break;
        };
        let Some(rest) = left.checked_sub(part.len()) else {
            break;
        };
        left = rest;
        // git may stop reading once it knows enough.
        if stdin.write_all(&part).await.is_err() {
            break;
        }
    }
}

async fn reap(child: Child) {
    match tokio::time::timeout(LONGEST, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => {}
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            tracing::debug!(status = %output.status, said = said.trim(), "git http-backend ended");
        }
        Ok(Err(error)) => tracing::warn!(%error, "git http-backend was lost"),
        Err(_) => tracing::warn!("git http-backend was ended after ten minutes"),
    }
}

/// The status and headers a CGI program begins its answer with.
async fn head(
    stdout: &mut BufReader<ChildStdout>,
) -> std::io::Result<(StatusCode, Vec<(HeaderName, HeaderValue)>)> {
    let mut limited = stdout.take(HEAD_LIMIT);
    let mut status = StatusCode::OK;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other("git's answer has no end of headers"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            status = code
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            headers.push((name, value));
        }
    }
}

/// Whether a directory can be served; its full path and its default branch.
pub(crate) fn check(path: &Path) -> Result<(PathBuf, String), SpecError> {
    let wrong = |problem: String| SpecError::Repository {
        path: path.display().to_string(),
        problem,
    };
    let full = path
        .canonicalize()
        .map_err(|error| wrong(error.to_string()))?;
    ask(&full, &["rev-parse", "--git-dir"]).map_err(wrong)?;
    let branch = ask(&full, &["symbolic-ref", "--short", "HEAD"]).map_err(wrong)?;
    Ok((full, branch))
}

/// Where a branch or tag of a repository stands; the default branch where none is named.
pub(crate) fn resolve(
    project: &str,
    repository: &Path,
    ref_name: Option<&str>,
    sha: Option<&str>,
) -> Result<Head, SpecError> {
    let wrong = |revision: &str, problem| SpecError::Revision {
        repository: project.to_owned(),
        revision: revision.to_owned(),
        problem,
    };
    let name = match ref_name {
        Some(name) => name.to_owned(),
        None => ask(repository, &["symbolic-ref", "--short", "HEAD"])
            .map_err(|problem| wrong("HEAD", problem))?,
    };
    let commit = |full: String| {
        let revision = format!("{full}^{{commit}}");
        ask(repository, &["rev-parse", "--verify", &revision])
    };
    let (found, is_tag) = if name.starts_with("refs/") {
        (commit(name.clone()), false)
    } else {
        match commit(format!("refs/heads/{name}")) {
            Ok(found) => (Ok(found), false),
            Err(problem) => commit(format!("refs/tags/{name}"))
                .map_or((Err(problem), false), |found| (Ok(found), true)),
        }
    };
    let sha = match (sha, found) {
        (Some(sha), _) => sha.to_owned(),
        (None, Ok(found)) => found,
        (None, Err(problem)) => return Err(wrong(&name, problem)),
    };
    Ok(Head {
        sha,
        ref_name: name,
        is_tag,
    })
}

/// Where a job without a repository stands.
pub(crate) fn nowhere(ref_name: Option<&str>, sha: Option<&str>) -> Head {
    Head {
        sha: sha.unwrap_or(NO_SHA).to_owned(),
        ref_name: ref_name.unwrap_or(DEFAULT_BRANCH).to_owned(),
        is_tag: false,
    }
}

fn ask(repository: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new("git")
        .arg("-c")
        .arg("safe.directory=*")
        .arg("--git-dir")
        .arg(repository)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn paths_of_repositories() {
        for (path, expected) in [
            ("/g/p.git/info/refs", Some(("g/p", "info/refs"))),
            (
                "/g%2Fh/p.git/git-upload-pack",
                Some(("g/h/p", "git-upload-pack")),
            ),
            ("/g/p/info/refs", None),
            ("/", None),
        ] {
            let found = split(path);
            let found = found
                .as_ref()
                .map(|(project, service)| (project.as_str(), *service));
            assert_eq!(found, expected, "{path}");
        }
    }
}
