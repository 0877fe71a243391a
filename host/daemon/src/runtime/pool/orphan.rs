//! A pool without a runner is wound up from what was kept of it.

use super::claim::Claim;
use super::{Common, Known, Order, Orders, Started, Starting};
use crate::runtime::driver::Marks;
use crate::runtime::identity::Kept;
use crate::runtime::setup::Setup;
use crate::runtime::troubles::Troubles;
use springtide_pool::RetireCause;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};

/// Starts a pool whose runner is no longer in the configuration: its jobs are finished and its
/// machines removed.
///
/// # Errors
/// Where what was kept of it can't be used; for people.
pub fn start_orphan(common: Arc<Common>, key: &str, kept: &Kept) -> Result<Started, String> {
    let entry = format!(
        "[[runners]]\nname = {}\nurl = {}\ntoken = \"orphan\"\nexecutor = \"shell+machine\"\n[runners.machine]\nMachineDriver = \"none\"\nMachineName = \"none-%s\"\n",
        toml::Value::from(kept.name.as_str()),
        toml::Value::from(kept.url.as_str()),
    );
    let (config, _) = springtide_config::parse(&springtide_config::Source::of(entry));
    let config = config.ok_or("the entry made for it can't be read")?;
    let runner = config
        .runners
        .first()
        .ok_or("the entry made for it has an error")?;
    let setup = Arc::new(Setup::new(
        &config,
        runner,
        &common.system_id,
        &common.metrics,
    )?);
    let (orders, from) = mpsc::unbounded_channel();
    let (limits, seen) = watch::channel(setup.runner.limits());
    let notify = Arc::new(Notify::new());
    let starting = Starting {
        entry: key.to_owned(),
        setup: watch::Sender::new(setup),
        orders: Orders::new(from),
        limits,
        notify: Arc::clone(&notify),
        troubles: Troubles::default(),
        common: Arc::clone(&common),
    };
    starting.troubles.set(
        "configuration",
        Some("this runner is no longer in the configuration: its machines go".into()),
    );
    let claim = Claim::new(&common, key).ok_or("it is taken up already")?;
    let known = Known {
        _claim: claim,
        unfit: None,
        key: key.to_owned(),
        marks: Marks {
            owner: kept.owner.clone(),
            pool: key.to_owned(),
            manager: common.system_id.clone(),
        },
        scope: String::new(),
        machine_name: "none-%s".into(),
    };
    // It is there before the loop is: a channel keeps it.
    orders.send(Order::Leave(RetireCause::Orphaned)).ok();
    let entry = key.to_owned();
    Ok(Started {
        entry: key.to_owned(),
        runner: (kept.name.clone(), kept.url.clone()),
        orders,
        fingerprint: String::new(),
        leaving: true,
        limits: seen,
        notify,
        end: tokio::spawn(async move {
            let end = starting.take_up(known).await;
            common.pools.remove(&entry);
            end
        }),
    })
}
