//! `[runners.cache]`. As in GitLab Runner, a cache that can't work is no reason not to run jobs.

use crate::report::Report;
use crate::schema::nearest;
use crate::walk::Found;
use crate::{Cache, CacheStore, S3, S3Authentication};
use secrecy::SecretString;

const TYPES: [&str; 3] = ["s3", "gcs", "azure"];

pub(super) fn cache(runner: &Found, report: &mut Report) -> Option<Cache> {
    let found = runner.table("cache")?;
    let Some(kind) = found.filled("Type") else {
        // GitLab Runner's own `register` writes the tables of all three, without a word in them.
        let set = |name: &&&str| found.table(name).is_some_and(Found::says_anything);
        if let Some(table) = TYPES.iter().find(set) {
            report.warning(
                &found.key_at(table),
                format!("there is [runners.cache.{table}] and no `Type`, and no cache is kept"),
                format!("write Type = {table:?} in [runners.cache]"),
            );
        }
        return None;
    };
    if !TYPES.contains(&kind) {
        let advice = match nearest(kind, TYPES) {
            Some(near) => format!("write Type = {near:?}"),
            None => "write Type = \"s3\", \"gcs\" or \"azure\", or delete it".to_owned(),
        };
        report.warning(
            &found.at("Type"),
            format!("there is no cache of type {kind:?}, and none is kept"),
            advice,
        );
        return None;
    }
    let Some(store) = found.table(kind) else {
        report.warning(
            &found.at("Type"),
            format!("there is no [runners.cache.{kind}], and no cache is kept"),
            format!("write [runners.cache.{kind}]"),
        );
        return None;
    };
    let bucket = if kind == "azure" {
        "ContainerName"
    } else {
        "BucketName"
    };
    if store.filled(bucket).is_none() && store.errors == 0 {
        report.warning(
            &store.at(bucket),
            format!("`{bucket}` is missing, and no cache is kept"),
            format!("write {bucket} = and a name"),
        );
        return None;
    }
    let store = match kind {
        "s3" => CacheStore::S3(Box::new(s3(store, report)?)),
        "gcs" => CacheStore::Gcs,
        _ => CacheStore::Azure,
    };
    let largest = found.number("MaxUploadedArchiveSize").unwrap_or(0);
    Some(Cache {
        path: found.text("Path").unwrap_or_default().to_owned(),
        shared: found.flag("Shared").unwrap_or(false),
        max_uploaded_archive_size: u64::try_from(largest).unwrap_or(0),
        store,
    })
}

fn s3(found: &Found, report: &mut Report) -> Option<S3> {
    let text = |name: &str| found.filled(name).map(str::to_owned);
    let secret = |name: &str| found.filled(name).map(SecretString::from);
    let keys = ["ServerAddress", "AccessKey", "SecretKey"]
        .iter()
        .all(|name| found.filled(name).is_some());
    let authentication = match found.filled("AuthenticationType") {
        Some("iam") => S3Authentication::Iam,
        Some("access-key") => S3Authentication::AccessKey,
        None if keys => S3Authentication::AccessKey,
        None => S3Authentication::Iam,
        Some(other) => {
            report.warning(
                &found.at("AuthenticationType"),
                format!("there is no `AuthenticationType` {other:?}, and no cache is kept"),
                "write AuthenticationType = \"access-key\" or \"iam\"",
            );
            return None;
        }
    };
    if authentication == S3Authentication::AccessKey {
        for name in ["AccessKey", "SecretKey"] {
            if found.filled(name).is_none() {
                report.warning(
                    &found.at("AuthenticationType"),
                    format!("`AuthenticationType` is \"access-key\", and `{name}` is missing"),
                    format!("write {name} = \"...\", or AuthenticationType = \"iam\""),
                );
            }
        }
    }
    let address = text("ServerAddress");
    if address
        .as_ref()
        .is_some_and(|address| address.contains("://"))
    {
        report.warning(
            &found.at("ServerAddress"),
            "`ServerAddress` is a host and a port, without a scheme",
            "write ServerAddress = \"host:port\", and Insecure = true for plain HTTP",
        );
    }
    if let Some(role) = found.item("UploadRoleARN") {
        report.warning(
            &role.key_at,
            "`UploadRoleARN` is the old name of `RoleARN`",
            "write RoleARN",
        );
    }
    Some(S3 {
        server_address: address.unwrap_or_else(|| "s3.amazonaws.com".to_owned()),
        access_key: secret("AccessKey"),
        secret_key: secret("SecretKey"),
        session_token: secret("SessionToken"),
        bucket_name: text("BucketName").unwrap_or_default(),
        bucket_location: text("BucketLocation"),
        insecure: found.flag("Insecure").unwrap_or(false),
        authentication,
        path_style: found.flag("PathStyle"),
        dual_stack: found.flag("DualStack").unwrap_or(true),
        accelerate: found.flag("Accelerate").unwrap_or(false),
        server_side_encryption: encryption(found, report),
        server_side_encryption_key_id: text("ServerSideEncryptionKeyID"),
        role_arn: text("RoleARN").or_else(|| text("UploadRoleARN")),
    })
}

/// The name S3 itself has for it.
fn encryption(found: &Found, report: &mut Report) -> Option<String> {
    let text = found.filled("ServerSideEncryption")?;
    let name = match text.to_ascii_lowercase().as_str() {
        "s3" | "aes256" => "AES256",
        "kms" | "aws:kms" => "aws:kms",
        "dsse-kms" | "aws:kms:dsse" => "aws:kms:dsse",
        _ => {
            report.warning(
                &found.at("ServerSideEncryption"),
                format!("there is no `ServerSideEncryption` {text:?}, and none is used"),
                "write \"S3\", \"KMS\" or \"DSSE-KMS\"",
            );
            return None;
        }
    };
    Some(name.to_owned())
}
