//! `springtide machine`, as a person uses it, with a daemon that runs.

use serde_json::Value;
use springtide_sandbox::SandboxOptions;
use springtide_tests::Site;
use std::process::Output;

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

#[tokio::test]
async fn a_machine_is_made_for_a_person_entered_looked_at_and_removed() {
    let site = Site::new(SandboxOptions::default()).await.unwrap();
    let go = site.path().join("go");
    let pool = format!(
        "  [runners.pool]\n  ready_command = \"test -e {}\"\n",
        go.display()
    );
    site.configure(&site.runner("elastic", &pool)).unwrap();
    let daemon = site.start(&[]).await.unwrap();
    site.until("the runner works", async || {
        site.trouble("elastic").await.is_empty()
    })
    .await
    .unwrap();

    let made = site
        .cli(&["machine", "create", "--no-wait", "--json"])
        .await
        .unwrap();
    let made = json(&made);
    let name = made["machine"]["name"].as_str().unwrap().to_owned();
    let inspect = async || {
        json(
            &site
                .cli(&["machine", "inspect", &name, "--json"])
                .await
                .unwrap(),
        )
    };
    site.until("it waits for the operator's command", async || {
        let why = inspect().await["waits-for"].clone();
        why.as_str()
            .is_some_and(|why| why.contains("ready_command"))
    })
    .await
    .unwrap();
    std::fs::write(&go, "").unwrap();
    site.until("it is held", async || {
        inspect().await["machine"]["phase"] == "held"
    })
    .await
    .unwrap();
    let boot = inspect().await["record"]["boot"].clone();
    assert!(boot["exists"].is_u64() && boot["ready"].is_u64(), "{boot}");
    assert!(boot["ssh"].is_null(), "a directory has no SSH: {boot}");

    let here = site.cli(&["machine", "ssh", &name]).await;
    assert!(here.is_ok());
    let machine = site.path().join("machines").join(&name);
    let logs = said(&site.cli(&["machine", "logs", &name]).await.unwrap());
    assert!(logs.contains("a machine is ready"), "{logs}");
    let env = site.cli(&["machine", "env", &name]).await.unwrap();
    assert!(!env.status.success());
    assert!(
        said(&env).contains("no Docker of its own"),
        "{}",
        said(&env)
    );
    assert!(machine.exists(), "{}", machine.display());

    let removed = site.cli(&["machine", "rm", &name]).await.unwrap();
    assert!(removed.status.success(), "{}", said(&removed));
    site.until("it is gone", async || site.machines() == 0)
        .await
        .unwrap();
    let ready = site.cli(&["machine", "create", "--json"]).await.unwrap();
    assert_eq!(json(&ready)["machine"]["phase"], "held");
    let nobody = site.cli(&["machine", "inspect", "ci-none"]).await.unwrap();
    assert!(said(&nobody).contains("machine ls"), "{}", said(&nobody));
    daemon.finish().await.unwrap();
    site.check().unwrap();
}
