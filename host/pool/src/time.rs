//! Instants and lengths of time. Both are arguments everywhere in this crate; neither is ever read
//! from a clock here.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A length of time in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Time {
    /// The time that has passed since `earlier`; zero where `earlier` is later, so that a clock
    /// set back never makes a machine old.
    #[must_use]
    pub fn since(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// This instant and a length of time later.
    #[must_use]
    pub fn after(self, length: Millis) -> Time {
        Time(self.0.saturating_add(length.0))
    }

    /// Whole seconds since the epoch, as the plugin contract counts them; capped in 2106.
    #[must_use]
    pub fn whole_seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }
}

impl Millis {
    /// A number of seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Millis {
        Millis(seconds.saturating_mul(1000))
    }

    /// Whole seconds, rounded down; capped.
    #[must_use]
    pub fn whole_seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }
}
