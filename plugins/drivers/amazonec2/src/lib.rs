//! The shipped driver `amazonec2`: a machine is an instance of Amazon EC2.
//!
//! All of it goes through EC2's Query API, signed by the host with the credential `aws`; no key ever
//! gets here. A machine is made by one request that carries its marks, its disk and its user data, so
//! that nothing of it is ever without an owner. A list costs requests by its pages, and not by
//! machines.

mod ec2;
mod fault;
mod images;
mod instances;
mod launch;
mod leases;
mod leftovers;
mod network;
mod query;
mod settings;
mod tags;

use ec2::Ec2;
use query::Query;
use settings::Settings;
use springtide_sdk::{
    CallContext, Creation, Deadline, Description, Driver, Host, Kind, Leftover, Machine,
    PluginError, Request, description,
};

/// The Actions this driver asks EC2 for, one a line: what its grant and its IAM policy have to allow.
pub const ACTIONS: &str = include_str!("../actions.txt");

/// The driver.
#[derive(Debug)]
pub struct AmazonEc2;

impl Driver for AmazonEc2 {
    fn describe() -> Description {
        let deadlines = [
            ("create", 240),
            ("list-machines", 120),
            ("renew-leases", 120),
            ("list-leftovers", 120),
        ];
        Description {
            requests: vec![
                Request::Origin("https://ec2.us-east-1.amazonaws.com".into()),
                Request::Credential("aws".into()),
            ],
            deadlines: deadlines
                .map(|(function, limit)| Deadline {
                    function: function.into(),
                    limit,
                })
                .to_vec(),
            ..description(
                "amazonec2",
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
        launch::create(&Ec2::new(host, &settings), &settings, creation)
    }

    fn list_machines(host: &Host, context: &CallContext) -> Result<Vec<Machine>, PluginError> {
        let settings = Settings::read(&context.settings)?;
        Ok(instances::list(&Ec2::new(host, &settings), &settings)?)
    }

    fn get(host: &Host, context: &CallContext, id: &str) -> Result<Machine, PluginError> {
        let settings = Settings::read(&context.settings)?;
        let found = instances::by_id(&Ec2::new(host, &settings), id)?;
        found
            .map(|found| found.machine(&settings, false))
            .ok_or_else(|| {
                PluginError::NotFound(format!(
                    "EC2 shows no instance {id} in {}; one that was made within the last minute may not be shown yet",
                    settings.region
                ))
            })
    }

    fn destroy(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        let query = Query::new("TerminateInstances").with("InstanceId.1", id);
        match Ec2::new(host, &settings).ask(&query, |_| Ok(())) {
            Err(fault) if fault.is_gone() => Ok(()),
            done => done.map_err(PluginError::from),
        }
    }

    fn renew_leases(
        host: &Host,
        context: &CallContext,
        ids: &[String],
        until: u32,
    ) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        leases::renew(&Ec2::new(host, &settings), ids, until)
    }

    fn list_leftovers(host: &Host, context: &CallContext) -> Result<Vec<Leftover>, PluginError> {
        let settings = Settings::read(&context.settings)?;
        Ok(leftovers::list(&Ec2::new(host, &settings))?)
    }

    fn destroy_leftover(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError> {
        let settings = Settings::read(&context.settings)?;
        leftovers::destroy(&Ec2::new(host, &settings), id)
    }
}

springtide_sdk::export_driver!(AmazonEc2);

#[cfg(test)]
mod tests;
