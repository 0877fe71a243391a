//! What a job's containers have mounted: builds and caches, by the names GitLab Runner gives their
//! volumes, and what the operator writes in `volumes`.

use super::names::{Names, hex};
use springtide_config::Docker;
use std::collections::BTreeSet;

/// A volume that is made for the job, or found from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) destination: String,
    /// Whether it stays for later jobs of the project.
    pub(super) kept: bool,
}

/// A job's mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Volumes {
    /// In the order in which they are made.
    pub(super) made: Vec<Volume>,
    /// For the engine: `what:where[:how]`.
    pub(super) binds: Vec<String>,
    /// Places that every user of a container may write to.
    pub(super) open: Vec<String>,
}

/// What a job's mounts follow from.
pub(super) struct Wanted<'a> {
    pub(super) settings: &'a Docker,
    /// `volumes`, with variables put in.
    pub(super) volumes: Vec<String>,
    /// The directory of all builds.
    pub(super) builds: &'a str,
    /// Whether the sources stay for the next job to fetch into.
    pub(super) fetched: bool,
    /// Whether the job's branch or tag is protected: its caches are its own.
    pub(super) protected: bool,
    pub(super) names: &'a Names,
}

/// An entry of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    source: Option<String>,
    destination: String,
    mode: Option<String>,
}

/// Why an entry of `volumes` can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the volume {0:?} can't be read: write /path, name:/path, /host:/path or one of the last two with :ro after it"
)]
pub(super) struct BadVolume(String);

fn entry(text: &str) -> Result<Entry, BadVolume> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [destination] => (None, *destination, None),
        [source, destination] => (Some(*source), *destination, None),
        [source, destination, mode] => (Some(*source), *destination, Some(*mode)),
        _ => return Err(BadVolume(text.to_owned())),
    };
    let empty = source == Some("") || mode == Some("");
    if !destination.starts_with('/') || empty {
        return Err(BadVolume(text.to_owned()));
    }
    Ok(Entry {
        source: source.map(str::to_owned),
        destination: destination.to_owned(),
        mode: mode.map(str::to_owned),
    })
}

/// A path of a container as a part of a volume's name.
fn digest(path: &str) -> String {
    hex(&md5::compute(path.as_bytes()).0)
}

/// Whether a path is within one of these, or is one of them.
fn is_within(path: &str, places: &[Entry]) -> bool {
    places.iter().any(|place| {
        let parent = place.destination.trim_end_matches('/');
        path == parent || path.starts_with(&format!("{parent}/"))
    })
}

impl Wanted<'_> {
    /// The mounts.
    pub(super) fn plan(&self) -> Result<Volumes, BadVolume> {
        let entries: Vec<Entry> = self
            .volumes
            .iter()
            .map(|text| entry(text))
            .collect::<Result<_, _>>()?;
        let mut volumes = Volumes::default();
        let mut mounted = BTreeSet::new();
        for entry in &entries {
            if !mounted.insert(entry.destination.clone()) {
                continue;
            }
            match &entry.source {
                Some(source) => {
                    let mode = entry.mode.iter().map(|mode| format!(":{mode}"));
                    let mode: String = mode.collect();
                    volumes
                        .binds
                        .push(format!("{source}:{}{mode}", entry.destination));
                }
                None if self.settings.disable_cache => {}
                None => self.add(&mut volumes, &entry.destination, true),
            }
        }
        // Where the operator mounts something there, the sources go into that.
        if !is_within(self.builds, &entries) {
            let kept = self.fetched && !self.settings.disable_cache;
            self.add(&mut volumes, self.builds, kept);
        }
        Ok(volumes)
    }

    fn add(&self, volumes: &mut Volumes, destination: &str, kept: bool) {
        let digest = digest(destination);
        volumes.open.push(destination.to_owned());
        if let (Some(directory), true) = (&self.settings.cache_dir, kept) {
            let directory = directory.trim_end_matches('/');
            let name = self.names.persistent();
            volumes
                .binds
                .push(format!("{directory}/{name}/{digest}:{destination}"));
            return;
        }
        let name = match (kept, self.protected) {
            (true, true) => format!("{}-cache-{digest}-protected", self.names.persistent()),
            (true, false) => format!("{}-cache-{digest}", self.names.persistent()),
            (false, _) => self.names.temporary(&format!("cache-{digest}")),
        };
        volumes.binds.push(format!("{name}:{destination}"));
        volumes.made.push(Volume {
            name,
            destination: destination.to_owned(),
            kept,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::JobSettings;
    use springtide_gitlab::Payload;

    fn names() -> Names {
        let payload = Payload::from_json(
            r#"{"id":17,"token":"t","job_info":{"project_id":3,"project_full_path":"g/p"}}"#,
        )
        .expect("a job");
        let settings = JobSettings {
            runner_short_token: "abcdefgh".into(),
            system_id: "s_0123456789ab".into(),
            machine_name: "ci-1".into(),
            ..JobSettings::default()
        };
        Names::new(&payload, &settings, "glrt-token", "0")
    }

    fn plan(volumes: &[&str], change: impl FnOnce(&mut Docker, &mut bool, &mut bool)) -> String {
        let mut settings = Docker::by_default();
        let (mut fetched, mut protected) = (true, false);
        change(&mut settings, &mut fetched, &mut protected);
        let names = names();
        let wanted = Wanted {
            settings: &settings,
            volumes: volumes.iter().map(|text| (*text).to_owned()).collect(),
            builds: "/builds",
            fetched,
            protected,
            names: &names,
        };
        match wanted.plan() {
            Ok(found) => found.binds.join("\n"),
            Err(error) => error.to_string(),
        }
    }

    /// `sha256("glrt-token-s_0123456789ab-3-0")`, its first sixteen bytes; `md5("/cache")`,
    /// `md5("/builds")`: as coreutils compute them.
    const KEPT: &str = "runner-bbb1af6fdfe2dc06cb7da815029a0b4e-cache";
    const CACHE: &str = "3c3f060a0374fc8bc39395164f415a70";
    const BUILDS: &str = "c33bcaa1fd2c77edfc3893b41966cea8";

    #[test]
    fn volumes_have_the_names_gitlab_runner_gives_them() {
        assert_eq!(
            plan(&["/cache"], |_, _, _| {}),
            format!("{KEPT}-{CACHE}:/cache\n{KEPT}-{BUILDS}:/builds")
        );
        assert_eq!(
            plan(&["/cache"], |_, _, protected| *protected = true),
            format!("{KEPT}-{CACHE}-protected:/cache\n{KEPT}-{BUILDS}-protected:/builds")
        );
        let cloned = plan(&[], |_, fetched, _| *fetched = false);
        assert!(!cloned.contains(KEPT), "{cloned}");
        assert!(
            cloned.ends_with(&format!("-cache-{BUILDS}:/builds")),
            "{cloned}"
        );
    }

    #[test]
    fn what_the_operator_mounts_is_mounted() {
        let own = ["/srv/x:/builds:rw", "certs:/certs:ro", "/cache"];
        assert_eq!(
            plan(&own, |_, _, _| {}),
            format!("/srv/x:/builds:rw\ncerts:/certs:ro\n{KEPT}-{CACHE}:/cache")
        );
        let none = plan(&["/cache", "/a:/a"], |settings, _, _| {
            settings.disable_cache = true;
        });
        assert!(none.starts_with("/a:/a\n"), "{none}");
        assert!(!none.contains(CACHE) && !none.contains(KEPT), "{none}");
        let on_disk = plan(&["/cache"], |settings, _, _| {
            settings.cache_dir = Some("/srv/cache/".into());
        });
        let directory = format!("/srv/cache/{}", KEPT.trim_end_matches("-cache"));
        assert_eq!(
            on_disk,
            format!("{directory}/{CACHE}:/cache\n{directory}/{BUILDS}:/builds")
        );
        for bad in ["cache", "a:b", ":/a", "a:/b:", "a:/b:ro:x"] {
            assert!(
                plan(&[bad], |_, _, _| {}).contains("can't be read"),
                "{bad}"
            );
        }
    }
}
