//! Asking the provider: one run of the tool, a JSON object in, a JSON object out.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use springtide_sdk::{Host, PluginError, ProcessError};

/// The tool this driver runs: `springtide-helper`.
pub(crate) const TOOL: &str = "springtide-local";

/// A machine as the tool tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) owner: String,
    pub(crate) pool: String,
    pub(crate) manager: String,
    pub(crate) lease_until: u32,
    pub(crate) created_at: u32,
    pub(crate) state: State,
    pub(crate) directory: String,
    pub(crate) booted: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Creating,
    Running,
    Stopped,
    Removing,
    #[serde(other)]
    Unknown,
}

/// A leftover as the tool tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Leftover {
    pub(crate) id: String,
    pub(crate) sort: String,
    pub(crate) owner: String,
    pub(crate) created_at: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer<T> {
    Ok(T),
    Error(Fault),
}

#[derive(Deserialize)]
struct Fault {
    kind: String,
    message: String,
}

/// Runs `springtide-local local COMMAND` with a call on its standard input.
pub(crate) fn ask<T: DeserializeOwned>(
    host: &Host,
    command: &str,
    call: &Value,
) -> Result<T, PluginError> {
    let arguments = ["local".to_owned(), command.to_owned()];
    let output = host
        .process
        .run(TOOL, &arguments, call.to_string().as_bytes())
        .map_err(|error| not_run(command, error))?;
    if output.truncated {
        return Err(PluginError::Permanent(format!(
            "{TOOL} local {command} said more than its grant lets through"
        )));
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Ok(answer)) => Ok(answer),
        Ok(Answer::Error(fault)) => Err(refused(fault)),
        // Killed, or not the helper at all: what it was like is in what it wrote beside.
        Err(error) => Err(PluginError::Transient(format!(
            "{TOOL} local {command} ended with {} and an answer that can't be read ({error}): {}",
            output.code,
            String::from_utf8_lossy(&output.stderr).trim(),
        ))),
    }
}

fn not_run(command: &str, error: ProcessError) -> PluginError {
    let what = format!("{TOOL} local {command}");
    match error {
        ProcessError::Denied(why) => PluginError::Denied(format!("{what}: {why}")),
        ProcessError::TimedOut => {
            PluginError::Transient(format!("{what} did not end before its deadline"))
        }
        // A helper that is replaced by an update is back in a moment.
        ProcessError::Failed(why) | ProcessError::Other(why) => {
            PluginError::Transient(format!("{what}: {why}"))
        }
    }
}

fn refused(fault: Fault) -> PluginError {
    let why = fault.message;
    match fault.kind.as_str() {
        "not-found" => PluginError::NotFound(why),
        "bad-call" => PluginError::Permanent(why),
        "capacity" => PluginError::Capacity(why),
        "failed" | "not-ready" => PluginError::Transient(why),
        _ => PluginError::Other(why),
    }
}
