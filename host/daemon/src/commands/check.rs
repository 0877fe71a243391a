//! `springtide check`: every problem of a configuration at once, at its line.

mod shelf;

pub use shelf::Shelf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use springtide_config::{Catalog, Config, Examined, Position, Problem, Runner, Severity, Source};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Check a configuration: every problem at once, with its line, its column and what to write instead.
///
/// An error keeps a runner, or the whole file, from being used; a warning does not. A note tells of a
/// key that changes nothing here. Exit status 1 if there is any error.
///
/// Without --config it checks the file `springtide run` would read.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  springtide check --config /etc/gitlab-runner/config.toml"
)]
pub struct Arguments {
    /// The configuration.
    #[arg(long, short, value_name = "FILE", env = "CONFIG_FILE")]
    config: Option<PathBuf>,
    /// One JSON array, an object a problem: file, line, column, width, severity, text, advice.
    #[arg(long)]
    json: bool,
}

/// Checks, and prints what was found; whether there is no error. `installed` finds the plugins that
/// a configuration says are there; `None` leaves what it says of plugins unchecked.
///
/// # Errors
/// Where no configuration is found, or its problems can't be printed.
pub fn run(
    arguments: &Arguments,
    installed: impl FnOnce(&Config) -> Option<Box<dyn Catalog>>,
) -> Result<bool> {
    let path = match &arguments.config {
        Some(path) => path.clone(),
        None => springtide_config::find_config()?,
    };
    let checked = Checked::of(&path, installed);
    let mut out = std::io::stdout().lock();
    let written = if arguments.json {
        writeln!(out, "{}", checked.json()?)
    } else {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        write!(out, "{}", checked.text(colour))
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing the problems")
        }
        _ => Ok(checked.count(Severity::Error) == 0),
    }
}

/// A file and what is wrong in it.
struct Checked {
    file: String,
    source: Option<Source>,
    problems: Vec<Problem>,
    runners: usize,
}

#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    #[serde(flatten)]
    problem: &'a Problem,
}

impl Checked {
    fn of(path: &Path, installed: impl FnOnce(&Config) -> Option<Box<dyn Catalog>>) -> Checked {
        let file = path.display().to_string();
        let source = match Source::read(path) {
            Ok(source) => source,
            Err(problem) => {
                return Checked {
                    file,
                    source: None,
                    problems: vec![problem],
                    runners: 0,
                };
            }
        };
        let (examined, mut problems) = springtide_config::examine(&source);
        if let Some(Examined { config, .. }) = &examined {
            if let Some(catalog) = installed(config) {
                problems.extend(Shelf::directory_problem(config));
                problems.extend(config.check_plugins(&*catalog));
            }
            problems.sort_by_key(|problem| (problem.at, problem.severity));
        }
        let usable = examined.filter(|examined| examined.usable);
        let runs = |runner: &&Runner| runner.executor.has_machines();
        Checked {
            file,
            source: Some(source),
            problems,
            runners: usable.map_or(0, |one| one.config.runners.iter().filter(runs).count()),
        }
    }

    fn count(&self, severity: Severity) -> usize {
        let problems = self.problems.iter();
        problems
            .filter(|problem| problem.severity == severity)
            .count()
    }

    fn json(&self) -> Result<String> {
        let file = &self.file;
        let problems = self.problems.iter();
        let rows: Vec<Row> = problems.map(|problem| Row { file, problem }).collect();
        serde_json::to_string(&rows).context("writing the problems as JSON")
    }

    fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&self.told(problem, colour));
        }
        let number = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let errors = self.count(Severity::Error);
        let warnings = self.count(Severity::Warning);
        let notes = self.count(Severity::Note);
        let mut found = match (errors, warnings) {
            (0, 0) => "no problems".to_owned(),
            _ => format!(
                "{}, {}",
                number(errors, "error"),
                number(warnings, "warning")
            ),
        };
        if notes > 0 {
            found = format!("{found}, {}", number(notes, "note"));
        }
        let usable = number(self.runners, "runner");
        text + &format!("{}: {found}; {usable} to run\n", self.file)
    }

    /// A problem, the line it is in and a mark below what is meant.
    fn told(&self, problem: &Problem, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            } else {
                text.to_owned()
            }
        };
        let code = match problem.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Note => "1;36",
        };
        let Position { line, column, .. } = problem.at;
        let place = match problem.at {
            Position::FILE => format!("{}:", self.file),
            _ => format!("{}:{line}:{column}:", self.file),
        };
        let advice = match problem.advice.as_str() {
            "" => String::new(),
            advice => format!("; {advice}"),
        };
        let severity = paint(code, &problem.severity.to_string());
        let head = format!("{place} {severity}: {}{advice}\n", clean(&problem.text));
        let Some(source) = self.source.as_ref().filter(|_| line > 0) else {
            return head;
        };
        let window = Window::of(source.line(line), &problem.at);
        if window.text.trim().is_empty() {
            return head;
        }
        let number = line.to_string();
        let blank = " ".repeat(number.len());
        let mark = paint(code, &"^".repeat(window.width));
        let indent = " ".repeat(window.indent);
        format!(
            "{head} {number} | {}\n {blank} | {indent}{mark}\n",
            window.text
        )
    }
}

/// Control characters of a file or a message don't reach the terminal.
fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// What is shown of a line.
struct Window {
    text: String,
    /// Characters before the mark.
    indent: usize,
    /// Characters of the mark.
    width: usize,
}

impl Window {
    /// Characters of a line that are shown.
    const WIDEST: usize = 120;

    fn of(line: &str, at: &Position) -> Window {
        let line = public(line);
        let characters: Vec<char> = clean(&line).chars().collect();
        let meant = (at.column.saturating_sub(1)).min(characters.len());
        // A long line is shown from a little before what is meant.
        let from = match characters.len() > Window::WIDEST {
            true => meant.saturating_sub(Window::WIDEST / 2),
            false => 0,
        };
        let shown = characters.iter().skip(from).take(Window::WIDEST);
        let text: String = shown.collect();
        let room = text.chars().count().saturating_sub(meant - from);
        Window {
            indent: meant - from,
            width: at.width.clamp(1, room.max(1)),
            text: text.trim_end().to_owned(),
        }
    }
}

/// A line as it may be shown: where a secret may stand in it, what follows the `=` is left out.
fn public(line: &str) -> String {
    const SECRET: [&str; 8] = [
        "token",
        "secret",
        "pass",
        "key",
        "credential",
        "dsn",
        "environment",
        "auth",
    ];
    const TOKENS: [&str; 3] = ["glrt-", "glpat-", "gr1348941"];
    let lower = line.to_ascii_lowercase();
    let key = lower.split('=').next().unwrap_or_default().trim();
    let harmless = ["_file", "-file", "_at"]
        .iter()
        .any(|end| key.ends_with(end));
    let bare = TOKENS.iter().filter_map(|token| lower.find(token)).min();
    let named = SECRET.iter().any(|word| lower.contains(word)) && !harmless;
    let in_address = lower.contains("://") && lower.contains('@');
    let value = (named || in_address)
        .then(|| lower.find('='))
        .flatten()
        .map(|at| at + 1);
    match [value, bare].into_iter().flatten().min() {
        Some(end) => format!("{} ...", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Checked {
            file: "config.toml".into(),
            ..Checked::of(&path, |_| None)
        }
    }

    const BAD: &str = "concurrent = 4\n[[runners]]\nname = \"r\"\nurl = \"https://gitlab.example.com\"\ntoken = 3\nexecutor = \"shell+machine\"\nlimits = 3\n[runners.machine]\nMachineName = \"ci\"\nMachineDriver = \"local\"\n";

    #[test]
    fn a_problem_is_shown_with_its_line_and_a_mark() {
        insta::assert_snapshot!(checked(BAD).text(false), @r#"
        config.toml:5:9: error: `token` is a whole number, and has to be a text in quotes; write token = "..."
         5 | token = ...
           |         ^
        config.toml:7:1: warning: `limits` is no key of [[runners]], and is ignored; write limit, or delete it
         7 | limits = 3
           | ^^^^^^
        config.toml:9:15: error: `MachineName` is "ci", and every machine would have the same name; write a name with %s where the part goes that tells machines apart, such as MachineName = "ci-%s"
         9 | MachineName = "ci"
           |               ^^^^
        config.toml: 2 errors, 1 warning; 0 runners to run
        "#);
        assert!(checked(BAD).text(true).contains("\u{1b}[1;31merror"));
    }

    #[test]
    fn a_file_without_problems_says_so() {
        let good = BAD
            .replace("token = 3", "token = \"glrt-x\"")
            .replace("limits", "limit")
            .replace("\"ci\"", "\"ci-%s\"");
        assert_eq!(
            checked(&good).text(false),
            "config.toml: no problems; 1 runner to run\n"
        );
    }

    /// No plugin is installed.
    struct Bare;

    impl Catalog for Bare {
        fn driver(&self, _: &str) -> Option<serde_json::Value> {
            None
        }

        fn policy(&self, _: &str) -> Option<serde_json::Value> {
            None
        }

        fn drivers(&self) -> Vec<String> {
            Vec::new()
        }

        fn policies(&self) -> Vec<String> {
            Vec::new()
        }
    }

    fn checked_with_plugins(text: &str) -> Checked {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let plugins = folder.path().display();
        std::fs::write(
            &path,
            format!("{text}\n[springtide]\nplugin_dir = \"{plugins}\"\n"),
        )
        .unwrap();
        Checked {
            file: "config.toml".into(),
            ..Checked::of(&path, |_| Some(Box::new(Bare)))
        }
    }

    const GOOD: &str = "concurrent = 4\n[[runners]]\nname = \"r\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-x\"\nexecutor = \"shell+machine\"\n[runners.machine]\nMachineName = \"ci-%s\"\nMachineDriver = \"local\"\n[[runners.policy]]\nplugin = \"nights\"\n";

    #[test]
    fn what_runners_say_of_plugins_is_checked_under_an_error_of_the_whole_file() {
        let text = GOOD.replace("concurrent = 4", "concurrent = 0");
        let checked = checked_with_plugins(&text);
        assert_eq!(checked.runners, 0);
        let said: Vec<String> = checked.problems.iter().map(Problem::to_string).collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        1:14: error: `concurrent` is 0; write 1 or more
        9:17: warning: the driver "local" is not installed, and this runner takes no jobs; put local.wasm into the plugin directory; `springtide plugin list` shows what is there
        11:10: error: the policy "nights" is not installed; put nights.wasm into the plugin directory, or delete the table
        "#);
        // Where plugins are is not known: that none is there is not said.
        let unplaced = text + "[springtide]\nplugin_dir = 3\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, unplaced).unwrap();
        let checked = Checked::of(&path, |_| Some(Box::new(Bare)));
        assert_eq!(checked.problems.len(), 2, "{:?}", checked.problems);
    }

    #[test]
    fn a_runner_with_containers_is_one_to_run() {
        let text = GOOD.replace("shell+machine", "docker+machine")
            + "[runners.docker]\nimage = \"ruby:3.3\"\n";
        let checked = checked(&text);
        insta::assert_snapshot!(checked.text(false), @"config.toml: no problems; 1 runner to run");
    }

    #[test]
    fn keys_that_change_nothing_have_a_note_and_are_no_problem() {
        let text = GOOD.replace(
            "name = ",
            "job_status_final_update_retry_limit = 3\nname = ",
        );
        let checked = checked(&text);
        insta::assert_snapshot!(checked.text(false), @r#"
        config.toml:3:1: note: `job_status_final_update_retry_limit` is read and not obeyed: a job's end is told until GitLab has it
         3 | job_status_final_update_retry_limit = 3
           | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        config.toml: no problems, 1 note; 1 runner to run
        "#);
        assert!(checked.text(true).contains("\u{1b}[1;36mnote"));
        assert_eq!(checked.count(Severity::Error), 0);
    }

    #[test]
    fn json_is_an_array_of_problems() {
        let json = checked(BAD).json().unwrap();
        let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 3);
        assert_eq!(rows[1]["line"], 7);
        assert_eq!(rows[1]["severity"], "warning");
        assert_eq!(rows[1]["file"], "config.toml");
        assert_eq!(rows[1]["advice"], "write limit, or delete it");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (line, shown) in [
            ("token = \"glrt-abc", "token = ..."),
            (
                "  \"amazonec2-secret-key=abc\", 3",
                "  \"amazonec2-secret-key= ...",
            ),
            ("environment = [\"A=b\"]", "environment = ..."),
            ("tokn \"glrt-abc", "tokn \" ..."),
            ("url = \"https://me:pw@host\"", "url = ..."),
            ("token_file = \"a\"", "token_file = \"a\""),
            ("limit = 3", "limit = 3"),
        ] {
            assert_eq!(public(line), shown);
        }
    }

    #[test]
    fn a_long_line_is_shown_around_what_is_meant() {
        let line = format!("a = \"{}\" # x", "é".repeat(500));
        let at = Position {
            line: 1,
            column: 400,
            width: 900,
        };
        let window = Window::of(&line, &at);
        assert_eq!(window.text.chars().count(), Window::WIDEST);
        assert_eq!((window.indent, window.width), (60, 60));
    }
}
