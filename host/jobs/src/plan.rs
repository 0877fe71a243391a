//! What a job's payload and its runner's settings come to on one machine: directories, variables,
//! scripts. Made before the machine is asked for anything, so what is wrong with a job is known at
//! once.

use crate::git::{Origin, Sources, Strategy, clean_git};
use crate::progress::Cause;
use crate::settings::JobSettings;
use crate::shell::{Script, quoted};
use crate::transfers::{Artifacts, PlannedCache};
use crate::variables::{Variables, own};
use secrecy::ExposeSecret;
use springtide_gitlab::{Payload, Step, When};
use std::time::Duration;

/// The step that runs whatever became of the others.
const AFTER_SCRIPT: &str = "after_script";

/// How long `after_script` may run where nothing says otherwise.
const AFTER_SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// A job that can't be run on any machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub(crate) struct BadJob {
    pub(crate) cause: Cause,
    pub(crate) said: String,
}

/// One of the job's scripts.
pub(crate) struct PlannedStep {
    /// The part of `step_script` after the `step_`.
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) allow_failure: bool,
    script: Vec<String>,
}

/// A job on one machine.
pub(crate) struct Plan {
    /// Where builds are kept.
    pub(crate) builds: String,
    /// Where this job's sources go.
    pub(crate) project: String,
    /// Beside it, for the length of the job.
    pub(crate) files: String,
    pub(crate) variables: Variables,
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) caches: Vec<PlannedCache>,
    pub(crate) artifacts: Artifacts,
    after: Option<Vec<String>>,
    sources: [Vec<u8>; 2],
    /// Removes git's settings from the project's directory after the job, where that is wanted.
    clean_git: Option<String>,
    settings: JobSettings,
    /// What the payload asks for and this version does not do.
    pub(crate) passed_over: Vec<&'static str>,
}

/// Whether something is for a job that has failed, or has not.
pub(crate) fn is_due(when: When, failed: bool) -> bool {
    match when {
        When::Always => true,
        When::OnSuccess => !failed,
        When::OnFailure => failed,
    }
}

/// A path without `.`, `..` and doubled slashes; nothing where it is not absolute or leads above
/// the root.
fn plain_path(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

/// A name that can stand in a section's name.
fn section_name(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.chars()
        .map(|c| if safe(c) { c } else { '_' })
        .collect()
}

fn fault(said: impl Into<String>) -> BadJob {
    BadJob {
        cause: Cause::Configuration,
        said: said.into(),
    }
}

fn variables(
    payload: &Payload,
    settings: &JobSettings,
    builds: &str,
    project: &str,
    files: &str,
) -> Variables {
    let timeout = payload.runner_info.timeout_seconds().to_string();
    let mut list = vec![own("CI_RUNNER_SHORT_TOKEN", &settings.runner_short_token)];
    list.extend(
        settings
            .environment
            .iter()
            .map(|(key, value)| own(key, value)),
    );
    list.extend([
        own("CI_BUILDS_DIR", builds),
        own("CI_PROJECT_DIR", project),
        own("CI_CONCURRENT_ID", "0"),
        own("CI_CONCURRENT_PROJECT_ID", "0"),
        own("CI_SERVER", "yes"),
        own("CI_JOB_STATUS", "running"),
        own("CI_JOB_TIMEOUT", timeout),
    ]);
    list.extend(payload.variables.iter().cloned());
    list.extend([
        match settings.docker {
            Some(_) => own("CI_DISPOSABLE_ENVIRONMENT", "true"),
            None => own("CI_SHARED_ENVIRONMENT", "true"),
        },
        own("CI_RUNNER_VERSION", &settings.version),
        own("CI_RUNNER_REVISION", &settings.version),
        own(
            "CI_RUNNER_EXECUTABLE_ARCH",
            format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        ),
    ]);
    Variables::expanded(list, files)
}

fn passed_over(payload: &Payload, settings: &JobSettings) -> Vec<&'static str> {
    let services = settings.docker.is_none() && !payload.services.is_empty();
    services.then_some("services").into_iter().collect()
}

impl Plan {
    /// Plans a job for a machine whose builds live under `home`.
    pub(crate) fn new(
        payload: &Payload,
        settings: &JobSettings,
        home: &str,
    ) -> Result<Self, BadJob> {
        let builds = settings
            .builds_dir
            .clone()
            .unwrap_or_else(|| format!("{home}/builds"));
        let builds = plain_path(&builds).ok_or_else(|| {
            fault(format!(
                "builds_dir is `{builds}`, which is not an absolute path of a directory"
            ))
        })?;
        if !payload.secrets.is_empty() {
            let names: Vec<&str> = payload.secrets.keys().map(String::as_str).collect();
            return Err(fault(format!(
                "this job has `secrets` of an outside store ({}), and this version fetches none: fetch them in the script, or leave them out",
                names.join(", ")
            )));
        }
        let (project, variables) = Self::place(payload, settings, &builds)?;
        let (after, steps) = Self::steps(payload)?;
        let cache_dir = settings
            .cache_dir
            .clone()
            .unwrap_or_else(|| format!("{home}/cache"));
        let cache_dir = plain_path(&cache_dir).ok_or_else(|| {
            fault(format!(
                "cache_dir is `{cache_dir}`, which is not an absolute path of a directory"
            ))
        })?;
        let mut plan = Self {
            files: format!("{project}.tmp"),
            clean_git: (settings.clean_git_config == Some(true))
                .then(|| clean_git(&project, &payload.git_info)),
            builds,
            project,
            caches: PlannedCache::all(payload, settings, &variables, &cache_dir),
            artifacts: Artifacts::new(payload, settings, &variables)?,
            variables,
            steps,
            after,
            sources: [Vec::new(), Vec::new()],
            settings: settings.clone(),
            passed_over: passed_over(payload, settings),
        };
        plan.sources = [
            plan.sources_script(payload, false)?,
            plan.sources_script(payload, true)?,
        ];
        Ok(plan)
    }

    /// The project's directory, and the variables, one of which names it and one of which may
    /// have chosen it.
    fn place(
        payload: &Payload,
        settings: &JobSettings,
        builds: &str,
    ) -> Result<(String, Variables), BadJob> {
        let path = match payload.job_info.project_full_path.as_str() {
            "" => format!("project-{}", payload.job_info.project_id),
            path => path.to_owned(),
        };
        let within =
            |path: &str| plain_path(path).filter(|plain| plain.starts_with(&format!("{builds}/")));
        let project = within(&format!("{builds}/{path}"))
            .ok_or_else(|| fault("GitLab named a project whose path leads out of builds_dir"))?;
        let all = |project: &str| {
            variables(
                payload,
                settings,
                builds,
                project,
                &format!("{project}.tmp"),
            )
        };
        let found = all(&project);
        match found.get("GIT_CLONE_PATH").as_str() {
            "" => Ok((project, found)),
            _ if !settings.custom_build_dir => Err(fault(
                "GIT_CLONE_PATH is set, and this runner does not let jobs choose where their sources go: leave it out, or set `enabled = true` in [runners.custom_build_dir]",
            )),
            chosen => {
                let project = within(chosen).ok_or_else(|| {
                    fault(format!(
                        "GIT_CLONE_PATH is `{chosen}`, which is not within {builds}: begin it with $CI_BUILDS_DIR/"
                    ))
                })?;
                let found = all(&project);
                Ok((project, found))
            }
        }
    }

    fn steps(payload: &Payload) -> Result<(Option<Vec<String>>, Vec<PlannedStep>), BadJob> {
        let (after, steps): (Vec<&Step>, Vec<&Step>) = payload
            .steps
            .iter()
            .partition(|step| step.name == AFTER_SCRIPT);
        if steps.is_empty() {
            if !payload.run.trim().is_empty() {
                return Err(fault(
                    "this job has `run` in place of `script`, and this version runs no steps",
                ));
            }
            return Err(BadJob {
                cause: Cause::System,
                said: "GitLab sent a job without a script".into(),
            });
        }
        let after = after
            .into_iter()
            .map(|step| step.script.clone())
            .find(|script| !script.is_empty());
        let steps = steps
            .into_iter()
            .map(|step| PlannedStep {
                name: section_name(&step.name),
                when: step.when,
                allow_failure: step.allow_failure,
                script: step.script.clone(),
            })
            .collect();
        Ok((after, steps))
    }

    /// Whether the sources are fetched into what an earlier job left.
    pub(crate) fn is_fetched(&self, payload: &Payload) -> bool {
        Strategy::of(&self.variables, payload.allow_git_fetch) == Ok(Strategy::Fetch)
    }

    /// The permission bits of the files of file variables. In containers the job's user is not the
    /// one that writes them.
    pub(crate) fn file_mode(&self) -> u32 {
        match self.settings.docker {
            Some(_) => 0o666,
            None => 0o600,
        }
    }

    fn script(&self) -> Script {
        let forbidden = self.settings.debug_trace_disabled;
        let traced = self.variables.is_debug_traced(forbidden);
        Script::new(self.variables.environment(), traced)
    }

    fn sources_script(&self, payload: &Payload, again: bool) -> Result<Vec<u8>, BadJob> {
        let bad = |error: crate::git::BadSources| fault(error.to_string());
        let strategy = Strategy::of(&self.variables, payload.allow_git_fetch).map_err(bad)?;
        let fetched = matches!(strategy, Strategy::Clone | Strategy::Fetch);
        let repo = payload.git_info.repo_url.expose_secret();
        let origin = (fetched && !repo.is_empty())
            .then(|| {
                Origin::new(
                    repo,
                    self.settings.clone_url.as_deref(),
                    &payload.job_info.project_full_path,
                    &payload.token,
                )
            })
            .transpose()
            .map_err(bad)?;
        let hook = |name: &'static str| {
            payload
                .hooks
                .iter()
                .filter(move |hook| hook.name == name)
                .flat_map(|hook| hook.script.iter().map(String::as_str))
        };
        let mut script = self.script();
        self.write_umask(&mut script);
        script.commands(self.settings.pre_get_sources_script.as_deref());
        script.commands(hook("pre_get_sources_script"));
        let sources = Sources {
            strategy,
            origin: origin.as_ref(),
            git: &payload.git_info,
            variables: &self.variables,
            directory: &self.project,
            version: &self.settings.version,
            clean: self.settings.clean_git_config.unwrap_or(fetched),
            // A container's git forgets it with the container.
            safe: self.settings.safe_directory_checkout || self.settings.docker.is_some(),
            again,
        };
        sources.write(&mut script).map_err(bad)?;
        script.commands(hook("post_get_sources_script"));
        script.commands(self.settings.post_get_sources_script.as_deref());
        Ok(script.into_bytes())
    }

    /// Makes the machine ready: directories, and no file left of a job that ended hard.
    pub(crate) fn prepare(&self) -> Vec<u8> {
        let mut script = Script::new([], false);
        let machine = quoted(&self.settings.machine_name);
        let here = "\"$(hostname 2>/dev/null || uname -n)\"";
        let files = quoted(&self.files);
        if self.settings.docker.is_some() {
            script.line(&format!(
                "printf 'Running on %s via %s...\\n' {here} {machine}"
            ));
            self.write_umask(&mut script);
            script.line(&format!("mkdir -p {files}"));
            // Made for one user alone when the files were written.
            for directory in self.below_builds() {
                script.line(&format!("chmod 0777 {}", quoted(&directory)));
            }
        } else {
            script.line(&format!(
                "printf 'Running on %s (%s)...\\n' {machine} {here}"
            ));
            script.line(&format!("mkdir -p {} {files}", quoted(&self.builds)));
            script.line(&format!("chmod 0700 {files}"));
        }
        let mine: Vec<&str> = self.variables.files().iter().map(|(key, _)| *key).collect();
        script.line(&format!("for file in {files}/* {files}/.[!.]*; do"));
        script.line("case \"${file##*/}\" in");
        if !mine.is_empty() {
            script.line(&format!("{}) ;;", mine.join("|")));
        }
        script.line("*) rm -rf \"$file\" ;;");
        script.line("esac");
        script.line("done");
        for name in self.variables.unusable() {
            script.warn(&format!(
                "the variable `{name}` is not set: a shell can't have one of that name"
            ));
        }
        script.into_bytes()
    }

    /// In a container the sources are root's, and the job's user may be any.
    fn write_umask(&self, script: &mut Script) {
        if self.settings.docker.is_some() {
            script.line("umask 0000");
        }
    }

    /// The directories from below that of all builds down to that of the files.
    fn below_builds(&self) -> Vec<String> {
        let rest = self.files[self.builds.len()..].trim_start_matches('/');
        let mut path = self.builds.clone();
        let parts = rest.split('/').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                path = format!("{path}/{part}");
                path.clone()
            })
            .collect()
    }

    /// Gets the sources. After a failed attempt, into an empty directory.
    pub(crate) fn sources(&self, again: bool) -> Vec<u8> {
        self.sources[usize::from(again)].clone()
    }

    /// One of the job's scripts.
    pub(crate) fn step(&self, step: &PlannedStep) -> Vec<u8> {
        let mut script = self.script();
        script.line(&format!("cd {}", quoted(&self.project)));
        script.commands(self.settings.pre_build_script.as_deref());
        script.commands(step.script.iter().map(String::as_str));
        script.commands(self.settings.post_build_script.as_deref());
        script.into_bytes()
    }

    /// `after_script`, told what the job came to: `success`, `failed` or `canceled`.
    pub(crate) fn after(&self, status: &str) -> Option<Vec<u8>> {
        let lines = self.after.as_ref()?;
        let mut script = self.script();
        script.export("CI_JOB_STATUS", status);
        script.line(&format!("cd {}", quoted(&self.project)));
        script.notice("Running after script...");
        script.commands(lines.iter().map(String::as_str));
        Some(script.into_bytes())
    }

    /// Removes what must not stay on the machine.
    pub(crate) fn cleanup(&self) -> Vec<u8> {
        let mut script = Script::new([], false);
        script.line("cd /");
        script.line(&format!("rm -rf {}", quoted(&self.files)));
        if self.settings.discard_build {
            script.line(&format!("rm -rf {}", quoted(&self.project)));
        }
        if let Some(line) = &self.clean_git {
            script.line(line);
        }
        script.into_bytes()
    }

    /// How often sources are tried for, 1 to 10.
    pub(crate) fn sources_attempts(&self) -> u32 {
        let given = self.variables.number("GET_SOURCES_ATTEMPTS").unwrap_or(1);
        u32::try_from(given.clamp(1, 10)).unwrap_or(1)
    }

    /// How often artifacts of earlier jobs are tried for, 1 to 10.
    pub(crate) fn download_attempts(&self) -> u32 {
        let given = self.variables.number("ARTIFACT_DOWNLOAD_ATTEMPTS");
        u32::try_from(given.unwrap_or(1).clamp(1, 10)).unwrap_or(1)
    }

    /// How long the scripts may run, beside the job's own timeout.
    pub(crate) fn script_timeout(&self) -> Option<Duration> {
        self.variables.duration("RUNNER_SCRIPT_TIMEOUT")
    }

    /// How long `after_script` may run.
    pub(crate) fn after_timeout(&self) -> Duration {
        self.variables
            .duration("RUNNER_AFTER_SCRIPT_TIMEOUT")
            .unwrap_or(AFTER_SCRIPT_TIMEOUT)
    }

    /// Whether a failed `after_script` leaves the job as it is.
    pub(crate) fn after_failure_ignored(&self) -> bool {
        self.variables
            .flag("AFTER_SCRIPT_IGNORE_ERRORS")
            .unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(payload: &str, settings: &JobSettings) -> Result<Plan, BadJob> {
        let payload = Payload::from_json(payload).expect("a job");
        Plan::new(&payload, settings, "/home/m")
    }

    fn with(fields: &str) -> String {
        format!(
            r#"{{"id":7,"token":"t","job_info":{{"project_full_path":"g/p"}},
            "steps":[{{"name":"script","script":["a"]}}]{fields}}}"#
        )
    }

    fn variable(key: &str, value: &str) -> String {
        with(&format!(
            r#","variables":[{{"key":"GIT_STRATEGY","value":"none"}},{{"key":"{key}","value":"{value}"}}]"#
        ))
    }

    #[test]
    fn a_job_has_its_place_under_the_builds_directory() {
        let settings = JobSettings {
            environment: vec![("FROM_RUNNER".into(), "in $CI_PROJECT_DIR".into())],
            ..JobSettings::default()
        };
        let plan = plan(
            &variable("GIT_CLONE_PATH", "$CI_BUILDS_DIR/x/./y"),
            &settings,
        )
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.project, "/home/m/builds/x/y");
        assert_eq!(plan.files, "/home/m/builds/x/y.tmp");
        assert_eq!(plan.variables.get("CI_PROJECT_DIR"), plan.project);
        assert_eq!(plan.variables.get("FROM_RUNNER"), "in /home/m/builds/x/y");
        assert_eq!(plan.variables.get("CI_SERVER"), "yes");
        assert_eq!(plan.variables.get("CI_JOB_TIMEOUT"), "7200");
    }

    #[test]
    fn what_is_wrong_with_a_job_is_said() {
        let none = JobSettings::default();
        let relative = JobSettings {
            builds_dir: Some("builds".into()),
            ..JobSettings::default()
        };
        let fixed = JobSettings {
            custom_build_dir: false,
            ..JobSettings::default()
        };
        let cases = [
            (
                r#"{"id":7,"token":"t"}"#.to_owned(),
                &none,
                "without a script",
            ),
            (
                r#"{"id":7,"token":"t","steps":[{"name":"after_script","script":["a"]}]}"#.into(),
                &none,
                "without a script",
            ),
            (
                r#"{"id":7,"token":"t","run":"[{}]"}"#.into(),
                &none,
                "`run` in place of `script`",
            ),
            (variable("GIT_CLONE_PATH", "/etc"), &none, "$CI_BUILDS_DIR/"),
            (
                variable("GIT_CLONE_PATH", "$CI_BUILDS_DIR/../x"),
                &none,
                "is not within /home/m/builds",
            ),
            (
                variable("GIT_STRATEGY", "pull"),
                &none,
                "GIT_STRATEGY `pull`",
            ),
            (with(""), &none, "no repository"),
            (variable("A", "b"), &relative, "builds_dir is `builds`"),
            (
                variable("GIT_CLONE_PATH", "$CI_BUILDS_DIR/x"),
                &fixed,
                "[runners.custom_build_dir]",
            ),
            (
                variable("A", "b").replace("g/p", "../../etc"),
                &none,
                "leads out of builds_dir",
            ),
        ];
        for (payload, settings, expected) in cases {
            match plan(&payload, settings) {
                Err(error) => assert!(error.said.contains(expected), "{error}"),
                Ok(_) => panic!("{payload} was planned"),
            }
        }
    }

    #[test]
    fn what_is_passed_over_is_known() {
        let payload = variable("A", "b").replace(
            r#""token":"t""#,
            r#""token":"t","services":[{"name":"redis"}]"#,
        );
        let plan = plan(&payload, &JobSettings::default());
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.passed_over, ["services"]);
    }
}
