//! The names of a job's containers, volumes and network, and the labels that tell whose they are.

use crate::settings::JobSettings;
use crate::variables::Variables;
use sha2::{Digest, Sha256};
use springtide_gitlab::Payload;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

const PREFIX: &str = "com.gitlab.gitlab-runner";

/// Which machine a thing belongs to: several machines of the driver `local` have one engine.
const MACHINE: &str = "springtide.machine";

/// The longest name a host can have.
const LONGEST: usize = 63;

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A write to a String is always Ok.
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// A name as a host could have it, as GitLab Runner makes one: what does not fit is left out.
pub(super) fn host_name(name: &str) -> String {
    let name: String = name
        .to_lowercase()
        .chars()
        .filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
        .collect();
    let name = name.trim_start_matches('-');
    name[..name.len().min(LONGEST)].to_owned()
}

/// The names of one job on one machine. They follow from the job alone, so that a manager that
/// restarts finds its containers.
#[derive(Clone, Debug)]
pub(super) struct Names {
    project: String,
    job: u64,
    own: String,
    persistent: String,
}

impl Names {
    /// `place` is which of several jobs of a project on one engine this is: 0, for a machine runs one.
    pub(super) fn new(payload: &Payload, settings: &JobSettings, token: &str, place: &str) -> Self {
        let project = payload.job_info.project_id;
        let short = &settings.runner_short_token;
        let unique = format!("{token}-{}-{project}-{place}", settings.system_id);
        let own = format!("{}-{}-{place}", payload.id, settings.machine_name);
        let digest = |text: &str, bytes: usize| hex(&Sha256::digest(text.as_bytes())[..bytes]);
        let base = host_name(&format!("runner-{short}-project-{project}-concurrent-0"));
        Self {
            own: format!("{base}-{}", digest(&own, 4)),
            project: base,
            job: payload.id,
            persistent: format!("runner-{}", digest(&unique, 16)),
        }
    }

    /// What the job's containers take themselves for, as in GitLab Runner.
    pub(super) fn host(&self) -> &str {
        &self.project
    }

    /// A container of the job, by what it is for.
    pub(super) fn container(&self, what: &str) -> String {
        host_name(&format!("{}-{what}", self.own))
    }

    /// The container of a service. Of a long name the middle is left out: its number is what tells it
    /// from others.
    pub(super) fn service(&self, name: &str, number: usize) -> String {
        let number = format!("-{number}");
        let mut named = self.container(name);
        named.truncate(LONGEST - number.len());
        named + &number
    }

    /// The job's network.
    pub(super) fn network(&self) -> String {
        let machine = self.own.rsplit('-').next().unwrap_or_default();
        format!("{}-job-{}-{machine}-network", self.project, self.job)
    }

    /// A volume that goes with the job.
    pub(super) fn temporary(&self, what: &str) -> String {
        format!("{}-{what}", self.own)
    }

    /// A volume for a path, kept for later jobs of the project.
    pub(super) fn persistent(&self) -> &str {
        &self.persistent
    }
}

/// What tells whose a thing of the engine is.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    own: BTreeMap<String, String>,
    configured: BTreeMap<String, String>,
}

impl Labels {
    pub(super) fn new(
        payload: &Payload,
        settings: &JobSettings,
        configured: &BTreeMap<String, String>,
        variables: &Variables,
    ) -> Self {
        let own = [
            ("job.id", payload.id.to_string()),
            ("job.url", variables.get("CI_JOB_URL")),
            ("job.sha", payload.git_info.sha.clone()),
            ("job.before_sha", payload.git_info.before_sha.clone()),
            ("job.ref", payload.git_info.ref_name.clone()),
            (
                "job.timeout",
                crate::words::go_duration(std::time::Duration::from_secs(
                    payload.runner_info.timeout_seconds(),
                )),
            ),
            ("project.id", payload.job_info.project_id.to_string()),
            ("project.runner_id", "0".into()),
            ("pipeline.id", variables.get("CI_PIPELINE_ID")),
            ("runner.id", settings.runner_short_token.clone()),
            ("runner.local_id", "0".into()),
            ("runner.system_id", settings.system_id.clone()),
            ("managed", "true".into()),
        ];
        let mut own: BTreeMap<String, String> = own
            .into_iter()
            .map(|(key, value)| (format!("{PREFIX}.{key}"), value))
            .collect();
        own.insert(MACHINE.into(), settings.machine_name.clone());
        let configured = configured
            .iter()
            .map(|(key, value)| (key.clone(), variables.expand(value)))
            .collect();
        Self { own, configured }
    }

    /// All labels of a container of a type.
    pub(super) fn container(&self, kind: &str) -> HashMap<String, String> {
        let mut all: HashMap<String, String> = self.configured.clone().into_iter().collect();
        all.extend(self.of(kind));
        all
    }

    /// All labels of anything else of a type.
    pub(super) fn of(&self, kind: &str) -> HashMap<String, String> {
        let mut all: HashMap<String, String> = self.own.clone().into_iter().collect();
        all.insert(format!("{PREFIX}.type"), kind.into());
        all
    }

    /// Those of a volume that is kept: of no job.
    pub(super) fn kept(&self, destination: &str) -> HashMap<String, String> {
        let kept = ["project.id", "runner.id", "runner.system_id", "managed"];
        let mut all: HashMap<String, String> = kept
            .iter()
            .map(|key| format!("{PREFIX}.{key}"))
            .filter_map(|key| Some((key.clone(), self.own.get(&key)?.clone())))
            .collect();
        all.extend(
            self.own
                .get_key_value(MACHINE)
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        all.insert(format!("{PREFIX}.type"), "cache".into());
        all.insert(format!("{PREFIX}.destination"), destination.into());
        all.insert(format!("{PREFIX}.reusable"), "true".into());
        all
    }

    /// What finds everything of any job on this machine; what is kept is not a job's.
    pub(super) fn of_any_job(&self) -> Vec<String> {
        let machine = self.own.get(MACHINE).cloned().unwrap_or_default();
        vec![
            format!("{PREFIX}.managed=true"),
            format!("{PREFIX}.job.id"),
            format!("{MACHINE}={machine}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_hosts_have() {
        let cases = [
            ("runner-abc_DEF-project-1", "runner-abcdef-project-1"),
            ("--a", "a"),
            ("é/x:y", "xy"),
        ];
        for (name, expected) in cases {
            assert_eq!(host_name(name), expected);
        }
        assert_eq!(host_name(&"a".repeat(80)).len(), 63);
    }

    #[test]
    fn services_of_long_names_have_containers_of_their_own() {
        let names = Names {
            project: "runner-a".into(),
            job: 1,
            own: "runner-a-0123".into(),
            persistent: String::new(),
        };
        assert_eq!(names.service("redis", 0), "runner-a-0123-redis-0");
        let long = "a".repeat(80);
        let [one, other] = [1, 12].map(|number| names.service(&long, number));
        assert!(one.len() == 63 && one.ends_with("aa-1"), "{one}");
        assert!(other.len() == 63 && other.ends_with("aa-12"), "{other}");
    }
}
