//! The driver, loaded as the daemon would load it, and the runner it is tried for.

use super::Arguments;
use crate::runtime::scope::Scope;
use crate::runtime::secrets::Secrets;
use crate::runtime::{paths, plugins};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};
use springtide_config::{Config, Machine, Runner};
use springtide_plugins::contract::{Description, Kind};
use springtide_plugins::{Host, HostOptions, Plugin, Source};
use std::path::Path;

pub(super) struct Site {
    pub(super) plugin: Plugin,
    /// What it says of itself when asked once more.
    pub(super) again: Description,
    pub(super) runner: String,
    pub(super) settings: Map<String, Value>,
    /// The plugin's scratch directory: files in it are of the kit's machines, and go with them.
    pub(super) scratch: tempfile::TempDir,
}

impl Site {
    /// Loads a driver with what the configuration grants it.
    ///
    /// # Errors
    /// Where the file is no driver, or the configuration has no runner it fits.
    pub(super) fn of(arguments: &Arguments) -> Result<Site> {
        let config = read(&arguments.config)?;
        let directory = arguments.directory.or(plugins::directory(&config));
        let source = directory.source(&arguments.plugin)?;
        let state = match &config.springtide.state {
            Some(state) => paths::state_file(state)?,
            None => paths::default_state(),
        };
        let state = state.parent().unwrap_or(Path::new("."));
        let options = plugins::plugin_options(&config, state).remove(&source.id);
        let options = options.unwrap_or_default();
        // The file is that of the command line, whichever the configuration names.
        let source = Source {
            grants: options.grants,
            shipped: options.shipped,
            ..source
        };
        let scratch = tempfile::Builder::new()
            .prefix("springtide-conformance-")
            .tempdir()
            .context("making a scratch directory for the plugin")?;
        let host = Host::new(&HostOptions {
            cache: super::super::cache(),
            scratch: Some(scratch.path().to_path_buf()),
        })?;
        let absolute = std::path::absolute(&arguments.config)
            .with_context(|| format!("finding {}", arguments.config.display()))?;
        let beside = absolute.parent().unwrap_or(Path::new("/"));
        host.set_credentials(plugins::credentials(&config, beside));
        let plugin = load(&host, &source)?;
        if plugin.kind() != Kind::Driver {
            bail!(
                "{} is a {}, and conformance is a driver's",
                source.id,
                plugin.kind()
            );
        }
        let again = load(&host, &source)?.info().description.clone();
        let (runner, machine) = runner(&config, &source.id, arguments)?;
        let options = machine.driver_options(plugin.schema().value(), "kit");
        // As in the daemon, but nowhere for longer than the kit runs.
        let secrets = Secrets::open(scratch.path()).context("keeping the secrets of options")?;
        secrets
            .set(&runner.name, &options.secrets)
            .context("keeping the secrets of options")?;
        host.set_runner_credentials(secrets.credentials());
        let scope = Scope::of(machine, &runner.name, options, beside)
            .map_err(|why| anyhow!("the options of the runner {:?}: {why}", runner.name))?;
        let Value::Object(settings) = scope.settings_for(Some("kit")) else {
            bail!("the settings of the runner {:?} are no table", runner.name);
        };
        Ok(Site {
            again,
            runner: runner.name.clone(),
            settings,
            scratch,
            plugin,
        })
    }
}

fn read(file: &Path) -> Result<Config> {
    let (config, problems) = springtide_config::load(file);
    config.with_context(|| {
        let shown = file.display();
        let first = problems.iter().find(|problem| problem.is_error());
        let why = first.map_or("it can't be read", |problem| &problem.text);
        format!("{shown} can't be used: {why}; `springtide check --config {shown}` shows all that is wrong")
    })
}

fn load(host: &Host, source: &Source) -> Result<Plugin> {
    host.load(source).with_context(|| {
        let shown = source.file.display();
        format!("{shown} is no plugin; `springtide plugin check {shown}` shows where it fails")
    })
}

/// The runner that was named, or the first with this driver.
fn runner<'c>(
    config: &'c Config,
    driver: &str,
    arguments: &Arguments,
) -> Result<(&'c Runner, &'c Machine)> {
    let file = arguments.config.display();
    let with = |runner: &'c Runner| Some((runner, runner.machine.as_ref()?));
    let all = config.runners.iter().filter_map(with);
    let mut fitting = all.filter(|(_, machine)| machine.machine_driver == driver);
    match &arguments.runner {
        Some(name) => fitting.find(|(runner, _)| runner.name == *name).with_context(|| {
            format!("{file} has no runner {name:?} with MachineDriver = {driver:?} that can be used")
        }),
        None => fitting.next().with_context(|| {
            format!("{file} has no runner with MachineDriver = {driver:?} that can be used: the driver's settings are its MachineOptions")
        }),
    }
}
