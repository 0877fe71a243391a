//! Writing: the rest of a file stays as somebody wrote it.

mod common;

use common::lines;
use secrecy::{ExposeSecret, SecretString};
use springtide_config::{
    EditError, NewDocker, NewMachine, NewRunner, append_runner, list_runners, load, remove_runners,
    replace_token,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const WRITTEN: &str = "# Ours.\nconcurrent = 4   # cores\n\n# The first.\n[[runners]]\n  name = \"one\"\n  url = \"https://a.example.com\"\n  token = \"glrt-one\"   # keep\n  executor = \"shell+machine\"\n  [runners.machine]\n    MachineName = \"ci-%s\"\n    MachineDriver = \"local\"\n\n# The second.\n[[runners]]\n  name = 'two'\n  url = \"https://a.example.com\"\n  token = \"glrt-two\"\n  executor = \"shell+machine\"\n  [runners.machine] # here\n    MachineName = \"cj-%s\"\n    MachineDriver = \"local\"\n";

fn new_runner() -> NewRunner {
    NewRunner {
        name: "three".into(),
        url: "https://b.example.com".into(),
        id: Some(7),
        token: SecretString::from("glrt-three"),
        token_obtained_at: Some("2026-03-02T12:00:00.5Z".parse().unwrap()),
        executor: "docker+machine".into(),
        limit: 5,
        docker: Some(NewDocker {
            image: "node:20".into(),
            privileged: false,
            volumes: vec!["/cache".into()],
        }),
        machine: Some(NewMachine {
            idle_count: 1,
            idle_time: 600,
            driver: "local".into(),
            name: "ck-%s".into(),
            options: vec!["boot-delay=1".into()],
            ..NewMachine::default()
        }),
        ..NewRunner::default()
    }
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, WRITTEN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    (folder, path)
}

#[test]
fn a_new_file_is_its_owners_alone_and_reads_as_gitlab_runners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/config.toml");
    append_runner(&path, &new_runner()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
        concurrent = 1
        check_interval = 0
        shutdown_timeout = 0

        [session_server]
          session_timeout = 1800

        [[runners]]
          name = "three"
          limit = 5
          url = "https://b.example.com"
          id = 7
          token = "glrt-three"
          token_obtained_at = 2026-03-02T12:00:00Z
          executor = "docker+machine"
          [runners.docker]
            tls_verify = false
            image = "node:20"
            privileged = false
            disable_cache = false
            volumes = ["/cache"]
            shm_size = 0
          [runners.machine]
            IdleCount = 1
            IdleTime = 600
            MachineDriver = "local"
            MachineName = "ck-%s"
            MachineOptions = ["boot-delay=1"]
        "#);
    let (config, problems) = load(&path);
    assert_eq!(lines(&problems), "");
    assert_eq!(config.unwrap().runners[0].name, "three");
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_runner_is_added_and_nothing_else_changes() {
    let (_folder, path) = written();
    append_runner(&path, &new_runner()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(WRITTEN), "{text}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let names: Vec<String> = list_runners(&path)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["one", "two", "three"]);
    let (config, problems) = load(&path);
    assert_eq!(lines(&problems), "");
    assert_eq!(config.unwrap().runners.len(), 3);
}

#[test]
fn a_runner_is_removed_with_its_comment_and_nothing_else_changes() {
    let (_folder, path) = written();
    let removed = remove_runners(&path, |entry| entry.name == "one").unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].token.expose_secret(), "glrt-one");
    let begin = WRITTEN.find("\n# The first").unwrap();
    let end = WRITTEN.find("\n# The second").unwrap();
    let expected = format!("{}{}", &WRITTEN[..begin], &WRITTEN[end..]);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);

    assert!(remove_runners(&path, |_| false).unwrap().is_empty());
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(remove_runners(&path, |_| true).unwrap().len(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), &WRITTEN[..begin]);
}

#[test]
fn a_token_is_replaced_in_its_place() {
    let (_folder, path) = written();
    let [one, new] = ["glrt-one", "glrt-new"].map(SecretString::from);
    let now = "2026-03-02T12:00:00Z".parse().unwrap();
    assert!(replace_token(&path, &one, &new, now, Some(now)).unwrap());
    assert!(!replace_token(&path, &one, &new, now, None).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let expected = WRITTEN.replace(
        "  token = \"glrt-one\"   # keep",
        "  token = \"glrt-new\"   # keep",
    );
    let added = text
        .lines()
        .filter(|line| line.contains("2026-03-02T12:00:00Z"))
        .count();
    assert_eq!(added, 2);
    let rest: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("2026-03-02"))
        .collect();
    assert_eq!(rest, expected.lines().collect::<Vec<_>>());
}

#[test]
fn a_link_stays_a_link() {
    let (folder, path) = written();
    let link = folder.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    append_runner(&link, &new_runner()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(list_runners(&path).unwrap().len(), 3);
}

#[test]
fn what_can_not_be_understood_is_left_alone() {
    let (_folder, path) = written();
    for (text, error) in [
        ("runners = [\n", "not TOML"),
        ("runners = []\n", "in one line"),
    ] {
        fs::write(&path, text).unwrap();
        let said = append_runner(&path, &new_runner()).unwrap_err().to_string();
        assert!(said.contains(error), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let folder = path.parent().unwrap();
    assert!(matches!(list_runners(folder), Err(EditError::Io { .. })));
    assert!(list_runners(&folder.join("none.toml")).unwrap().is_empty());
}
