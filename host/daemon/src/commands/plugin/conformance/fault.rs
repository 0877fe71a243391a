//! A fault the provider can be made to give, from the command line.

use serde_json::{Map, Value};
use springtide_plugins::contract::PluginError;
use std::str::FromStr;

/// The cases of the contract's errors.
const CASES: [&str; 9] = [
    "not-found",
    "quota",
    "capacity",
    "throttled",
    "denied",
    "invalid-config",
    "transient",
    "permanent",
    "other",
];

/// A function that must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Create,
    ListMachines,
    Get,
    Destroy,
    RenewLeases,
    ListLeftovers,
}

impl Function {
    const ALL: [(Function, &str); 6] = [
        (Function::Create, "create"),
        (Function::ListMachines, "list-machines"),
        (Function::Get, "get"),
        (Function::Destroy, "destroy"),
        (Function::RenewLeases, "renew-leases"),
        (Function::ListLeftovers, "list-leftovers"),
    ];

    fn of(name: &str) -> Result<Function, String> {
        let found = Self::ALL.into_iter().find(|(_, known)| *known == name);
        found.map(|(function, _)| function).ok_or_else(|| {
            let known = Self::ALL.map(|(_, known)| known);
            format!(
                "there is no function {name:?} to fail; there are {}",
                known.join(", ")
            )
        })
    }
}

/// Settings with which a function must fail, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) function: Function,
    /// What is set beside the runner's settings.
    pub(super) settings: Map<String, Value>,
    expected: Vec<&'static str>,
}

impl Fault {
    /// Whether this is an error that is expected.
    pub(super) fn expects(&self, error: &PluginError) -> bool {
        self.expected.contains(&error.case())
    }

    /// The errors that are expected, in words.
    pub(super) fn expected(&self) -> String {
        self.expected.join(" or ")
    }
}

impl FromStr for Fault {
    type Err = String;

    /// Reads `NAME={...}=ERROR`, or `ERROR|ERROR` where either will do; `NAME@FUNCTION` where it is not
    /// `create` that fails.
    fn from_str(text: &str) -> Result<Fault, String> {
        let form =
            "write NAME={\"setting\": value}=ERROR or NAME@FUNCTION={\"setting\": value}=ERROR";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        let function = match name.split_once('@') {
            Some((_, function)) => Function::of(function)?,
            None => Function::Create,
        };
        let (settings, errors) = rest.rsplit_once('=').ok_or(form)?;
        let settings = serde_json::from_str(settings)
            .map_err(|error| format!("the settings are no JSON object: {error}; {form}"))?;
        let known = |error: &str| {
            CASES
                .into_iter()
                .find(|case| *case == error)
                .ok_or_else(|| {
                    format!(
                        "there is no error {error:?}; there are {}",
                        CASES.join(", ")
                    )
                })
        };
        Ok(Fault {
            name: name.to_owned(),
            function,
            settings,
            expected: errors.split('|').map(known).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_name_settings_and_errors() {
        let fault: Fault = r#"full={"a": "x=y", "b": 1}=capacity|quota"#.parse().unwrap();
        assert_eq!(
            (fault.name.as_str(), fault.function),
            ("full", Function::Create)
        );
        let fault_of_list: Fault = "gone@list-machines={}=denied".parse().unwrap();
        assert_eq!(fault_of_list.name, "gone@list-machines");
        assert_eq!(fault_of_list.function, Function::ListMachines);
        assert_eq!(fault.settings.len(), 2);
        assert!(fault.expects(&PluginError::Quota(String::new())));
        assert!(!fault.expects(&PluginError::Throttled(1)));
        for (wrong, why) in [
            ("full", "write NAME"),
            ("full={}", "write NAME"),
            ("full=[]=quota", "no JSON object"),
            ("full={}=broken", "there is no error \"broken\""),
            ("full={}=", "there is no error"),
            ("full@lists={}=quota", "no function \"lists\""),
        ] {
            let error = wrong.parse::<Fault>().unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
