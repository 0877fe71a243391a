//! What patterns mean.

use super::*;

#[test]
fn patterns_mean_what_they_mean_to_gitlab() {
    let table = [
        ("out", "out", true),
        ("out/", "out", true),
        ("./out", "out", true),
        ("a/../out", "out", true),
        ("/builds/g/p/out", "out", true),
        ("out", "out/x", false),
        ("*.log", "a.log", true),
        ("*.log", ".log", true),
        ("*", ".hidden", true),
        ("*.log", "a/b.log", false),
        ("*/*.log", "a/b.log", true),
        ("**/*.log", "b.log", true),
        ("**/*.log", "a/b/c.log", true),
        ("a/**", "a", true),
        ("a/**", "a/b/c", true),
        ("a/**", "b/c", false),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/**/z", "a/b/c/y", false),
        ("a**", "ab", true),
        ("a**", "a/b", false),
        ("**", "a/b", true),
        ("?.txt", "ü.txt", true),
        ("??.txt", "ü.txt", false),
        ("[a-c].txt", "b.txt", true),
        ("[^a-c].txt", "b.txt", false),
        ("[!a-c].txt", "d.txt", true),
        ("[ä-ü].txt", "ö.txt", true),
        ("{a,b}.txt", "b.txt", true),
        ("{a,b}.txt", "c.txt", false),
        ("{a/b,c}/*.txt", "a/b/x.txt", true),
        ("{a,{b,c}}d", "cd", true),
        ("a{,b}", "a", true),
        ("[{]", "{", true),
        (r"\*.txt", "*.txt", true),
        (r"\*.txt", "a.txt", false),
        (r"\{a}", "{a}", true),
        ("a*b*c", "abbbc", true),
        ("a*b*c", "abbb", false),
        ("日本*", "日本語", true),
    ];
    for (pattern, path, is) in table {
        let read = Pattern::new(pattern, "/builds/g/p").unwrap();
        assert_eq!(read.matches(path.as_bytes()), is, "{pattern} {path}");
    }
}

#[test]
fn what_is_no_pattern_is_told() {
    let table = [
        ("[a", BadPattern::Syntax),
        ("{a,b", BadPattern::Syntax),
        ("a\\", BadPattern::Syntax),
        ("[]", BadPattern::Syntax),
        ("[b-]", BadPattern::Syntax),
        ("../x", BadPattern::Outside("../x".into())),
        ("a/../../x", BadPattern::Outside("a/../../x".into())),
        ("/etc/passwd", BadPattern::Outside("/etc/passwd".into())),
        ("/builds/g", BadPattern::Outside("/builds/g".into())),
        ("/builds/g/p2", BadPattern::Outside("/builds/g/p2".into())),
        ("{a,../b}", BadPattern::Outside("{a,../b}".into())),
    ];
    for (pattern, why) in table {
        assert_eq!(
            Pattern::new(pattern, "/builds/g/p").unwrap_err(),
            why,
            "{pattern}"
        );
    }
    let explodes = "{a,b}".repeat(30);
    assert_eq!(
        Pattern::new(&explodes, "/p").unwrap_err(),
        BadPattern::Syntax
    );
}

#[test]
fn a_name_of_bytes_that_are_no_text_matches_by_star() {
    let pattern = Pattern::new("*.bin", "/p").unwrap();
    assert!(pattern.matches(b"\xff\xfe.bin"));
    assert!(!pattern.matches(b"\xff\xfe.txt"));
}
