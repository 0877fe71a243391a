//! What plugins may import: one module each, with its grant, its check, its host function and its
//! tests. A refusal is an answer to the plugin and names the lines to add to the configuration.

mod credential;
mod files;
mod http;
mod logging;
mod origin;
mod process;
mod zones;

pub use credential::Credential;
pub(crate) use credential::Credentials;
pub(crate) use logging::{Voice, clean};
pub use origin::{Origin, OriginError};
pub(crate) use process::Turns;
pub use springtide_aws::{Aws, AwsKeys};
pub use zones::{Civil, ZoneError, Zones};

use self::files::Scratch;
use self::http::Web;
use self::process::Tools;
use crate::grants::Grants;
use crate::guest::Guest;
use crate::host::Host;
use std::path::{Component, Path};
use std::sync::Arc;
use wasmtime::component::Linker;

/// What one plugin's calls have behind their imports.
#[derive(Debug)]
pub(crate) struct Capabilities {
    pub(crate) zones: Arc<Zones>,
    tools: Tools,
    scratch: Scratch,
    web: Web,
}

impl Capabilities {
    /// What these grants come to for a plugin.
    pub(crate) fn new(host: &Host, plugin: &str, grants: &Grants) -> Capabilities {
        let shared = &host.shared;
        // An id of the configuration's may be anything; a directory of that name may not.
        let mut parts = Path::new(plugin).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        let scratch = shared.scratch.as_ref().filter(|_| grants.files && plain);
        Capabilities {
            zones: Arc::clone(&shared.zones),
            tools: Tools::new(plugin, grants.tools.clone(), &shared.turns),
            scratch: Scratch::new(plugin, grants.files, scratch.map(|base| base.join(plugin))),
            web: Web::new(plugin, grants.http.clone(), Arc::clone(&shared.credentials)),
        }
    }
}

/// Links what policies may import.
pub(crate) fn link_policy(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    logging::link(linker)?;
    zones::link(linker)
}

/// Links what drivers may import.
pub(crate) fn link_driver(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    logging::link(linker)?;
    process::link(linker)?;
    http::link(linker)?;
    files::link(linker)
}

/// A key as TOML writes it, for the lines a refusal names.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}
