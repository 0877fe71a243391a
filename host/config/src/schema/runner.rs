//! The file's global keys, and those of `[[runners]]` itself.

use super::Kind::{
    Duration, Flag, Instant, Map, Number, Object, OrDefault, Table, Tables, Text, Texts,
};
use super::{COUNT, Key, LARGE, Schema, Tone, autoscaler, docker, machine, others, ours};

pub(crate) const ROOT: &Schema = &Schema {
    name: "the file itself",
    tone: Tone::Theirs,
    keys: &[
        Key("concurrent", Number(1, u32::MAX as i64)),
        Key("check_interval", OrDefault(0)),
        Key("log_level", Text),
        Key("log_format", Text),
        Key("listen_address", Text),
        Key("shutdown_timeout", OrDefault(0)),
        Key("sentry_dsn", Text),
        Key("connection_max_age", Duration),
        Key("user", Text),
        Key("labels", Map(&Text)),
        Key("session_server", Table(others::SESSION_SERVER)),
        Key("machine", Table(machine::GLOBAL)),
        Key("experimental", Object),
        Key("runners", Tables(RUNNER)),
        Key("springtide", Table(ours::SPRINGTIDE)),
        Key("plugins", Map(&Table(ours::PLUGIN))),
        Key("credentials", Map(&Table(ours::CREDENTIAL))),
    ],
};

pub(crate) const RUNNER: &Schema = &Schema {
    name: "[[runners]]",
    tone: Tone::Theirs,
    keys: &[
        Key("name", Text),
        Key("limit", COUNT),
        Key("output_limit", OrDefault(0)),
        Key("request_concurrency", OrDefault(0)),
        Key("strict_check_interval", Flag),
        Key("unhealthy_requests_limit", OrDefault(0)),
        Key("unhealthy_interval", Duration),
        Key("job_status_final_update_retry_limit", OrDefault(0)),
        Key("experimental", Object),
        // Credentials.
        Key("url", Text),
        Key("id", LARGE),
        Key("token", Text),
        Key("token_obtained_at", Instant),
        Key("token_expires_at", Instant),
        Key("tls-ca-file", Text),
        Key("tls-cert-file", Text),
        Key("tls-key-file", Text),
        // Settings.
        Key("labels", Map(&Text)),
        Key("executor", Text),
        Key("builds_dir", Text),
        Key("cache_dir", Text),
        Key("clone_url", Text),
        Key("environment", Texts),
        Key("proxy_exec", Flag),
        Key("pre_clone_script", Text),
        Key("post_clone_script", Text),
        Key("pre_get_sources_script", Text),
        Key("post_get_sources_script", Text),
        Key("pre_build_script", Text),
        Key("post_build_script", Text),
        Key("prepare_timeout", Duration),
        Key("get_sources_timeout", Duration),
        Key("debug_trace_disabled", Flag),
        Key("safe_directory_checkout", Flag),
        Key("clean_git_config", Flag),
        Key("shell", Text),
        Key("custom_build_dir", Table(CUSTOM_BUILD_DIR)),
        Key("referees", Object),
        Key("cache", Table(machine::CACHE)),
        Key("artifact", Table(ARTIFACT)),
        Key("feature_flags", Map(&Flag)),
        Key("monitoring", Object),
        Key("use_slot_cgroups", Flag),
        Key("slot_cgroup_template", Text),
        Key("step_runner_image", Text),
        // Executors.
        Key("instance", Table(others::INSTANCE)),
        Key("ssh", Table(others::SSH)),
        Key("docker", Table(docker::DOCKER)),
        Key("parallels", Table(others::PARALLELS)),
        Key("virtualbox", Table(others::VIRTUALBOX)),
        Key("machine", Table(machine::MACHINE)),
        Key("kubernetes", Object),
        Key("custom", Table(others::CUSTOM)),
        Key("autoscaler", Table(autoscaler::AUTOSCALER)),
        // Ours.
        Key("pool", Table(ours::POOL)),
        Key("queue", Table(ours::QUEUE)),
        Key("policy", Tables(ours::POLICY)),
    ],
};

const CUSTOM_BUILD_DIR: &Schema = &Schema {
    name: "[runners.custom_build_dir]",
    tone: Tone::Theirs,
    keys: &[Key("enabled", Flag)],
};

const ARTIFACT: &Schema = &Schema {
    name: "[runners.artifact]",
    tone: Tone::Theirs,
    keys: &[
        Key("upload_timeout", Duration),
        Key("response_header_timeout", Duration),
    ],
};
