//! Keys that are read, so that a file works as it is, and not obeyed.

use crate::Severity;
use crate::report::Report;
use crate::walk::Found;

/// A key and why it changes nothing.
type Ignored = (&'static str, &'static str);

const NOT_HERE: &str = "it is a part of GitLab Runner that is not here";
const OTHER_EXECUTOR: &str = "it is for an executor that is not run here";
const TAKEN_OVER: &str = "a manager takes over its machines at the next start; `springtide run --remove-machines` takes them away";
const OWN_ENGINE: &str = "each machine has an engine of its own";

const ROOT: [Ignored; 3] = [
    ("sentry_dsn", "errors are in the log and in the metrics"),
    ("experimental", NOT_HERE),
    (
        "user",
        "jobs run as the user that their machine is reached as",
    ),
];

const RUNNER: [Ignored; 16] = [
    (
        "job_status_final_update_retry_limit",
        "a job's end is told until GitLab has it",
    ),
    ("proxy_exec", NOT_HERE),
    ("use_slot_cgroups", NOT_HERE),
    ("slot_cgroup_template", NOT_HERE),
    ("step_runner_image", NOT_HERE),
    ("referees", NOT_HERE),
    ("monitoring", NOT_HERE),
    ("experimental", NOT_HERE),
    ("artifact", NOT_HERE),
    ("autoscaler", OTHER_EXECUTOR),
    ("instance", OTHER_EXECUTOR),
    ("ssh", OTHER_EXECUTOR),
    ("kubernetes", OTHER_EXECUTOR),
    ("custom", OTHER_EXECUTOR),
    ("parallels", OTHER_EXECUTOR),
    ("virtualbox", OTHER_EXECUTOR),
];

const DOCKER: [Ignored; 3] = [
    ("tls_cert_path", OWN_ENGINE),
    ("service_slot_cgroup_template", NOT_HERE),
    (
        "helper_image_autoset_arch_and_os",
        "the helper image is always that of the engine's architecture",
    ),
];

/// Notes of the keys before the runners.
pub(super) fn of_file(root: &Found, report: &mut Report) {
    note(root, &ROOT, report);
    if let Some(machine) = root.table("machine") {
        let both = [("shutdown_drain", TAKEN_OVER), ("heartbeat", TAKEN_OVER)];
        note(machine, &both, report);
    }
}

/// Notes of a runner's keys.
pub(super) fn of_runner(found: &Found, report: &mut Report) {
    note(found, &RUNNER, report);
    if let Some(machine) = found.table("machine") {
        let until_gone = "a machine is removed until it is gone";
        note(machine, &[("MaxRemovalAttempts", until_gone)], report);
    }
    if let Some(docker) = found.table("docker") {
        of_docker(docker, report);
    }
}

fn of_docker(docker: &Found, report: &mut Report) {
    note(docker, &DOCKER, report);
    // A socket is one on the machine.
    if docker
        .filled("host")
        .is_some_and(|host| !host.starts_with("unix:///"))
    {
        note(docker, &[("host", OWN_ENGINE)], report);
    }
    // `register` of GitLab Runner's writes that it is off.
    if docker.flag("tls_verify") == Some(true) {
        note(docker, &[("tls_verify", OWN_ENGINE)], report);
    }
    if let Some(isolation) = docker.filled("isolation")
        && isolation != "default"
    {
        let windows = "it is for containers of Windows, which are not run here";
        note(docker, &[("isolation", windows)], report);
    }
    for service in docker.tables("services") {
        note(service, &[("suspend_data_path", NOT_HERE)], report);
    }
}

fn note(found: &Found, keys: &[Ignored], report: &mut Report) {
    for (key, why) in keys.iter().filter(|(key, _)| found.has(key)) {
        report.add(
            Severity::Note,
            &found.key_at(key),
            format!("`{key}` is read and not obeyed: {why}"),
            "",
        );
    }
}
