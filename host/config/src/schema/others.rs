//! Tables of GitLab Runner that nothing here obeys.

use super::Kind::{Anything, Flag, Map, Number, Text, Texts};
use super::{Key, Kind, Schema, Tone};

const INT: Kind = Number(i64::MIN, i64::MAX);

pub(super) const SESSION_SERVER: &Schema = &Schema {
    name: "[session_server]",
    tone: Tone::Theirs,
    keys: &[
        Key("listen_address", Text),
        Key("advertise_address", Text),
        Key("session_timeout", INT),
    ],
};

pub(super) const SSH: &Schema = &Schema {
    name: "[runners.ssh]",
    tone: Tone::Lenient,
    keys: &[
        Key("user", Text),
        Key("password", Text),
        Key("host", Text),
        // A text in GitLab Runner; people write the number too.
        Key("port", Anything),
        Key("identity_file", Text),
        Key("disable_strict_host_key_checking", Flag),
        Key("known_hosts_file", Text),
    ],
};

pub(super) const PARALLELS: &Schema = &Schema {
    name: "[runners.parallels]",
    tone: Tone::Lenient,
    keys: &[
        Key("base_name", Text),
        Key("template_name", Text),
        Key("disable_snapshots", Flag),
        Key("time_server", Text),
        Key("allowed_images", Texts),
    ],
};

pub(super) const VIRTUALBOX: &Schema = &Schema {
    name: "[runners.virtualbox]",
    tone: Tone::Lenient,
    keys: &[
        Key("base_name", Text),
        Key("base_snapshot", Text),
        Key("base_folder", Text),
        Key("disable_snapshots", Flag),
        Key("allowed_images", Texts),
        Key("start_type", Text),
    ],
};

pub(super) const CUSTOM: &Schema = &Schema {
    name: "[runners.custom]",
    tone: Tone::Lenient,
    keys: &[
        Key("config_exec", Text),
        Key("config_args", Texts),
        Key("config_exec_timeout", INT),
        Key("prepare_exec", Text),
        Key("prepare_args", Texts),
        Key("prepare_exec_timeout", INT),
        Key("run_exec", Text),
        Key("run_args", Texts),
        Key("cleanup_exec", Text),
        Key("cleanup_args", Texts),
        Key("cleanup_exec_timeout", INT),
        Key("graceful_kill_timeout", INT),
        Key("force_kill_timeout", INT),
    ],
};

pub(super) const INSTANCE: &Schema = &Schema {
    name: "[runners.instance]",
    tone: Tone::Lenient,
    keys: &[
        Key("allowed_images", Texts),
        Key("use_common_build_dir", Flag),
        Key("root_dir", Text),
        Key("environment", Map(&Anything)),
    ],
};
