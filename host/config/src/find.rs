//! Where a configuration is looked for when none is named.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// No configuration was found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "there is no configuration at {}; make one with `springtide register`, or name one with --config",
    .looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
)]
pub struct NoConfig {
    /// The paths that were looked at, in order.
    pub looked_at: Vec<PathBuf>,
}

/// The first configuration there is: ours, then GitLab Runner's.
///
/// # Errors
/// Where there is none, with every path that was looked at.
pub fn find_config() -> Result<PathBuf, NoConfig> {
    first(candidates(is_root(), std::env::home_dir().as_deref()))
}

/// Where `register` makes a configuration if there is none.
#[must_use]
pub fn default_config() -> PathBuf {
    let candidates = candidates(is_root(), std::env::home_dir().as_deref());
    let first = candidates.into_iter().next();
    first.unwrap_or_else(|| PathBuf::from("config.toml"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The system's paths for root, and a user's own for everybody.
fn candidates(root: bool, home: Option<&Path>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (system, own) in [
        ("/etc/springtide", ".config/springtide"),
        ("/etc/gitlab-runner", ".gitlab-runner"),
    ] {
        paths.extend(root.then(|| Path::new(system).join("config.toml")));
        paths.extend(home.map(|home| home.join(own).join("config.toml")));
    }
    paths
}

fn first(paths: Vec<PathBuf>) -> Result<PathBuf, NoConfig> {
    // One that can't be looked at is there as far as we know: reading it says why not.
    let found = paths.iter().find(|path| path.try_exists().unwrap_or(true));
    match found {
        Some(path) => Ok(path.clone()),
        None => Err(NoConfig { looked_at: paths }),
    }
}

#[cfg(test)]
mod tests {
    use super::{candidates, first};
    use std::path::Path;

    #[test]
    fn our_own_paths_come_before_gitlab_runners_and_the_system_is_for_root() {
        let home = Path::new("/home/tide");
        let spelled = |root| {
            let paths = candidates(root, Some(home)).into_iter();
            paths
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            spelled(true),
            [
                "/etc/springtide/config.toml",
                "/home/tide/.config/springtide/config.toml",
                "/etc/gitlab-runner/config.toml",
                "/home/tide/.gitlab-runner/config.toml",
            ]
        );
        assert_eq!(
            spelled(false),
            [
                "/home/tide/.config/springtide/config.toml",
                "/home/tide/.gitlab-runner/config.toml",
            ]
        );
    }

    #[test]
    fn the_first_that_is_there_is_taken_and_none_names_them_all() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let error = first(vec![a.clone(), b.clone()]).unwrap_err().to_string();
        assert!(error.contains(&a.display().to_string()), "{error}");
        assert!(error.contains(&b.display().to_string()), "{error}");
        std::fs::write(&b, "").unwrap();
        std::fs::write(&c, "").unwrap();
        assert_eq!(first(vec![a, b.clone(), c]).unwrap(), b);
    }
}
