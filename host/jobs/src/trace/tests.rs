use super::*;
use proptest::prelude::*;

fn payload() -> Payload {
    Payload::from_json(
        r#"{"id":1,"token":"glcbt-token","variables":[{"key":"A","value":"secret","masked":true}],
            "credentials":[{"type":"registry","password":"password"}],
            "features":{"token_mask_prefixes":["own-"]}}"#,
    )
    .expect("a job")
}

fn open(directory: &Path, limit: Option<u64>) -> JobTrace {
    open_with(directory, limit, false)
}

fn open_with(directory: &Path, limit: Option<u64>, timestamps: bool) -> JobTrace {
    let options = TraceOptions {
        limit: limit.unwrap_or(DEFAULT_OUTPUT_LIMIT),
        timestamps,
    };
    JobTrace::open(directory, &payload(), options).expect("a trace")
}

/// With `@` for the header of a line of the runner's, and `#` for one of the job's: their times are others
/// each time.
fn without_times(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find("Z 0") {
        out.push_str(&rest[..at - 26]);
        out.push(match &rest[at + 3..at + 5] {
            "0O" => '@',
            "1O" => '#',
            other => panic!("{other} is no stream"),
        });
        rest = &rest[at + 5..];
    }
    out + rest
}

fn text(trace: &JobTrace) -> String {
    let all = trace.read(0, 1 << 20).expect("readable");
    // A limit may fall within a character.
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn what_a_job_must_not_show_is_hidden_in_its_output_and_in_our_own_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = open(directory.path(), None);
    trace.output(b"a sec");
    trace.output(b"ret, a pass");
    trace.output(b"word, own-x, glcbt-token");
    trace.say("secret");
    assert_eq!(
        text(&trace),
        "a [MASKED], a [MASKED], own-[MASKED], [MASKED]\x1b[0K[MASKED]\x1b[0;m\n"
    );
}

#[test]
fn beyond_the_limit_the_jobs_output_is_dropped_but_not_our_own_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = open(directory.path(), Some(10));
    for _ in 0..100 {
        trace.output("This is thé long message".as_bytes());
    }
    trace.lost_output();
    trace.write("end\n");
    let notice = words::limit_exceeded(10);
    assert_eq!(text(&trace), format!("This is th{notice}end\n"));
    assert!(notice.contains("limit of 10 bytes"));
}

#[test]
fn each_line_has_its_time_where_that_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = open_with(directory.path(), Some(30), true);
    trace.say("waiting");
    trace.output(b"one\ntw");
    trace.output(b"o\nthree");
    trace.settle();
    trace.output(b", and more than is taken");
    trace.settle();
    let shown = text(&trace);
    let notice = words::limit_exceeded(30);
    let notice: String = notice
        .trim_start()
        .lines()
        .map(|line| format!("# {line}\n"))
        .collect();
    let plain = format!("@ \x1b[0Kwaiting\x1b[0;m\n# one\n# two\n# three#+\n{notice}");
    assert_eq!(without_times(&shown), plain);

    // Opened again, it goes on as it began, whatever is asked for by then.
    drop(trace);
    let trace = open_with(directory.path(), None, false);
    trace.say("end");
    assert_eq!(
        without_times(&text(&trace)),
        format!("{plain}@ \x1b[0Kend\x1b[0;m\n")
    );
}

#[test]
fn timestamps_are_the_jobs_to_ask_for_and_else_the_runners() {
    let on = |of_job: Option<&str>, of_runner: &[&str]| {
        let variables: Vec<serde_json::Value> = of_job
            .iter()
            .map(|value| serde_json::json!({"key": "FF_TIMESTAMPS", "value": value}))
            .collect();
        let payload = serde_json::json!({"id": 1, "token": "t", "variables": variables});
        let payload = Payload::from_json(&payload.to_string()).expect("a job");
        let environment: Vec<(String, String)> = of_runner
            .iter()
            .map(|value| ("FF_TIMESTAMPS".into(), (*value).into()))
            .collect();
        TraceOptions::of(&payload, &environment, 1).timestamps
    };
    assert!(!on(None, &[]));
    assert!(on(Some("true"), &[]));
    assert!(on(None, &["false", "1"]));
    assert!(!on(Some("false"), &["true"]));
}

#[test]
fn readers_are_told_of_each_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = open(directory.path(), None);
    let mut changed = trace.changed();
    assert!(trace.is_empty() && !changed.has_changed().expect("open"));
    trace.write("abc");
    assert_eq!(*changed.borrow_and_update(), 3);
    assert_eq!(trace.read(1, 1).expect("readable"), "b");
    assert!(trace.read(3, 9).expect("readable").is_empty());
    assert!(trace.read(9, 9).expect("readable").is_empty());
}

#[derive(Clone, Debug)]
enum Said {
    Output(Vec<u8>),
    Words(String),
}

impl Said {
    fn write(&self, trace: &JobTrace) {
        match self {
            Said::Output(bytes) => trace.output(bytes),
            Said::Words(text) => trace.write(text),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        "(secret|sec|ret|own-|x|é){0,4}".prop_map(|text| Said::Output(text.into_bytes())),
        "[a-z]{0,3}\n".prop_map(Said::Words),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A manager dies anywhere in a stage, and writes the stage again.
    #[test]
    fn a_death_at_any_point_neither_doubles_nor_drops(
        before in prop::collection::vec(said(), 0..4),
        stage in prop::collection::vec(said(), 0..8),
        deaths in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        limit in 0u64..40,
        timestamps: bool,
    ) {
        let whole = tempfile::tempdir().expect("a directory");
        let trace = open_with(whole.path(), Some(limit), timestamps);
        before.iter().for_each(|said| said.write(&trace));
        trace.settle();
        stage.iter().for_each(|said| said.write(&trace));
        trace.settle();

        let pieces = tempfile::tempdir().expect("a directory");
        let mut again = open_with(pieces.path(), Some(limit), timestamps);
        before.iter().for_each(|said| said.write(&again));
        let mark = again.mark();
        for death in deaths {
            stage[..death.index(stage.len() + 1)].iter().for_each(|said| said.write(&again));
            again = open_with(pieces.path(), Some(limit), timestamps);
            again.rewind(mark);
        }
        stage.iter().for_each(|said| said.write(&again));
        again.settle();
        prop_assert_eq!(without_times(&text(&again)), without_times(&text(&trace)));
        prop_assert_eq!(again.checksum(), crc32fast::hash(&again.read(0, 1 << 20).expect("readable")));
        prop_assert_eq!(again.len(), trace.len());
    }
}

#[test]
fn gitlab_is_told_of_a_debug_trace_where_scripts_are_traced() {
    let told = |value: &str, environment: &[(&str, &str)], forbidden: bool| {
        let variables = serde_json::json!([
            {"key": "YES", "value": "true"},
            {"key": "CI_DEBUG_TRACE", "value": value},
        ]);
        let payload = serde_json::json!({"id": 1, "token": "t", "variables": variables});
        let payload = Payload::from_json(&payload.to_string()).expect("a job");
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        is_debug_traced(&payload, &environment, forbidden)
    };
    assert!(told("true", &[], false) && told("1", &[], false));
    assert!(told("$YES", &[], false));
    assert!(told("$OURS", &[("OURS", "true")], false));
    assert!(!told("false", &[("CI_DEBUG_TRACE", "true")], false));
    assert!(!told("true", &[], true));
}
