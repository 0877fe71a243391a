//! Secrets that stand among a runner's options: kept in the state for as long as the runner has any,
//! and after it is gone, so that its machines can still be removed.
//!
//! The file is open to its owner alone. What is in it goes to the plugin host and nowhere else.

use super::own_file::put;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use springtide_config::{SecretOption, SecretPart};
use springtide_plugins::{Aws, AwsKeys, Credential};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The secrets of runners, by the runner's name and the credential's.
#[derive(Debug)]
pub struct Secrets {
    file: PathBuf,
    kept: Mutex<Kept>,
}

type Kept = BTreeMap<String, BTreeMap<String, Secret>>;

/// One credential.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Secret {
    #[serde(serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    bearer: Option<SecretString>,
    #[serde(skip_serializing_if = "String::is_empty")]
    access_key_id: String,
    #[serde(serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<SecretString>,
    #[serde(serialize_with = "exposed", skip_serializing_if = "Option::is_none")]
    session_token: Option<SecretString>,
}

fn exposed<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret
        .as_ref()
        .map(ExposeSecret::expose_secret)
        .serialize(to)
}

fn same(one: &Option<SecretString>, other: &Option<SecretString>) -> bool {
    let text = |secret: &Option<SecretString>| {
        secret
            .as_ref()
            .map(|secret| secret.expose_secret().to_owned())
    };
    text(one) == text(other)
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.access_key_id == other.access_key_id
            && same(&self.bearer, &other.bearer)
            && same(&self.secret_access_key, &other.secret_access_key)
            && same(&self.session_token, &other.session_token)
    }
}

impl Secret {
    fn credential(&self) -> Option<Credential> {
        if let Some(token) = &self.bearer {
            return Some(Credential::Bearer(token.clone()));
        }
        let keys = AwsKeys::Static {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone()?,
            session_token: self.session_token.clone(),
        };
        Some(Credential::Aws(Aws::new(keys)))
    }
}

impl Secrets {
    /// Those of a state's directory.
    ///
    /// # Errors
    /// Where the file is there and can't be read.
    pub fn open(directory: &Path) -> io::Result<Secrets> {
        let file = directory.join("secrets.json");
        let kept = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                // The error of a value would show it.
                let place = format!("line {}, column {}", error.line(), error.column());
                io::Error::other(format!("{} is damaged at {place}", file.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Secrets {
            file,
            kept: Mutex::new(kept),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what stands in a runner's options now; whether that is other than before. Blocks while
    /// it is written.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn set(&self, runner: &str, options: &[SecretOption]) -> io::Result<bool> {
        let mut own: BTreeMap<String, Secret> = BTreeMap::new();
        for option in options {
            let secret = own.entry(option.credential.clone()).or_default();
            let value = option.value.clone();
            match option.part {
                SecretPart::Bearer => secret.bearer = Some(value),
                SecretPart::AccessKeyId => {
                    value.expose_secret().clone_into(&mut secret.access_key_id)
                }
                SecretPart::SecretAccessKey => secret.secret_access_key = Some(value),
                SecretPart::SessionToken => secret.session_token = Some(value),
            }
        }
        let mut kept = self.kept();
        if kept.get(runner).cloned().unwrap_or_default() == own {
            return Ok(false);
        }
        let mut all = kept.clone();
        match own.is_empty() {
            true => all.remove(runner),
            false => all.insert(runner.to_owned(), own),
        };
        self.write(&all)?;
        *kept = all;
        Ok(true)
    }

    fn write(&self, all: &Kept) -> io::Result<()> {
        put(&self.file, &serde_json::to_vec(all)?)
    }

    /// All of them, as the plugin host applies them.
    #[must_use]
    pub fn credentials(&self) -> BTreeMap<(String, String), Credential> {
        let kept = self.kept();
        let of = |(runner, own): (&String, &BTreeMap<String, Secret>)| {
            let own = own.iter().filter_map(|(name, secret)| {
                Some(((runner.clone(), name.clone()), secret.credential()?))
            });
            own.collect::<Vec<_>>()
        };
        kept.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn option(credential: &str, part: SecretPart, value: &str) -> SecretOption {
        SecretOption {
            option: "x".into(),
            credential: credential.into(),
            part,
            value: value.to_owned().into(),
        }
    }

    #[test]
    fn secrets_outlive_the_daemon_and_are_nobodys_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(folder.path()).unwrap();
        let key = [
            option("aws", SecretPart::AccessKeyId, "AKIA"),
            option("aws", SecretPart::SecretAccessKey, "hidethis"),
            option("x-token", SecretPart::Bearer, "hidethat"),
        ];
        assert!(secrets.set("elastic", &key).unwrap());
        assert!(!secrets.set("elastic", &key).unwrap(), "it is the same");
        assert!(!format!("{secrets:?}").contains("hide"), "{secrets:?}");
        let file = folder.path().join("secrets.json");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = Secrets::open(folder.path()).unwrap();
        let names: Vec<_> = again.credentials().into_keys().collect();
        let own = |name: &str| ("elastic".to_owned(), name.to_owned());
        assert_eq!(names, [own("aws"), own("x-token")]);
        assert!(again.set("elastic", &[]).unwrap(), "the file has none now");
        assert!(
            Secrets::open(folder.path())
                .unwrap()
                .credentials()
                .is_empty()
        );
    }

    #[test]
    fn a_damaged_file_is_told_without_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"elastic": {"aws": "hidethis"}}"#;
        std::fs::write(folder.path().join("secrets.json"), text).unwrap();
        let error = Secrets::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("hide"),
            "{error}"
        );
    }
}
