//! Holds what a plugin answers to the contract: what is out of range is an error of the plugin's, and
//! the host never guesses what was meant.

use crate::call::CallError;
use crate::capabilities::clean;
use crate::contract::{Decision, Leftover, Machine, PluginError, Reach};
use std::collections::HashSet;

/// Bytes of a policy's state.
const STATE: usize = 64 << 10;
/// Bytes of a reason.
const REASON: usize = 1_000;
/// The longest a provider may ask to wait, in milliseconds.
const WAIT: u32 = 600_000;

/// Machines or leftovers in one answer.
const ENTRIES: usize = 20_000;
/// Bytes of an id, a name, a mark or a path.
const NAME: usize = 512;
/// Details of a machine.
const DETAILS: usize = 100;

/// What a driver may answer.
pub(crate) trait Answer {
    /// Whether it can be.
    fn check(&self) -> Result<(), CallError>;
}

impl Answer for () {
    fn check(&self) -> Result<(), CallError> {
        Ok(())
    }
}

impl Answer for Machine {
    fn check(&self) -> Result<(), CallError> {
        machine(self).map_err(CallError::Invalid)
    }
}

impl Answer for Vec<Machine> {
    fn check(&self) -> Result<(), CallError> {
        all("machine", self, |one| &one.id, machine)
    }
}

impl Answer for Vec<Leftover> {
    fn check(&self) -> Result<(), CallError> {
        all("leftover", self, |one| &one.id, leftover)
    }
}

fn all<'a, T>(
    what: &str,
    list: &'a [T],
    id: fn(&'a T) -> &'a String,
    check: fn(&T) -> Result<(), String>,
) -> Result<(), CallError> {
    let found = || {
        if list.len() > ENTRIES {
            let count = list.len();
            return Err(format!("it lists {count} of them, and may list {ENTRIES}"));
        }
        let mut seen = HashSet::with_capacity(list.len());
        for one in list {
            check(one)?;
            if !seen.insert(id(one)) {
                return Err(format!("it lists the {what} {} twice", id(one)));
            }
        }
        Ok(())
    };
    found().map_err(CallError::Invalid)
}

/// A text that names something: neither empty nor long, and fit to be logged.
fn name(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    mark(what, text)
}

/// A text that may be empty.
fn mark(what: &str, text: &str) -> Result<(), String> {
    if text.len() > NAME {
        return Err(format!(
            "{what} has {} bytes, and may have {NAME}",
            text.len()
        ));
    }
    if text.contains(char::is_control) {
        return Err(format!("{what} has control characters: {text:?}"));
    }
    Ok(())
}

fn machine(machine: &Machine) -> Result<(), String> {
    name("a machine's id", &machine.id)?;
    name("a machine's name", &machine.name)?;
    mark("a machine's token", &machine.token)?;
    mark("a machine's owner", &machine.owner)?;
    mark("a machine's pool", &machine.pool)?;
    if machine.details.len() > DETAILS {
        let count = machine.details.len();
        return Err(format!(
            "a machine has {count} details, and may have {DETAILS}"
        ));
    }
    match &machine.reach {
        None => Ok(()),
        Some(Reach::Process(path)) => {
            name("a machine's directory", path)?;
            if path.starts_with('/') {
                return Ok(());
            }
            Err(format!(
                "a machine's directory is {path:?}, which is not absolute"
            ))
        }
        Some(Reach::Ssh(address)) => {
            name("a machine's host", &address.host)?;
            name("a machine's user", &address.user)?;
            let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '\'' | '"');
            if address.host.starts_with('-') || address.host.contains(odd) {
                return Err(format!("a machine's host is {:?}", address.host));
            }
            if address.user.starts_with('-') || address.user.contains(odd) {
                return Err(format!("a machine's user is {:?}", address.user));
            }
            if address.port == 0 {
                return Err("a machine's port is 0".into());
            }
            Ok(())
        }
    }
}

fn leftover(leftover: &Leftover) -> Result<(), String> {
    name("a leftover's id", &leftover.id)?;
    name("a leftover's sort", &leftover.sort)?;
    mark("a leftover's owner", &leftover.owner)
}

/// A machine made must be the one asked for.
pub(crate) fn made(machine: &Machine, token: &str) -> Result<(), CallError> {
    if machine.token == token {
        return Ok(());
    }
    Err(CallError::Invalid(format!(
        "it was asked for a machine with the token {token:?} and gave one with {:?}",
        machine.token
    )))
}

/// A policy's answer.
pub(crate) fn decision(decision: &Decision) -> Result<(), CallError> {
    let invalid = |what: String| Err(CallError::Invalid(what));
    if let Some(factor) = decision.patch.idle_scale_factor
        && !(factor.is_finite() && factor >= 0.0)
    {
        return invalid(format!(
            "idle-scale-factor is {factor}; it is 0 or more and finite"
        ));
    }
    if decision.reason.len() > REASON {
        return invalid(format!(
            "the reason has {} bytes, and may have {REASON}",
            decision.reason.len()
        ));
    }
    if decision.state.len() > STATE {
        return invalid(format!(
            "the state has {} bytes, and may have {STATE}",
            decision.state.len()
        ));
    }
    Ok(())
}

/// An error of a plugin's, fit to be logged: without control characters, and no longer than a line.
pub(crate) fn error(error: PluginError) -> CallError {
    CallError::Plugin(match error {
        PluginError::NotFound(text) => PluginError::NotFound(clean(&text)),
        PluginError::Quota(text) => PluginError::Quota(clean(&text)),
        PluginError::Capacity(text) => PluginError::Capacity(clean(&text)),
        PluginError::Throttled(wait) => PluginError::Throttled(wait.min(WAIT)),
        PluginError::Denied(text) => PluginError::Denied(clean(&text)),
        PluginError::InvalidConfig(text) => PluginError::InvalidConfig(clean(&text)),
        PluginError::Transient(text) => PluginError::Transient(clean(&text)),
        PluginError::Permanent(text) => PluginError::Permanent(clean(&text)),
        PluginError::Other(text) => PluginError::Other(clean(&text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Billing, KeyValue, MachineState, Patch, SshAddress};

    fn factor(factor: f64) -> Decision {
        Decision {
            patch: Patch {
                idle_scale_factor: Some(factor),
                ..Patch::default()
            },
            ..Decision::default()
        }
    }

    #[test]
    fn a_decision_out_of_range_is_no_decision() {
        let long = |reason, state| Decision {
            reason: "r".repeat(reason),
            state: vec![0; state],
            ..Decision::default()
        };
        for (answer, can_be) in [
            (factor(0.0), true),
            (factor(1.5), true),
            (factor(-0.1), false),
            (factor(f64::NAN), false),
            (factor(f64::INFINITY), false),
            (long(REASON, STATE), true),
            (long(REASON + 1, 0), false),
            (long(0, STATE + 1), false),
        ] {
            assert_eq!(decision(&answer).is_ok(), can_be, "{:?}", answer.patch);
        }
    }

    fn one() -> Machine {
        Machine {
            id: "i-1".into(),
            name: "ci-1".into(),
            token: "t-1".into(),
            owner: "us".into(),
            pool: "elastic".into(),
            lease_until: 0,
            created_at: 0,
            state: MachineState::Running,
            reach: None,
            billing: Billing::Free,
            details: Vec::new(),
        }
    }

    fn ssh(host: &str, port: u16, user: &str) -> Option<Reach> {
        Some(Reach::Ssh(SshAddress {
            host: host.into(),
            port,
            user: user.into(),
        }))
    }

    #[test]
    fn a_machine_that_can_not_be_is_no_machine() {
        type Change = fn(&mut Machine);
        let cases: [(Change, bool); 12] = [
            (|_| {}, true),
            (|m| m.id.clear(), false),
            (|m| m.id = "x".repeat(NAME + 1), false),
            (|m| m.name = "a\u{1b}[2J".into(), false),
            (|m| m.token.clear(), true),
            (
                |m| m.details = vec![KeyValue::default(); DETAILS + 1],
                false,
            ),
            (|m| m.reach = ssh("10.0.0.1", 22, "ci"), true),
            (|m| m.reach = ssh("-oProxyCommand=x", 22, "ci"), false),
            (|m| m.reach = ssh("host", 0, "ci"), false),
            (|m| m.reach = ssh("host", 22, "ci x"), false),
            (
                |m| m.reach = Some(Reach::Process("/var/lib/m".into())),
                true,
            ),
            (|m| m.reach = Some(Reach::Process("../m".into())), false),
        ];
        for (number, (change, can_be)) in cases.into_iter().enumerate() {
            let mut machine = one();
            change(&mut machine);
            assert_eq!(
                machine.check().is_ok(),
                can_be,
                "case {number}: {machine:?}"
            );
        }
        assert!(vec![one(), one()].check().is_err(), "twice the same id");
        assert!(made(&one(), "t-2").is_err());
    }
}
