//! Puts the helper on a machine, under a name that tells which helper it is.

use super::connection::{Link, SshConnection};
use super::dial::on_files;
use crate::connection::ConnectError;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::path::Path;

/// Under the home, the directory that helpers are put in.
const FOLDER: &str = ".springtide";

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
    let (bytes, digest) = on_files(target, &reading, move || read(&path)).await?;
    let file = format!("{FOLDER}/helper-{}", &digest[..12]);
    let found = connection.output_over(link, &look(&file, homes)).await?;
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
    let there = lines.next().and_then(|line| line.split_whitespace().next());
    let installed = Installed { home, file };
    if !there.is_some_and(|there| there == digest || there == bytes.len().to_string()) {
        put(connection, link, &installed, &bytes).await?;
    }
    Ok(installed)
}

async fn put(
    connection: &SshConnection,
    link: &Link,
    installed: &Installed,
    bytes: &[u8],
) -> Result<(), ConnectError> {
    let path = format!("{}/{}", installed.home, installed.file);
    connection.put_over(link, &path, bytes, 0o755).await?;
    let file = quote(&path);
    let tried = format!("{file} --version || {{ uname -m; rm -f {file}; exit 1; }}");
    let tried = connection.output_over(link, &sh(&tried)).await?;
    if tried.code == 0 {
        return Ok(());
    }
    let kind = String::from_utf8_lossy(&tried.stdout);
    let said = String::from_utf8_lossy(&tried.stderr);
    Err(connection.target().refused(format!(
        "springtide-helper does not run there ({}): {}. It has to be built for that machine, and its home must not be mounted noexec",
        kind.trim(),
        said.trim(),
    )))
}

/// The script that prints the home, and then the digest of the helper there, or its size where
/// nothing can tell the digest.
fn look(file: &str, homes: &[String]) -> String {
    let homes: Vec<String> = homes.iter().map(|home| quote(home)).collect();
    sh(&format!(
        "umask 022; for d in {homes}; do \
         if mkdir -p \"$d/{FOLDER}\" 2>/dev/null && [ -w \"$d/{FOLDER}\" ] && cd \"$d\"; then \
         pwd; if [ -x {file} ]; then sha256sum {file} 2>/dev/null || wc -c < {file}; fi; exit 0; \
         fi; done; exit {NO_HOME}",
        homes = homes.join(" "),
    ))
}

fn read(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let bytes = std::fs::read(path)?;
    let mut digest = String::with_capacity(64);
    for byte in Sha256::digest(&bytes) {
        write!(digest, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok((bytes, digest))
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
        let run = |homes: &[String]| {
            let script = look(".springtide/helper-0", homes);
            Command::new("sh").args(["-c", &script]).output().unwrap()
        };
        let found = run(&homes);
        assert_eq!(String::from_utf8(found.stdout).unwrap().trim(), homes[1]);
        assert_eq!(run(&homes[..1]).status.code(), Some(NO_HOME));
    }
}
