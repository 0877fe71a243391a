//! Our own tables.

use super::Kind::{Flag, Map, Object, Table, Text, TextLists, Texts};
use super::{COUNT, Key, SOME, Schema, Tone};

pub(super) const SPRINGTIDE: &Schema = &Schema {
    name: "[springtide]",
    tone: Tone::Ours,
    keys: &[
        Key("plugin_dir", Text),
        Key("state", Text),
        Key("helper", Text),
        Key("local_root", Text),
        Key("webhook", Table(WEBHOOK)),
    ],
};

const WEBHOOK: &Schema = &Schema {
    name: "[springtide.webhook]",
    tone: Tone::Ours,
    keys: &[Key("listen", Text), Key("secret_file", Text)],
};

pub(super) const PLUGIN: &Schema = &Schema {
    name: "[plugins.ID]",
    tone: Tone::Ours,
    keys: &[
        Key("file", Text),
        Key("digest", Text),
        Key("grants", Table(GRANTS)),
    ],
};

const GRANTS: &Schema = &Schema {
    name: "[plugins.ID.grants]",
    tone: Tone::Ours,
    keys: &[
        Key("files", Flag),
        Key("http", Table(HTTP)),
        Key("tools", Map(&Table(TOOL))),
    ],
};

const HTTP: &Schema = &Schema {
    name: "[plugins.ID.grants.http]",
    tone: Tone::Ours,
    keys: &[
        Key("origins", Texts),
        Key("allow_private", Flag),
        Key("credentials", Texts),
        Key("actions", Texts),
    ],
};

const TOOL: &Schema = &Schema {
    name: "[plugins.ID.grants.tools.NAME]",
    tone: Tone::Ours,
    keys: &[
        Key("path", Text),
        Key("env", Map(&Text)),
        Key("allow", TextLists),
        Key("owned", Texts),
        Key("concurrency", COUNT),
    ],
};

pub(super) const CREDENTIAL: &Schema = &Schema {
    name: "[credentials.NAME]",
    tone: Tone::Ours,
    keys: &[
        Key("type", Text),
        Key("token_file", Text),
        Key("header", Text),
        Key("profile", Text),
    ],
};

pub(super) const POOL: &Schema = &Schema {
    name: "[runners.pool]",
    tone: Tone::Ours,
    keys: &[
        Key("owner", Text),
        Key("create_timeout", SOME),
        Key("boot_timeout", SOME),
        Key("prepare_timeout", SOME),
        Key("machine_tries", SOME),
        Key("missing_grace", COUNT),
        Key("ready_command", Text),
        Key("first_boot", Text),
    ],
};

pub(super) const QUEUE: &Schema = &Schema {
    name: "[runners.queue]",
    tone: Tone::Ours,
    keys: &[
        Key("projects", Texts),
        Key("groups", Texts),
        Key("tags", Texts),
        Key("run_untagged", Flag),
        Key("token_file", Text),
        Key("refresh", SOME),
        Key("stale_after", SOME),
        Key("requests_per_minute", SOME),
    ],
};

pub(super) const POLICY: &Schema = &Schema {
    name: "[[runners.policy]]",
    tone: Tone::Ours,
    keys: &[Key("plugin", Text), Key("settings", Object)],
};
