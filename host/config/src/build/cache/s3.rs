//! `[runners.cache.s3]`.

use super::{host, plain};
use crate::report::Report;
use crate::walk::Found;
use crate::{S3, S3Encryption, S3Endpoint, S3Keys, S3Role};
use secrecy::SecretString;

/// What AWS's own address is called in a file; each region has one of its own.
const AWS: &str = "s3.amazonaws.com";
/// As in GitLab Runner.
const SESSIONS_AT_ONCE: u32 = 5;

pub(super) fn s3(found: &Found, report: &mut Report) -> Option<S3> {
    // All of it is looked at, whatever is wrong first.
    let bucket = plain(found, "BucketName", report);
    let keys = keys(found, report);
    let endpoint = endpoint(found, bucket.as_deref(), report);
    let encryption = encryption(found, report);
    let role = role(found, report);
    let (endpoint, region_of_address) = endpoint?;
    let accelerated = matches!(
        endpoint,
        S3Endpoint::Aws {
            accelerate: true,
            ..
        }
    );
    let mut path_style = found.flag("PathStyle");
    if path_style == Some(true) && accelerated {
        report.warning(
            &found.at("PathStyle"),
            "`PathStyle` is not used, for there is none with `Accelerate`",
            "delete one of them",
        );
        path_style = None;
    }
    let at_once = found.number("AssumeRoleMaxConcurrency").unwrap_or(0);
    Some(S3 {
        endpoint,
        keys: keys?,
        bucket: bucket?,
        region: found
            .filled("BucketLocation")
            .map(str::to_owned)
            .or(region_of_address),
        path_style,
        encryption,
        role,
        sessions_at_once: match at_once {
            ..=-1 => None,
            0 => Some(SESSIONS_AT_ONCE),
            limit => u32::try_from(limit).ok(),
        },
        sessions_kept: !found
            .flag("DisableAssumeRoleCredentialsCaching")
            .unwrap_or(false),
    })
}

fn keys(found: &Found, report: &mut Report) -> Option<S3Keys> {
    let secret = |name: &str| found.filled(name).map(SecretString::from);
    let (access_key, secret_key) = (secret("AccessKey"), secret("SecretKey"));
    let written = found
        .filled("AuthenticationType")
        .map(str::to_ascii_lowercase);
    let addressed = found.filled("ServerAddress").is_some();
    let given = match (written.as_deref(), &access_key, &secret_key) {
        (Some("access-key"), _, _) => true,
        (Some("iam"), _, _) => false,
        (None, Some(_), Some(_)) => addressed,
        (None, _, _) => false,
        (Some(other), _, _) => {
            report.warning(
                &found.at("AuthenticationType"),
                format!("there is no `AuthenticationType` {other:?}, and no cache is kept"),
                "write AuthenticationType = \"access-key\" or \"iam\"",
            );
            return None;
        }
    };
    if !given {
        let why = match written {
            Some(_) => "`AuthenticationType` is \"iam\"",
            None => {
                "without `ServerAddress`, `AccessKey` and `SecretKey` together the keys are those of the manager's machine"
            }
        };
        for name in ["AccessKey", "SecretKey", "SessionToken"] {
            if found.filled(name).is_some() {
                report.warning(
                    &found.key_at(name),
                    format!("`{name}` is not used: {why}"),
                    "write AuthenticationType = \"access-key\", or delete it",
                );
            }
        }
        return Some(S3Keys::Iam);
    }
    for (name, value) in [("AccessKey", &access_key), ("SecretKey", &secret_key)] {
        if value.is_none() {
            report.warning(
                &found.at("AuthenticationType"),
                format!("`AuthenticationType` is \"access-key\" and `{name}` is missing, and no cache is kept"),
                format!("write {name} = \"...\", or AuthenticationType = \"iam\""),
            );
        }
    }
    Some(S3Keys::These {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token: secret("SessionToken"),
    })
}

/// The endpoint, and the region its address has in it.
fn endpoint(
    found: &Found,
    bucket: Option<&str>,
    report: &mut Report,
) -> Option<(S3Endpoint, Option<String>)> {
    let mut insecure = found.flag("Insecure").unwrap_or(false);
    let mut address = found.filled("ServerAddress").unwrap_or(AWS);
    if let Some((scheme, rest)) = address.split_once("://") {
        report.warning(
            &found.at("ServerAddress"),
            "`ServerAddress` is a host and a port, without a scheme",
            "write ServerAddress = \"host:port\", and Insecure = true for plain HTTP",
        );
        insecure |= scheme.eq_ignore_ascii_case("http");
        address = rest.trim_end_matches('/');
    }
    let mut region = None;
    let rest_of_website = website(address).map(|at| {
        let server = format!("s3.{at}.amazonaws.com");
        report.warning(
            &found.at("ServerAddress"),
            format!("`ServerAddress` is where S3 shows websites, which takes no archives, and {server} is used"),
            format!("write ServerAddress = {server:?}"),
        );
        region = Some(at.to_owned());
        server
    });
    let address = rest_of_website.as_deref().unwrap_or(address);
    let (name, port) = address.split_once(':').unwrap_or((address, ""));
    if name != AWS || !matches!(port, "" | "443") {
        for key in ["Accelerate", "DualStack"] {
            if found.flag(key) == Some(true) {
                report.warning(
                    &found.key_at(key),
                    format!("`{key}` is not used: it is for {AWS} alone"),
                    "delete it, or delete `ServerAddress` and write the bucket's region in `BucketLocation`",
                );
            }
        }
        let address = host(found, "ServerAddress", address, report)?;
        return Some((S3Endpoint::At { address, insecure }, region));
    }
    if insecure {
        report.warning(
            &found.at("Insecure"),
            "`Insecure` is not used: AWS is reached by HTTPS",
            "delete it",
        );
    }
    let mut accelerate = found.flag("Accelerate").unwrap_or(false);
    if accelerate && !bucket.is_none_or(crate::cache::is_host_name) {
        report.warning(
            &found.at("Accelerate"),
            "`Accelerate` is not used: the bucket's name would have to be one of a host, without dots",
            "delete it, or take another bucket",
        );
        accelerate = false;
    }
    let dual_stack = found.flag("DualStack").unwrap_or(true);
    Some((
        S3Endpoint::Aws {
            dual_stack,
            accelerate,
        },
        None,
    ))
}

/// The region of an address at which S3 shows a bucket as a website:
/// `bucket.s3-website-eu-west-1.amazonaws.com`, or with a dot before the region.
fn website(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("s3-website")?;
    let region = rest.strip_prefix(['-', '.'])?;
    let region = region.split_once(".amazonaws.com")?.0;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (!region.is_empty() && region.chars().all(fits)).then_some(region)
}

fn role(found: &Found, report: &mut Report) -> Option<S3Role> {
    let old = found.filled("UploadRoleARN");
    if old.is_some() {
        report.warning(
            &found.key_at("UploadRoleARN"),
            "`UploadRoleARN` is the old name of `RoleARN`, and for uploads alone",
            "write RoleARN",
        );
    }
    match found.filled("RoleARN") {
        Some(role) => Some(S3Role::Transfers(role.to_owned())),
        None => old.map(|role| S3Role::Uploads(role.to_owned())),
    }
}

fn encryption(found: &Found, report: &mut Report) -> Option<S3Encryption> {
    let key = found.filled("ServerSideEncryptionKeyID").map(str::to_owned);
    let text = found.filled("ServerSideEncryption").unwrap_or_default();
    let (encryption, with_key) = match text.to_ascii_lowercase().as_str() {
        "" => (None, false),
        "s3" | "aes256" => (Some(S3Encryption::S3), false),
        "kms" | "aws:kms" => (Some(S3Encryption::Kms(key.clone())), true),
        "dsse-kms" | "aws:kms:dsse" => (Some(S3Encryption::DsseKms(key.clone())), true),
        _ => {
            report.warning(
                &found.at("ServerSideEncryption"),
                format!("there is no `ServerSideEncryption` {text:?}, and none is used"),
                "write \"S3\", \"KMS\" or \"DSSE-KMS\"",
            );
            return None;
        }
    };
    if key.is_some() && !with_key {
        report.warning(
            &found.key_at("ServerSideEncryptionKeyID"),
            "`ServerSideEncryptionKeyID` is not used: it is for `ServerSideEncryption` with KMS",
            "write ServerSideEncryption = \"KMS\", or delete it",
        );
    }
    encryption
}
