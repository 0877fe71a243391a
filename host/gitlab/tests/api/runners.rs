//! Registering, verifying, leaving.

use springtide_gitlab::{GitlabError, Info, Registration};
use springtide_sandbox::{Endpoint, Fault, FaultKind};

use crate::common::*;
use secrecy::ExposeSecret;

#[tokio::test]
async fn a_runner_is_registered_verified_given_a_new_token_and_removed() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(sandbox.url());
    let registration = Registration {
        description: "elastic".into(),
        tags: "docker, linux".into(),
        run_untagged: false,
        ..Registration::default()
    };
    let token = "sandbox-registration".into();
    let info = Info::new("shell+machine", "bash");
    let made = client
        .register(&token, &info, &registration)
        .await
        .expect("a runner");
    let view = |id| sandbox.runners().into_iter().find(|runner| runner.id == id);
    let seen = view(made.id).expect("it is there");
    assert_eq!(
        (seen.tags, seen.run_untagged),
        (vec!["docker".to_owned(), "linux".to_owned()], false)
    );
    let identity = runner_with(made.token.expose_secret());
    let verified = client.verify(&identity).await.expect("a good token");
    assert_eq!(verified.id, made.id);
    assert!(view(made.id).expect("there").managers.contains_key(SYSTEM));
    client
        .unregister_manager(&made.token, SYSTEM)
        .await
        .expect("a manager less");
    assert!(view(made.id).expect("there").managers.is_empty());
    let renewed = client.reset_token(&made.token).await.expect("a new token");
    client.unregister(&renewed.token).await.expect("removed");
    assert_eq!(view(made.id), None);
    no_violations(&sandbox);
    let error = client.verify(&identity).await.expect_err("it is gone");
    assert!(matches!(error, GitlabError::Forbidden { .. }), "{error}");
}

#[tokio::test]
async fn a_verification_is_repeated_while_gitlab_is_busy() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(sandbox.url());
    sandbox.fault(Fault::times(Endpoint::Verify, FaultKind::Status(502), 2));
    client.verify(&runner()).await.expect("a good token");
    sandbox.fault(Fault::times(Endpoint::Verify, FaultKind::Malformed, 1));
    let error = client.verify(&runner()).await.expect_err("garbage");
    assert!(matches!(error, GitlabError::Malformed { .. }), "{error}");
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_gitlab_without_registration_tokens_says_what_to_do_instead() {
    let sandbox = sandbox(|o| o.registration_token = None).await;
    let info = Info::new("shell+machine", "bash");
    let client = client(sandbox.url());
    let error = client
        .register(&"GR-hidden".into(), &info, &Registration::default())
        .await;
    let text = error.expect_err("410").to_string();
    assert!(text.contains("glrt-") && !text.contains("hidden"), "{text}");
}
