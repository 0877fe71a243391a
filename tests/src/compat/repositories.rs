//! The projects of the suite: one with branches, a tag, a merge request and a submodule, and the two
//! below it.

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project whose jobs run.
pub const APP: &str = "compat/app";

/// All projects of the suite, and where each is below a directory.
pub const PROJECTS: [(&str, &str); 3] = [
    (APP, "app.git"),
    ("compat/lib", "lib.git"),
    ("compat/deep", "deep.git"),
];

/// What is in the file of Git LFS.
const LARGE: &str = "large, as LFS keeps it\n";

struct Maker<'a> {
    folder: &'a Path,
}

impl Maker<'_> {
    fn git(&self, at: &Path, arguments: &[&str]) -> Result<()> {
        let settings = [
            "user.name=compat",
            "user.email=compat@example.com",
            "init.defaultBranch=main",
            "protocol.file.allow=always",
            "advice.detachedHead=false",
        ];
        let mut command = Command::new("git");
        for setting in settings {
            command.args(["-c", setting]);
        }
        let done = command
            .args(arguments)
            .current_dir(at)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            // Each commit has the same id on every machine.
            .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
            .output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("git {arguments:?}: {said}");
        }
        Ok(())
    }

    fn begin(&self, name: &str) -> Result<PathBuf> {
        let work = self.folder.join(name);
        std::fs::create_dir_all(&work)?;
        self.git(&work, &["init", "--quiet"])?;
        Ok(work)
    }

    fn commit(&self, work: &Path, files: &[(&str, &str)], message: &str) -> Result<()> {
        for (name, text) in files {
            let path = work.join(name);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above)?;
            }
            std::fs::write(path, text)?;
        }
        self.git(work, &["add", "--all"])?;
        self.git(work, &["commit", "--quiet", "-m", message])
    }

    /// A submodule by an address relative to the project's own, which works wherever it is served.
    fn submodule(&self, work: &Path, name: &str) -> Result<()> {
        let from = self.folder.join(name);
        let from = from.to_string_lossy();
        self.git(work, &["submodule", "--quiet", "add", &from, name])?;
        let address = format!("submodule.{name}.url");
        let relative = format!("../{name}.git");
        self.git(work, &["config", "-f", ".gitmodules", &address, &relative])?;
        self.commit(work, &[], &format!("{name} within"))
    }

    /// A branch with a file of Git LFS: git has a pointer, and the file is beside the repository.
    fn large_file(&self, work: &Path) -> Result<()> {
        let id = Sha256::digest(LARGE.as_bytes());
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let size = LARGE.len();
        let pointer =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n");
        let attributes = "large.bin filter=lfs diff=lfs merge=lfs -text\n";
        self.git(work, &["checkout", "--quiet", "-b", "lfs"])?;
        let files = [
            ("large.bin", pointer.as_str()),
            (".gitattributes", attributes),
        ];
        self.commit(work, &files, "A large file")?;
        self.git(work, &["checkout", "--quiet", "main"])?;
        let folder = self.folder.join("app.git/lfs/objects");
        let folder = folder.join(&id[..2]).join(&id[2..4]);
        self.publish("app")?;
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(id), LARGE)?)
    }

    fn publish(&self, name: &str) -> Result<()> {
        let bare = format!("{name}.git");
        self.git(self.folder, &["clone", "--quiet", "--mirror", name, &bare])
    }
}

/// Makes the repositories below a directory.
///
/// # Errors
/// What git says.
pub fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let make = Maker { folder };
    let deep = make.begin("deep")?;
    make.commit(&deep, &[("deep.txt", "deep\n")], "Deep")?;
    let lib = make.begin("lib")?;
    make.commit(&lib, &[("lib.txt", "lib one\n")], "A library")?;
    make.commit(&lib, &[("lib.txt", "lib two\n")], "A better library")?;
    make.submodule(&lib, "deep")?;
    let app = make.begin("app")?;
    let files = [
        ("README.md", "# app\n"),
        (".gitignore", "ignored/\n*.log\n"),
        ("src/main.txt", "one\n"),
    ];
    make.commit(&app, &files, "One")?;
    make.git(&app, &["tag", "-a", "v1.0", "-m", "The first"])?;
    make.commit(&app, &[("src/main.txt", "two\n")], "Two")?;
    make.git(&app, &["checkout", "--quiet", "-b", "feature/login"])?;
    make.commit(&app, &[("login.txt", "login\n")], "A login")?;
    make.git(&app, &["checkout", "--quiet", "main"])?;
    make.git(&app, &["checkout", "--quiet", "--detach"])?;
    make.commit(&app, &[("merge.txt", "merge\n")], "To be merged")?;
    make.git(&app, &["update-ref", "refs/merge-requests/7/head", "HEAD"])?;
    make.git(&app, &["checkout", "--quiet", "main"])?;
    for number in 3..=5 {
        let text = format!("{number}\n");
        make.commit(
            &app,
            &[("src/main.txt", &text)],
            &format!("Commit {number}"),
        )?;
    }
    make.submodule(&app, "lib")?;
    make.publish("deep")?;
    make.publish("lib")?;
    make.large_file(&app)
}
