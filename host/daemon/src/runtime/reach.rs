//! How the host gets to a machine, from what its driver said.

use springtide_control::MachineRecord;
use springtide_machines::{Connection, HelperClient, ProcessConnection};
use springtide_plugins::contract::Reach;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why a machine can't be reached.
#[derive(Debug, Error)]
pub enum NoWay {
    /// Its driver has not said how yet.
    #[error("its driver has not said how it is reached")]
    Unknown,
    /// The state holds something that is no address.
    #[error("the address in the state can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It is reached by SSH.
    #[error("it is reached by SSH, which this version does not speak; use the driver `local`")]
    Ssh,
}

/// The text a record keeps.
///
/// # Errors
/// Never in practice: an address is always JSON.
pub fn text(reach: &Reach) -> Result<String, serde_json::Error> {
    serde_json::to_string(reach)
}

/// Makes connections to machines.
#[derive(Clone, Debug)]
pub struct Ways {
    helper: PathBuf,
}

impl Ways {
    /// Ways for machines on which this helper is used.
    #[must_use]
    pub fn new(helper: &Path) -> Ways {
        Ways {
            helper: helper.to_path_buf(),
        }
    }

    /// The way to a machine.
    ///
    /// # Errors
    /// Where there is none.
    pub fn to(&self, record: &MachineRecord) -> Result<Arc<dyn Connection>, NoWay> {
        let reach = record.reach.as_deref().ok_or(NoWay::Unknown)?;
        match serde_json::from_str(reach)? {
            Reach::Process(directory) => {
                Ok(Arc::new(ProcessConnection::new(&self.helper, directory)))
            }
            Reach::Ssh(_) => Err(NoWay::Ssh),
        }
    }

    /// Whether a machine can take a job: its helper answers.
    pub async fn ready(&self, record: &MachineRecord) -> bool {
        let connection = match self.to(record) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(machine = record.name, %error, "not ready");
                return false;
            }
        };
        match HelperClient::new(connection).hello().await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(machine = record.name, %error, "not ready");
                false
            }
        }
    }
}
