//! Keys, archives' places and objects' names, against what GitLab Runner makes of the same.
#![allow(missing_docs)]

use proptest::prelude::*;
use springtide_cache::{CacheKey, Job, Keys, NameError, ObjectName, archive_path};

const JOB: Job<'_> = Job {
    name: "build",
    ref_name: "main",
    hash_keys: false,
};

fn keys_of(
    job: &Job<'_>,
    key: &str,
    fallbacks: &[&str],
    variable: &str,
) -> (Result<Keys, &'static str>, Vec<String>) {
    let mut warnings = Vec::new();
    let fallbacks: Vec<String> = fallbacks.iter().map(|key| (*key).to_owned()).collect();
    let expand = |text: &str| text.replace("$REF", "main").replace("$NONE", "");
    let keys = Keys::of(job, key, &fallbacks, variable, expand, &mut warnings);
    (keys, warnings)
}

fn key(text: &str) -> Option<CacheKey> {
    keys_of(&JOB, text, &[], "").0.ok().map(|keys| keys.key)
}

#[test]
fn keys_are_made_as_by_gitlab_runner() {
    let cases = [
        ("default", "default"),
        ("some-job/some-ref", "some-job/some-ref"),
        ("...", "..."),
        (".../....", ".../...."),
        ("key/", "key"),
        ("key ", "key"),
        ("key\\", "key"),
        ("key/ / \\  \\", "key"),
        ("key / \\o", "key / /o"),
        ("\t foo bar \t\r\n", "\t foo bar"),
        (" foo / bar ", " foo / bar"),
        ("foo/ /bar", "foo/ /bar"),
        ("foo/ / /", "foo"),
        ("a %2F b", "a / b"),
        ("some%2f../job/ref/.", "job/ref"),
        ("%2E%2e%2E", "..."),
        ("%5C", "%5C"),
        ("%252e%252e%252f", "%252e%252e%252f"),
        ("foo/./bar", "foo/bar"),
        ("//foo//bar", "foo/bar"),
        ("../foo/bar", "foo/bar"),
        ("..\\..\\foo", "foo"),
        ("%2e%2e%2ffoo", "foo"),
        ("foo/bar/../../../.././blerp", "blerp"),
        ("a/b/c/../../d", "a/d"),
        ("ü/ 日本", "ü/ 日本"),
        ("", "build/main"),
        ("$REF-x", "main-x"),
    ];
    for (text, expected) in cases {
        let (keys, warnings) = keys_of(&JOB, text, &[], "");
        let shown = keys.unwrap().key.shown().to_owned();
        assert_eq!(shown, expected, "{text:?}");
        let expanded = text.replace("$REF", "main");
        match text.is_empty() || expanded == expected {
            true => assert!(warnings.is_empty(), "{warnings:?}"),
            false => assert_eq!(
                warnings,
                [format!("cache key {text:?} sanitized to {expected:?}")]
            ),
        }
    }
}

#[test]
fn a_key_of_which_nothing_is_left_is_none() {
    let nothing = [
        "\\",
        "\\.",
        "/",
        " ",
        ".",
        "..",
        " / ",
        "//\\",
        "../.",
        "foo/bar/../..",
        "%2E",
        "%2e%2E",
        " \t\r\n",
        "a\0b",
        // Dots alone once they are trimmed, which GitLab Runner lets through.
        ".. ",
        "a/.. ",
        ". ",
        "%2e%2e\u{a0}",
    ];
    for text in nothing {
        let (keys, warnings) = keys_of(&JOB, text, &["other"], "");
        assert_eq!(keys, Err("empty cache key"), "{text:?}");
        assert_eq!(
            warnings,
            [format!("cache key {text:?} could not be sanitized")]
        );
    }
    let (keys, warnings) = keys_of(&JOB, "$NONE", &[], "");
    assert_eq!((keys, warnings), (Err("empty cache key"), Vec::new()));
}

#[test]
fn without_a_key_it_is_the_jobs_name_and_its_branch() {
    let cases = [
        ("rspec 1/3", "feature/a", "rspec 1/3/feature/a"),
        ("../../x", "../main", "main"),
        ("build", "", "build"),
    ];
    for (name, ref_name, expected) in cases {
        let job = Job {
            name,
            ref_name,
            hash_keys: false,
        };
        let (keys, warnings) = keys_of(&job, "", &[], "");
        assert_eq!(keys.unwrap().key.shown(), expected);
        assert_eq!(warnings, [""; 0]);
    }
}

#[test]
fn fallbacks_come_in_their_order_once_each_and_no_job_names_a_protected_branchs() {
    let shown = |keys: Keys| -> Vec<String> { keys.all().map(ToString::to_string).collect() };
    let (keys, warnings) = keys_of(&JOB, "k", &["a", "$REF", "k", "a/", "$NONE", ".."], "last");
    assert_eq!(shown(keys.unwrap()), ["k", "a", "main", "last"]);
    assert_eq!(
        warnings,
        [
            "cache key \"a/\" sanitized to \"a\"",
            "cache key \"..\" could not be sanitized"
        ]
    );
    // GitLab itself adds the ending to keys of the file.
    let (keys, _) = keys_of(&JOB, "k-protected", &["a-protected"], "");
    assert_eq!(shown(keys.unwrap()), ["k-protected", "a-protected"]);
    for reserved in [
        "main-protected",
        "main-protected ",
        "main-protected/",
        "main-protected\\.",
        "main-protected/x/..",
        "main-protecte%2e/../main-protected",
        "$REF-protected",
    ] {
        let (keys, warnings) = keys_of(&JOB, "k", &[], reserved);
        assert_eq!(shown(keys.unwrap()), ["k"], "{reserved}");
        let told = reserved.replace("$REF", "main");
        assert_eq!(
            warnings,
            [format!(
                "CACHE_FALLBACK_KEY {told:?} not allowed to end in \"-protected\""
            )]
        );
    }
}

#[test]
fn hashed_keys_are_of_what_is_written() {
    let job = Job {
        hash_keys: true,
        ..JOB
    };
    let (keys, warnings) = keys_of(&job, "../some key/", &[".."], "x-protected");
    let keys = keys.unwrap();
    assert_eq!(keys.key.shown(), "../some key/");
    // printf %s '../some key/' | sha256sum
    let hash = "569a16c546120b39654385435d5d15438b4f2712b3cf8cae03a7ca3398cfc203";
    assert_eq!(keys.key.name(), hash);
    assert_eq!(keys.fallbacks.len(), 1);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        archive_path("/cache", "group/project", &keys.key),
        format!("/cache/group/project/{hash}/cache.zip")
    );
    let object = ObjectName::new("", None, 7, &keys.key).unwrap();
    assert_eq!(object.as_str(), format!("project/7/56/{hash}"));
    let (keys, _) = keys_of(&job, "$NONE", &[], "");
    assert_eq!(keys, Err("empty cache key"));
}

#[test]
fn objects_are_named_as_by_gitlab_runner() {
    let default = key("default").unwrap();
    let path = key("a/b c").unwrap();
    let cases = [
        (
            "",
            Some("abcdefgh"),
            &default,
            "runner/abcdefgh/project/7/default",
        ),
        ("", None, &default, "project/7/default"),
        (
            "ci",
            Some("abcdefgh"),
            &path,
            "ci/runner/abcdefgh/project/7/a/b c",
        ),
        ("ci/cache/", None, &path, "ci/cache/project/7/a/b c"),
        (
            "/ci//./x/../cache",
            None,
            &default,
            "ci/cache/project/7/default",
        ),
        ("../..", None, &default, "project/7/default"),
    ];
    for (path, runner, key, expected) in cases {
        let object = ObjectName::new(path, runner, 7, key).unwrap();
        assert_eq!(object.as_str(), expected);
    }
    let long = key(&"k".repeat(1015)).unwrap();
    assert_eq!(
        ObjectName::new("", None, 7, &long),
        Err(NameError::Long(1025))
    );
}

#[test]
fn archives_are_below_the_cache_directory() {
    let key = key("a/b").unwrap();
    for (directory, project, expected) in [
        ("/cache", "group/app", "/cache/group/app/a/b/cache.zip"),
        ("/cache/", "group/app/", "/cache/group/app/a/b/cache.zip"),
        ("/", "g/a", "/g/a/a/b/cache.zip"),
        ("/cache", "../../etc", "/cache/etc/a/b/cache.zip"),
    ] {
        assert_eq!(archive_path(directory, project, &key), expected);
    }
}

/// Bits that lead out of a directory somewhere.
fn hostile() -> impl Strategy<Value = String> {
    let bits = prop_oneof![
        Just(".."),
        Just("."),
        Just("/"),
        Just("\\"),
        Just("%2e"),
        Just("%2E"),
        Just("%2f"),
        Just("%2F"),
        Just("%"),
        Just(" "),
        Just("\u{a0}"),
        Just("\t"),
        Just("a"),
        Just("é"),
        Just("-protected"),
        Just("%252e"),
        Just("\n"),
        Just("x/y"),
    ];
    prop_oneof![
        prop::collection::vec(bits, 0..12).prop_map(|bits| bits.concat()),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_key_leaves_its_project(text in hostile(), hash_keys: bool, path in hostile()) {
        let job = Job { hash_keys, ..JOB };
        let (keys, _) = keys_of(&job, &text, std::slice::from_ref(&text.as_str()), &text);
        let Ok(keys) = keys else { return Ok(()) };
        for key in keys.all() {
            let archive = archive_path("/cache", "group/app", key);
            prop_assert!(archive.starts_with("/cache/group/app/"), "{archive}");
            prop_assert!(archive.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")), "{archive:?}");
            prop_assert!(!key.name().contains('\\'));
            let runner = Some("abcdefgh");
            let Ok(object) = ObjectName::new(&path, runner, 7, key) else { continue };
            let prefix = ObjectName::new(&path, runner, 7, &one_key()).unwrap();
            let prefix = prefix.as_str().strip_suffix("k").unwrap();
            prop_assert!(object.as_str().starts_with(prefix), "{object}");
            prop_assert!(object.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")), "{object}");
        }
    }

    #[test]
    fn a_key_that_was_made_is_made_no_further(text in hostile()) {
        let Some(once) = key(&text) else { return Ok(()) };
        // Percent signs may stand for others once, as in GitLab Runner.
        if once.shown().contains('%') { return Ok(()) }
        let text = once.shown().replace('$', "_");
        let twice = key(&text).unwrap();
        prop_assert_eq!(twice.shown(), text);
    }
}

fn one_key() -> CacheKey {
    key("k").unwrap()
}
