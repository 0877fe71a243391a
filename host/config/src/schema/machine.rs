//! `[runners.machine]`, the global `[machine]` and `[runners.cache]`.

use super::Kind::{Duration, Flag, Float, Number, Table, Tables, Text, Texts};
use super::{COUNT, Key, LARGE, Schema, Tone};

pub(super) const MACHINE: &Schema = &Schema {
    name: "[runners.machine]",
    tone: Tone::Theirs,
    keys: &[
        Key("MaxGrowthRate", COUNT),
        Key("IdleCount", COUNT),
        Key("IdleScaleFactor", Float(0.0)),
        Key("IdleCountMin", COUNT),
        Key("IdleTime", COUNT),
        Key("MaxBuilds", COUNT),
        Key("MaxAge", COUNT),
        Key("HeartbeatInterval", COUNT),
        Key("MachineDriver", Text),
        Key("MachineName", Text),
        Key("MachineOptions", Texts),
        Key("MachineOptionsWithName", Texts),
        Key("MaxRemovalAttempts", COUNT),
        Key("OffPeakPeriods", Texts),
        Key("OffPeakTimezone", Text),
        Key("OffPeakIdleCount", COUNT),
        Key("OffPeakIdleTime", COUNT),
        Key("autoscaling", Tables(AUTOSCALING)),
    ],
};

const AUTOSCALING: &Schema = &Schema {
    name: "[[runners.machine.autoscaling]]",
    tone: Tone::Theirs,
    keys: &[
        Key("Periods", Texts),
        Key("Timezone", Text),
        Key("IdleCount", COUNT),
        Key("IdleScaleFactor", Float(0.0)),
        Key("IdleCountMin", COUNT),
        Key("IdleTime", COUNT),
    ],
};

pub(super) const GLOBAL: &Schema = &Schema {
    name: "[machine]",
    tone: Tone::Theirs,
    keys: &[
        Key("shutdown_drain", Table(SHUTDOWN_DRAIN)),
        Key("heartbeat", Table(HEARTBEAT)),
    ],
};

const SHUTDOWN_DRAIN: &Schema = &Schema {
    name: "[machine.shutdown_drain]",
    tone: Tone::Theirs,
    keys: &[
        Key("enabled", Flag),
        Key("concurrency", Number(i64::MIN, i64::MAX)),
        Key("max_retries", Number(i64::MIN, i64::MAX)),
        Key("retry_backoff", Duration),
    ],
};

const HEARTBEAT: &Schema = &Schema {
    name: "[machine.heartbeat]",
    tone: Tone::Theirs,
    keys: &[Key("concurrency", Number(i64::MIN, i64::MAX))],
};

pub(super) const CACHE: &Schema = &Schema {
    name: "[runners.cache]",
    tone: Tone::Theirs,
    keys: &[
        Key("Type", Text),
        Key("Path", Text),
        Key("Shared", Flag),
        Key("MaxUploadedArchiveSize", LARGE),
        Key("s3", Table(S3)),
        Key("gcs", Table(GCS)),
        Key("azure", Table(AZURE)),
    ],
};

const S3: &Schema = &Schema {
    name: "[runners.cache.s3]",
    tone: Tone::Theirs,
    keys: &[
        Key("ServerAddress", Text),
        Key("AccessKey", Text),
        Key("SecretKey", Text),
        Key("SessionToken", Text),
        Key("BucketName", Text),
        Key("BucketLocation", Text),
        Key("Insecure", Flag),
        Key("AuthenticationType", Text),
        Key("ServerSideEncryption", Text),
        Key("ServerSideEncryptionKeyID", Text),
        Key("DualStack", Flag),
        Key("PathStyle", Flag),
        Key("Accelerate", Flag),
        Key("RoleARN", Text),
        Key("UploadRoleARN", Text),
        Key("AssumeRoleMaxConcurrency", Number(-1, u32::MAX as i64)),
        Key("DisableAssumeRoleCredentialsCaching", Flag),
    ],
};

const GCS: &Schema = &Schema {
    name: "[runners.cache.gcs]",
    tone: Tone::Theirs,
    keys: &[
        Key("AccessID", Text),
        Key("PrivateKey", Text),
        Key("CredentialsFile", Text),
        Key("BucketName", Text),
        Key("UniverseDomain", Text),
    ],
};

const AZURE: &Schema = &Schema {
    name: "[runners.cache.azure]",
    tone: Tone::Theirs,
    keys: &[
        Key("AccountName", Text),
        Key("AccountKey", Text),
        Key("ContainerName", Text),
        Key("StorageDomain", Text),
    ],
};
