//! Leases: the end of each is a tag, written for many machines at once.

use crate::ec2::Ec2;
use crate::query::Query;
use crate::tags::{LEASE_UNTIL, put};
use springtide_sdk::PluginError;

/// Machines one request tags.
const BATCH: usize = 500;

/// Writes the end of these machines' leases. Those that are gone are passed over.
pub(crate) fn renew(ec2: &Ec2, ids: &[String], until: u32) -> Result<(), PluginError> {
    for batch in ids.chunks(BATCH) {
        write(ec2, batch.to_vec(), &until.to_string())?;
    }
    Ok(())
}

/// Writes one batch. EC2 refuses all of it where one is gone, and names some of those that are.
fn write(ec2: &Ec2, mut ids: Vec<String>, until: &str) -> Result<(), PluginError> {
    while !ids.is_empty() {
        let query: Query = put(&ids, LEASE_UNTIL, until);
        let fault = match ec2.ask(&query, |_| Ok(())) {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let Some(told) = fault.told().filter(|told| told.is_gone()) else {
            return Err(fault.into());
        };
        let before = ids.len();
        let is_named = |id: &String| {
            let other = |c: char| !c.is_ascii_alphanumeric() && c != '-';
            told.message.split(other).any(|word| word == id)
        };
        ids.retain(|id| !is_named(id));
        if ids.len() == before {
            if before == 1 {
                return Ok(());
            }
            let rest = ids.split_off(before / 2);
            write(ec2, rest, until)?;
        }
    }
    Ok(())
}
