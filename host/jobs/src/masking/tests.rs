use super::*;
use proptest::prelude::*;

fn secrets(words: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    words.iter().for_each(|word| secrets.hide(word));
    secrets
}

/// Masks an input whose chunks are separated by `|`.
fn masked(words: &[&str], input: &str) -> String {
    let mut masker = Masker::new(&secrets(words));
    let mut out = Vec::new();
    for chunk in input.split('|') {
        masker.feed(chunk.as_bytes(), &mut out);
    }
    masker.finish(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn secrets_are_hidden_across_chunks() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "nothing", "nothing"),
        (&["hello"], "hello", "[MASKED]"),
        (&["hello"], "he|l|lo", "[MASKED]"),
        (&["hello"], "hell", "hell"),
        (&["hello"], "hell|ho hel|lo", "hellho [MASKED]"),
        (
            &["foo", "bar"],
            "xfo|ox y|bary ffo|o ba|rr ffooo b|barr",
            "x[MASKED]x y[MASKED]y f[MASKED] [MASKED]r f[MASKED]o b[MASKED]r",
        ),
        (
            &["mask", "prefix_mask"],
            "prefix_mask mask prefix_|mask",
            "[MASKED] [MASKED] [MASKED]",
        ),
        // Side by side are two, overlapping are one.
        (&["ab"], "abab", "[MASKED][MASKED]"),
        (&["abcd", "cdef"], "abc|def", "[MASKED]"),
        (&["aa"], "aaa", "[MASKED]"),
        (&["abc", "b"], "a|b|c b", "[MASKED] [MASKED]"),
        (&["abcX", "b"], "abcY", "a[MASKED]cY"),
        (&["ends"], "it en|ds", "it [MASKED]"),
        (&["line1\nline2"], "line1|\nline2", "[MASKED]"),
    ];
    for (words, input, expected) in cases {
        assert_eq!(masked(words, input), *expected, "{input}");
    }
}

#[test]
fn tokens_are_hidden_after_their_prefix() {
    let cases = [
        ("commodo glpat-imperdiet in", "commodo glpat-[MASKED] in"),
        ("esseglpat-imperdiet=_-. end", "esseglpat-[MASKED] end"),
        ("glpat-impglpat-erdiet Lorem", "glpat-[MASKED] Lorem"),
        ("gl|pat-|impe|rdiet,", "glpat-[MASKED],"),
        ("glpat- imperdiet", "glpat- imperdiet"),
        ("glpat| -imperdiet", "glpat -imperdiet"),
        ("glcbt-64_abc:x", "glcbt-[MASKED]:x"),
        ("glpglpat-x", "glpglpat-[MASKED]"),
    ];
    for (input, expected) in cases {
        assert_eq!(masked(&[], input), expected, "{input}");
    }
    let mut own = Secrets::default();
    own.hide_after("mytoken:");
    let (mut masker, mut out) = (Masker::new(&own), Vec::new());
    masker.feed(b"mytoken:ghi glpat-x", &mut out);
    masker.finish(&mut out);
    assert_eq!(out, b"mytoken:[MASKED] glpat-[MASKED]");
}

#[test]
fn url_parameters_with_tokens_are_hidden() {
    let cases = [
        ("http://h/?test=foobar", "http://h/?test=foobar"),
        (
            "&private_token=hello &?x-amz-security-token=hello ?x-amz-security?x-amz-security-token=hello",
            "&private_token=[MASKED] &?x-amz-security-token=[MASKED] ?x-amz-security?x-amz-security-token=[MASKED]",
        ),
        (
            "http://h/?X-AMZ-sigNA|Ture=dead|beef&a=b end",
            "http://h/?X-AMZ-sigNATure=[MASKED]&a=b end",
        ),
        ("'h/?rss_token=x'", "'h/?rss_token=[MASKED]'"),
        ("h/?rss_token=&a", "h/?rss_token=&a"),
        ("private_token=x", "private_token=x"),
    ];
    for (input, expected) in cases {
        assert_eq!(masked(&[], input), expected, "{input}");
    }
}

/// What the rule says, without streaming: every byte of every occurrence is hidden, and one mask
/// stands for occurrences that overlap.
fn by_the_rule(words: &[Vec<u8>], input: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; input.len()];
    let mut joined = vec![false; input.len()];
    for word in words.iter().filter(|word| !word.is_empty()) {
        for at in 0..input.len() {
            if input[at..].starts_with(word) {
                for index in at..at + word.len() {
                    hidden[index] = true;
                    joined[index] |= index > at;
                }
            }
        }
    }
    let mut out = Vec::new();
    for (index, byte) in input.iter().enumerate() {
        if !hidden[index] {
            out.push(*byte);
        } else if !joined[index] {
            out.extend_from_slice(MASK);
        }
    }
    out
}

proptest! {
    #[test]
    fn any_split_gives_what_the_rule_says(
        words in prop::collection::vec(prop::collection::vec(0u8..3, 1..6), 0..5),
        chunks in prop::collection::vec(prop::collection::vec(0u8..3, 0..9), 0..8),
    ) {
        let mut all = Secrets::default();
        all.words.extend(words.iter().cloned());
        let longest = words.iter().map(Vec::len).max().unwrap_or(0);
        let mut masker = Masker::new(&all);
        let mut out = Vec::new();
        for chunk in &chunks {
            masker.feed(chunk, &mut out);
            prop_assert!(masker.held() < longest.max(1), "holds {}", masker.held());
        }
        masker.finish(&mut out);
        prop_assert_eq!(out, by_the_rule(&words, &chunks.concat()));
    }

    #[test]
    fn any_split_gives_what_the_whole_gives(
        input in "(glpat-|[?&]private_token=|secret|sec| |[a-d&'=-]){0,12}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let all = secrets(&["secret", "t-a", "en=b"]);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let mut masker = Masker::new(&all);
        masker.feed(input.as_bytes(), &mut whole);
        masker.finish(&mut whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        for pair in at.windows(2) {
            masker.feed(&input.as_bytes()[pair[0]..pair[1]], &mut pieces);
        }
        masker.finish(&mut pieces);
        prop_assert_eq!(whole, pieces);
    }
}
