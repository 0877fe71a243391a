//! `files`: a scratch directory of the plugin's own, mode 0700, for files that tools read.
//!
//! A name is no path: it can't climb out, hide, or be taken for an option. A file is written beside
//! its name and moved there, so that a tool never reads half of one.

use super::toml_key;
use crate::guest::Guest;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

/// Bytes of all files together.
const TOTAL: u64 = 64 << 20;
/// Bytes of a name.
const NAME: usize = 100;

/// The scratch directory of one plugin, if it was granted one.
#[derive(Debug)]
pub(crate) struct Scratch {
    plugin: String,
    granted: bool,
    directory: Option<PathBuf>,
    /// One writer at a time: the sum of all files is held to a cap.
    writing: Mutex<()>,
}

impl Scratch {
    pub(crate) fn new(plugin: &str, granted: bool, directory: Option<PathBuf>) -> Scratch {
        Scratch {
            plugin: plugin.to_owned(),
            granted,
            directory,
            writing: Mutex::new(()),
        }
    }

    /// The directory and the path of a name in it.
    fn place(&self, name: &str) -> Result<(&Path, PathBuf), String> {
        if !self.granted {
            return Err(format!(
                "files are not granted; to grant them, add to the configuration: [plugins.{}.grants] files = true",
                toml_key(&self.plugin)
            ));
        }
        let directory = self.directory.as_deref().ok_or(
            "this host keeps no files of plugins: it was started without a directory for them",
        )?;
        if !is_name(name) {
            let shown: String = name.chars().take(NAME).collect();
            return Err(format!(
                "{shown:?} is no name of a file: write 1 to {NAME} of letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`"
            ));
        }
        Ok((directory, directory.join(name)))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        let (directory, path) = self.place(name)?;
        let failed = |error: std::io::Error| format!("writing the file {name}: {error}");
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        make(directory).map_err(failed)?;
        let others = sum_without(directory, name).map_err(failed)?;
        let total = others.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if total > TOTAL {
            return Err(format!(
                "writing the file {name}: all files together would have {total} bytes, and may have {TOTAL}; remove some"
            ));
        }
        // Its name begins with a dot, so that no plugin can name it.
        let mut file = tempfile::Builder::new()
            .prefix(".put-")
            .tempfile_in(directory)
            .map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        path.to_str().map(str::to_owned).ok_or_else(|| {
            format!("writing the file {name}: the scratch directory's path is not UTF-8")
        })
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        let (_, path) = self.place(name)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("removing the file {name}: {error}"))
            }
            _ => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

/// Makes the directory if it is missing, and makes sure that it is ours alone.
fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let found = std::fs::symlink_metadata(directory)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if found.is_dir() && ours {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "{} is not a directory of this user's alone",
        directory.display()
    )))
}

fn sum_without(directory: &Path, name: &str) -> std::io::Result<u64> {
    let mut sum = 0_u64;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != name {
            sum = sum.saturating_add(entry.metadata()?.len());
        }
    }
    Ok(sum)
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut files = linker.instance("springtide:plugin/files@0.1.0")?;
    files.func_wrap_async(
        "put",
        |store: StoreContextMut<'_, Guest>, (name, bytes): (String, Vec<u8>)| {
            let capabilities = store.data().capabilities.clone();
            Box::new(async move {
                let put = move || capabilities.scratch.put(&name, &bytes);
                Ok((apart(put).await,))
            })
        },
    )?;
    files.func_wrap_async(
        "remove",
        |store: StoreContextMut<'_, Guest>, (name,): (String,)| {
            let capabilities = store.data().capabilities.clone();
            Box::new(async move {
                let remove = move || capabilities.scratch.remove(&name);
                Ok((apart(remove).await,))
            })
        },
    )
}

/// Off the async threads: disks block.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(format!("the host's file work died: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_put_read_replaced_and_removed() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new("it", true, Some(base.path().join("it")));
        let path = scratch.put("user-data.iso", b"first").unwrap();
        assert!(Path::new(&path).is_absolute());
        assert_eq!(scratch.put("user-data.iso", b"second").as_ref(), Ok(&path));
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(Path::new(&path)), 0o600);
        assert_eq!(mode(&base.path().join("it")), 0o700);
        assert_eq!(scratch.remove("user-data.iso"), Ok(()));
        assert_eq!(scratch.remove("user-data.iso"), Ok(()), "it is gone");
    }

    #[test]
    fn a_name_is_no_path() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new("it", true, Some(base.path().join("it")));
        let long = "a".repeat(NAME + 1);
        for name in [
            "", ".", "..", ".hidden", "-rf", "a/b", "../x", "ä", "a b", "a\0", &long,
        ] {
            assert!(scratch.put(name, b"").is_err(), "{name:?}");
            assert!(scratch.remove(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn all_files_together_are_held_to_the_cap() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new("it", true, Some(base.path().join("it")));
        let most = vec![0; usize::try_from(TOTAL).unwrap()];
        scratch.put("most", &most).unwrap();
        assert!(scratch.put("one-more", b"x").is_err());
        scratch.put("most", &most).expect("it replaces itself");
        scratch.remove("most").unwrap();
        scratch.put("one-more", b"x").unwrap();
    }

    #[test]
    fn without_a_grant_the_lines_to_add_are_named() {
        let error = Scratch::new("it", false, None)
            .put("name", b"")
            .unwrap_err();
        assert!(
            error.contains("[plugins.it.grants] files = true"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_open_to_others_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let scratch = Scratch::new("it", true, Some(base.path().to_owned()));
        assert!(scratch.put("name", b"").is_err());
    }
}
