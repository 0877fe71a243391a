//! `[runners.autoscaler]`, of executors that are not ours: known, so that nobody is told otherwise.

use super::Kind::{Duration, Flag, Float, Floats, Number, Object, Table, Tables, Text, Texts};
use super::{Key, Kind, Schema, Tone};

const INT: Kind = Number(i64::MIN, i64::MAX);

pub(super) const AUTOSCALER: &Schema = &Schema {
    name: "[runners.autoscaler]",
    tone: Tone::Lenient,
    keys: &[
        Key("capacity_per_instance", INT),
        Key("max_use_count", INT),
        Key("max_instances", INT),
        Key("plugin", Text),
        Key("plugin_config", Object),
        Key("connector_config", Table(CONNECTOR)),
        Key("policy", Tables(POLICY)),
        Key("instance_ready_command", Text),
        Key("instance_acquire_timeout", Duration),
        Key("update_interval", Duration),
        Key("update_interval_when_expecting", Duration),
        Key("deletion_retry_interval", Duration),
        Key("shutdown_deletion_interval", Duration),
        Key("shutdown_deletion_retries", INT),
        Key("failure_threshold", INT),
        Key("scale_throttle", Table(SCALE_THROTTLE)),
        Key("reservation_throttling", Flag),
        Key("log_internal_ip", Flag),
        Key("log_external_ip", Flag),
        Key("delete_instances_on_shutdown", Flag),
        Key("vm_isolation", Table(VM_ISOLATION)),
        Key("state_storage", Table(STATE_STORAGE)),
        Key("instance_operation_time_buckets", Floats),
        Key("instance_creation_time_buckets", Floats),
        Key("instance_is_running_time_buckets", Floats),
        Key("instance_deletion_time_buckets", Floats),
        Key("instance_readiness_time_buckets", Floats),
        Key("instance_life_duration_buckets", Floats),
    ],
};

const CONNECTOR: &Schema = &Schema {
    name: "[runners.autoscaler.connector_config]",
    tone: Tone::Lenient,
    keys: &[
        Key("os", Text),
        Key("arch", Text),
        Key("protocol", Text),
        Key("protocol_port", INT),
        Key("username", Text),
        Key("password", Text),
        Key("key_path", Text),
        Key("use_static_credentials", Flag),
        Key("keepalive", Duration),
        Key("timeout", Duration),
        Key("use_external_addr", Flag),
    ],
};

const POLICY: &Schema = &Schema {
    name: "[[runners.autoscaler.policy]]",
    tone: Tone::Lenient,
    keys: &[
        Key("periods", Texts),
        Key("timezone", Text),
        Key("idle_count", INT),
        Key("idle_time", Duration),
        Key("scale_factor", Float(f64::NEG_INFINITY)),
        Key("scale_factor_limit", INT),
        Key("preemptive_mode", Flag),
    ],
};

const SCALE_THROTTLE: &Schema = &Schema {
    name: "[runners.autoscaler.scale_throttle]",
    tone: Tone::Lenient,
    keys: &[Key("limit", INT), Key("burst", INT)],
};

const VM_ISOLATION: &Schema = &Schema {
    name: "[runners.autoscaler.vm_isolation]",
    tone: Tone::Lenient,
    keys: &[
        Key("enabled", Flag),
        Key("nesting_host", Text),
        Key("nesting_config", Object),
        Key("image", Text),
        Key("connector_config", Table(CONNECTOR)),
    ],
};

const STATE_STORAGE: &Schema = &Schema {
    name: "[runners.autoscaler.state_storage]",
    tone: Tone::Lenient,
    keys: &[
        Key("enabled", Flag),
        Key("dir", Text),
        Key("keep_instance_with_acquisitions", Flag),
    ],
};
