//! The user data of machines that are there, each as it was sent the first time: the request for a
//! machine may be repeated after the configuration has changed, and a provider takes it for another
//! request then.

use super::first_boot::{Engine, FirstBoot};
use super::own_file::put;
use super::scope::Scope;
use super::setup::Setup;
use serde_json::Value;
use springtide_config::Executor;
use springtide_control::MachineRecord;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Keeps the user data of machines, in a directory of the state that is open to its owner alone.
#[derive(Clone, Debug)]
pub struct Boots {
    directory: PathBuf,
    beside: PathBuf,
}

impl Boots {
    /// By the state's directory, and the one that relative paths of the configuration are in.
    #[must_use]
    pub fn of(state: &Path, beside: &Path) -> Boots {
        Boots {
            directory: state.join("first-boot"),
            beside: beside.to_path_buf(),
        }
    }

    /// The user data of a machine: what was sent before, or else what the runner's
    /// entry says now, which is kept.
    ///
    /// # Errors
    /// Where a file can't be read or written; for people.
    pub async fn user_data(
        &self,
        record: &MachineRecord,
        setup: &Setup,
        user: Option<String>,
        key: String,
    ) -> Result<String, String> {
        let file = self.file(&record.token)?;
        let scope = Scope::read(&record.scope).map_err(|error| error.to_string())?;
        let script = setup.runner.pool.first_boot.as_ref();
        let script = script.map(|file| self.beside.join(file));
        let docker = match setup.runner.executor {
            Executor::DockerMachine => {
                let machine = setup.runner.machine.as_ref();
                machine.map(|machine| Engine::of(machine, &record.name))
            }
            _ => None,
        };
        let work = move || {
            if let Some(kept) = read(&file)? {
                return Ok(kept);
            }
            let script = script.map(|file| script_of(&file)).transpose()?;
            let boot = FirstBoot {
                user,
                key: Some(key),
                docker,
                script,
                user_data: scope.read_user_data()?,
            };
            let text = boot.user_data();
            keep(&file, &text).map_err(|error| {
                format!(
                    "writing the user data of a machine to {}: {error}",
                    file.display()
                )
            })?;
            Ok(text)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(format!("making the user data of a machine: {error}")))
    }

    /// Forgets a machine that is gone.
    pub async fn forget(&self, token: &str) {
        let Ok(file) = self.file(token) else { return };
        match tokio::fs::remove_file(&file).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "the user data of a machine that is gone stays");
            }
            _ => {}
        }
    }

    fn file(&self, token: &str) -> Result<PathBuf, String> {
        // A provider's list may show a token of anybody's making.
        match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(self.directory.join(token)),
            false => Err(format!("{token:?} is no token of a machine of ours")),
        }
    }
}

/// Whom the driver will say to log in as, by the settings of a scope: the one named `...-ssh-user`,
/// or its default.
#[must_use]
pub fn ssh_user(scope: &Scope, schema: &Value) -> Option<String> {
    let is_it = |key: &&String| *key == "ssh-user" || key.ends_with("-ssh-user");
    let properties = schema.get("properties")?.as_object()?;
    let key = properties.keys().find(is_it)?;
    let set = scope.settings.get(key);
    let user = set.or_else(|| properties.get(key)?.get("default"))?;
    user.as_str()
        .filter(|user| !user.is_empty())
        .map(str::to_owned)
}

fn script_of(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| {
        format!(
            "reading the script of the first boot from {}: {error}; correct `first_boot` of [runners.pool]",
            file.display()
        )
    })
}

fn read(file: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!(
            "reading the user data of a machine from {}: {error}",
            file.display()
        )),
    }
}

fn keep(file: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    put(file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whom_the_driver_logs_in_as_is_told_by_its_settings_or_their_default() {
        let schema = json!({"properties": {
            "ec2-ssh-user": {"type": "string", "default": "ubuntu"},
            "ec2-zone": {"type": "string"},
        }});
        let scope = |settings| Scope {
            settings,
            ..Scope::default()
        };
        for (settings, schema, expected) in [
            (json!({}), &schema, Some("ubuntu")),
            (json!({"ec2-ssh-user": "admin"}), &schema, Some("admin")),
            (json!({"ec2-ssh-user": ""}), &schema, None),
            (
                json!({"ssh-user": "admin"}),
                &json!({"properties": {}}),
                None,
            ),
        ] {
            let user = ssh_user(&scope(settings.clone()), schema);
            assert_eq!(user.as_deref(), expected, "{settings}");
        }
    }

    #[tokio::test]
    async fn user_data_is_kept_for_its_owner_alone_until_the_machine_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let boots = Boots::of(folder.path(), folder.path());
        let file = boots.file("3f6c").unwrap();
        assert_eq!(read(&file).unwrap(), None);
        keep(&file, "#cloud-config\n").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("#cloud-config\n"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        boots.forget("3f6c").await;
        boots.forget("3f6c").await;
        assert!(!file.exists());
        for stranger in ["", "../state.db", "a/b"] {
            assert!(boots.file(stranger).is_err(), "{stranger}");
        }
    }
}
