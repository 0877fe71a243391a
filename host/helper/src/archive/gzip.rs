//! The formats of reports: each file as a member of a gzip, and one file as it is.

use super::pieces::number;
use super::project::Project;
use super::select::Selection;
use super::{PackError, shown};
use flate2::{Compression, GzBuilder};
use rustix::fs::FileType;
use springtide_helper::Level;
use std::io::{self, Write};

/// Writes each file as a member, one after the other. Its name stands in it, its path as a comment.
///
/// # Errors
/// Where a file can't be read, is no regular file, or the archive can't be written.
pub(crate) fn write_gzip(
    project: &Project,
    selection: &Selection,
    level: Level,
    to: &mut dyn Write,
) -> Result<(), PackError> {
    for name in selection.names() {
        let path = shown(name);
        let failed = |error| PackError::File {
            path: path.clone(),
            error,
        };
        let stat = project.stat(name).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PackError::Format(format!(
                "the {path:?} is not a regular file: a gzip holds files alone, so name them \
                 instead of a directory"
            )));
        }
        let mut file = project.open(name).map_err(failed)?;
        let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        let mut member = GzBuilder::new()
            .filename(base)
            .comment(name)
            .mtime(u32::try_from(stat.st_mtime).unwrap_or(0))
            .write(&mut *to, Compression::new(number(level)));
        io::copy(&mut file, &mut member)?;
        member.finish()?;
    }
    Ok(to.flush()?)
}

/// Writes the one file as it is.
///
/// # Errors
/// Where there are several, it can't be read, or nobody takes it.
pub(crate) fn write_raw(
    project: &Project,
    selection: &Selection,
    to: &mut dyn Write,
) -> Result<(), PackError> {
    if selection.len() > 1 {
        return Err(PackError::Format(format!(
            "only one file can be sent as raw, and {} match",
            selection.len()
        )));
    }
    for name in selection.names() {
        let mut file = project.open(name).map_err(|error| PackError::File {
            path: shown(name),
            error,
        })?;
        io::copy(&mut file, to)?;
    }
    Ok(to.flush()?)
}
