//! Signatures as AWS and botocore make them, and what becomes of keys and clocks.

use super::*;
use http::HeaderMap;
use std::time::UNIX_EPOCH;
use url::Url;

/// 2015-08-30T12:36:00Z, the time of AWS's test vectors.
const AT: u64 = 1_440_938_160;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn example(token: Option<&str>) -> Credentials {
    Credentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        token.map(str::to_owned),
        None,
        "test",
    )
}

#[test]
fn signatures_are_those_of_awss_vectors_and_of_botocore() {
    let form: &[(&str, &str)] = &[(
        "content-type",
        "application/x-www-form-urlencoded; charset=utf-8",
    )];
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a str,
        Option<&'a str>,
        &'a str,
        &'a str,
    );
    let cases: [Case<'_>; 3] = [
        (
            "GET",
            "https://example.amazonaws.com/",
            &[],
            "",
            None,
            "service/us-east-1",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "https://ec2.eu-west-1.amazonaws.com/",
            form,
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Aspringtide%3Aowner",
            Some("session/token=="),
            "ec2/eu-west-1",
            "b3e421fbcfa16776c32024484f3f6ddb089cdee324264c0458cf8f41f446aaa9",
        ),
        (
            "GET",
            "https://ec2.eu-west-1.amazonaws.com/?Action=DescribeVpcs&Name=a%20b%2Fc",
            &[],
            "",
            None,
            "ec2/eu-west-1",
            "62168b0e2d3f0087b8b59e175e2869ca07549911571e893b9ed173857dd378af",
        ),
    ];
    for (method, url, fields, body, token, scope, expected) in cases {
        let url: Url = url.parse().unwrap();
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let unsigned = Unsigned {
            method,
            url: &url,
            headers: &headers,
            body: body.as_bytes(),
        };
        let scope = Scope::of(Some(scope), &url).unwrap();
        let signed = signature(&unsigned, &scope, &example(token), at(AT)).unwrap();
        assert_eq!(signed["x-amz-date"], "20150830T123600Z");
        assert_eq!(signed.contains_key("x-amz-security-token"), token.is_some());
        let field = signed["authorization"].to_str().unwrap();
        assert!(
            field.ends_with(&format!("Signature={expected}")),
            "{url}: {field}"
        );
        let shown = format!("{signed:?}");
        assert!(
            !shown.contains(expected) && !shown.contains("session/token"),
            "{shown}"
        );
    }
}

#[test]
fn what_is_signed_for_is_said_or_read_from_the_host() {
    for (given, url, expected) in [
        (
            Some("ec2/eu-west-1"),
            "https://ec2.internal:8443/",
            Some(("ec2", "eu-west-1")),
        ),
        (
            None,
            "https://ec2.eu-west-1.amazonaws.com/",
            Some(("ec2", "eu-west-1")),
        ),
        (
            None,
            "https://ssm.cn-north-1.amazonaws.com.cn/",
            Some(("ssm", "cn-north-1")),
        ),
        (None, "https://ec2.internal/", None),
        (
            None,
            "https://ec2.eu-west-1.amazonaws.com.evil.example/",
            None,
        ),
        (Some("ec2"), "https://ec2.eu-west-1.amazonaws.com/", None),
        (Some("ec2/"), "https://ec2.eu-west-1.amazonaws.com/", None),
        (
            Some("ec2/eu west"),
            "https://ec2.eu-west-1.amazonaws.com/",
            None,
        ),
        (
            Some("ec2/a/b"),
            "https://ec2.eu-west-1.amazonaws.com/",
            None,
        ),
    ] {
        let scope = Scope::of(given, &url.parse().unwrap());
        let found = scope
            .as_ref()
            .map(|at| (at.service.as_str(), at.region.as_str()));
        assert_eq!(found, expected, "{given:?} {url}");
    }
}

#[tokio::test]
async fn keys_are_kept_until_shortly_before_their_end_and_static_ones_for_good() {
    let aws = Aws::new(AwsKeys::Static {
        access_key_id: "new".into(),
        secret_access_key: "s3cret".to_owned().into(),
        session_token: None,
    });
    assert!(!format!("{aws:?}").contains("s3cret"));
    let ending = Credentials::new("old", "x", None, Some(at(AT + 3600)), "test");
    aws.0.found.store(Some(Arc::new(ending.clone())));
    let key = |keys: Credentials| keys.access_key_id().to_owned();
    assert_eq!(key(aws.keys("r", at(AT)).await.unwrap()), "old");
    assert_eq!(key(aws.keys("r", at(AT + 3400)).await.unwrap()), "new");
    let others = aws.others(&ending, "r", at(AT)).await;
    assert_eq!(others.map(key).as_deref(), Some("new"));
    let new = aws.keys("r", at(AT)).await.unwrap();
    assert!(
        aws.others(&new, "r", at(AT)).await.is_none(),
        "there are no others"
    );
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_named() {
    let aws = Aws::new(AwsKeys::Profile("no-such-profile-9f3".into()));
    let why = aws.keys("eu-west-1", at(AT)).await.unwrap_err();
    assert!(why.contains("no-such-profile-9f3"), "{why}");
}

#[test]
fn a_clock_that_is_off_is_corrected_once() {
    let aws = Aws::new(AwsKeys::Chain);
    let date: HeaderValue = "Sun, 30 Aug 2015 13:36:00 GMT".parse().unwrap();
    assert_eq!(aws.clock(at(AT)), at(AT));
    assert!(aws.correct(Some(&date), at(AT)), "an hour is too much");
    assert_eq!(aws.clock(at(AT)), at(AT + 3600));
    assert!(!aws.correct(Some(&date), at(AT)), "it is known now");
    assert!(!aws.correct(Some(&"soon".parse().unwrap()), at(AT)));
    assert!(!aws.correct(None, at(AT)));
    assert!(aws.correct(Some(&date), at(AT + 7200)), "and back again");
    assert_eq!(aws.clock(at(AT + 7200)), at(AT + 3600));
}

#[test]
fn refusals_that_the_host_can_do_something_about_are_told_from_others() {
    let xml = |code: &str| format!("<Response><Errors><Error><Code>{code}</Code>");
    for (status, body, expected) in [
        (400, xml("RequestExpired"), Some((true, true))),
        (403, xml("SignatureDoesNotMatch"), Some((true, false))),
        (403, xml("ExpiredToken"), Some((false, true))),
        (401, xml("AuthFailure"), Some((true, true))),
        (
            400,
            r#"{"__type":"com.amazon.coral.service#ExpiredTokenException"}"#.to_owned(),
            Some((false, true)),
        ),
        (403, xml("UnauthorizedOperation"), None),
        (200, xml("RequestExpired"), None),
        (503, xml("RequestExpired"), None),
        (400, String::new(), None),
    ] {
        let refusal = Refusal::of(status, body.as_bytes());
        let found = refusal.map(|refusal| (refusal.clock, refusal.keys));
        assert_eq!(found, expected, "{status} {body}");
    }
}
