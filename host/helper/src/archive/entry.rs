//! What an archive says of an entry, in this machine's terms.

use super::beneath::{Look, path_of};
use super::read::{UnpackError, refused};
use rawzip::time::ZipDateTimeKind;
use rawzip::{CompressionMethod, CreatorSystem, ZipFileHeaderRecord};
use rustix::fs::FileType;

/// An entry to unpack.
pub(super) struct Task {
    pub(super) at: rawzip::ZipArchiveEntryWayfinder,
    pub(super) path: Vec<u8>,
    pub(super) method: CompressionMethod,
    pub(super) crc: u32,
    pub(super) look: Look,
}

/// What an entry asks for. Its owner counts where `owner` says so.
pub(super) fn task(record: &ZipFileHeaderRecord<'_>, owner: bool) -> Result<Task, UnpackError> {
    let name = record.file_path();
    let mode = match (unix_mode(record), kind(record)) {
        (Some(mode), _) => mode & 0o777,
        (None, FileType::Directory) => 0o755,
        (None, _) => 0o644,
    };
    Ok(Task {
        at: record.wayfinder(),
        path: path_of(name.as_bytes()).map_err(|why| refused(name.as_bytes(), why))?,
        method: record.compression_method(),
        crc: record.crc32(),
        look: Look {
            mode,
            changed: changed(record),
            owner: if owner { owner_of(record) } else { None },
        },
    })
}

/// The mode, where the archive was made on a system that has one and told it.
fn unix_mode(record: &ZipFileHeaderRecord<'_>) -> Option<u32> {
    let system = record.version_made_by().creator_system();
    let mode = record.external_attributes() >> 16;
    let told = system == CreatorSystem::UNIX || system == CreatorSystem::MACOS;
    (told && mode != 0).then_some(mode)
}

/// What an entry is.
pub(super) fn kind(record: &ZipFileHeaderRecord<'_>) -> FileType {
    if record.is_dir() {
        return FileType::Directory;
    }
    match unix_mode(record) {
        Some(mode) if mode & 0o170_000 != 0 => match FileType::from_raw_mode(mode) {
            // Only a name with a slash at its end is one.
            FileType::Directory => FileType::RegularFile,
            kind => kind,
        },
        _ => FileType::RegularFile,
    }
}

fn changed(record: &ZipFileHeaderRecord<'_>) -> i64 {
    match record.last_modified() {
        ZipDateTimeKind::Utc(time) => time.to_unix(),
        // MS-DOS's time tells no zone; Go takes it for UTC.
        ZipDateTimeKind::Local(time) => {
            let (year, month) = (i64::from(time.year()), i64::from(time.month()));
            let days = super::days(year, month, i64::from(time.day()));
            let (hour, minute) = (i64::from(time.hour()), i64::from(time.minute()));
            days * 86_400 + hour * 3600 + minute * 60 + i64::from(time.second())
        }
    }
}

/// User and group of Info-ZIP's extra field.
fn owner_of(record: &ZipFileHeaderRecord<'_>) -> Option<(u32, u32)> {
    let (_, data) = record
        .extra_fields()
        .find(|(id, _)| id.as_u16() == 0x7875)?;
    let [1, 4, user @ ..] = data else { return None };
    let (user, rest) = user.split_first_chunk::<4>()?;
    let [4, group @ ..] = rest else { return None };
    let group = group.first_chunk::<4>()?;
    let own = (u32::from_le_bytes(*user), u32::from_le_bytes(*group));
    // That number is nobody's.
    (own.0 != u32::MAX && own.1 != u32::MAX).then_some(own)
}
