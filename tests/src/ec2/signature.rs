//! Signatures of AWS, version 4, by hand: what is signed is written down in AWS's own documents, and
//! this shares no code with what the host signs with.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Seconds a request's own time may be from EC2's.
const VALID: u64 = 300;

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key's id.
    pub id: String,
    /// Its secret part.
    pub secret: String,
}

/// A request as far as it is signed.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    /// `POST`.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, as sent.
    pub query: &'a str,
    /// Header fields with lower-case names.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

impl Signed<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The signature over these header fields, at a time `20260302T090000Z`, in a scope
    /// `20260302/eu-west-1/ec2/aws4_request`.
    fn signature(&self, secret: &str, names: &str, at: &str, scope: &str) -> String {
        let mut query: Vec<&str> = self
            .query
            .split('&')
            .filter(|part| !part.is_empty())
            .collect();
        query.sort_unstable();
        let mut canonical = format!("{}\n{}\n{}\n", self.method, self.path, query.join("&"));
        for name in names.split(';') {
            let value = self.header(name).unwrap_or_default();
            let value: Vec<&str> = value.split_whitespace().collect();
            canonical += &format!("{name}:{}\n", value.join(" "));
        }
        canonical += &format!("\n{names}\n{}", hex(&Sha256::digest(self.body)));
        let hash = hex(&Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{hash}");
        let first = format!("AWS4{secret}").into_bytes();
        let key = scope.split('/').fold(first, |key, part| mac(&key, part));
        hex(&mac(&key, &text))
    }

    /// Whether it is signed by this key for EC2, at about this time.
    ///
    /// # Errors
    /// EC2's code and a sentence.
    pub fn verify(&self, key: &Key, now: &str) -> Result<(), (&'static str, String)> {
        let failed = |why: &str| Err(("AuthFailure", why.to_owned()));
        let Some(given) = self.header("authorization") else {
            return Err(("MissingAuthenticationToken", "it is not signed".into()));
        };
        let Some(parts) = given.strip_prefix("AWS4-HMAC-SHA256 ") else {
            return failed("it is signed in another way");
        };
        let part = |name: &str| {
            let mut all = parts.split(',').map(str::trim);
            all.find_map(|part| part.strip_prefix(name))
                .unwrap_or_default()
        };
        let Some((id, scope)) = part("Credential=").split_once('/') else {
            return failed("its credential has no scope");
        };
        if id != key.id {
            return failed("its key is not known");
        }
        let at = self.header("x-amz-date").unwrap_or_default();
        let scope_parts: Vec<&str> = scope.split('/').collect();
        let [day, _, "ec2", "aws4_request"] = scope_parts[..] else {
            return failed("its scope is not one of EC2's");
        };
        if !at.starts_with(day) {
            return failed("its scope is of another day");
        }
        let apart = seconds(at)
            .zip(seconds(now))
            .map(|(at, now)| at.abs_diff(now));
        if apart.is_none_or(|apart| apart > VALID) {
            return Err(("RequestExpired", "Request has expired.".into()));
        }
        let names = part("SignedHeaders=");
        for needed in ["host", "x-amz-date"] {
            if !names.split(';').any(|name| name == needed) {
                return failed("it leaves the host or the date unsigned");
            }
        }
        match self.signature(&key.secret, names, at, scope) == part("Signature=") {
            true => Ok(()),
            false => Err((
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided."
                    .into(),
            )),
        }
    }

    /// The header fields that sign it, where `host` is among its own.
    #[must_use]
    pub fn sign(&self, key: &Key, region: &str, at: &str) -> Vec<(String, String)> {
        let mut headers = self.headers.to_vec();
        headers.push(("x-amz-date".into(), at.into()));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let scope = format!(
            "{}/{region}/ec2/aws4_request",
            at.get(..8).unwrap_or_default()
        );
        let whole = Signed {
            headers: &headers,
            ..self.clone()
        };
        let signature = whole.signature(&key.secret, &names, at, &scope);
        let id = &key.id;
        headers.push((
            "authorization".into(),
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"),
        ));
        headers
    }
}

/// An instant such as `20260302T090000Z` in seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to);
    let plain = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    let at = humantime::parse_rfc3339(&plain).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The case `post-x-www-form-urlencoded` of AWS's own suite has the service `service`, so this is
    /// the key derivation its documents show.
    #[test]
    fn a_signing_key_is_as_in_awss_own_example() {
        let first = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        let key = ["20150830", "us-east-1", "iam", "aws4_request"]
            .iter()
            .fold(first, |key, part| mac(&key, part));
        assert_eq!(
            hex(&key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn what_is_changed_after_it_was_signed_is_refused() {
        let key = Key {
            id: "AKIA".into(),
            secret: "secret".into(),
        };
        let host = [("host".to_owned(), "ec2.test".to_owned())];
        let request = Signed {
            method: "POST",
            path: "/",
            query: "",
            headers: &host,
            body: b"Action=DescribeInstances",
        };
        let at = "20260302T090000Z";
        let headers = request.sign(&key, "eu-west-1", at);
        let sent = Signed {
            headers: &headers,
            ..request.clone()
        };
        assert_eq!(sent.verify(&key, at), Ok(()));
        let code = |request: &Signed, now| request.verify(&key, now).map_err(|(code, _)| code);
        let body = Signed {
            body: b"Action=TerminateInstances",
            ..sent.clone()
        };
        assert_eq!(code(&body, at), Err("SignatureDoesNotMatch"));
        assert_eq!(code(&sent, "20260302T110000Z"), Err("RequestExpired"));
        assert_eq!(code(&request, at), Err("MissingAuthenticationToken"));
    }
}
