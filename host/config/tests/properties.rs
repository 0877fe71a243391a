//! Whatever a file is: no panic, and problems in its order and within it.

mod common;

use common::{Shelf, machine, read};
use proptest::prelude::*;
use springtide_config::{Position, Source};

fn survives(text: &str) {
    let (config, problems) = read(text);
    let source = Source::of(text.to_owned());
    let mut last = Position::FILE;
    for problem in &problems {
        assert!((problem.at.line, problem.at.column) >= (last.line, last.column));
        last = problem.at;
        if problem.at != Position::FILE {
            let line = source.line(problem.at.line);
            assert!(
                problem.at.column <= line.chars().count() + 2,
                "{problem} in {line:?}"
            );
        }
    }
    match config {
        Some(config) => {
            let more = config.check_plugins(&Shelf);
            assert!(more.iter().all(|problem| problem.at != Position::FILE));
            for runner in &config.runners {
                assert!(runner.policy_chain().len() <= runner.policies.len() + 2);
            }
        }
        None => assert!(problems.iter().any(springtide_config::Problem::is_error)),
    }
}

fn files() -> Vec<String> {
    vec![
        include_str!("data/reference-1.4.toml").to_owned(),
        include_str!("data/off-peak-spellings.toml").to_owned(),
        machine(
            "MachineOptions = [\"boot-delay=3\"]\n[runners.queue]\nprojects = [\"a/b\"]\ntoken_file = \"x\"\n[plugins.a.grants.http]\norigins = [\"https://x\"]\n[credentials.a]\ntype = \"bearer\"\n",
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(source) = Source::of_bytes(bytes) {
            survives(source.text());
        }
    }

    #[test]
    fn any_text_is_survived(text in "(\\PC|\n|[\\[\\]\"=.#]){0,200}") {
        survives(&text);
    }

    #[test]
    fn a_value_of_any_type_at_any_key_is_survived(
        which in 0_usize..3,
        line in 0_usize..60,
        value in prop_oneof![
            Just("-1"), Just("0"), Just("99999999999999999999"), Just("0x7fffffffffffffff"), Just("1.5"),
            Just("nan"), Just("-inf"), Just("\"\""), Just("\"$\""), Just("\"%s\""), Just("\"ü\u{301}\""),
            Just("true"), Just("[]"), Just("[[]]"), Just("[{}]"), Just("{}"), Just("{a = 1}"),
            Just("1979-05-27"), Just("00:00:01"), Just("0001-01-01T00:00:00Z"), Just("9999-12-31T23:59:60Z"),
            Just("[\"\", \"a\", \"=\", \"* * 22-6 * * * *\"]"),
        ],
    ) {
        let file = &files()[which];
        let changed: Vec<String> = file
            .lines()
            .enumerate()
            .map(|(number, text)| match text.split_once('=') {
                Some((key, _)) if number == line => format!("{key}= {value}"),
                _ => text.to_owned(),
            })
            .collect();
        survives(&changed.join("\n"));
    }

    #[test]
    fn a_file_cut_or_stirred_anywhere_is_survived(
        which in 0_usize..3,
        at in any::<prop::sample::Index>(),
        remove in 0_usize..20,
        insert in "[\\[\\]\"=\n{}a-z.,%$]{0,6}",
    ) {
        let file = &files()[which];
        let characters: Vec<char> = file.chars().collect();
        let at = at.index(characters.len());
        let after = (at + remove).min(characters.len());
        let text: String = characters[..at].iter().copied().chain(insert.chars()).chain(characters[after..].iter().copied()).collect();
        survives(&text);
    }
}
