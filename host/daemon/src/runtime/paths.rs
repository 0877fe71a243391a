//! Where things are: the state's directory and what is beside the program.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The file behind a `state` of the configuration: `sqlite:PATH`.
///
/// # Errors
/// Where it is not of that form.
pub fn state_file(state: &str) -> Result<PathBuf> {
    match state.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => bail!("`state` is {state:?}; write sqlite: and the path of a file"),
    }
}

/// The state where the file names none: the system's for root, the user's own for others.
#[must_use]
pub fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/springtide/state.db");
    }
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("springtide/state.db")
}

/// Makes the state's directory, open to its owner alone, and returns it.
///
/// # Errors
/// Where it can't be made.
pub fn make_state_directory(file: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| {
            format!(
                "making the state's directory {}; give `state` another path, or make it",
                directory.display()
            )
        })?;
    std::path::absolute(&directory)
        .with_context(|| format!("finding the state's directory {}", directory.display()))
}

/// The state's directory of the daemon with this configuration.
///
/// # Errors
/// Where the configuration can't be read.
pub fn state_directory(config: Option<&Path>) -> Result<PathBuf> {
    let file = match config {
        Some(file) => file.to_path_buf(),
        None => springtide_config::find_config()?,
    };
    // A file with errors may still say where its daemon is.
    let (config, _) = springtide_config::load(&file);
    let config = config.with_context(|| {
        format!(
            "{} can't be read; `springtide check` says why, and --state names the directory itself",
            file.display()
        )
    })?;
    let state = match &config.springtide.state {
        Some(state) => state_file(state)?,
        None => default_state(),
    };
    Ok(state
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf))
}

/// A file or directory shipped with the program: beside it, where it was built, or installed.
#[must_use]
pub fn shipped(name: &str) -> PathBuf {
    let installed = Path::new("/usr/lib/springtide").join(name);
    let Some(beside) = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf))
    else {
        return installed;
    };
    // Built by cargo, the plugins are in <target>/plugins and the program in <target>/<profile>.
    [beside.join(name), beside.join("..").join(name)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or(installed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_is_a_file_in_a_directory_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/state.db");
        let state = state_file(&format!("sqlite:{}", path.display())).unwrap();
        let directory = make_state_directory(&state).unwrap();
        assert_eq!(directory, folder.path().join("a/b"));
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        for wrong in ["", "sqlite:", "postgres://x", "/var/lib/state.db"] {
            assert!(state_file(wrong).is_err(), "{wrong}");
        }
    }
}
