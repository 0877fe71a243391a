//! Changes to a file that somebody wrote: what is not changed stays byte for byte.
//!
//! A file is replaced in one step and keeps its mode and owner; a new one is its owner's alone. Two
//! programs that change it at once take turns by a lock on its directory.

mod entry;

pub use entry::{NewDocker, NewMachine, NewRunner};

use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml_edit::{DocumentMut, Item, TableLike};

/// A configuration that could not be changed. It is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EditError {
    /// It can't be read or written.
    #[error("{doing} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is no TOML, and nobody knows what a change would do to it.
    #[error("{} is not TOML: line {line}: {why}; `springtide check` shows it", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// `runners` is written in a form that can't be added to.
    #[error(
        "`runners` in {} is written in one line; write each runner as a [[runners]] table first",
        path.display()
    )]
    Inline {
        /// The file.
        path: PathBuf,
    },
}

/// A `[[runners]]` entry as it stands in a file, its variables not filled in.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which it is, from 0.
    pub index: usize,
    /// Its `name`; empty where it has none.
    pub name: String,
    /// Its `url`; empty where it has none.
    pub url: String,
    /// Its `token`; empty where it has none.
    pub token: SecretString,
}

/// Adds a runner at the end of a file, or makes a file with it.
///
/// # Errors
/// Where the file can't be read, is no TOML, or can't be written.
pub fn append_runner(path: &Path, runner: &NewRunner) -> Result<(), EditError> {
    change(path, |old| {
        let Some(old) = old else {
            return Ok(Some(entry::new_file(runner)));
        };
        let document = parse(path, old)?;
        if runners(&document).is_some_and(|runners| runners.as_array_of_tables().is_none()) {
            return Err(EditError::Inline {
                path: path.to_path_buf(),
            });
        }
        let gap = match old {
            "" => "",
            _ if old.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        Ok(Some(format!("{old}{gap}{}", entry::table(runner))))
    })
}

/// Removes the runners that are chosen, with the comments right above them, and says which they were.
/// Where none is, or there is no file, nothing is written.
///
/// # Errors
/// Where the file can't be read, is no TOML, or can't be written.
pub fn remove_runners(
    path: &Path,
    mut chosen: impl FnMut(&Entry) -> bool,
) -> Result<Vec<Entry>, EditError> {
    let mut removed = Vec::new();
    change(path, |old| {
        let Some(old) = old else { return Ok(None) };
        let mut document = parse(path, old)?;
        removed = entries(&document);
        removed.retain(|entry| chosen(entry));
        if removed.is_empty() {
            return Ok(None);
        }
        let Some(key) = runners_key(&document) else {
            return Ok(None);
        };
        for entry in removed.iter().rev() {
            match document.get_mut(&key) {
                Some(Item::ArrayOfTables(tables)) => {
                    tables.remove(entry.index);
                }
                Some(Item::Value(toml_edit::Value::Array(array))) => {
                    array.remove(entry.index);
                }
                _ => {}
            }
        }
        if document[&key]
            .as_array_of_tables()
            .is_some_and(toml_edit::ArrayOfTables::is_empty)
        {
            document.remove(&key);
        }
        Ok(Some(document.to_string()))
    })?;
    Ok(removed)
}

/// The runners of a file, whatever else is in it. Where there is no file, none.
///
/// # Errors
/// Where the file can't be read or is no TOML.
pub fn list_runners(path: &Path) -> Result<Vec<Entry>, EditError> {
    match read(path)? {
        Some(text) => Ok(entries(&parse(path, &text)?)),
        None => Ok(Vec::new()),
    }
}

/// Puts another token in the place of one, as after GitLab gave a new one. `false` where no runner
/// has the old one.
///
/// # Errors
/// Where the file can't be read, is no TOML, or can't be written.
pub fn replace_token(
    path: &Path,
    old_token: &SecretString,
    token: &SecretString,
    obtained_at: jiff::Timestamp,
    expires_at: Option<jiff::Timestamp>,
) -> Result<bool, EditError> {
    let mut found = false;
    change(path, |old| {
        let Some(old) = old else { return Ok(None) };
        let mut document = parse(path, old)?;
        let key = runners_key(&document);
        let Some(Item::ArrayOfTables(tables)) = key.and_then(|key| document.get_mut(&key)) else {
            return Ok(None);
        };
        for table in tables.iter_mut() {
            if text_of(table, "token") == old_token.expose_secret() {
                found = true;
                entry::set_token(table, token, obtained_at, expires_at);
            }
        }
        Ok(found.then(|| document.to_string()))
    })?;
    Ok(found)
}

/// The key of the runners, in whichever case it is written.
fn runners_key(document: &DocumentMut) -> Option<String> {
    let mut keys = document.iter().map(|(key, _)| key);
    let exact = document.contains_key("runners").then_some("runners");
    exact
        .or_else(|| keys.find(|key| key.eq_ignore_ascii_case("runners")))
        .map(str::to_owned)
}

fn runners(document: &DocumentMut) -> Option<&Item> {
    document.get(&runners_key(document)?)
}

fn entries(document: &DocumentMut) -> Vec<Entry> {
    let tables: Vec<&dyn TableLike> = match runners(document) {
        Some(Item::ArrayOfTables(tables)) => {
            tables.iter().map(|table| table as &dyn TableLike).collect()
        }
        Some(Item::Value(toml_edit::Value::Array(array))) => array
            .iter()
            .filter_map(toml_edit::Value::as_inline_table)
            .map(|table| table as &dyn TableLike)
            .collect(),
        _ => Vec::new(),
    };
    let entry = |(index, table): (usize, &dyn TableLike)| Entry {
        index,
        name: text_of(table, "name").to_owned(),
        url: text_of(table, "url").to_owned(),
        token: SecretString::from(text_of(table, "token")),
    };
    tables.into_iter().enumerate().map(entry).collect()
}

fn text_of<'t>(table: &'t dyn TableLike, name: &str) -> &'t str {
    let exact = table.get(name);
    let item = exact.or_else(|| {
        let mut items = table.iter();
        let any_case = items.find(|(key, _)| key.eq_ignore_ascii_case(name));
        any_case.map(|(_, item)| item)
    });
    item.and_then(Item::as_str).unwrap_or_default()
}

fn parse(path: &Path, text: &str) -> Result<DocumentMut, EditError> {
    text.parse::<DocumentMut>()
        .map_err(|error| EditError::NotToml {
            path: path.to_path_buf(),
            line: error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1),
            why: error.message().to_owned(),
        })
}

fn read(path: &Path) -> Result<Option<String>, EditError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("reading", path, error)),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> EditError {
    EditError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

/// Reads a file, has it changed and puts the new text in its place, `None` for no change.
fn change(
    path: &Path,
    edit: impl FnOnce(Option<&str>) -> Result<Option<String>, EditError>,
) -> Result<(), EditError> {
    // A link stays a link: what it points to is replaced.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = match real.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_directory(directory)?;
    let lock = File::open(directory).map_err(|error| io_error("opening", directory, error))?;
    lock.lock()
        .map_err(|error| io_error("locking", directory, error))?;
    let old = read(&real)?;
    let Some(new) = edit(old.as_deref())? else {
        return Ok(());
    };
    replace(&real, directory, &new).map_err(|error| io_error("writing", &real, error))?;
    lock.sync_all()
        .map_err(|error| io_error("writing", directory, error))
}

/// Tokens will be in it.
fn make_directory(directory: &Path) -> Result<(), EditError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| io_error("making", directory, error))
}

fn replace(path: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".config-")
        .tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    // A temporary file is its owner's alone, as a new configuration has to be.
    if let Ok(old) = fs::metadata(path) {
        let made = new.as_file().metadata()?;
        if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
            std::os::unix::fs::fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        new.as_file().set_permissions(mode)?;
    }
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}
