//! Which file a plugin's name on the command line means.

use crate::runtime::paths;
use anyhow::{Context, Result, bail};
use clap::Args;
use springtide_plugins::Source;
use std::path::{Path, PathBuf};

/// The directory plugins are found in by their ids.
#[derive(Args, Debug, Clone)]
pub struct Directory {
    /// Where plugins are found by their ids; without it, where the shipped ones are.
    #[arg(long, value_name = "DIRECTORY")]
    plugin_dir: Option<PathBuf>,
}

impl Directory {
    /// This one, or where none was named, another.
    #[must_use]
    pub fn or(&self, other: PathBuf) -> Directory {
        let named = self.plugin_dir.clone();
        Directory {
            plugin_dir: Some(named.unwrap_or(other)),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.plugin_dir {
            Some(path) => path.clone(),
            None => paths::shipped("plugins"),
        }
    }

    /// The plugins in it, by id.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn plugins(&self) -> Result<Vec<Source>> {
        let path = self.path();
        let failed = || {
            format!(
                "reading the plugin directory {}; --plugin-dir names another",
                path.display()
            )
        };
        let mut plugins = Vec::new();
        for entry in std::fs::read_dir(&path).with_context(failed)? {
            let file = entry.with_context(failed)?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                plugins.push(Source::file(file));
            }
        }
        plugins.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(plugins)
    }

    /// The plugin with this file or id. What looks like a path is one, and so is a file that exists.
    ///
    /// # Errors
    /// Where there is none.
    pub fn source(&self, plugin: &str) -> Result<Source> {
        let file = Path::new(plugin);
        let is_path = plugin.contains('/') || plugin.ends_with(".wasm");
        if is_path || file.is_file() {
            return Ok(Source::file(file));
        }
        let found = self.path().join(format!("{plugin}.wasm"));
        if found.exists() {
            return Ok(Source::file(found));
        }
        let plugins = self.plugins()?;
        let ids: Vec<&str> = plugins.iter().map(|plugin| plugin.id.as_str()).collect();
        let there = if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(", ")
        };
        bail!(
            "there is no plugin {plugin} in {}, where there are: {there}; write one of them, or a file's path",
            self.path().display()
        )
    }
}
