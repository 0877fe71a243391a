//! Scripts for a machine's shell: bash, or sh where there is no bash.
//!
//! A script is handed over on standard input and evaluated in one shell, so that nothing of it is
//! in an argument or a file. The shell has the environment of a login, as GitLab Runner's shell
//! executor has, but is not one: a `.bash_logout` can't change how the job ends.

use crate::words;
use std::fmt::Write;

/// Moves the script out of the way of what a login script reads, has the login script run, and
/// evaluates the script; what the script itself reads is empty.
const EVALUATE: &str = r#"eval "$(cat <&3)" 3<&-"#;

/// Which shell a job's scripts run under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    /// bash where the machine has it, else sh.
    #[default]
    Any,
    /// bash.
    Bash,
    /// The machine's `sh`.
    Sh,
}

/// A shell that is none of those scripts can be written for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("jobs can't be run under `{0}`: write shell = \"bash\" or \"sh\", or leave it out")]
pub struct UnknownShell(String);

impl std::str::FromStr for Shell {
    type Err = UnknownShell;

    fn from_str(name: &str) -> Result<Self, UnknownShell> {
        match name {
            "" => Ok(Self::Any),
            "bash" => Ok(Self::Bash),
            "sh" => Ok(Self::Sh),
            other => Err(UnknownShell(other.to_owned())),
        }
    }
}

impl Shell {
    /// The program that evaluates the script on its standard input in a container. As in GitLab
    /// Runner, the image decides which shell it is, unless sh is asked for; there is no login.
    pub(crate) fn program_in_container(self) -> Vec<String> {
        let name = match self {
            Self::Any | Self::Bash => "any",
            Self::Sh => "sh",
        };
        let mut program = crate::docker::shell(name);
        program.extend(["-c".into(), format!("exec 3<&0 </dev/null; {EVALUATE}")]);
        program
    }

    /// The program that evaluates the script on its standard input.
    pub(crate) fn program(self) -> Vec<String> {
        let inner = EVALUATE
            .replace('\\', r"\\")
            .replace('"', "\\\"")
            .replace('$', "\\$");
        let bash = format!("exec bash --login -c 'exec bash -c \"{inner}\"'");
        let sh =
            format!("if [ -r /etc/profile ]; then . /etc/profile; fi; exec sh -c '{EVALUATE}'");
        let begin = "exec 3<&0 </dev/null";
        let line = match self {
            Self::Bash => format!("{begin}; {bash}"),
            Self::Sh => format!("{begin}; {sh}"),
            Self::Any => {
                format!("{begin}; if command -v bash >/dev/null 2>&1; then {bash}; else {sh}; fi")
            }
        };
        ["sh".into(), "-c".into(), line].to_vec()
    }
}

/// A text as one word of a POSIX shell, whatever is in it; a NUL, which no word can hold, is left out.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\0', "").replace('\'', r"'\''"))
}

/// A script as it is written.
#[derive(Clone, Default)]
pub(crate) struct Script {
    text: String,
}

impl Script {
    /// A script with these variables exported, that ends at the first command that fails.
    /// `traced` has the shell print each command, as `CI_DEBUG_TRACE` asks for.
    pub(crate) fn new<'a>(
        variables: impl IntoIterator<Item = (&'a str, String)>,
        traced: bool,
    ) -> Self {
        let mut script = Self::default();
        if traced {
            script.line("set -o xtrace");
        }
        for (name, value) in variables {
            script.export(name, &value);
        }
        // `pipefail` is not in every sh.
        script.line("if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi");
        script.line("set -o errexit");
        script.line("set +o noclobber");
        script
    }

    pub(crate) fn export(&mut self, name: &str, value: &str) {
        // What a shell's write to a String comes to is always Ok.
        writeln!(self.text, "export {name}={}", quoted(value)).ok();
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A command of words.
    pub(crate) fn command(&mut self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.line(&words.join(" "));
    }

    fn print(&mut self, text: &str) {
        self.command(&["printf", "%s\\n", text]);
    }

    /// Prints in green.
    pub(crate) fn notice(&mut self, text: &str) {
        self.print(&words::notice(text));
    }

    /// Prints as it is.
    pub(crate) fn say(&mut self, text: &str) {
        self.print(text);
    }

    /// Prints a warning.
    pub(crate) fn warn(&mut self, text: &str) {
        self.print(words::warning(text).trim_end_matches('\n'));
    }

    /// Prints an error and ends the script with this exit code.
    pub(crate) fn fail(&mut self, text: &str, code: i32) {
        self.print(words::error(text).trim_end_matches('\n'));
        self.line(&format!("exit {code}"));
    }

    /// A user's commands, each printed before it runs.
    pub(crate) fn commands<'a>(&mut self, commands: impl IntoIterator<Item = &'a str>) {
        for command in commands {
            let command = command.trim();
            match command.split_once('\n') {
                None if command.is_empty() => self.print(""),
                None => self.notice(&format!("$ {command}")),
                Some((first, _)) => {
                    self.notice(&format!("$ {first} # collapsed multi-line command"));
                }
            }
            self.line(command);
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        // A NUL can't be in a shell's script, and would cut it short.
        self.text.replace('\0', "").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn run(shell: Shell, script: Script) -> (String, i32) {
        let program = shell.program();
        let mut child = Command::new(&program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(&script.into_bytes()).expect("taken");
        drop(stdin);
        let output = child.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code().unwrap_or(-1))
    }

    #[test]
    fn the_first_failure_ends_a_script_and_its_code_is_kept() {
        for shell in [Shell::Any, Shell::Bash, Shell::Sh] {
            let cases: &[(&[&str], &str, i32)] = &[
                (&["echo a", "echo b"], "$ echo a\na\n$ echo b\nb\n", 0),
                (&["sh -c 'exit 7'", "echo b"], "$ sh -c 'exit 7'\n", 7),
                (&["exit 3"], "$ exit 3\n", 3),
                (&["A=1", "echo $A"], "$ A=1\n$ echo $A\n1\n", 0),
                (
                    &["if true\nthen echo '\\n'\nfi"],
                    "$ if true # collapsed multi-line command\n\\n\n",
                    0,
                ),
                (&["", "cat"], "\n$ cat\n", 0),
                (&["printf '%s' \"a\\b\""], "$ printf '%s' \"a\\b\"\na\\b", 0),
            ];
            for (commands, expected, code) in cases {
                // dash's echo takes backslashes for more than they are.
                if shell == Shell::Sh && expected.contains("\n\\n\n") {
                    continue;
                }
                let mut script = Script::new([], false);
                script.commands(commands.iter().copied());
                let (text, ended) = run(shell, script);
                let plain = text.replace("\x1b[32;1m", "").replace("\x1b[0;m", "");
                assert_eq!((plain.as_str(), ended), (*expected, *code), "{shell:?}");
            }
        }
    }

    #[test]
    fn a_pipe_fails_where_any_part_does() {
        let mut script = Script::new([], false);
        script.commands(["false | cat", "echo on"]);
        assert_eq!(run(Shell::Bash, script).1, 1);
    }

    #[test]
    fn nothing_of_a_script_is_in_an_argument() {
        let mut script = Script::new([("SECRET", "hidden-value".to_owned())], false);
        script.line("ps -ef 2>/dev/null || cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
        let (text, _) = run(Shell::Any, script);
        assert!(!text.contains("hidden-value"), "{text}");
    }

    #[test]
    fn shells_have_names() {
        assert_eq!("bash".parse(), Ok(Shell::Bash));
        assert_eq!("".parse(), Ok(Shell::Any));
        let error = "pwsh".parse::<Shell>().expect_err("not written for");
        assert!(error.to_string().contains("`pwsh`"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_value_reaches_the_script_as_it_is(
            values in prop::collection::vec("[ -~\n\t\r\u{1b}é'\"\\\\$`!]{0,20}", 1..12),
        ) {
            let names: Vec<String> = (0..values.len()).map(|n| format!("V{n}")).collect();
            let pairs = names.iter().map(String::as_str).zip(values.iter().cloned());
            let mut script = Script::new(pairs, false);
            for name in &names {
                script.line(&format!("printf '%s\\001' \"${name}\""));
            }
            let expected: String = values.iter().map(|value| format!("{value}\u{1}")).collect();
            prop_assert_eq!(run(Shell::Sh, script.clone()).0, expected.clone());
            prop_assert_eq!(run(Shell::Bash, script).0, expected);
        }
    }
}
