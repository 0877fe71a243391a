//! The shipped driver `virtualbox`: machines are VirtualBox virtual machines on the host that the
//! daemon runs on, made and removed with `VBoxManage`.
//!
//! A machine is named `<owner>-<token>`, which is its id, and carries its marks itself. `create` does
//! a step a call; how far a machine has come is read from VirtualBox each time.

mod guest;
mod iso;
mod make;
mod network;
mod parse;
mod remove;
mod seed;
mod settings;
mod storage;
mod tool;
mod vm;

use settings::Settings;
use springtide_sdk::{
    CallContext, Creation, Deadline, Description, Driver, Host, Kind, Leftover, Machine,
    PluginError, Request, description,
};
use tool::{TOOL, VBox};
use vm::{Vm, is_plain};

/// How long functions may take, in seconds: an import and the copy of a disk take minutes.
const DEADLINES: [(&str, u32); 6] = [
    ("create", 300),
    ("destroy", 120),
    ("list-machines", 120),
    ("renew-leases", 120),
    ("list-leftovers", 60),
    ("destroy-leftover", 60),
];

/// The driver.
#[derive(Debug)]
pub struct Virtualbox;

impl Driver for Virtualbox {
    fn describe() -> Description {
        Description {
            requests: vec![Request::Tool(TOOL.into()), Request::Files],
            deadlines: DEADLINES
                .map(|(function, limit)| Deadline {
                    function: function.into(),
                    limit,
                })
                .to_vec(),
            ..description(
                "virtualbox",
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
        let vm = make::further(VBox { host }, &settings, creation)?;
        Ok(vm.machine())
    }

    fn list_machines(host: &Host, context: &CallContext) -> Result<Vec<Machine>, PluginError> {
        Settings::read(&context.settings)?;
        let all = Vm::all(VBox { host })?;
        Ok(all.iter().map(Vm::machine).collect())
    }

    fn get(host: &Host, context: &CallContext, id: &str) -> Result<Machine, PluginError> {
        Settings::read(&context.settings)?;
        let none = || PluginError::NotFound(format!("there is no machine {id}"));
        if !is_plain(id) {
            return Err(none());
        }
        let vm = Vm::find(VBox { host }, id)?.ok_or_else(none)?;
        Ok(vm.machine())
    }

    fn destroy(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        Settings::read(&context.settings)?;
        remove::machine(VBox { host }, id)
    }

    fn renew_leases(
        host: &Host,
        context: &CallContext,
        ids: &[String],
        until: u32,
    ) -> Result<(), PluginError> {
        Settings::read(&context.settings)?;
        for id in ids.iter().filter(|id| is_plain(id)) {
            Vm::write_lease(VBox { host }, id, until)?;
        }
        Ok(())
    }

    fn list_leftovers(host: &Host, context: &CallContext) -> Result<Vec<Leftover>, PluginError> {
        Settings::read(&context.settings)?;
        remove::leftovers(VBox { host })
    }

    fn destroy_leftover(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        Settings::read(&context.settings)?;
        remove::leftover(VBox { host }, id)
    }
}

springtide_sdk::export_driver!(Virtualbox);

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
