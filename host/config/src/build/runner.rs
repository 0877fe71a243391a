//! One `[[runners]]` entry.

use super::{World, cache, docker, ignored, machine, ours};
use crate::Unusable;
use crate::report::Report;
use crate::schema::nearest;
use crate::walk::Found;
use crate::{Executor, Hidden, Runner};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// GitLab Runner's own executors, ours not among them.
const OTHERS: [&str; 13] = [
    "custom",
    "docker",
    "docker-autoscaler",
    "docker-ssh",
    "docker-ssh+machine",
    "docker-windows",
    "instance",
    "kubernetes",
    "parallels",
    "shell",
    "ssh",
    "virtualbox",
    "docker-autoscaler-windows",
];

/// Reads a runner; `None` where anything in it is an error.
pub(super) fn runner(
    found: &Found,
    root: &Found,
    world: &World,
    report: &mut Report,
) -> Option<Runner> {
    let before = report.errors() - found.errors;
    let url = address(found, world, report);
    let token = token(found, world, report);
    let executor = executor(found, report);
    let has_machines = executor.as_ref().is_some_and(Executor::has_machines);
    let limit = found.count("limit").unwrap_or(0);
    let machine = machine::machine(found, has_machines, limit, world, report);
    let docker = docker::docker(found, executor == Some(Executor::DockerMachine), report);
    let cache = cache::cache(found, report);
    let queue = ours::queue(found, report);
    let policies = ours::policies(found, report);
    let pool = ours::pool(found, report);
    let environment = environment(found, report);
    let shell = shell(found, has_machines, report);
    let clone_url = clone_url(found, report);
    let labels = labels(root, found, report);
    expiry(found, world, report);
    renamed(found, report);
    if has_machines {
        ignored::of_runner(found, report);
    }
    if report.errors() > before {
        // What it says of plugins is checked all the same.
        let at = report.position(&found.at);
        report.unusable.push(Unusable {
            at,
            machine,
            policies,
        });
        return None;
    }
    let (url, token, executor) = (url?, token?, executor?);
    let name = match found.filled("name") {
        Some(name) => name.to_owned(),
        None => short_token(&token).to_owned(),
    };
    Some(Runner {
        key: key(&url, &token),
        fingerprint: digest(&serde_json::Value::from(found.json()).to_string(), 32),
        at: report.position(&found.at),
        executor_at: report.position(&found.at("executor")),
        name,
        url,
        id: found
            .number("id")
            .and_then(|id| u64::try_from(id).ok())
            .filter(|id| *id > 0),
        token: SecretString::from(token),
        token_obtained_at: found.instant("token_obtained_at"),
        token_expires_at: found.instant("token_expires_at"),
        executor,
        limit,
        request_concurrency: positive(found, "request_concurrency").unwrap_or(1),
        strict_check_interval: found.flag("strict_check_interval").unwrap_or(false),
        output_limit: positive(found, "output_limit").unwrap_or(4096),
        unhealthy_requests_limit: positive(found, "unhealthy_requests_limit").unwrap_or(3),
        unhealthy_interval: span(found, "unhealthy_interval").unwrap_or(Duration::from_secs(3600)),
        job_status_final_update_retry_limit: positive(found, "job_status_final_update_retry_limit")
            .unwrap_or(10),
        environment: Hidden(environment),
        labels,
        builds_dir: owned(found, "builds_dir"),
        cache_dir: owned(found, "cache_dir"),
        clone_url,
        pre_get_sources_script: owned(found, "pre_get_sources_script")
            .or_else(|| owned(found, "pre_clone_script")),
        post_get_sources_script: owned(found, "post_get_sources_script")
            .or_else(|| owned(found, "post_clone_script")),
        pre_build_script: owned(found, "pre_build_script"),
        post_build_script: owned(found, "post_build_script"),
        prepare_timeout: span(found, "prepare_timeout"),
        get_sources_timeout: span(found, "get_sources_timeout"),
        debug_trace_disabled: found.flag("debug_trace_disabled").unwrap_or(false),
        clean_git_config: found.flag("clean_git_config"),
        safe_directory_checkout: found.flag("safe_directory_checkout"),
        custom_build_dir: found
            .table("custom_build_dir")
            .and_then(|table| table.flag("enabled")),
        shell,
        tls_ca_file: owned(found, "tls-ca-file").map(PathBuf::from),
        tls_cert_file: owned(found, "tls-cert-file").map(PathBuf::from),
        tls_key_file: owned(found, "tls-key-file").map(PathBuf::from),
        feature_flags: flags(found),
        machine,
        docker,
        cache,
        queue,
        policies,
        pool,
    })
}

fn owned(found: &Found, name: &str) -> Option<String> {
    found.filled(name).map(str::to_owned)
}

/// A count; 0 is a missing one, as in GitLab Runner.
fn positive(found: &Found, name: &str) -> Option<u32> {
    found.count(name).filter(|count| *count > 0)
}

/// A duration; 0 is a missing one, as in GitLab Runner.
pub(super) fn span(found: &Found, name: &str) -> Option<Duration> {
    found.duration(name).filter(|span| !span.is_zero())
}

fn flags(found: &Found) -> BTreeMap<String, bool> {
    let flags = found.map("feature_flags").iter();
    flags
        .filter_map(|(name, item)| match item.value {
            crate::walk::Value::Flag(flag) => Some((name.clone(), flag)),
            _ => None,
        })
        .collect()
}

fn address(found: &Found, world: &World, report: &mut Report) -> Option<Url> {
    let advice = "write GitLab's address, such as url = \"https://gitlab.example.com\"";
    let Some(text) = found.filled("url") else {
        if !found.has("url") || found.text("url").is_some() {
            report.error(&found.at("url"), "the runner has no `url`", advice);
        }
        return None;
    };
    let expanded = expand(text, world.variable);
    web(&expanded).or_else(|| {
        let text = if expanded.trim().is_empty() {
            "`url` is empty once its variables are filled in".to_owned()
        } else {
            "`url` is no address of GitLab's".to_owned()
        };
        report.error(&found.at("url"), text, advice);
        None
    })
}

/// An address of the web.
fn web(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn clone_url(found: &Found, report: &mut Report) -> Option<Url> {
    let text = found.filled("clone_url")?;
    let url = web(text);
    if url.is_none() {
        report.error(
            &found.at("clone_url"),
            "`clone_url` is no address to clone from",
            "write one such as \"https://gitlab.example.com\"; SSH is not used here",
        );
    }
    url
}

fn token(found: &Found, world: &World, report: &mut Report) -> Option<String> {
    let advice = "write the authentication token that GitLab showed for the runner, or make a new entry with `springtide register`";
    let Some(text) = found.filled("token") else {
        if !found.has("token") || found.text("token").is_some() {
            report.error(&found.at("token"), "the runner has no `token`", advice);
        }
        return None;
    };
    let token = expand(text, world.variable);
    // It travels in a header.
    if token.is_empty() || token.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let text = if token.is_empty() {
            "`token` is empty once its variables are filled in"
        } else {
            "`token` has a blank in it"
        };
        report.error(&found.at("token"), text, advice);
        return None;
    }
    Some(token)
}

fn executor(found: &Found, report: &mut Report) -> Option<Executor> {
    let advice = "write executor = \"shell+machine\" or executor = \"docker+machine\"";
    let Some(name) = found.filled("executor") else {
        if !found.has("executor") || found.text("executor").is_some() {
            report.error(
                &found.at("executor"),
                "the runner has no `executor`",
                advice,
            );
        }
        return None;
    };
    match name {
        "shell+machine" => return Some(Executor::ShellMachine),
        "docker+machine" => return Some(Executor::DockerMachine),
        _ => {}
    }
    if OTHERS.contains(&name) {
        report.warning(
            &found.at("executor"),
            format!(
                "the executor {name:?} is not run here, and this runner takes no jobs; keep GitLab Runner for it"
            ),
            advice,
        );
        return Some(Executor::Other(name.to_owned()));
    }
    let known = OTHERS
        .iter()
        .copied()
        .chain(["shell+machine", "docker+machine"]);
    let advice = match nearest(name, known) {
        Some(near) => format!("write executor = \"{near}\""),
        None => advice.to_owned(),
    };
    report.error(
        &found.at("executor"),
        format!("there is no executor {name:?}"),
        advice,
    );
    None
}

fn environment(found: &Found, report: &mut Report) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for entry in found.texts("environment") {
        match entry.text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                environment.push((name.trim().to_owned(), value.to_owned()));
            }
            _ => report.warning(
                &entry.at,
                "an entry of `environment` without a name and `=` is ignored",
                "write \"NAME=value\"",
            ),
        }
    }
    environment
}

fn shell(found: &Found, has_machines: bool, report: &mut Report) -> Option<String> {
    let shell = found.filled("shell")?;
    match shell {
        "bash" | "sh" => return Some(shell.to_owned()),
        _ if !has_machines => return Some(shell.to_owned()),
        "cmd" | "pwsh" | "powershell" => report.error(
            &found.at("shell"),
            format!("the shell {shell:?} is not run here"),
            "write shell = \"bash\" or shell = \"sh\"",
        ),
        _ => report.error(
            &found.at("shell"),
            format!("there is no shell {shell:?}"),
            "write shell = \"bash\" or shell = \"sh\"",
        ),
    }
    None
}

/// The runner's labels over the file's, checked as GitLab does.
fn labels(root: &Found, found: &Found, report: &mut Report) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for table in [root, found] {
        for (name, item) in table.map("labels") {
            let crate::walk::Value::Text(value) = &item.value else {
                continue;
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let good_name = (3..=65).contains(&name.len())
                && name.starts_with(first)
                && name.chars().all(plain);
            let good_value = (1..=256).contains(&value.len()) && value.chars().all(plain);
            if good_name && good_value {
                labels.insert(name.clone(), value.clone());
            } else {
                let (at, what) = if good_name {
                    (
                        &item.at,
                        "value: 1 to 256 letters, digits, `.`, `_` and `-`",
                    )
                } else {
                    (
                        &item.key_at,
                        "name: 3 to 65 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`",
                    )
                };
                report.warning(
                    at,
                    format!("GitLab takes no label {name:?} like this, and it is left out"),
                    format!("write a plain {what}"),
                );
            }
        }
    }
    if labels.len() > 32 {
        report.warning(
            &found.at("labels"),
            format!("GitLab takes 32 labels, and these are {}", labels.len()),
            "delete some",
        );
    }
    labels.into_iter().take(32).collect()
}

fn expiry(found: &Found, world: &World, report: &mut Report) {
    let over = |at: i64| at <= world.now.as_second();
    if found.instant("token_expires_at").is_some_and(over) {
        report.warning(
            &found.at("token_expires_at"),
            "the token has expired, and GitLab will refuse it",
            "register the runner again with `springtide register`",
        );
    }
}

/// Keys that have had another name since GitLab Runner 16.
fn renamed(found: &Found, report: &mut Report) {
    for (old, new) in [
        ("pre_clone_script", "pre_get_sources_script"),
        ("post_clone_script", "post_get_sources_script"),
    ] {
        if !found.has(old) {
            continue;
        }
        let text = if found.has(new) {
            format!("`{old}` is the old name of `{new}`, which stands too, and is ignored")
        } else {
            format!("`{old}` is the old name of `{new}`; it is obeyed")
        };
        report.warning(&found.key_at(old), text, format!("write {new}"));
    }
}

/// The part of a token that GitLab itself shows: what comes before it, and eight or so characters.
pub(crate) fn short_token(token: &str) -> &str {
    let body = ["glrt-", "glrtr-", "GR1348941"]
        .iter()
        .find_map(|prefix| token.strip_prefix(prefix))
        .unwrap_or(token);
    // Newer tokens say what kind of runner they are for: t1_, t2_, t3_.
    let typed = body.starts_with('t') && body.get(2..3) == Some("_");
    let body = if typed { &body[3..] } else { body };
    let end = body.char_indices().nth(8).map_or(body.len(), |(at, _)| at);
    &body[..end]
}

fn key(url: &Url, token: &str) -> String {
    digest(
        &format!("{}\n{token}", url.as_str().trim_end_matches('/')),
        16,
    )
}

/// The first digits of a text's SHA-256.
fn digest(text: &str, digits: usize) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(text.as_bytes());
    let mut digest = digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").ok();
        text
    });
    digest.truncate(digits);
    digest
}

/// `$NAME` and `${NAME}` filled in, as Go's `os.ExpandEnv`: what isn't set is empty.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let name_end = |text: &str| {
            text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(text.len())
        };
        rest = after;
        if let Some(braced) = after.strip_prefix('{') {
            if let Some((name, after)) = braced.split_once('}') {
                out.push_str(&variable(name).unwrap_or_default());
                rest = after;
                continue;
            }
        } else if name_end(after) > 0 {
            let (name, after) = after.split_at(name_end(after));
            out.push_str(&variable(name).unwrap_or_default());
            rest = after;
            continue;
        }
        out.push('$');
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::{expand, short_token};

    #[test]
    fn variables_are_filled_in_as_by_go() {
        let variable = |name: &str| (name == "HOST").then(|| "gitlab".to_owned());
        for (text, expected) in [
            ("https://$HOST/", "https://gitlab/"),
            ("https://${HOST}.example", "https://gitlab.example"),
            ("$NONE", ""),
            ("no variable", "no variable"),
            ("a $ and ${ stay", "a $ and ${ stay"),
        ] {
            assert_eq!(expand(text, &variable), expected, "{text}");
        }
    }

    #[test]
    fn a_short_token_is_what_gitlab_shows() {
        for (token, short) in [
            ("glrt-abcdefghijkl", "abcdefgh"),
            ("glrt-t1_abcdefghijkl", "abcdefgh"),
            ("GR1348941abcdefghij", "abcdefgh"),
            ("abc", "abc"),
            ("", ""),
        ] {
            assert_eq!(short_token(token), short, "{token}");
        }
    }
}
