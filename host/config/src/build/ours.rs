//! Our own tables.

use super::address;
use super::runner::span;
use crate::report::Report;
use crate::schema::nearest;
use crate::walk::{Found, Item, Value, choose};
use crate::{
    Credential, CredentialKind, Grants, HttpGrant, PluginEntry, PolicyEntry, PoolTable, Queue,
    Springtide, ToolGrant, Webhook,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

pub(super) fn springtide(root: &Found, report: &mut Report) -> Springtide {
    let Some(found) = root.table("springtide") else {
        return Springtide::default();
    };
    let path = |name: &str| found.filled(name).map(PathBuf::from);
    let state = found.filled("state").map(str::to_owned);
    let named = state
        .as_deref()
        .and_then(|state| state.strip_prefix("sqlite:"));
    if state.is_some() && named.is_none_or(str::is_empty) {
        report.error(
            &found.at("state"),
            "`state` is no place a state can be",
            "write sqlite: and the path of a file, such as state = \"sqlite:/var/lib/springtide/state.db\"",
        );
    }
    Springtide {
        plugin_dir: path("plugin_dir"),
        state,
        helper: path("helper"),
        local_root: path("local_root"),
        webhook: found
            .table("webhook")
            .and_then(|webhook| self::webhook(webhook, report)),
    }
}

fn webhook(found: &Found, report: &mut Report) -> Option<Webhook> {
    let secret = needed(
        found,
        "secret_file",
        "the path of a file with the secret",
        report,
    );
    needed(
        found,
        "listen",
        "an address, such as \"127.0.0.1:9253\"",
        report,
    )?;
    Some(Webhook {
        listen: address(found, "listen", None, report)?,
        secret_file: PathBuf::from(secret?),
    })
}

/// A text that has to be there.
fn needed(found: &Found, name: &str, what: &str, report: &mut Report) -> Option<String> {
    let text = found.filled(name);
    if text.is_none() && (!found.has(name) || found.text(name).is_some()) {
        report.error(
            &found.at(name),
            format!("`{name}` is missing"),
            format!("write {name} = and {what}"),
        );
    }
    text.map(str::to_owned)
}

/// The tables of a map, by their keys.
fn tables<'f>(found: &'f Found, name: &str) -> Vec<(&'f str, &'f Item, &'f Found)> {
    let items = found.map(name).iter();
    items
        .filter_map(|(key, item)| match &item.value {
            Value::Table(table) => Some((key.as_str(), item, table)),
            _ => None,
        })
        .collect()
}

pub(super) fn credentials(root: &Found, report: &mut Report) -> BTreeMap<String, Credential> {
    let mut credentials = BTreeMap::new();
    for (name, _, found) in tables(root, "credentials") {
        let kinds = [("bearer", 0), ("header", 1), ("aws", 2)];
        needed(found, "type", "\"bearer\", \"header\" or \"aws\"", report);
        let kind = match choose(found, "type", &kinds, report) {
            Some(0) => CredentialKind::Bearer,
            Some(1) => CredentialKind::Header(
                needed(found, "header", "the name of a header", report).unwrap_or_default(),
            ),
            Some(_) => CredentialKind::Aws,
            None => continue,
        };
        match kind {
            CredentialKind::Aws => {
                if found.has("token_file") {
                    report.error(
                        &found.key_at("token_file"),
                        "`token_file` is not for credentials of type \"aws\", whose keys are where AWS's tools look",
                        "delete it, or write profile = and the name of a profile",
                    );
                }
            }
            _ => {
                needed(
                    found,
                    "token_file",
                    "the path of a file with the token",
                    report,
                );
            }
        }
        if found.has("header") && !matches!(kind, CredentialKind::Header(_)) {
            report.error(
                &found.key_at("header"),
                "`header` is for credentials of type \"header\"",
                "delete it, or write type = \"header\"",
            );
        }
        if found.has("profile") && kind != CredentialKind::Aws {
            report.error(
                &found.key_at("profile"),
                "`profile` is for credentials of type \"aws\"",
                "delete it, or write type = \"aws\"",
            );
        }
        let credential = Credential {
            kind,
            profile: found.filled("profile").map(str::to_owned),
            token_file: found.filled("token_file").map(PathBuf::from),
        };
        credentials.insert(name.to_owned(), credential);
    }
    credentials
}

pub(super) fn plugins(
    root: &Found,
    credentials: &BTreeMap<String, Credential>,
    report: &mut Report,
) -> BTreeMap<String, PluginEntry> {
    let mut plugins = BTreeMap::new();
    for (id, item, found) in tables(root, "plugins") {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if id.is_empty() || !id.chars().all(plain) {
            report.error(
                &item.key_at,
                format!("{id:?} is no plugin's id"),
                "write letters, digits, `-` and `_`: the file's name without .wasm",
            );
        }
        let grants = found.table("grants");
        let entry = PluginEntry {
            file: found.filled("file").map(PathBuf::from),
            digest: digest(found, report),
            grants: Grants {
                files: grants
                    .and_then(|grants| grants.flag("files"))
                    .unwrap_or(false),
                http: grants
                    .and_then(|grants| grants.table("http"))
                    .map(|http| self::http(http, credentials, report)),
                tools: grants.map_or_else(BTreeMap::new, |grants| tools(grants, report)),
            },
        };
        plugins.insert(id.to_owned(), entry);
    }
    plugins
}

fn digest(found: &Found, report: &mut Report) -> Option<String> {
    let text = found.filled("digest")?.to_ascii_lowercase();
    let digits = text.strip_prefix("sha256:");
    let good = digits
        .is_some_and(|digits| digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()));
    if !good {
        report.error(
            &found.at("digest"),
            "`digest` is no SHA-256",
            "write sha256: and its 64 digits, as `springtide plugin inspect` shows them",
        );
    }
    good.then_some(text)
}

fn http(
    found: &Found,
    credentials: &BTreeMap<String, Credential>,
    report: &mut Report,
) -> HttpGrant {
    let mut origins = Vec::new();
    for entry in found.texts("origins") {
        match origin(&entry.text) {
            Some(origin) => origins.push(origin),
            None => report.error(
                &entry.at,
                format!("{:?} is no origin", entry.text),
                "write a scheme, a host and a port if it needs one, and no path: \"https://pve.internal:8006\"",
            ),
        }
    }
    if found.texts("origins").is_empty() && found.errors == 0 {
        report.warning(
            &found.at("origins"),
            "no origin is granted, and so no request",
            "write origins = [\"https://...\"], or delete the table",
        );
    }
    for entry in found.texts("credentials") {
        if credentials.contains_key(&entry.text) || entry.text == "aws" {
            continue;
        }
        let advice = match nearest(&entry.text, credentials.keys().map(String::as_str)) {
            Some(near) => format!("write {near:?}"),
            None => format!("write [credentials.{}]", entry.text),
        };
        report.error(
            &entry.at,
            format!("there is no credential {:?} that could be used", entry.text),
            advice,
        );
    }
    HttpGrant {
        origins,
        allow_private: found.flag("allow_private").unwrap_or(false),
        credentials: found.strings("credentials"),
        actions: found.has("actions").then(|| found.strings("actions")),
    }
}

/// An origin, spelled as browsers do.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && bare && url.has_host())
        .then(|| url.origin().ascii_serialization())
}

fn tools(grants: &Found, report: &mut Report) -> BTreeMap<String, ToolGrant> {
    let mut tools = BTreeMap::new();
    for (name, _, found) in tables(grants, "tools") {
        let path = needed(found, "path", "the program's path", report);
        if path
            .as_ref()
            .is_some_and(|path| !Path::new(path).is_absolute())
        {
            report.error(
                &found.at("path"),
                "the program's path does not begin at the root, and would depend on where the manager runs",
                "write it from / on",
            );
        }
        for entry in found.texts("owned") {
            let good = entry
                .text
                .rsplit_once(':')
                .is_some_and(|(command, number)| {
                    let number = number.strip_suffix('/').unwrap_or(number);
                    !command.is_empty() && number.parse::<u8>().is_ok_and(|number| number > 0)
                });
            if !good {
                report.error(
                    &entry.at,
                    format!("{:?} names no argument", entry.text),
                    "write a subcommand, a colon and the argument's number, such as \"clonevm:2\"",
                );
            }
        }
        let env = found.map("env").iter();
        let tool = ToolGrant {
            path: PathBuf::from(path.unwrap_or_default()),
            env: env
                .filter_map(|(name, item)| match &item.value {
                    Value::Text(value) => Some((name.clone(), value.clone())),
                    _ => None,
                })
                .collect(),
            allow: match found.item("allow").map(|item| &item.value) {
                Some(Value::Free(lists, _)) => serde_json::from_value(lists.clone()).ok(),
                _ => None,
            },
            owned: found.strings("owned"),
            concurrency: found.count("concurrency"),
        };
        tools.insert(name.to_owned(), tool);
    }
    tools
}

pub(super) fn pool(runner: &Found, report: &mut Report) -> PoolTable {
    let default = PoolTable::default();
    // GitLab Runner's key of this name counts where ours is missing.
    let default = PoolTable {
        prepare_timeout: span(runner, "prepare_timeout").unwrap_or(default.prepare_timeout),
        ..default
    };
    let Some(found) = runner.table("pool") else {
        return default;
    };
    let seconds = |name: &str, default: Duration| {
        found
            .count(name)
            .map_or(default, |seconds| Duration::from_secs(seconds.into()))
    };
    let owner = found.text("owner").map(str::to_owned);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(owner) = &owner
        && !((1..=40).contains(&owner.len()) && owner.chars().all(plain))
    {
        report.error(
            &found.at("owner"),
            format!("{owner:?} can't be put on machines as their owner"),
            "write 1 to 40 small letters, digits and `-`",
        );
    }
    PoolTable {
        owner,
        create_timeout: seconds("create_timeout", default.create_timeout),
        boot_timeout: seconds("boot_timeout", default.boot_timeout),
        prepare_timeout: seconds("prepare_timeout", default.prepare_timeout),
        machine_tries: found
            .count("machine_tries")
            .unwrap_or(default.machine_tries),
        missing_grace: seconds("missing_grace", default.missing_grace),
        ready_command: found.filled("ready_command").map(str::to_owned),
        first_boot: found.filled("first_boot").map(PathBuf::from),
    }
}

pub(super) fn queue(runner: &Found, report: &mut Report) -> Option<Queue> {
    let found = runner.table("queue")?;
    let paths = |name: &str| -> Vec<String> {
        let texts = found.texts(name).iter();
        texts
            .map(|entry| entry.text.trim_matches('/').to_owned())
            .collect()
    };
    let (projects, groups) = (paths("projects"), paths("groups"));
    if projects.is_empty() && groups.is_empty() && found.errors == 0 {
        report.error(
            &found.at,
            "[runners.queue] names no project and no group to look at",
            "write projects = [\"group/project\"] or groups = [\"group\"], or delete the table",
        );
    }
    for entry in found.texts("projects") {
        let path = entry.text.trim_matches('/');
        if !path.contains('/') && path.parse::<u64>().is_err() {
            report.error(
                &entry.at,
                format!("{:?} is no project's path", entry.text),
                "write \"group/project\" or the project's number; a group goes in groups",
            );
        }
    }
    for entry in found.texts("groups") {
        if entry.text.trim_matches('/').is_empty() {
            report.error(
                &entry.at,
                "a group has no name",
                "write its path, or delete it",
            );
        }
    }
    let token_file = needed(
        found,
        "token_file",
        "the path of a file with a token that may read the API",
        report,
    );
    let tags = found.strings("tags");
    let run_untagged = found.flag("run_untagged").unwrap_or(tags.is_empty());
    if tags.is_empty() && !run_untagged {
        report.warning(
            &found.at("run_untagged"),
            "a runner without tags that runs no untagged jobs takes no job at all",
            "write the runner's tags as GitLab shows them, or run_untagged = true",
        );
    }
    let refresh = found.count("refresh").unwrap_or(15);
    let stale_after = found.count("stale_after").unwrap_or(90);
    if stale_after <= refresh {
        report.error(
            &found.at("stale_after"),
            format!("what is seen every {refresh} s is stale after {stale_after} s, and would hardly ever count"),
            format!("write stale_after = {} or more", refresh.saturating_mul(3)),
        );
    }
    Some(Queue {
        projects,
        groups,
        tags,
        run_untagged,
        token_file: PathBuf::from(token_file.unwrap_or_default()),
        refresh: Duration::from_secs(refresh.into()),
        stale_after: Duration::from_secs(stale_after.into()),
        requests_per_minute: found.count("requests_per_minute").unwrap_or(400),
    })
}

pub(super) fn policies(runner: &Found, report: &mut Report) -> Vec<PolicyEntry> {
    let mut policies = Vec::new();
    for found in runner.tables("policy") {
        let Some(plugin) = needed(found, "plugin", "the name of a policy", report) else {
            continue;
        };
        let mut entry = PolicyEntry {
            plugin,
            at: report.position(&found.at("plugin")),
            settings: serde_json::Map::new(),
            settings_at: BTreeMap::new(),
        };
        if let Some(Value::Free(serde_json::Value::Object(settings), keys)) =
            found.item("settings").map(|item| &item.value)
        {
            entry.settings = settings.clone();
            let keys = keys.iter();
            entry.settings_at = keys
                .map(|(name, at)| (name.clone(), report.position(at)))
                .collect();
        }
        policies.push(entry);
    }
    policies
}
