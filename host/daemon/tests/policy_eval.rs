//! `springtide policy eval`, as an author of a policy uses it, on the shipped policies.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// The directory `cargo xtask plugins` leaves the shipped plugins in.
fn plugins() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_springtide"));
    let target = program.parent().and_then(Path::parent).unwrap();
    let plugins = target.join("plugins");
    assert!(
        plugins.join("off-peak.wasm").is_file() && plugins.join("queue-depth.wasm").is_file(),
        "the shipped plugins are not in {}: run `cargo xtask plugins` first",
        plugins.display()
    );
    plugins
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide"));
    command
        .args(["policy", "eval"])
        .args(arguments)
        .arg("--plugin-dir")
        .arg(plugins())
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn eval(arguments: &[&str], input: impl Into<Vec<u8>>) -> Output {
    let mut child = command(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.into();
    // Answers are read while questions are written: neither fits a pipe.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // That a program which refuses its arguments does not read is seen by its exit code.
    writer.join().unwrap().ok();
    output
}

/// The answers, one value a line.
fn answers(arguments: &[&str], input: impl Into<Vec<u8>>) -> Vec<Value> {
    let output = eval(arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(errors, "");
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |line| serde_json::from_str(line).unwrap();
    text.lines().map(read).collect()
}

const EXAMPLE: &str = r#"{"settings":{"autoscaling":[{"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"Europe/Berlin","IdleCount":5,"IdleTime":600}]},"view":{"now":1772442000,"machines":{"idle":1,"busy":2}},"proposal":{"idle-count":2,"idle-time":1800}}"#;

#[test]
fn the_example_of_the_contract_gives_its_answer_to_the_letter() {
    let output = eval(&["off-peak"], EXAMPLE);
    let text = String::from_utf8(output.stdout).unwrap();
    let start = r#"{"patch":{"idle-count":5,"idle-count-min":0,"idle-scale-factor":0.0,"idle-time":600},"reason":""#;
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with("\",\"state\":\"\"}\n"), "{text}");
}

#[test]
fn each_line_has_its_own_answer() {
    let bad = |text: &str| json!({"error": {"bad-input": text}});
    let waiting = r#"{"view":{"queue":{"run-untagged":true,"waiting":[{"count":3}]}}}"#;
    for (name, plugin, line, expected) in [
        (
            "settings that can't work are an error of the policy's",
            "off-peak",
            r#"{"view":{},"settings":{"autoscaling":[{"Periods":["nonsense"]}]}}"#,
            json!({"error": {"invalid-config": "*nonsense*"}}),
        ),
        (
            "settings that are no object too",
            "off-peak",
            r#"{"view":{},"settings":[]}"#,
            json!({"error": {"invalid-config": "*"}}),
        ),
        (
            "what is left out is zero or empty",
            "off-peak",
            r#"{"view":{}}"#,
            json!({"patch": {}, "reason": "*", "state": ""}),
        ),
        (
            "null is left out",
            "off-peak",
            r#"{"view":{"queue":null},"settings":null,"proposal":null,"state":null}"#,
            json!({"patch": {}, "reason": "*", "state": ""}),
        ),
        (
            "state is base64",
            "queue-depth",
            waiting,
            json!({"patch": {"wanted": 3}, "reason": "*", "state": "AwAAAA=="}),
        ),
        (
            "no JSON",
            "off-peak",
            "nonsense",
            bad("line 1: expected ident at column 2"),
        ),
        (
            "a cut line",
            "off-peak",
            r#"{"view":{"#,
            bad("line 1: EOF while parsing an object at column 9"),
        ),
        (
            "more than one object",
            "off-peak",
            r#"{"view":{}}{"view":{}}"#,
            bad("line 1: trailing characters at column 12"),
        ),
        (
            "no view",
            "off-peak",
            "{}",
            bad("line 1: missing field `view`*"),
        ),
        (
            "an unknown key",
            "off-peak",
            r#"{"view":{},"veiw":{}}"#,
            bad(
                "line 1: unknown field `veiw`, expected one of `view`, `settings`, `proposal`, `state`*",
            ),
        ),
        (
            "an unknown key within",
            "off-peak",
            r#"{"view":{"machines":{"idel":1}}}"#,
            bad("line 1: unknown field `idel`*"),
        ),
        (
            "a name of Rust's, not of the contract's",
            "off-peak",
            r#"{"view":{},"proposal":{"idle_count":1}}"#,
            bad("line 1: unknown field `idle_count`*"),
        ),
        (
            "a list for an object",
            "off-peak",
            r#"[{"now":1}]"#,
            bad("line 1: invalid type: sequence, expected an object*"),
        ),
        (
            "a list for a view",
            "off-peak",
            r#"{"view":[1]}"#,
            bad("line 1: invalid type: sequence, expected an object*"),
        ),
        (
            "a number below zero",
            "off-peak",
            r#"{"view":{"now":-1}}"#,
            bad("line 1: invalid value: integer `-1`, expected u32*"),
        ),
        (
            "a number beyond 32 bits",
            "off-peak",
            r#"{"view":{"now":4294967296}}"#,
            bad("line 1: invalid value: integer `4294967296`, expected u32*"),
        ),
        (
            "state that is no base64",
            "off-peak",
            r#"{"view":{},"state":"?"}"#,
            bad("line 1: the state is no base64: *"),
        ),
    ] {
        let answers = answers(&[plugin], format!("{line}\n"));
        assert_eq!(answers.len(), 1, "{name}");
        assert!(like(&answers[0], &expected), "{name}: {}", answers[0]);
    }
}

/// Whether a value is as expected, where `*` in a text stands for anything.
fn like(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::String(text), Value::String(pattern)) => matches(text, pattern),
        (Value::Object(fields), Value::Object(others)) => {
            fields.len() == others.len()
                && fields
                    .iter()
                    .all(|(key, value)| others.get(key).is_some_and(|other| like(value, other)))
        }
        _ => value == expected,
    }
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            (0..=after.len())
                .filter(|at| after.is_char_boundary(*at))
                .any(|at| matches(&after[at..], rest))
        }),
    }
}

#[test]
fn a_bad_line_in_the_middle_is_numbered_and_the_next_is_asked() {
    // Empty lines have no answer, and count as lines.
    let mut input = format!("{EXAMPLE}\n\n  \r\n{{\"vie").into_bytes();
    input.extend(b"\xff\n");
    input.extend(EXAMPLE.as_bytes());
    let answers = answers(&["off-peak"], input);
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["patch"]["idle-count"], 5);
    let why = answers[1]["error"]["bad-input"].as_str().unwrap();
    assert!(why.starts_with("line 4: "), "{why}");
    assert_eq!(answers[2], answers[0]);
}

#[test]
fn the_state_of_an_answer_is_what_the_policy_goes_on_from() {
    let known = r#"{"view":{"queue":{"run-untagged":true,"waiting":[{"count":3}]}}}"#;
    let first = answers(&["queue-depth"], known);
    let stale = |state: &Value| {
        let view = json!({"machines": {"booting": 9}, "queue": {"stale": true, "age": 200}});
        json!({"view": view, "state": state}).to_string()
    };
    let input = format!("{}\n{}\n", stale(&first[0]["state"]), stale(&json!("")));
    let next = answers(&["queue-depth"], input);
    assert_eq!(next[0]["patch"]["wanted"], 3, "{}", next[0]);
    assert_eq!(
        next[1]["patch"]["wanted"], 0,
        "no line goes on from another: {}",
        next[1]
    );
}

#[test]
fn settings_of_the_command_line_are_those_of_lines_without_any() {
    let settings = r#"{"ceiling": 2}"#;
    let view = r#""view":{"queue":{"run-untagged":true,"waiting":[{"count":9}]}}"#;
    let input = format!("{{{view}}}\n{{{view},\"settings\":{{}}}}\n");
    let answers = answers(&["queue-depth", "--settings", settings], input);
    assert_eq!(answers[0]["patch"]["wanted"], 2);
    assert_eq!(answers[1]["patch"]["wanted"], 9);
}

#[test]
fn keys_of_settings_are_taken_in_any_case_as_in_the_configuration() {
    let settings =
        r#"{"OffpeakPeriods":["* * * * * * *"],"OFFPEAKIDLECOUNT":7,"offPeakIdletime":60}"#;
    let of_line = r#"{"view":{"now":1772442000},"settings":{"Autoscaling":[{"periods":["* * * * * * *"],"idlecount":3,"IDLETIME":90}]}}"#;
    let twice = r#"{"view":{},"settings":{"OffPeakIdleCount":1,"offpeakidlecount":2}}"#;
    let input = format!("{{\"view\":{{\"now\":1772442000}}}}\n{of_line}\n{twice}\n");
    let answers = answers(&["off-peak", "--settings", settings], input);
    assert_eq!(answers[0]["patch"]["idle-count"], 7, "{}", answers[0]);
    assert_eq!(answers[0]["patch"]["idle-time"], 60, "{}", answers[0]);
    assert_eq!(answers[1]["patch"]["idle-count"], 3, "{}", answers[1]);
    assert_eq!(answers[1]["patch"]["idle-time"], 90, "{}", answers[1]);
    let why = answers[2]["error"]["invalid-config"].as_str().unwrap();
    assert!(why.contains("offpeakidlecount"), "{why}");
}

#[test]
fn five_thousand_lines_are_answered_in_their_order() {
    let line = |count| {
        let view = json!({"queue": {"run-untagged": true, "waiting": [{"count": count}]}});
        json!({"view": view}).to_string() + "\n"
    };
    let input: String = (0..5000).map(line).collect();
    let answers = answers(&["queue-depth"], input);
    assert_eq!(answers.len(), 5000);
    for (count, answer) in answers.iter().enumerate() {
        assert_eq!(answer["patch"]["wanted"], count, "{answer}");
    }
}

#[test]
fn an_answer_comes_before_the_next_line_is_asked() {
    let mut child = command(&["off-peak"]).spawn().unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        writeln!(questions, "{EXAMPLE}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.contains("\"idle-count\":5"), "{answer}");
    }
    drop(questions);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn that_nobody_reads_on_is_no_error() {
    let mut child = command(&["off-peak"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut questions = child.stdin.take().unwrap();
    // It ends while it is written to, at the first answer it can't get rid of.
    while writeln!(questions, "{EXAMPLE}").is_ok() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_can_not_be_asked_is_said_so() {
    let missing = plugins().join("nothing.wasm");
    let missing = missing.to_str().unwrap();
    let here = file!();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(here);
    let here = here.to_str().unwrap();
    for (arguments, said) in [
        (&["off-peek"][..], "there is no plugin off-peek"),
        (&["off-peek"][..], "off-peak, queue-depth"),
        (&[missing][..], "is no plugin"),
        (&["./README"][..], "reading it"),
        (&[here][..], "it is no WebAssembly"),
        (&["local"][..], "a driver has nothing to evaluate"),
        (
            &["off-peak", "--settings", "[]"][..],
            "--settings is no JSON object",
        ),
        (
            &["off-peak", "--settings", "{"][..],
            "--settings is no JSON object",
        ),
    ] {
        let output = eval(arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
