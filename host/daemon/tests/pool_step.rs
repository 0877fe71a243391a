//! `springtide pool step`, as a person uses it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn step(arguments: &[&str], snapshot: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_springtide"))
        .args(["pool", "step"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(snapshot.as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

const SNAPSHOT: &str = r#"{
  "now": 1000000,
  "pool": {
    "machines": [
      {"id": 1, "phase": "idle", "since": 100000, "made": 1},
      {"id": 2, "phase": "idle", "since": 990000, "made": 2}
    ]
  },
  "targets": {"idle-count": 1, "idle-time": 600},
  "limits": {"limit": 4}
}"#;

#[test]
fn it_says_what_and_why_and_the_same_again() {
    let first = step(&["--json"], SNAPSHOT);
    assert!(first.status.success());
    let text = String::from_utf8(first.stdout).unwrap();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(!row["reason"].as_str().unwrap().is_empty(), "{line}");
        assert!(row["why"].is_string(), "{line}");
    }
    assert!(text.contains(r#""action":"request-job""#), "{text}");
    let again = String::from_utf8(step(&["--json"], SNAPSHOT).stdout).unwrap();
    assert_eq!(text, again);
    let people = String::from_utf8(step(&[], SNAPSHOT).stdout).unwrap();
    assert!(people.contains("request a job for machine 2"), "{people}");
}

#[test]
fn what_is_no_snapshot_is_said_so() {
    for bad in ["", "[]", "{\"pool\": 3}", "\u{0}"] {
        let output = step(&[], bad);
        assert_eq!(output.status.code(), Some(1), "{bad:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("standard input is no snapshot"), "{error}");
    }
}

#[test]
fn the_example_is_a_snapshot() {
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/pool/idle-machine.json"
    );
    let output = step(&[example], "");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("retire ci-7b40d8e6152c"), "{text}");
    assert!(text.contains("request a job for ci-0c5d3e7a91f2"), "{text}");
}
