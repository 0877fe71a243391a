use super::*;
use crate::variables::own;

fn origin(repo: &str, clone_url: Option<&str>) -> Result<Origin, BadSources> {
    Origin::new(repo, clone_url, "g/p", &SecretString::from("job-token"))
}

#[test]
fn a_url_is_parted_from_its_login() {
    let cases = [
        (
            "https://gitlab-ci-token:a%40b@h:8443/g/p.git",
            None,
            ("https://h:8443/g/p.git", "gitlab-ci-token", "a@b"),
        ),
        (
            "http://h/g/p.git",
            None,
            ("http://h/g/p.git", "gitlab-ci-token", "job-token"),
        ),
        (
            "https://u:p@h/g/p.git",
            Some("http://inner:80/sub/"),
            ("http://inner/sub/g/p.git", "gitlab-ci-token", "job-token"),
        ),
        (
            "file:///srv/p.git",
            None,
            ("file:///srv/p.git", "gitlab-ci-token", "job-token"),
        ),
    ];
    for (repo, clone_url, expected) in cases {
        let found = origin(repo, clone_url).expect(repo);
        let password = found.password.expose_secret();
        assert_eq!(
            (found.url.as_str(), found.user.as_str(), password),
            expected
        );
        assert!(!format!("{found:?}").contains("token:"), "{found:?}");
    }
    for bad in ["", "not a url", "/path"] {
        assert!(origin(bad, None).is_err(), "{bad}");
    }
}

#[test]
fn strategies_have_names() {
    let with = |value| Variables::expanded(vec![own("GIT_STRATEGY", value)], "");
    for (value, may_fetch, expected) in [
        ("", true, Some(Strategy::Fetch)),
        ("", false, Some(Strategy::Clone)),
        ("fetch", false, Some(Strategy::Fetch)),
        ("empty", true, Some(Strategy::Empty)),
        ("none", true, Some(Strategy::None)),
        ("pull", true, None),
    ] {
        assert_eq!(
            Strategy::of(&with(value), may_fetch).ok(),
            expected,
            "{value}"
        );
    }
}

fn script(git: &GitInfo, variables: &[(&str, &str)]) -> Result<String, BadSources> {
    let list = variables
        .iter()
        .map(|(key, value)| own(key, *value))
        .collect();
    let variables = Variables::expanded(list, "");
    let origin = origin("https://gitlab-ci-token:job-token@h/g/p.git", None)?;
    let strategy = Strategy::of(&variables, true)?;
    let sources = Sources {
        strategy,
        origin: Some(&origin),
        git,
        variables: &variables,
        directory: "/b/g/p",
        version: "0",
        clean: strategy != Strategy::None,
        safe: false,
        again: false,
    };
    let mut script = Script::default();
    sources.write(&mut script)?;
    Ok(String::from_utf8(script.into_bytes()).expect("text"))
}

fn info() -> GitInfo {
    GitInfo {
        sha: "0123456789abcdef0123456789abcdef01234567".into(),
        ref_name: "main".into(),
        refspecs: vec![
            "+refs/heads/main:refs/remotes/origin/main".into(),
            "--upload-pack=x".into(),
        ],
        depth: 20,
        ..GitInfo::default()
    }
}

#[test]
fn variables_steer_the_script() {
    /// Variables, what the script then has, what it lacks.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            &[],
            &[
                "--depth 20 --prune --quiet -- origin",
                "clean -ffdx",
                "checkout -f -q 01234567",
            ],
            &["--unshallow", "submodule init"],
        ),
        (&[("GIT_DEPTH", "0")], &["--unshallow"], &["--depth"]),
        (&[("GIT_DEPTH", "odd")], &["--depth 20"], &[]),
        (
            &[("GIT_FETCH_EXTRA_FLAGS", "--tags -v")],
            &["--depth 20 --tags -v -- origin"],
            &["--prune"],
        ),
        (
            &[("GIT_FETCH_EXTRA_FLAGS", "none")],
            &["--depth 20 -- origin"],
            &[],
        ),
        (&[("GIT_CLEAN_FLAGS", "none")], &[], &["clean"]),
        (
            &[("GIT_CLEAN_FLAGS", "-ffdx -e cache/")],
            &["clean -ffdx -e cache/"],
            &[],
        ),
        (
            &[("GIT_CHECKOUT", "false")],
            &["Skipping Git checkout"],
            &["checkout -f"],
        ),
        (&[("GIT_STRATEGY", "clone")], &["rm -rf /b/g/p"], &[]),
        (
            &[("GIT_STRATEGY", "none")],
            &["mkdir -p /b/g/p"],
            &["fetch", "rm -rf"],
        ),
        (
            &[
                ("GIT_SUBMODULE_STRATEGY", "recursive"),
                ("GIT_SUBMODULE_DEPTH", "1"),
                ("GIT_SUBMODULE_PATHS", "a b"),
            ],
            &[
                "submodule update --init --depth 1 --recursive -- a b",
                "submodule sync --recursive -- a b",
                "recursively with git depth set to 1",
            ],
            &[],
        ),
        (
            &[
                ("GIT_SUBMODULE_STRATEGY", "normal"),
                ("GIT_SUBMODULE_FORCE_HTTPS", "1"),
            ],
            &["url.https://h/.insteadOf=git@h:"],
            &["--recursive"],
        ),
    ];
    for (variables, has, lacks) in cases {
        let text = script(&info(), variables).expect("a script");
        for part in *has {
            assert!(text.contains(part), "{variables:?} lacks {part}:\n{text}");
        }
        for part in *lacks {
            assert!(!text.contains(part), "{variables:?} has {part}:\n{text}");
        }
    }
}

#[test]
fn the_token_is_in_one_line_alone() {
    let text = script(&info(), &[("GIT_SUBMODULE_STRATEGY", "recursive")]).expect("a script");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("job-token"))
        .collect();
    assert_eq!(lines, ["export SPRINGTIDE_GIT_PASSWORD=job-token"]);
}

#[test]
fn what_cannot_be_got_is_said_before_a_machine_is_asked() {
    let no_commit = GitInfo {
        sha: "main; rm -rf /".into(),
        ..info()
    };
    let cases = [
        (no_commit, ("A", "b"), "no commit"),
        (info(), ("GIT_STRATEGY", "pull"), "GIT_STRATEGY `pull`"),
        (
            info(),
            ("GIT_SUBMODULE_STRATEGY", "all"),
            "GIT_SUBMODULE_STRATEGY `all`",
        ),
    ];
    for (git, variable, expected) in cases {
        let error = script(&git, &[variable]).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
