//! Where and how a machine is made: driver, settings, labels. A machine's record keeps its scope as
//! text, so that it can be removed when the file has long changed, and a machine is judged gone only
//! by a list of its own scope.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use springtide_config::{DriverOptions, FileOption, FilePurpose, Machine};
use std::path::{Path, PathBuf};

/// A scope. Two that are equal are one provider, account and region with the same settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scope {
    /// The driver's id.
    pub driver: String,
    /// The runner's name when it was written, for messages.
    pub runner: String,
    /// The driver's settings. Secrets are not among them: the host binds them by name.
    pub settings: Value,
    /// Settings in whose text `%s` stands for the machine's name.
    #[serde(default)]
    pub named: Vec<String>,
    /// A file of the operator's user data, absolute.
    #[serde(default)]
    pub user_data: Option<PathBuf>,
    /// The file of a private key that logs in to its machines in place of the manager's, absolute.
    #[serde(default)]
    pub ssh_key: Option<PathBuf>,
}

/// A scope that can't be read: of a newer version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error(
    "the scope of a machine in the state can't be read: {0}; was it written by a newer version?"
)]
pub struct UnreadableScope(#[from] serde_json::Error);

impl Scope {
    /// The text a record keeps.
    #[must_use]
    pub fn text(&self) -> String {
        // Keys of a JSON object come sorted, so equal scopes have equal texts.
        let mut text = serde_json::json!({
            "driver": self.driver,
            "runner": self.runner,
            "settings": self.settings,
            "named": self.named,
        });
        // Left out where there are none, so that scopes of before are equal to those of now.
        for (key, file) in [("user-data", &self.user_data), ("ssh-key", &self.ssh_key)] {
            if let Some(file) = file {
                text[key] = file.to_string_lossy().into();
            }
        }
        text.to_string()
    }

    /// The scope of a runner's new machines, from the options of its entry: files that the driver sees
    /// the text of are read. Relative paths are in the directory `beside`.
    ///
    /// # Errors
    /// Where an option does not fit, or a file can't be read; for people.
    pub fn of(
        machine: &Machine,
        runner: &str,
        options: DriverOptions,
        beside: &Path,
    ) -> Result<Scope, String> {
        let errors: Vec<String> = options
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .map(|problem| format!("{}; {}", problem.text, problem.advice))
            .collect();
        if !errors.is_empty() {
            return Err(errors.join("; "));
        }
        let mut scope = Scope {
            driver: machine.machine_driver.clone(),
            runner: runner.to_owned(),
            settings: Value::Null,
            named: options.named.into_iter().collect(),
            user_data: None,
            ssh_key: None,
        };
        let mut settings = options.settings;
        for FileOption {
            option,
            path,
            purpose,
            ..
        } in options.files
        {
            let file = beside.join(path);
            let file = std::path::absolute(&file).unwrap_or(file);
            match purpose {
                FilePurpose::UserData => scope.user_data = Some(file),
                FilePurpose::SshKey => scope.ssh_key = Some(file),
                FilePurpose::Text => {
                    let text = text_of(&option, &file)?;
                    settings.insert(option, text.into());
                }
            }
        }
        scope.settings = settings.into();
        Ok(scope)
    }

    /// The operator's user data, where there is a file of it.
    ///
    /// # Errors
    /// Where it can't be read; for people.
    pub fn read_user_data(&self) -> Result<Option<String>, String> {
        let file = self.user_data.as_deref();
        file.map(|file| text_of("userdata", file)).transpose()
    }

    /// The settings of a call about this machine; of none, as they stand.
    #[must_use]
    pub fn settings_for(&self, machine: Option<&str>) -> Value {
        let mut settings = self.settings.clone();
        let Some(machine) = machine else {
            return settings;
        };
        for key in &self.named {
            match settings.get_mut(key) {
                Some(Value::String(text)) => *text = text.replace("%s", machine),
                Some(Value::Array(all)) => {
                    for one in all {
                        if let Value::String(text) = one {
                            *text = text.replace("%s", machine);
                        }
                    }
                }
                _ => {}
            }
        }
        settings
    }

    /// Reads what a record kept.
    ///
    /// # Errors
    /// Where it is no scope.
    pub fn read(text: &str) -> Result<Scope, UnreadableScope> {
        Ok(serde_json::from_str(text)?)
    }
}

/// Bytes of a file an option names.
const FILE: u64 = 1 << 20;

fn text_of(option: &str, file: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE + 1).read_to_string(&mut text));
    let why = match read {
        Ok(_) if text.len() as u64 <= FILE => return Ok(text),
        Ok(_) => format!("it is larger than {FILE} bytes"),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "reading {} for the option {option:?}: {why}; let the daemon's user read it, or name another",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scope_is_read_as_it_was_written() {
        let scope = Scope {
            driver: "local".into(),
            runner: "elastic".into(),
            settings: json!({"delay": 5, "tag": "%s", "labels": ["n-%s"], "plain": "%s"}),
            named: vec!["tag".into(), "labels".into()],
            ..Scope::default()
        };
        assert!(
            !scope.text().contains("ssh-key"),
            "as it was written before"
        );
        assert_eq!(
            scope.settings_for(Some("ci-1")),
            json!({"delay": 5, "tag": "ci-1", "labels": ["n-ci-1"], "plain": "%s"})
        );
        assert_eq!(Scope::read(&scope.text()).unwrap(), scope);
        let with_files = Scope {
            user_data: Some("/etc/u.yaml".into()),
            ssh_key: Some("/etc/key".into()),
            ..scope
        };
        assert_eq!(Scope::read(&with_files.text()).unwrap(), with_files);
        let error = Scope::read("{}").unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }

    #[test]
    fn files_that_options_name_are_read_or_kept_by_their_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "text").unwrap();
        let text = "concurrent = 1\n[[runners]]\nname = \"r\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-x\"\nexecutor = \"shell+machine\"\n[runners.machine]\nMachineName = \"ci-%s\"\nMachineDriver = \"x\"\nMachineOptions = [\"x-ca=ca.pem\", \"x-key=/etc/key\", \"x-userdata=gone.yaml\", \"x-token=hidethis\"]\n";
        let source = springtide_config::Source::of(text.to_owned());
        let runner = springtide_config::parse(&source)
            .0
            .unwrap()
            .runners
            .remove(0);
        let schema = json!({
            "type": "object",
            "properties": {
                "x-ca": {"type": "string", "host-file": true},
                "x-key": {"type": "string", "host-file": "ssh-key"},
                "x-userdata": {"type": "string", "host-file": "user-data"},
                "x-token": {"type": "string", "secret": true},
            },
        });
        let machine = runner.machine.unwrap();
        let of =
            |beside: &Path| Scope::of(&machine, "r", machine.driver_options(&schema, "%s"), beside);
        let scope = of(folder.path()).unwrap();
        assert_eq!(scope.settings, json!({"x-ca": "text"}));
        assert_eq!(scope.ssh_key, Some("/etc/key".into()));
        assert_eq!(scope.user_data, Some(folder.path().join("gone.yaml")));
        assert!(!scope.text().contains("hidethis"));
        assert!(scope.read_user_data().unwrap_err().contains("gone.yaml"));
        let error = of(Path::new("/nonexistent")).unwrap_err();
        assert!(
            error.contains("x-ca") && error.contains("/nonexistent/ca.pem"),
            "{error}"
        );
    }
}
