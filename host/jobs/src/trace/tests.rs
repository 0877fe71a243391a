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
    JobTrace::open(directory, &payload(), limit).expect("a trace")
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
    ) {
        let whole = tempfile::tempdir().expect("a directory");
        let trace = open(whole.path(), Some(limit));
        before.iter().for_each(|said| said.write(&trace));
        trace.settle();
        stage.iter().for_each(|said| said.write(&trace));
        trace.settle();

        let pieces = tempfile::tempdir().expect("a directory");
        let mut again = open(pieces.path(), Some(limit));
        before.iter().for_each(|said| said.write(&again));
        let mark = again.mark();
        for death in deaths {
            stage[..death.index(stage.len() + 1)].iter().for_each(|said| said.write(&again));
            again = open(pieces.path(), Some(limit));
            again.rewind(mark);
        }
        stage.iter().for_each(|said| said.write(&again));
        again.settle();
        prop_assert_eq!(text(&again), text(&trace));
        prop_assert_eq!(again.checksum(), crc32fast::hash(&trace.read(0, 1 << 20).expect("readable")));
        prop_assert_eq!(again.len(), trace.len());
    }
}
