//! `springtide plugin`, as a person uses it, on the shipped plugins and on files that are none.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The directory `cargo xtask plugins` leaves the shipped plugins in.
fn plugins() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_springtide"));
    let target = program.parent().and_then(Path::parent).unwrap();
    let plugins = target.join("plugins");
    for name in ["local", "off-peak", "queue-depth"] {
        let file = plugins.join(format!("{name}.wasm"));
        assert!(
            file.is_file(),
            "{} is missing: run `cargo xtask plugins` first",
            file.display()
        );
    }
    plugins
}

fn plugin(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_springtide"))
        .arg("plugin")
        .args(arguments)
        .arg("--plugin-dir")
        .arg(directory)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn text(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}{errors}");
    text
}

fn value(output: &Output, code: i32) -> Value {
    serde_json::from_str(&text(output, code)).unwrap()
}

/// A directory with one plugin and two files that are none.
fn mixed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        plugins().join("off-peak.wasm"),
        folder.path().join("nights.wasm"),
    )
    .unwrap();
    std::fs::write(folder.path().join("broken.wasm"), "nonsense").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no plugin").unwrap();
    folder
}

#[test]
fn a_list_shows_what_there_is_and_why_a_file_is_refused() {
    let folder = mixed();
    let shown = text(&plugin(&["list"], folder.path()), 0);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(
        lines[0].starts_with("id      kind    version  digest"),
        "{shown}"
    );
    assert!(lines[1].starts_with("broken  -"), "{shown}");
    assert!(
        lines[1].contains("refused at component: it is no WebAssembly"),
        "{shown}"
    );
    assert!(lines[2].starts_with("nights  policy"), "{shown}");
    assert!(
        lines[2].contains("ok, but it says that its name is off-peak"),
        "{shown}"
    );

    let list = value(&plugin(&["list", "--json"], folder.path()), 0);
    let rows = list["plugins"].as_array().unwrap();
    assert_eq!(rows[0]["ok"], false);
    assert_eq!(rows[0]["stage"], "component");
    assert_eq!(rows[1]["kind"], "policy");
    let digest = rows[1]["digest"].as_str().unwrap();
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
}

#[test]
fn the_shipped_plugins_are_all_in_order() {
    let list = value(&plugin(&["list", "--json"], &plugins()), 0);
    let rows = list["plugins"].as_array().unwrap();
    for (id, kind) in [
        ("local", "driver"),
        ("off-peak", "policy"),
        ("queue-depth", "policy"),
    ] {
        let row = rows.iter().find(|row| row["id"] == id).unwrap();
        assert_eq!(row["kind"], kind, "{row}");
        assert_eq!(row["warnings"], serde_json::json!([]), "{row}");
    }
}

#[test]
fn a_directory_that_is_not_there_or_open_to_all_is_said_so() {
    use std::os::unix::fs::PermissionsExt;
    let folder = mixed();
    let missing = plugin(&["list"], &folder.path().join("nothing"));
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("reading the plugin directory"), "{error}");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = plugin(&["list"], folder.path());
    assert_eq!(open.status.code(), Some(0));
    let error = String::from_utf8(open.stderr).unwrap();
    assert!(error.contains("anyone may write to"), "{error}");
}

#[test]
fn inspect_shows_who_it_is_and_what_can_be_set() {
    let shown = text(&plugin(&["inspect", "queue-depth"], &plugins()), 0);
    for part in [
        "queue-depth 0.1.0, a policy\n",
        "  asks for   nothing\n",
        "  deadlines  1 s a call\n",
        "integer, 1 or more",
        "number, 0 to 1",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let driver = text(&plugin(&["inspect", "local"], &plugins()), 0);
    assert!(driver.starts_with("local 0.1.0, a driver\n"), "{driver}");
    assert!(driver.contains("local-boot-delay"), "{driver}");

    let whole = value(&plugin(&["inspect", "off-peak", "--json"], &plugins()), 0);
    assert_eq!(whole["name"], "off-peak");
    assert_eq!(whole["settings-schema"]["type"], "object");
    let settings = whole["settings"].as_array().unwrap();
    let names: Vec<&str> = settings
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for name in ["OffPeakPeriods", "autoscaling", "autoscaling[].IdleCount"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn inspect_shows_the_grants_to_write_but_for_a_shipped_plugin_that_needs_none() {
    let shipped = text(&plugin(&["inspect", "local"], &plugins()), 0);
    let end = "\nIt came with the program and has what it asks for without a grant.\n";
    assert!(shipped.ends_with(end), "{shipped}");
    assert!(!shipped.contains(".grants"), "{shipped}");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("mine.wasm");
    std::fs::copy(plugins().join("local.wasm"), &copy).unwrap();
    let other = text(&plugin(&["inspect", "mine"], folder.path()), 0);
    assert!(!other.contains("came with the program"), "{other}");
    let grants = "[plugins.mine.grants.tools.springtide-local]\npath = \"/PATH/OF/THE/PROGRAM\"\n";
    assert!(other.contains(grants), "{other}");
}

#[test]
fn inspect_of_what_is_refused_names_the_command_that_shows_where() {
    let folder = mixed();
    let output = plugin(&["inspect", "broken"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("springtide plugin check"), "{error}");
    assert!(error.contains("it is no WebAssembly"), "{error}");
}

#[test]
fn check_passes_a_plugin_through_all_stages() {
    let shown = text(&plugin(&["check", "queue-depth"], &plugins()), 0);
    let stages: Vec<&str> = shown
        .lines()
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        stages,
        [
            "read",
            "size",
            "digest",
            "component",
            "imports",
            "world",
            "compile",
            "limits",
            "trial",
            "description"
        ]
    );
    assert!(
        shown.ends_with("\nqueue-depth 0.1.0 is a policy this host runs\n"),
        "{shown}"
    );
}

#[test]
fn check_ends_at_the_stage_that_refuses_and_exits_with_1() {
    let folder = mixed();
    let shown = text(&plugin(&["check", "broken"], folder.path()), 1);
    assert!(
        shown.contains("\ncomponent    refused  it is no WebAssembly"),
        "{shown}"
    );
    assert!(
        shown.contains("\ntrial        -        not reached\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("\nbroken is refused at component\n"),
        "{shown}"
    );

    let report = value(&plugin(&["check", "broken", "--json"], folder.path()), 1);
    assert_eq!(report["ok"], false);
    let stages = report["stages"].as_array().unwrap();
    let last = stages.last().unwrap();
    assert_eq!(last["stage"], "component");
    assert_eq!(last["ok"], false);
}

#[test]
fn a_pinned_digest_is_held_to() {
    let list = value(&plugin(&["list", "--json"], &plugins()), 0);
    let rows = list["plugins"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == "off-peak").unwrap();
    let digest = row["digest"].as_str().unwrap();
    let shown = text(
        &plugin(&["check", "off-peak", "--digest", digest], &plugins()),
        0,
    );
    assert!(shown.contains("as pinned"), "{shown}");
    let shown = text(
        &plugin(&["check", "queue-depth", "--digest", digest], &plugins()),
        1,
    );
    assert!(
        shown.ends_with("\nqueue-depth is refused at digest\n"),
        "{shown}"
    );
}
