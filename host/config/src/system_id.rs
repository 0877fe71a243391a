//! Which of several managers with the same runner this one is: `.runner_system_id` beside the
//! configuration, as GitLab Runner makes it, so that one that comes after it goes on as the same.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a system's own id is, the first there is.
const MACHINE_IDS: [&str; 2] = ["/var/lib/dbus/machine-id", "/etc/machine-id"];
const LENGTH: usize = 12;

/// The id, and whether it will be the same after a restart.
#[derive(Debug)]
pub struct SystemId {
    /// `s_` and 12 digits of the system's own id, or `r_` and 12 random letters and digits.
    pub id: String,
    /// Why it could not be written down, where it could not. One that begins with `s_` is the same
    /// next time all the same.
    pub unsaved: Option<io::Error>,
}

/// Reads the id beside a configuration, or makes it.
///
/// # Errors
/// Where the system gives no randomness and has no id of its own.
pub fn system_id(config: &Path) -> io::Result<SystemId> {
    let machine = MACHINE_IDS
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|id| id.trim().to_owned())
        .find(|id| !id.is_empty());
    read_or_make(&beside(config), machine.as_deref())
}

fn beside(config: &Path) -> PathBuf {
    config.with_file_name(".runner_system_id")
}

fn read_or_make(file: &Path, machine: Option<&str>) -> io::Result<SystemId> {
    if let Ok(text) = std::fs::read_to_string(file) {
        let id = text.trim();
        if is_id(id) {
            return Ok(SystemId {
                id: id.to_owned(),
                unsaved: None,
            });
        }
    }
    let id = match machine {
        Some(machine) => of_machine(machine)?,
        None => random()?,
    };
    let unsaved = write(file, &id).err();
    Ok(SystemId { id, unsaved })
}

fn is_id(text: &str) -> bool {
    let body = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_"));
    body.is_some_and(|body| body.len() == LENGTH && body.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn of_machine(machine: &str) -> io::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(machine.as_bytes()).map_err(io::Error::other)?;
    mac.update(b"gitlab-runner");
    let mut id = "s_".to_owned();
    for byte in mac.finalize().into_bytes().iter().take(LENGTH / 2) {
        id.push_str(&format!("{byte:02x}"));
    }
    Ok(id)
}

fn random() -> io::Result<String> {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut id = "r_".to_owned();
    while id.len() < LENGTH + 2 {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        // Those above the last multiple of 62 would make the first letters likelier.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let letters = even.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        id.extend(letters.take(LENGTH + 2 - id.len()));
    }
    Ok(id)
}

fn write(file: &Path, id: &str) -> io::Result<()> {
    let directory = file.parent().filter(|parent| *parent != Path::new(""));
    let mut new = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    new.write_all(id.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_id_that_is_there_is_kept_and_anything_else_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = beside(&folder.path().join("config.toml"));
        assert_eq!(file, folder.path().join(".runner_system_id"));

        let made = read_or_make(&file, Some("0123456789abcdef")).unwrap();
        assert!(made.unsaved.is_none());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), made.id);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        std::fs::write(&file, "r_AbCdEf012345\n").unwrap();
        assert_eq!(read_or_make(&file, None).unwrap().id, "r_AbCdEf012345");
        for wrong in [
            "",
            "x_AbCdEf012345",
            "r_short",
            "r_AbCdEf0123456",
            "r_AbCdEf01234-",
        ] {
            std::fs::write(&file, wrong).unwrap();
            let again = read_or_make(&file, Some("0123456789abcdef")).unwrap();
            assert_eq!(again.id, made.id, "{wrong}");
        }
    }

    #[test]
    fn a_system_without_an_id_gets_a_random_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let made = read_or_make(&file, None).unwrap();
        assert!(made.id.starts_with("r_") && is_id(&made.id), "{}", made.id);
        assert_ne!(random().unwrap(), made.id);
    }

    #[test]
    fn an_id_that_can_not_be_written_is_used_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nowhere/id");
        let made = read_or_make(&file, Some("machine")).unwrap();
        assert!(made.unsaved.is_some());
        assert_eq!(made.id, of_machine("machine").unwrap());
    }

    #[test]
    fn the_id_of_a_system_is_the_start_of_its_hmac() {
        // printf gitlab-runner | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        assert_eq!(
            of_machine("0123456789abcdef0123456789abcdef").unwrap(),
            "s_ee3af03959fe"
        );
    }
}
