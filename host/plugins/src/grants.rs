//! What an operator lets a plugin do beside computing. Nothing, unless it is here.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All that one plugin may do. The default is nothing; writing to the log and asking for civil time
/// need no grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Grants {
    /// A scratch directory of its own, through `files`.
    pub files: bool,
    /// Requests over HTTP.
    pub http: Option<HttpGrant>,
    /// Tools by the names the plugin calls them.
    pub tools: BTreeMap<String, ToolGrant>,
}

/// Where a plugin may send requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct HttpGrant {
    /// Exact origins: `https://api.example.com`, `https://pve.internal:8006`.
    pub origins: Vec<String>,
    /// Whether they may resolve to private, loopback or link-local addresses.
    pub allow_private: bool,
    /// Names of credentials the host may apply.
    pub credentials: Vec<String>,
}

/// A tool a plugin may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ToolGrant {
    /// The program, an absolute path.
    pub path: PathBuf,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Leading arguments that may be used, `*` for any one; `None` is any arguments.
    pub allow: Option<Vec<Vec<String>>>,
}

impl Grants {
    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.files && self.http.is_none() && self.tools.is_empty()
    }

    /// These and the others; where both have one of a name, this one's holds.
    #[must_use]
    pub fn and(&self, others: &Grants) -> Grants {
        let mut tools = others.tools.clone();
        tools.extend(self.tools.clone());
        Grants {
            files: self.files || others.files,
            http: self.http.clone().or_else(|| others.http.clone()),
            tools,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_none_by_default_and_the_operators_come_first() {
        assert!(Grants::default().is_empty());
        let tool = |path: &str| {
            let grant = ToolGrant {
                path: path.into(),
                ..ToolGrant::default()
            };
            BTreeMap::from([("vm".to_owned(), grant)])
        };
        let operator = Grants {
            tools: tool("/opt/vm"),
            ..Grants::default()
        };
        let shipped = Grants {
            files: true,
            tools: tool("/usr/bin/vm"),
            ..Grants::default()
        };
        let both = operator.and(&shipped);
        assert!(both.files && !both.is_empty());
        assert_eq!(both.tools["vm"].path, PathBuf::from("/opt/vm"));
    }
}
