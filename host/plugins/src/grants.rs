//! What an operator lets a plugin do beside computing. Nothing, unless it is here.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

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
    /// The actions of AWS's that a request signed for it may name; `None` is any.
    pub actions: Option<Vec<String>>,
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
    /// Arguments that name what a machine's owner must be the owner of.
    pub owned: Vec<Owned>,
    /// How many may run at once with this environment, for whichever plugin and pool; 0 is any number,
    /// and so is `None` where nobody else says one.
    pub concurrency: Option<u32>,
}

/// One argument of a subcommand has to begin with the calling pool's owner mark and a dash; written
/// `SUBCOMMAND:N`, where the subcommand itself is argument 0. `SUBCOMMAND:N/` is of a path, one of
/// whose parts has to begin so. A subcommand of several words is the first arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owned {
    /// The tool's first argument, or its first ones with blanks between them.
    pub subcommand: String,
    /// Which argument; at least 1.
    pub argument: usize,
    /// Whether it is a path.
    pub path: bool,
}

impl Owned {
    /// Whether the rule is about a call with these arguments.
    #[must_use]
    pub fn is_about(&self, arguments: &[String]) -> bool {
        let mut given = arguments.iter();
        self.subcommand
            .split(' ')
            .all(|word| given.next().is_some_and(|given| given == word))
    }

    /// Whether a call with these arguments names what is this owner's.
    #[must_use]
    pub fn holds(&self, arguments: &[String], owner: &str) -> bool {
        let Some(given) = arguments.get(self.argument) else {
            return false;
        };
        let is_ours = |name: &str| {
            let rest = name
                .strip_prefix(owner)
                .and_then(|rest| rest.strip_prefix('-'));
            !owner.is_empty() && rest.is_some_and(|rest| !rest.is_empty())
        };
        if !self.path {
            return is_ours(given);
        }
        let parts = || given.split('/');
        given.starts_with('/') && parts().all(|part| part != "..") && parts().any(is_ours)
    }
}

/// A text that is no rule of what is owned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} names no argument; write a subcommand, a colon and the argument's number, such as \"clonevm:3\""
)]
pub struct OwnedError(String);

impl FromStr for Owned {
    type Err = OwnedError;

    fn from_str(text: &str) -> Result<Owned, OwnedError> {
        let error = || OwnedError(text.to_owned());
        let (subcommand, argument) = text.rsplit_once(':').ok_or_else(error)?;
        let (argument, path) = match argument.strip_suffix('/') {
            Some(argument) => (argument, true),
            None => (argument, false),
        };
        let argument: u8 = argument.parse().map_err(|_| error())?;
        if subcommand.is_empty() || argument == 0 {
            return Err(error());
        }
        Ok(Owned {
            subcommand: subcommand.to_owned(),
            argument: argument.into(),
            path,
        })
    }
}

impl TryFrom<String> for Owned {
    type Error = OwnedError;

    fn try_from(text: String) -> Result<Owned, OwnedError> {
        text.parse()
    }
}

impl From<Owned> for String {
    fn from(owned: Owned) -> String {
        let end = if owned.path { "/" } else { "" };
        format!("{}:{}{end}", owned.subcommand, owned.argument)
    }
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
        for (name, tool) in &self.tools {
            // It says how the program is, not what may be done with it.
            let known = others.tools.get(name).and_then(|tool| tool.concurrency);
            let tool = ToolGrant {
                concurrency: tool.concurrency.or(known),
                ..tool.clone()
            };
            tools.insert(name.clone(), tool);
        }
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

    #[test]
    fn how_many_may_run_at_once_is_said_by_the_operator_or_else_by_who_knows_the_program() {
        let grants = |concurrency| Grants {
            tools: BTreeMap::from([(
                "vm".to_owned(),
                ToolGrant {
                    concurrency,
                    ..ToolGrant::default()
                },
            )]),
            ..Grants::default()
        };
        for (operator, shipped, both) in [
            (None, None, None),
            (None, Some(1), Some(1)),
            (Some(0), Some(1), Some(0)),
            (Some(3), Some(1), Some(3)),
            (Some(3), None, Some(3)),
        ] {
            let given = grants(operator).and(&grants(shipped));
            assert_eq!(given.tools["vm"].concurrency, both);
        }
    }

    #[test]
    fn what_is_owned_is_a_subcommand_and_the_number_of_an_argument() {
        let owned: Owned = "clonevm:3".parse().unwrap();
        assert_eq!((owned.subcommand.as_str(), owned.argument), ("clonevm", 3));
        assert_eq!(String::from(owned), "clonevm:3");
        for wrong in [
            "",
            "clonevm",
            ":1",
            "clonevm:",
            "clonevm:0",
            "clonevm:x",
            "a:300",
        ] {
            assert!(wrong.parse::<Owned>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_the_owners_by_one_of_its_parts() {
        let owned: Owned = "closemedium disk:2/".parse().unwrap();
        assert_eq!(String::from(owned.clone()), "closemedium disk:2/");
        let call = |path: &str| ["closemedium", "disk", path].map(str::to_owned);
        assert!(owned.is_about(&call("/x")));
        assert!(!owned.is_about(&["closemedium".to_owned()]));
        for (path, ours) in [
            ("/vms/us-1/disk.vdi", true),
            ("/vms/them-1/disk.vdi", false),
            ("/vms/us-1/../them-1/disk.vdi", false),
            ("us-1/disk.vdi", false),
            ("/vms/us-/disk.vdi", false),
        ] {
            assert_eq!(owned.holds(&call(path), "us"), ours, "{path}");
        }
        assert!(!owned.holds(&call("/vms/-1/disk.vdi"), ""));
    }
}
