//! Secrets the host applies to a plugin's requests. A plugin knows their names alone.

use arc_swap::ArcSwap;
use secrecy::SecretString;
use springtide_aws::Aws;
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
    /// A signature of AWS's.
    Aws(Aws),
}

/// All credentials of a host, by name. Taken anew when a configuration is read again.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    shared: ArcSwap<BTreeMap<String, Credential>>,
    of_runners: ArcSwap<BTreeMap<(String, String), Credential>>,
}

impl Credentials {
    pub(crate) fn set(&self, all: BTreeMap<String, Credential>) {
        self.shared.store(Arc::new(all));
    }

    pub(crate) fn set_of_runners(&self, all: BTreeMap<(String, String), Credential>) {
        self.of_runners.store(Arc::new(all));
    }

    /// The runner's own of this name, or else the one all share.
    pub(crate) fn get(&self, runner: &str, name: &str) -> Option<Credential> {
        let own = (runner.to_owned(), name.to_owned());
        let own = self.of_runners.load().get(&own).cloned();
        own.or_else(|| self.shared.load().get(name).cloned())
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
        assert!(credentials.get("r", "b").is_some() && credentials.get("r", "c").is_none());
    }

    #[test]
    fn a_runners_own_comes_before_the_one_all_share() {
        let credentials = Credentials::default();
        let header = |name: &str| Credential::Header {
            name: name.into(),
            value: String::new().into(),
        };
        credentials.set([("k".to_owned(), header("shared"))].into());
        let own = ("elastic".to_owned(), "k".to_owned());
        credentials.set_of_runners([(own, header("own"))].into());
        for (runner, found) in [("elastic", "own"), ("other", "shared"), ("", "shared")] {
            let Some(Credential::Header { name, .. }) = credentials.get(runner, "k") else {
                panic!("{runner} has one");
            };
            assert_eq!(name, found);
        }
    }
}
