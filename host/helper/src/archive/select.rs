//! Which files of a project are archived, with the lines GitLab Runner prints about it.

use super::glob::{BadPattern, Pattern, Progress};
use super::project::{Behind, Project};
use super::{Line, Say, shown};
use rustix::fs::FileType;
use springtide_helper::Files;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::process::{Command, Stdio};

/// Names of files, directories and links, sorted, each once. It holds the names themselves and eight
/// bytes for each.
#[derive(Default)]
pub(crate) struct Selection {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
    newest: Option<(i64, u32)>,
}

impl Selection {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The names, relative to the project.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| slice(&self.bytes, *span))
    }

    /// When the newest of them was changed, in seconds and nanoseconds.
    pub(crate) fn newest(&self) -> Option<(i64, u32)> {
        self.newest
    }

    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        let many = |_| io::Error::other("the names of the files are longer than 4 GiB together");
        let start = u32::try_from(self.bytes.len()).map_err(many)?;
        let length = u32::try_from(name.len()).map_err(many)?;
        self.bytes.extend_from_slice(name);
        self.spans.push((start, length));
        Ok(())
    }

    fn sort(&mut self) {
        let Self { bytes, spans, .. } = self;
        spans.sort_unstable_by(|a, b| slice(bytes, *a).cmp(slice(bytes, *b)));
        spans.dedup_by(|a, b| slice(bytes, *a) == slice(bytes, *b));
    }
}

fn slice(bytes: &[u8], (start, length): (u32, u32)) -> &[u8] {
    &bytes[start as usize..][..length as usize]
}

/// Finds the files.
///
/// # Errors
/// Only for names beyond any bound; what can't be read is a warning.
pub(crate) fn select(project: &Project, files: &Files, say: Say<'_>) -> io::Result<Selection> {
    let root = project.path().to_string_lossy().into_owned();
    let mut selector = Selector {
        project,
        say,
        excludes: Vec::new(),
        selection: Selection::default(),
        outside: Vec::new(),
    };
    for text in &files.exclude {
        match Pattern::new(text, &root) {
            Ok(pattern) => selector.excludes.push((text, pattern, 0)),
            Err(why) => say(Line::Warning(format!("isExcluded: {why}"))),
        }
    }
    for text in &files.paths {
        selector.path(text, &root)?;
    }
    if files.untracked {
        selector.untracked()?;
    }
    for (text, _, count) in &selector.excludes {
        if *count > 0 {
            say(Line::Info(format!("{text}: excluded {count} files")));
        }
    }
    selector.selection.sort();
    Ok(selector.selection)
}

struct Selector<'a> {
    project: &'a Project,
    say: Say<'a>,
    /// What was written, what it means, how many files it left out.
    excludes: Vec<(&'a str, Pattern, u64)>,
    selection: Selection,
    /// Links of the pattern in hand that lead out of the project.
    outside: Vec<Vec<u8>>,
}

impl<'a> Selector<'a> {
    fn path(&mut self, text: &str, root: &str) -> io::Result<()> {
        let pattern = match Pattern::new(text, root) {
            Ok(pattern) => pattern,
            Err(why @ BadPattern::Outside(_)) => {
                (self.say)(Line::Warning(format!("processPath: {why}")));
                return Ok(());
            }
            Err(why @ BadPattern::Syntax) => {
                (self.say)(Line::Warning(format!("{text}: {why}")));
                return Ok(());
            }
        };
        let begin = pattern.begin();
        let found = if pattern.accepts(&begin) {
            self.below(&mut Vec::new())?
        } else {
            self.matching(&mut Vec::new(), &pattern, &begin)?
        };
        for link in std::mem::take(&mut self.outside) {
            let why = BadPattern::Outside(shown(&link));
            (self.say)(Line::Warning(format!("processPath: {why}")));
        }
        (self.say)(if found == 0 {
            Line::Warning(format!(
                "{text}: no matching files. Ensure that the artifact path is relative to the \
                 working directory ({root})"
            ))
        } else {
            Line::Info(format!(
                "{text}: found {found} matching artifact files and directories"
            ))
        });
        Ok(())
    }

    /// Takes what matches below a directory, each once. Returns how many.
    fn matching(
        &mut self,
        directory: &mut Vec<u8>,
        pattern: &Pattern,
        at: &Progress,
    ) -> io::Result<u64> {
        let names: Vec<Vec<u8>> = match pattern.next_names(at) {
            Some(names) => names.into_iter().map(<[u8]>::to_vec).collect(),
            None => self.list(directory),
        };
        let mut found = 0;
        for name in names {
            let length = enter(directory, &name);
            let next = pattern.step(at, &name, true);
            if pattern.accepts(&next) {
                found += self.tree(directory)?;
            } else if !next.is_over() {
                match self.kind(directory) {
                    Some(FileType::Directory) => {
                        found += self.matching(directory, pattern, &next)?
                    }
                    Some(FileType::Symlink) => {
                        // `**` follows no link; a name that is written down does, inside.
                        let next = pattern.step(at, &name, false);
                        if !next.is_over() {
                            match self.project.directory_behind(directory) {
                                Behind::Inside => {
                                    found += self.matching(directory, pattern, &next)?;
                                }
                                Behind::Outside => self.outside.push(directory.clone()),
                                Behind::NoDirectory => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
            directory.truncate(length);
        }
        Ok(found)
    }

    /// Takes a file, or a directory with all below it. Returns how many.
    fn tree(&mut self, name: &mut Vec<u8>) -> io::Result<u64> {
        let (kind, taken) = self.take(name)?;
        let mut found = u64::from(taken);
        if kind == Some(FileType::Directory) {
            found += self.below(name)?;
        }
        Ok(found)
    }

    fn below(&mut self, directory: &mut Vec<u8>) -> io::Result<u64> {
        let mut found = 0;
        for name in self.list(directory) {
            let length = enter(directory, &name);
            found += self.tree(directory)?;
            directory.truncate(length);
        }
        Ok(found)
    }

    /// Takes one name, unless it is excluded. Returns what it is, and whether it is taken.
    fn take(&mut self, name: &[u8]) -> io::Result<(Option<FileType>, bool)> {
        let stat = match self.project.stat(name) {
            Ok(stat) => stat,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.warn(format!("{}: {error}", shown(name)));
                }
                return Ok((None, false));
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        for (_, pattern, count) in &mut self.excludes {
            if pattern.matches(name) {
                *count += 1;
                return Ok((Some(kind), false));
            }
        }
        if !matches!(
            kind,
            FileType::RegularFile | FileType::Directory | FileType::Symlink
        ) {
            self.warn(format!(
                "{}: not supported: neither a file, a directory nor a link",
                shown(name)
            ));
            return Ok((Some(kind), false));
        }
        self.selection.push(name)?;
        let changed = (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        );
        self.selection.newest = self.selection.newest.max(Some(changed));
        Ok((Some(kind), true))
    }

    fn untracked(&mut self) -> io::Result<()> {
        let mut git = Command::new("git");
        // A repository's own settings must not start a program here, and that the files belong to
        // another user is no reason to refuse.
        git.args(["-c", "core.fsmonitor=false", "-c", "safe.directory=*"])
            .args(["ls-files", "--others", "-z"])
            .current_dir(self.project.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = match git.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.warn(format!("untracked: running git: {error}"));
                return Ok(());
            }
        };
        let mut found = 0;
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut name = Vec::new();
            while output.read_until(0, &mut name)? > 0 {
                let path = name.strip_suffix(b"\0").unwrap_or(&name);
                let path = path.strip_suffix(b"/").unwrap_or(path);
                found += u64::from(self.take(path)?.1);
                name.clear();
            }
        }
        let status = child.wait()?;
        if !status.success() {
            self.warn(format!("untracked: git ls-files: {status}"));
        } else if found == 0 {
            self.warn("untracked: no files".to_owned());
        } else {
            (self.say)(Line::Info(format!("untracked: found {found} files")));
        }
        Ok(())
    }

    fn kind(&self, name: &[u8]) -> Option<FileType> {
        let stat = self.project.stat(name).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn list(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        self.project.list(directory).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                self.warn(format!("Walking {}: {error}", shown(directory)));
            }
            Vec::new()
        })
    }

    fn warn(&self, text: String) {
        (self.say)(Line::Warning(text));
    }
}

/// Appends a name to a path and returns how long the path was.
fn enter(path: &mut Vec<u8>, name: &[u8]) -> usize {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    length
}
