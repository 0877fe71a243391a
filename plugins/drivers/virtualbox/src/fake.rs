//! A host for tests: a `VBoxManage` that answers by what it is asked, and files that are kept.

use springtide_sdk::{Creation, Files, Host, Output, PluginError, Process, ProcessError};
use std::cell::RefCell;
use std::collections::BTreeMap;

type Answer = Result<Output, ProcessError>;

/// The tool and the files. Of the answers, the last whose words are all in a call's is given; a call
/// without one succeeds and says nothing.
#[derive(Default)]
pub(crate) struct Fake {
    answers: Vec<(Vec<String>, Answer)>,
    calls: RefCell<Vec<String>>,
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Fake {
    /// The same answer to everything.
    pub(crate) fn answering(answer: Answer) -> Fake {
        Fake {
            answers: vec![(Vec::new(), answer)],
            ..Fake::default()
        }
    }

    pub(crate) fn saying(mut self, words: &str, text: &str) -> Fake {
        self.answer(words, 0, text, "");
        self
    }

    pub(crate) fn failing(mut self, words: &str, text: &str) -> Fake {
        self.answer(words, 1, "", &format!("VBoxManage: error: {text}\n"));
        self
    }

    fn answer(&mut self, words: &str, code: i32, stdout: &str, stderr: &str) {
        let words = words.split(' ').map(str::to_owned).collect();
        let (stdout, stderr) = (stdout.into(), stderr.into());
        self.answers.push((
            words,
            Ok(Output {
                code,
                stdout,
                stderr,
                truncated: false,
            }),
        ));
    }

    pub(crate) fn host(&self) -> Host<'_> {
        Host {
            process: self,
            files: self,
            ..Host::refusing()
        }
    }

    /// The calls, their words joined.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        self.files.borrow().keys().cloned().collect()
    }
}

impl Process for Fake {
    fn run(&self, tool: &str, arguments: &[String], _: &[u8]) -> Answer {
        assert_eq!(tool, "VBoxManage");
        self.calls.borrow_mut().push(arguments.join(" "));
        let found = self
            .answers
            .iter()
            .rev()
            .find(|(words, _)| words.iter().all(|word| arguments.contains(word)));
        found.map_or(
            Ok(Output {
                code: 0,
                stdout: Vec::new(),
                stderr: Vec::new(),
                truncated: false,
            }),
            |(_, answer)| answer.clone(),
        )
    }
}

impl Files for Fake {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        self.files.borrow_mut().insert(name.into(), bytes.into());
        Ok(format!("/scratch/{name}"))
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        self.files.borrow_mut().remove(name);
        Ok(())
    }
}

pub(crate) fn creation() -> Creation {
    Creation {
        token: "t1".into(),
        name: "ci-1".into(),
        owner: "own".into(),
        pool: "pool".into(),
        manager: "host".into(),
        lease_until: 1000,
        user_data: None,
        ssh_key: Some("ssh-ed25519 AAAA manager".into()),
        labels: Vec::new(),
    }
}

/// The name of an error's case.
pub(crate) fn sort(error: &PluginError) -> &'static str {
    match error {
        PluginError::NotFound(_) => "not-found",
        PluginError::Quota(_) => "quota",
        PluginError::Capacity(_) => "capacity",
        PluginError::Throttled(_) => "throttled",
        PluginError::Denied(_) => "denied",
        PluginError::InvalidConfig(_) => "invalid-config",
        PluginError::Transient(_) => "transient",
        PluginError::Permanent(_) => "permanent",
        PluginError::Other(_) => "other",
    }
}
