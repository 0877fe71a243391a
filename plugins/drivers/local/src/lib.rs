//! The shipped driver `local`: a machine is a directory and a process group on the host that the
//! daemon runs on.
//!
//! It is for demonstrations and tests, and for a host that is to run jobs itself. The provider is
//! `springtide-helper local`, run as the tool `springtide-local`; its delays, failures and slowness
//! are dialled in the settings. Which machine fails is decided by its token alone, so that a call
//! that is repeated fares as before.

mod luck;
mod settings;
mod tool;

use luck::Luck;
use serde_json::json;
use settings::Settings;
use springtide_sdk::{
    Billing, CallContext, Creation, Deadline, Description, Driver, Host, KeyValue, Kind, Leftover,
    Machine, MachineState, PluginError, Reach, Request, description,
};
use std::collections::BTreeMap;
use tool::{TOOL, ask};

/// The driver.
#[derive(Debug)]
pub struct Local;

impl Driver for Local {
    fn describe() -> Description {
        let deadlines = ["create", "destroy", "destroy-leftover"];
        Description {
            requests: vec![Request::Tool(TOOL.into())],
            deadlines: deadlines
                .map(|function| Deadline {
                    function: function.into(),
                    limit: 60,
                })
                .to_vec(),
            ..description(
                "local",
                env!("CARGO_PKG_VERSION"),
                Kind::Driver,
                settings::SCHEMA,
            )
        }
    }

    fn create(
        host: &Host,
        context: &CallContext,
        creation: &Creation,
    ) -> Result<Machine, PluginError> {
        let settings = Settings::read(&context.settings)?;
        let luck = Luck::of(&creation.token);
        if let Some(failure) = luck.failure(settings.fail_create) {
            return Err(failure);
        }
        let stuck = luck.has_stuck_boot(settings.fail_boot);
        let vanishes = luck.vanishes(settings.vanish);
        let labels: BTreeMap<&str, &str> = creation
            .labels
            .iter()
            .map(|label| (label.key.as_str(), label.value.as_str()))
            .collect();
        let call = json!({
            "slow": settings.slow,
            "token": creation.token,
            "name": creation.name,
            "owner": creation.owner,
            "pool": creation.pool,
            "manager": creation.manager,
            "lease_until": creation.lease_until,
            "labels": labels,
            "create_delay": settings.create_delay,
            "boot_delay": (!stuck).then_some(settings.boot_delay),
            "vanish_after": vanishes.then_some(u64::from(settings.vanish_after) * 1000),
        });
        ask(host, "create", &call).map(machine)
    }

    fn list_machines(host: &Host, context: &CallContext) -> Result<Vec<Machine>, PluginError> {
        let settings = Settings::read(&context.settings)?;
        let machines: Vec<tool::Machine> = ask(host, "list", &json!({"slow": settings.slow}))?;
        Ok(machines.into_iter().map(machine).collect())
    }

    fn destroy(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        let call = json!({"slow": settings.slow, "id": id, "delay": settings.destroy_delay});
        ask(host, "destroy", &call)
    }

    fn renew_leases(
        host: &Host,
        context: &CallContext,
        ids: &[String],
        until: u32,
    ) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        let call = json!({"slow": settings.slow, "ids": ids, "until": until});
        ask(host, "renew", &call)
    }

    fn list_leftovers(host: &Host, context: &CallContext) -> Result<Vec<Leftover>, PluginError> {
        let settings = Settings::read(&context.settings)?;
        let call = json!({"slow": settings.slow});
        let leftovers: Vec<tool::Leftover> = ask(host, "leftovers", &call)?;
        Ok(leftovers
            .into_iter()
            .map(|leftover| Leftover {
                id: leftover.id,
                sort: leftover.sort,
                owner: leftover.owner,
                created_at: leftover.created_at,
            })
            .collect())
    }

    fn destroy_leftover(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        let call = json!({"slow": settings.slow, "id": id});
        ask(host, "destroy-leftover", &call)
    }
}

/// A machine as the contract has it. How to reach it is told once it has booted.
fn machine(told: tool::Machine) -> Machine {
    Machine {
        reach: told.booted.then(|| Reach::Process(told.directory.clone())),
        id: told.id,
        name: told.name,
        token: told.token,
        owner: told.owner,
        pool: told.pool,
        lease_until: told.lease_until,
        created_at: told.created_at,
        state: match told.state {
            tool::State::Creating => MachineState::Creating,
            tool::State::Running => MachineState::Running,
            tool::State::Stopped => MachineState::Stopped,
            tool::State::Removing => MachineState::Removing,
            tool::State::Unknown => MachineState::Unknown,
        },
        billing: Billing::Free,
        details: vec![
            detail("directory", told.directory),
            detail("manager", told.manager),
        ],
    }
}

fn detail(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

springtide_sdk::export_driver!(Local);

#[cfg(test)]
mod tests;
