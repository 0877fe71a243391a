//! A role that is taken on (STS `AssumeRole`): a session for one object alone, used again while it is
//! fresh. The session's keys sign addresses and go nowhere.

use super::{address, body, causes};
use crate::{CacheError, ObjectName};
use serde_json::json;
use springtide_aws::{Aws, Credentials, Refusal, Scope, Unsigned};
use springtide_config::{S3, S3Encryption};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use url::Url;

/// As long as every role allows, and the most where the manager has a role itself.
const SESSION: Duration = Duration::from_secs(3600);
/// A session with so much left is used again for longer jobs too.
const FRESH: Duration = Duration::from_secs(1800);

#[derive(Debug)]
pub(super) struct Role {
    arn: String,
    bucket: String,
    /// `None` is none; `Some(None)` is a key of the bucket's choice.
    kms: Option<Option<String>>,
    kept: bool,
    sts: Option<Url>,
    at_once: Option<Arc<Semaphore>>,
    sessions: Mutex<HashMap<ObjectName, Credentials>>,
}

/// What a session is asked for with.
pub(super) struct Asking<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) aws: &'a Aws,
    pub(super) own: &'a Credentials,
    pub(super) region: &'a str,
}

impl Role {
    pub(super) fn new(arn: &str, config: &S3, sts: Option<Url>) -> Role {
        Role {
            arn: arn.to_owned(),
            bucket: config.bucket.clone(),
            kms: match &config.encryption {
                Some(S3Encryption::Kms(key) | S3Encryption::DsseKms(key)) => Some(key.clone()),
                Some(S3Encryption::S3) | None => None,
            },
            kept: config.sessions_kept,
            sts,
            at_once: config
                .sessions_at_once
                .map(|limit| Arc::new(Semaphore::new(limit as usize))),
            sessions: Mutex::default(),
        }
    }

    /// The keys of a session for an object.
    pub(super) async fn session(
        &self,
        asking: &Asking<'_>,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<Credentials, CacheError> {
        if let Some(keys) = self.kept(object, valid_for, now) {
            return Ok(keys);
        }
        let _turn = match &self.at_once {
            // It is never closed.
            Some(limit) => limit.acquire().await.ok(),
            None => None,
        };
        if let Some(keys) = self.kept(object, valid_for, now) {
            return Ok(keys);
        }
        let keys = self.ask(asking, object, now).await?;
        if self.kept {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|_, keys| keys.expiry().is_some_and(|end| end > now));
            sessions.insert(object.clone(), keys.clone());
        }
        Ok(keys)
    }

    fn kept(
        &self,
        object: &ObjectName,
        valid_for: Duration,
        now: SystemTime,
    ) -> Option<Credentials> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = sessions.get(object)?;
        let fresh = keys.expiry()? >= now + valid_for.min(FRESH);
        fresh.then(|| keys.clone())
    }

    async fn ask(
        &self,
        asking: &Asking<'_>,
        object: &ObjectName,
        now: SystemTime,
    ) -> Result<Credentials, CacheError> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.arn)
            .append_pair(
                "RoleSessionName",
                &format!("springtide-cache-{}", uuid::Uuid::new_v4().simple()),
            )
            .append_pair("DurationSeconds", &SESSION.as_secs().to_string())
            .append_pair("Policy", &self.policy(object, asking.region))
            .finish();
        let (status, date, text) = self.post(asking, asking.own, &form, now).await?;
        let Some(refusal) = Refusal::of(status, &text) else {
            return self.read(status, &text);
        };
        let others = match refusal.keys {
            true => asking.aws.others(asking.own, asking.region, now).await,
            false => None,
        };
        let again = refusal.clock && asking.aws.correct(date.as_ref(), now);
        if !again && others.is_none() {
            return self.read(status, &text);
        }
        let keys = others.as_ref().unwrap_or(asking.own);
        let (status, _, text) = self.post(asking, keys, &form, now).await?;
        self.read(status, &text)
    }

    async fn post(
        &self,
        asking: &Asking<'_>,
        keys: &Credentials,
        form: &str,
        now: SystemTime,
    ) -> Result<(u16, Option<http::HeaderValue>, Vec<u8>), CacheError> {
        let region = asking.region;
        let url = match &self.sts {
            Some(url) => url.clone(),
            None => {
                let end = address::domain(region);
                Url::parse(&format!("https://sts.{region}.{end}/")).map_err(|error| {
                    CacheError::Misconfigured(format!("there is no region {region:?}: {error}"))
                })?
            }
        };
        let failed = |why: String| {
            CacheError::Unreachable(format!(
                "asking {url} for a session of {}: {why}; the manager needs to reach it for `RoleARN`",
                self.arn
            ))
        };
        let mut headers = http::HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let unsigned = Unsigned {
            method: "POST",
            url: &url,
            headers: &headers,
            body: form.as_bytes(),
        };
        let scope = Scope {
            service: "sts".to_owned(),
            region: region.to_owned(),
        };
        let signature = springtide_aws::signature(&unsigned, &scope, keys, asking.aws.clock(now))
            .map_err(CacheError::Misconfigured)?;
        headers.extend(signature);
        let request = asking.client.post(url.clone()).headers(headers);
        let answer = request.body(form.to_owned()).send().await;
        let answer = answer.map_err(|error| failed(causes(error)))?;
        let status = answer.status().as_u16();
        let date = answer.headers().get(http::header::DATE).cloned();
        let text = body(answer).await.map_err(|error| failed(causes(error)))?;
        Ok((status, date, text))
    }

    /// The session in an answer, or what the answer says instead.
    fn read(&self, status: u16, text: &[u8]) -> Result<Credentials, CacheError> {
        let text = String::from_utf8_lossy(text);
        let document = roxmltree::Document::parse(&text);
        let value = |name: &str| {
            let document = document.as_ref().ok()?;
            let node = document
                .descendants()
                .find(|node| node.tag_name().name() == name)?;
            node.text().filter(|text| !text.is_empty())
        };
        if status != 200 {
            let code = value("Code").unwrap_or("no code");
            let message: String = value("Message")
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect();
            let why = format!(
                "asking for a session of {}: STS answered {status} {code}: {message}",
                self.arn
            );
            return Err(match status {
                400..=403 => CacheError::Denied(format!(
                    "{why}; the manager's own keys need sts:AssumeRole, and the role has to trust them"
                )),
                _ => CacheError::Unreachable(why),
            });
        }
        let keys = (
            value("AccessKeyId"),
            value("SecretAccessKey"),
            value("SessionToken"),
            value("Expiration").and_then(instant),
        );
        match keys {
            (Some(id), Some(secret), Some(token), Some(end)) => Ok(Credentials::new(
                id,
                secret,
                Some(token.to_owned()),
                Some(end),
                "springtide-cache",
            )),
            _ => Err(CacheError::Unreachable(format!(
                "asking for a session of {}: the answer has none in it",
                self.arn
            ))),
        }
    }

    /// What a session may do: read and write one object.
    fn policy(&self, object: &ObjectName, region: &str) -> String {
        let partition = match region {
            cn if cn.starts_with("cn-") => "aws-cn",
            gov if gov.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let mut statements = vec![json!({
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": format!("arn:{partition}:s3:::{}/{}", self.bucket, literal(object.as_str())),
        })];
        if let Some(key) = &self.kms {
            let key = key.as_deref().filter(|key| key.starts_with("arn:"));
            statements.push(json!({
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": key.unwrap_or("*"),
            }));
        }
        json!({"Version": "2012-10-17", "Statement": statements}).to_string()
    }
}

fn instant(text: &str) -> Option<SystemTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    SystemTime::try_from(at).ok()
}

/// A name in which a policy sees no wildcards and no variables.
fn literal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '*' | '?' | '$' => text.extend(['$', '{', c, '}']),
            other => text.push(other),
        }
    }
    text
}
