//! `[runners.cache]`. As in GitLab Runner, a cache that can't work is no reason not to run jobs.

mod s3;

use crate::report::Report;
use crate::schema::nearest;
use crate::walk::Found;
use crate::{Azure, Cache, CacheStore, Gcs, GcsKey};
use std::path::PathBuf;

const TYPES: [&str; 3] = ["s3", "gcs", "azure"];

pub(super) fn cache(runner: &Found, report: &mut Report) -> Option<Cache> {
    let found = runner.table("cache")?;
    let kind = kind(found, report)?;
    let Some(table) = found.table(kind) else {
        report.warning(
            &found.at("Type"),
            format!("there is no [runners.cache.{kind}], and no cache is kept"),
            format!("write [runners.cache.{kind}]"),
        );
        return None;
    };
    let store = match kind {
        "s3" => CacheStore::S3(Box::new(s3::s3(table, report)?)),
        "gcs" => CacheStore::Gcs(Box::new(gcs(table, report)?)),
        _ => CacheStore::Azure(Box::new(azure(table, report)?)),
    };
    let largest = found.number("MaxUploadedArchiveSize").unwrap_or(0);
    Some(Cache {
        path: found.text("Path").unwrap_or_default().to_owned(),
        shared: found.flag("Shared").unwrap_or(false),
        max_uploaded_archive_size: u64::try_from(largest).unwrap_or(0),
        store,
    })
}

fn kind(found: &Found, report: &mut Report) -> Option<&'static str> {
    let Some(written) = found.filled("Type") else {
        // GitLab Runner's own `register` writes the tables of all three, without a word in them.
        let set = |name: &&&str| found.table(name).is_some_and(Found::says_anything);
        let table = TYPES.iter().find(set)?;
        let s3 = *table == "s3";
        let done = if s3 {
            "this is taken for it"
        } else {
            "no cache is kept"
        };
        report.warning(
            &found.key_at(table),
            format!("there is [runners.cache.{table}] and no `Type`, and {done}"),
            format!("write Type = {table:?} in [runners.cache]"),
        );
        return s3.then_some("s3");
    };
    let kind = TYPES.iter().find(|kind| **kind == written).copied();
    if kind.is_none() {
        let advice = match nearest(written, TYPES) {
            Some(near) => format!("write Type = {near:?}"),
            None => "write Type = \"s3\", \"gcs\" or \"azure\", or delete it".to_owned(),
        };
        report.warning(
            &found.at("Type"),
            format!("there is no cache of type {written:?}, and none is kept"),
            advice,
        );
    }
    kind
}

/// A text there is no cache without.
fn needed(found: &Found, name: &str, advice: &str, report: &mut Report) -> Option<String> {
    let text = found.filled(name);
    if text.is_none() && found.errors == 0 {
        let advice = match advice {
            "" => format!("write {name} = and a name"),
            more => more.to_owned(),
        };
        report.warning(
            &found.at(name),
            format!("`{name}` is missing, and no cache is kept"),
            advice,
        );
    }
    text.map(str::to_owned)
}

/// A name that becomes a part of an address.
fn plain(found: &Found, name: &str, report: &mut Report) -> Option<String> {
    let text = needed(found, name, "", report)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.chars().all(fits) && !text.starts_with('.') && !text.ends_with('.') {
        return Some(text);
    }
    report.warning(
        &found.at(name),
        format!("`{name}` {text:?} can't be a part of an address, and no cache is kept"),
        format!("write {name} = and letters, digits, '-', '.' and '_'; what comes before the names of archives is `Path` of [runners.cache]"),
    );
    None
}

/// A host, with or without a port.
fn host(found: &Found, name: &str, text: &str, report: &mut Report) -> Option<String> {
    let url = url::Url::parse(&format!("https://{text}/")).ok();
    let fits = url.is_some_and(|url| {
        url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && url.has_host()
    });
    if !fits {
        report.warning(
            &found.at(name),
            format!("`{name}` is no address of a server, and no cache is kept"),
            format!("write {name} = \"host\" or \"host:port\""),
        );
    }
    fits.then(|| text.to_owned())
}

fn gcs(found: &Found, report: &mut Report) -> Option<Gcs> {
    let bucket = plain(found, "BucketName", report);
    let key = match found.filled("CredentialsFile") {
        Some(file) => {
            for name in ["AccessID", "PrivateKey"] {
                if found.filled(name).is_some() {
                    report.warning(
                        &found.key_at(name),
                        format!("`{name}` is not used, for there is `CredentialsFile`"),
                        "delete one of them",
                    );
                }
            }
            GcsKey::File(PathBuf::from(file))
        }
        None => {
            let advice = "write CredentialsFile = and the path of a service account's key, or AccessID and PrivateKey; addresses can't be signed with the account of the manager's machine";
            let access_id = needed(found, "AccessID", advice, report);
            let private_key = needed(found, "PrivateKey", advice, report);
            GcsKey::This {
                access_id: access_id?,
                private_key: private_key?.into(),
            }
        }
    };
    let universe = match found.filled("UniverseDomain") {
        Some(universe) => Some(host(found, "UniverseDomain", universe, report)?),
        None => None,
    };
    Some(Gcs {
        bucket: bucket?,
        key,
        universe,
    })
}

fn azure(found: &Found, report: &mut Report) -> Option<Azure> {
    let container = plain(found, "ContainerName", report);
    let account = plain(found, "AccountName", report);
    let advice = "write AccountKey = \"...\": addresses can't be signed with an identity of the manager's machine";
    let key = needed(found, "AccountKey", advice, report);
    let domain = match found.filled("StorageDomain") {
        Some(domain) => host(found, "StorageDomain", domain, report)?,
        None => "blob.core.windows.net".to_owned(),
    };
    Some(Azure {
        account: account?,
        key: key?.into(),
        container: container?,
        domain,
    })
}
