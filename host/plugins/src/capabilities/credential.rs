//! Secrets the host applies to a plugin's requests. A plugin knows their names alone.

use arc_swap::ArcSwap;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the host applies to a request that names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credential {
    /// `Authorization: Bearer ...`.
    Bearer(SecretString),
    /// A header field.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretString,
    },
    /// A signature of AWS's; this release has none, and says so when it is used.
    Aws,
}

/// All credentials of a host, by name. Taken anew when a configuration is read again.
#[derive(Debug, Default)]
pub(crate) struct Credentials(ArcSwap<BTreeMap<String, Credential>>);

impl Credentials {
    pub(crate) fn set(&self, all: BTreeMap<String, Credential>) {
        self.0.store(Arc::new(all));
    }

    pub(crate) fn get(&self, name: &str) -> Option<Credential> {
        self.0.load().get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = Credentials::default();
        let value: SecretString = "s3cret".to_owned().into();
        let header = Credential::Header {
            name: "X-Token".into(),
            value: value.clone(),
        };
        let all = [("b", Credential::Bearer(value)), ("h", header)];
        credentials.set(all.map(|(name, one)| (name.to_owned(), one)).into());
        assert!(!format!("{credentials:?}").contains("s3cret"));
        assert!(credentials.get("b").is_some() && credentials.get("c").is_none());
    }
}
