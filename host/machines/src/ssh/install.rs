//! Puts the helper on a machine, the one for its kind of processor, under a name that tells which helper
//! it is.

use super::connection::{Link, SshConnection};
use super::dial::on_files;
use crate::connection::ConnectError;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// Under the home, the directory that helpers are put in.
const FOLDER: &str = ".springtide";

/// What `uname -m` says of machines that helpers are built for.
const KINDS: [&str; 2] = ["x86_64", "aarch64"];

/// The exit code of the script where no home could be made.
const NO_HOME: i32 = 9;

/// A helper that is on a machine.
#[derive(Debug)]
pub(super) struct Installed {
    /// The directory under which builds live.
    pub(super) home: String,
    /// The helper's file name under the home.
    file: String,
}

impl Installed {
    /// Where it is, absolute.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.home, self.file)
    }

    /// The command that starts it.
    pub(super) fn command(&self, arguments: &[&str]) -> String {
        let mut command = format!("exec {} --root {}", quote(&self.path()), quote(&self.home));
        for argument in arguments {
            command.push(' ');
            command.push_str(&quote(argument));
        }
        command
    }
}

/// A helper as it is on this host.
struct Helper {
    bytes: Vec<u8>,
    /// SHA-256, in hex.
    digest: String,
}

impl Helper {
    fn read(path: &Path) -> io::Result<Helper> {
        let bytes = std::fs::read(path)?;
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(&bytes) {
            write!(digest, "{byte:02x}").map_err(io::Error::other)?;
        }
        Ok(Helper { bytes, digest })
    }

    /// Its file name under a machine's home.
    fn file(&self) -> String {
        format!("{FOLDER}/helper-{}", &self.digest[..12])
    }
}

/// The helpers that machines are given.
struct Helpers {
    /// For machines that none of the others is for.
    any: Helper,
    /// By what `uname -m` says of a machine.
    of_kind: Vec<(&'static str, Helper)>,
}

impl Helpers {
    /// The one at a path, and those beside it whose names go on with a kind of machine.
    fn read(path: &Path) -> io::Result<Helpers> {
        let mut of_kind = Vec::new();
        for kind in KINDS {
            match Helper::read(&beside(path, kind)) {
                Ok(helper) => of_kind.push((kind, helper)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Helpers {
            any: Helper::read(path)?,
            of_kind,
        })
    }

    fn of(&self, kind: &str) -> &Helper {
        let known = self.of_kind.iter().find(|(known, _)| *known == kind);
        known.map_or(&self.any, |(_, helper)| helper)
    }
}

/// Where the helper for a kind of machine is, beside the one at this path.
fn beside(path: &Path, kind: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-");
    name.push(kind);
    path.with_file_name(name)
}

/// Finds a home on the machine, and puts the helper there if it is not there yet.
pub(super) async fn install(
    connection: &SshConnection,
    link: &Link,
    helper: &Path,
    homes: &[String],
) -> Result<Installed, ConnectError> {
    let target = connection.target();
    let path = helper.to_owned();
    let reading = format!("reading the helper {}", helper.display());
    let helpers = on_files(target, &reading, move || Helpers::read(&path)).await?;
    let found = connection.output_over(link, &look(&helpers, homes)).await?;
    if found.code != 0 {
        return Err(match found.code {
            NO_HOME => target.refused(format!(
                "{} can write to none of {}: give that user one of them",
                target.user,
                homes.join(", ")
            )),
            // Images that want another user say so here: "Please login as the user ...".
            code => target.unreachable(format!(
                "looking for a home there ended with {code}. {} {}",
                String::from_utf8_lossy(&found.stdout).trim(),
                String::from_utf8_lossy(&found.stderr).trim()
            )),
        });
    }
    let said = String::from_utf8_lossy(&found.stdout);
    let mut lines = said.lines();
    let home = match lines.next() {
        Some(home) if home.starts_with('/') => home.to_owned(),
        _ => {
            return Err(target.unreachable(format!(
                "looking for a home there, its shell said {said:?}: does its profile print something?"
            )));
        }
    };
    let kind = lines.next().unwrap_or_default();
    let there = lines.next().and_then(|line| line.split_whitespace().next());
    let wanted = helpers.of(kind);
    let installed = Installed {
        home,
        file: wanted.file(),
    };
    let size = wanted.bytes.len().to_string();
    if !there.is_some_and(|there| there == wanted.digest || there == size) {
        put(connection, link, &installed, &wanted.bytes)
            .await
            .map_err(|error| match error {
                Put::NotDone(error) => error,
                Put::DoesNotRun(said) => target.refused(format!(
                    "springtide-helper does not run there ({kind}): {said}. It has to be built for that machine (one for {kind} can be put beside the manager's, as {}), and its home must not be mounted noexec",
                    beside(helper, kind).display(),
                )),
            })?;
    }
    Ok(installed)
}

/// Why a helper is not on a machine.
enum Put {
    NotDone(ConnectError),
    /// With what the machine says.
    DoesNotRun(String),
}

impl From<ConnectError> for Put {
    fn from(error: ConnectError) -> Put {
        Put::NotDone(error)
    }
}

async fn put(
    connection: &SshConnection,
    link: &Link,
    installed: &Installed,
    bytes: &[u8],
) -> Result<(), Put> {
    let path = installed.path();
    connection.put_over(link, &path, bytes, 0o755).await?;
    let file = quote(&path);
    let tried = format!("{file} --version || {{ rm -f {file}; exit 1; }}");
    let tried = connection.output_over(link, &sh(&tried)).await?;
    if tried.code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    Err(Put::DoesNotRun(said.trim().to_owned()))
}

/// The script that prints the home, the kind of machine, and then the digest of the helper that is
/// there for it, or its size where nothing can tell the digest.
fn look(helpers: &Helpers, homes: &[String]) -> String {
    let homes: Vec<String> = homes.iter().map(|home| quote(home)).collect();
    let mut choices = String::new();
    for (kind, helper) in &helpers.of_kind {
        choices.push_str(&format!("{kind}) f={};; ", helper.file()));
    }
    sh(&format!(
        "umask 022; k=$(uname -m); case \"$k\" in {choices}*) f={any};; esac; for d in {homes}; do \
         if mkdir -p \"$d/{FOLDER}\" 2>/dev/null && [ -w \"$d/{FOLDER}\" ] && cd \"$d\"; then \
         pwd; echo \"$k\"; \
         if [ -x $f ]; then sha256sum $f 2>/dev/null || wc -c < $f; fi; exit 0; \
         fi; done; exit {NO_HOME}",
        homes = homes.join(" "),
        any = helpers.any.file(),
    ))
}

/// A script for the plain shell, whatever the user's login shell is.
pub(super) fn sh(script: &str) -> String {
    format!("exec sh -c {}", quote(script))
}

/// A word as every shell takes it literally.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_quoted_word_comes_through_two_shells_as_it_is(word in "[^\0]{0,60}") {
            let inner = format!("printf %s {}", quote(&word));
            let output = Command::new("sh").args(["-c", &sh(&inner)]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn the_first_home_that_can_be_written_to_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("with 'a' blank");
        let homes = ["/proc/none".to_owned(), good.to_str().unwrap().to_owned()];
        let helper = folder.path().join("helper");
        std::fs::write(&helper, "any").unwrap();
        let helpers = Helpers::read(&helper).unwrap();
        let run = |homes: &[String]| {
            let script = look(&helpers, homes);
            Command::new("sh").args(["-c", &script]).output().unwrap()
        };
        let found = String::from_utf8(run(&homes).stdout).unwrap();
        assert_eq!(found.lines().next().unwrap(), homes[1]);
        assert_eq!(run(&homes[..1]).status.code(), Some(NO_HOME));
    }
    #[test]
    fn a_machine_is_given_the_helper_for_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("helper"), "any").unwrap();
        std::fs::write(at.join("helper-aarch64"), "arm").unwrap();
        let helpers = Helpers::read(&at.join("helper")).unwrap();
        assert_eq!(helpers.of("aarch64").bytes, b"arm");
        assert_eq!(helpers.of("x86_64").bytes, b"any");
        assert_eq!(helpers.of("riscv64").bytes, b"any");
        // The machine finds the one that is there for it.
        let home = at.join("home");
        let tools = at.join("tools");
        for folder in [&home.join(FOLDER), &tools] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let program = |path: &Path, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        program(&home.join(helpers.of("aarch64").file()), "arm");
        let script = look(&helpers, &[home.to_str().unwrap().to_owned()]);
        for (kind, digest) in [
            ("aarch64", Some(&helpers.of("aarch64").digest)),
            ("x86_64", None),
        ] {
            program(&tools.join("uname"), &format!("#!/bin/sh\necho {kind}\n"));
            let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
            let mut command = Command::new("sh");
            let output = command
                .args(["-c", &script])
                .env("PATH", path)
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let mut lines = said.lines().skip(1);
            assert_eq!(lines.next(), Some(kind), "{said}");
            let found = lines.next().and_then(|line| line.split(' ').next());
            assert_eq!(found, digest.map(String::as_str), "{said}");
        }
    }
}
