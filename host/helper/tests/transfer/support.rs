//! A project and the helper run in it.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub const HELPER: &str = env!("CARGO_BIN_EXE_springtide-helper");
pub const TOKEN: &str = "glcbt-64_0123456789abcdefghij";

/// A directory as a project.
pub struct Project {
    folder: TempDir,
}

/// What a run of the helper came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    /// Both outputs, without colours.
    pub text: String,
}

impl Ran {
    pub fn says(&self, words: &str) {
        assert!(self.text.contains(words), "no {words:?} in:\n{}", self.text);
    }

    pub fn says_not(&self, words: &str) {
        assert!(!self.text.contains(words), "{words:?} in:\n{}", self.text);
    }

    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }
}

impl Project {
    /// A project with files of these names, each with its name in it.
    pub fn new(files: &[&str]) -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(project.path()).unwrap();
        for file in files {
            project.write(file, file.as_bytes());
        }
        project
    }

    /// The project's directory; beside it nothing must be written.
    pub fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("p")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub fn transfer(&self, order: &Value) -> Ran {
        self.transfer_with(order, &[])
    }

    pub fn transfer_with(&self, order: &Value, environment: &[(&str, &str)]) -> Ran {
        let mut child = Command::new(HELPER)
            .arg("transfer")
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let order = order.to_string();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(order.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let mut text = String::from_utf8(text).unwrap();
        for colour in ["\x1b[0;m", "\x1b[32;1m", "\x1b[0;33m", "\x1b[31;1m"] {
            text = text.replace(colour, "");
        }
        assert!(!text.contains(TOKEN), "a token in:\n{text}");
        Ran {
            code: output.status.code().unwrap(),
            text,
        }
    }

    /// All names below the project, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut open = vec![self.path()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
                let name = entry.path();
                let name = name.strip_prefix(self.path()).unwrap();
                names.push(name.to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names
    }
}

/// Requests that do not wait long between tries.
pub fn calls() -> Value {
    json!({"pause_milliseconds": 1})
}

pub fn upload(url: &str, files: Value) -> Value {
    json!({"artifacts-upload": {"url": url, "job": 7, "token": TOKEN, "files": files,
        "format": "zip", "kind": "archive", "calls": calls()}})
}

pub fn download(url: &str) -> Value {
    json!({"artifacts-download": {"url": url, "calls": calls(),
        "items": [{"id": 5, "token": TOKEN, "name": "build", "filename": "artifacts.zip", "size": 9}]}})
}

/// A zip of the files in a directory, made by Info-ZIP.
pub fn info_zip(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let zipped = Command::new("zip")
        .current_dir(directory)
        .args(["-q", "-X", "-r", "-y", "-"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(zipped.status.success(), "{zipped:?}");
    zipped.stdout
}

/// The names in a zip as unzip lists them, once it has tested all of it.
pub fn unzip_names(bytes: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let run = |arguments: &[&str]| {
        let ran = Command::new("unzip")
            .args(arguments)
            .arg(file.path())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    };
    run(&["-tqq"]);
    run(&["-Z1"]).lines().map(str::to_owned).collect()
}
