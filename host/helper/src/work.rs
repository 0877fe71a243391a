//! A piece of work: what is run on a machine, and how it ends.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// As the first word of a program, the helper itself, wherever it is on its machine.
pub const SELF: &str = "springtide-helper";

/// The variables that say how others are reached: through which proxies, and whose certificates are
/// trusted.
pub const REACH: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What to run. It travels as one JSON object on the standard input of `springtide-helper start`,
/// never as arguments, for its environment and files hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Names the work on its machine: 1 to 80 of `a-z`, `0-9` and `-`.
    pub id: String,
    /// The program and its arguments; the program is looked up on the work's own `PATH`, but for
    /// [`SELF`].
    pub program: Vec<String>,
    /// Where it runs, absolute; made if it is missing.
    pub directory: String,
    /// Its environment. Of the helper's own only `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`,
    /// `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and [`REACH`] are kept, where this does not set them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Its whole standard input.
    #[serde(default, with = "base64_bytes")]
    pub stdin: Vec<u8>,
    /// Files that are written before it starts.
    #[serde(default)]
    pub files: Vec<WorkFile>,
    /// Bytes of output kept; what goes beyond is counted and discarded, and never blocks the work.
    pub spool_limit: u64,
}

/// A file that is written before the work starts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkFile {
    /// Absolute. Missing parents are made with mode 0700.
    pub path: String,
    /// The permission bits, such as `0o600`; the file never has others, not even while it is
    /// written.
    pub mode: u32,
    /// What is in it.
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

// Not derived: what is in the environment, the input and the files is secret.
impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("id", &self.id)
            .field("program", &self.program.first())
            .field("directory", &self.directory)
            .field("files", &self.files.len())
            .field("spool_limit", &self.spool_limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkFile")
            .field("path", &self.path)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkEnd {
    /// It ended by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The process that watched over it is gone without a word: killed, or the machine restarted.
    /// How the work ended is not known.
    Lost,
}

/// A signal for all processes of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkSignal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGKILL, also to those that left the process group.
    Kill,
}

impl WorkSignal {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WorkSignal::Interrupt => "interrupt",
            WorkSignal::Terminate => "terminate",
            WorkSignal::Kill => "kill",
        }
    }

    /// The signal of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Interrupt, Self::Terminate, Self::Kill]
            .into_iter()
            .find(|signal| signal.name() == name)
    }
}

/// Whether a text can name a piece of work: 1 to 80 of `a-z`, `0-9` and `-`, not beginning with
/// `-`, which an argument could not.
#[must_use]
pub fn is_work_id(id: &str) -> bool {
    (1..=80).contains(&id.len())
        && !id.starts_with('-')
        && id
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
