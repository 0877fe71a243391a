//! Archives of a project's files: which files, how they are written, how they are unpacked.
//!
//! Both ways stream: memory is a few buffers and the names of the files that are written, never a
//! file or an archive as a whole. Nothing is written outside the directory that is unpacked into.

mod beneath;
mod entry;
mod glob;
mod gzip;
mod inflate;
mod pieces;
mod project;
mod read;
mod records;
mod select;
mod spill;
mod tar_read;
mod tar_write;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use beneath::Beneath;
pub(crate) use gzip::{write_gzip, write_raw};
pub(crate) use pieces::Packing;
pub(crate) use project::Project;
pub(crate) use read::{UnpackError, unpack};
pub(crate) use select::{Selection, select};
pub(crate) use spill::unnamed;
pub(crate) use tar_write::write_tar;
pub(crate) use write::write_zip;

use std::io;

/// Where words about single files go: a line of the trace each.
pub(crate) type Say<'a> = &'a (dyn Fn(Line) + Sync);

/// A line about single files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Worth knowing.
    Info(String),
    /// Something was left out.
    Warning(String),
}

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// A file can't be read.
    #[error("reading {path} for the archive: {error}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The archive itself can't be written, or nobody takes it.
    #[error("writing the archive: {0}")]
    Out(#[from] io::Error),
    /// The files can't be put into this format.
    #[error("{0}")]
    Format(String),
}

/// A name as it is shown.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Days of a date since 1970-01-01 (Howard Hinnant's algorithm).
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
