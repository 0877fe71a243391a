//! From a file to a plugin that can be called: stages in a fixed order, each with its own errors.
//!
//! The file is read once, and digest, checks and compiler see the same bytes. Nothing of the
//! component runs before the last but one stage, and there under a deadline.

mod cache;
mod describe;
mod error;
mod imports;
mod scan;
mod world;

pub use cache::CacheError;
pub use error::{LoadError, Stage};

pub(crate) use cache::Cache;
pub(crate) use describe::{ceiling, default_deadline};
pub(crate) use world::Contract;

use crate::contract::Kind;
use crate::digest::Digest;
use crate::grants::Grants;
use crate::guest::{MEMORIES, TABLES};
use crate::host::Host;
use crate::plugin::{Code, Info, Plugin};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wasmtime::component::Component;

/// Most bytes of a component: a Python one has 18 MB.
pub const MAX_BYTES: u64 = 64 << 20;
/// How long `describe` may take at load.
pub(crate) const TRIAL: Duration = Duration::from_secs(2);

/// What is known of a file before it is loaded.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// What the host calls it.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// The digest it must have.
    pub digest: Option<Digest>,
    /// What it may do.
    pub grants: Grants,
    /// What it may do besides, where it has this digest.
    pub shipped: Option<(Digest, Grants)>,
}

impl Source {
    /// A file, known by its name without `.wasm`.
    #[must_use]
    pub fn file(file: impl Into<PathBuf>) -> Source {
        let file = file.into();
        let id = file
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Source {
            id,
            file,
            ..Source::default()
        }
    }
}

/// What one stage came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Passed {
    /// The stage.
    pub stage: Stage,
    /// Whether the file passed it.
    pub ok: bool,
    /// What was found, or what is wrong.
    pub detail: String,
}

/// What all stages came to.
#[derive(Debug)]
pub struct Report {
    /// The stages the file came to, in order; the last one is where it was refused, if it was.
    pub stages: Vec<Passed>,
    /// What an author or operator should know though the file was accepted.
    pub warnings: Vec<String>,
    /// The plugin, or why it is none.
    pub outcome: Result<Plugin, LoadError>,
}

/// The stages passed so far.
#[derive(Default)]
struct Stages(Vec<Passed>);

impl Stages {
    fn passed(&mut self, stage: Stage, detail: String) {
        self.0.push(Passed {
            stage,
            ok: true,
            detail,
        });
    }
}

/// Takes a file through all stages. Blocks, for as long as compiling takes.
pub(crate) fn check(host: &Host, source: &Source) -> Report {
    let mut stages = Stages::default();
    let mut warnings = Vec::new();
    let outcome = stages_of(host, source, &mut stages, &mut warnings);
    if let Err(error) = &outcome {
        stages.0.push(Passed {
            stage: error.stage(),
            ok: false,
            detail: error.to_string(),
        });
    }
    Report {
        stages: stages.0,
        warnings,
        outcome,
    }
}

fn stages_of(
    host: &Host,
    source: &Source,
    stages: &mut Stages,
    warnings: &mut Vec<String>,
) -> Result<Plugin, LoadError> {
    let bytes = read(&source.file, stages)?;
    let digest = Digest::of(&bytes);
    match source.digest {
        Some(pinned) if pinned != digest => {
            return Err(LoadError::Digest {
                found: digest,
                pinned,
            });
        }
        Some(_) => stages.passed(Stage::Digest, format!("{digest}, as pinned")),
        None => stages.passed(Stage::Digest, digest.to_string()),
    }

    let names = scan::scan(&bytes)?;
    let interfaces = names.exports.len();
    stages.passed(
        Stage::Component,
        format!("a component that exports {interfaces} interfaces"),
    );

    let imports = imports::sort(&names)?;
    let inert = match imports.inert {
        0 => String::new(),
        count => format!("; {count} interfaces of WASI, with nothing behind them"),
    };
    let ours = match imports.ours.len() {
        0 => "nothing of the contract".to_owned(),
        _ => imports.ours.join(", "),
    };
    stages.passed(Stage::Imports, format!("{ours}{inert}"));

    let kind = imports::kind(&names)?;
    host.shared
        .contract
        .check(kind, &bytes, imports.inert > 0)?;
    stages.passed(
        Stage::World,
        format!("{kind}-plugin of {}", crate::contract::VERSION),
    );

    let component = compile(host, kind, &bytes, &digest, stages)?;
    limits(&component, stages)?;

    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    drop(bytes);
    let code = Code::link(host, kind, &component, imports.inert > 0)?;
    let begun = Instant::now();
    let description = code.describe(host, &source.id).map_err(LoadError::Trial)?;
    stages.passed(
        Stage::Trial,
        format!("described itself in {} ms", begun.elapsed().as_millis()),
    );

    let checked = describe::check(&description, kind, &source.id)?;
    stages.passed(
        Stage::Description,
        format!("{} {}, a {kind}", description.name, checked.version),
    );
    warnings.extend(checked.warnings);
    let info = Info {
        id: source.id.as_str().into(),
        file: source.file.clone(),
        digest,
        size,
        version: checked.version,
        description,
    };
    let grants = match &source.shipped {
        Some((shipped, grants)) if *shipped == digest => source.grants.and(grants),
        _ => source.grants.clone(),
    };
    Ok(Plugin::new(host, info, checked.schema, code, grants))
}

fn read(file: &Path, stages: &mut Stages) -> Result<Vec<u8>, LoadError> {
    let found = std::fs::File::open(file).map_err(LoadError::Read)?;
    let said = found.metadata().map_err(LoadError::Read)?;
    if !said.is_file() {
        let what = if said.is_dir() {
            "it is a directory"
        } else {
            "it is no plain file"
        };
        return Err(LoadError::Read(std::io::Error::other(what)));
    }
    let too_large = |size| LoadError::TooLarge {
        size,
        limit: MAX_BYTES,
    };
    if said.len() > MAX_BYTES {
        stages.passed(Stage::Read, file.display().to_string());
        return Err(too_large(said.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(said.len()).unwrap_or(0));
    found
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(LoadError::Read)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    stages.passed(Stage::Read, file.display().to_string());
    if size > MAX_BYTES {
        return Err(too_large(size));
    }
    stages.passed(Stage::Size, format!("{size} bytes"));
    Ok(bytes)
}

/// One at a time: compiling takes all processors there are, and memory.
fn compile(
    host: &Host,
    kind: Kind,
    bytes: &[u8],
    digest: &Digest,
    stages: &mut Stages,
) -> Result<Component, LoadError> {
    let engine = host.shared.engine(kind);
    let begun = Instant::now();
    if let Some(component) = host
        .shared
        .cache
        .as_ref()
        .and_then(|cache| cache.get(engine, digest))
    {
        let took = begun.elapsed().as_micros();
        stages.passed(Stage::Compile, format!("from the cache in {took} µs"));
        return Ok(component);
    }
    let component = {
        // A compiler that panicked has left nothing behind that matters to the next.
        let _one = host
            .shared
            .compiling
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Component::from_binary(engine, bytes)
            .map_err(|error| LoadError::Compile(format!("{error:#}")))?
    };
    let took = begun.elapsed().as_millis();
    if let Some(cache) = &host.shared.cache {
        cache.put(engine, digest, &component);
    }
    stages.passed(Stage::Compile, format!("compiled in {took} ms"));
    Ok(component)
}

fn limits(component: &Component, stages: &mut Stages) -> Result<(), LoadError> {
    let Some(needs) = component.resources_required() else {
        stages.passed(Stage::Limits, "they are held to when it is called".into());
        return Ok(());
    };
    for (what, count, limit) in [
        ("memories", needs.num_memories, MEMORIES),
        ("tables", needs.num_tables, TABLES),
    ] {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        if u64::from(count) > limit {
            return Err(LoadError::Limits {
                what,
                count: count.into(),
                limit,
            });
        }
    }
    stages.passed(
        Stage::Limits,
        format!(
            "{} memories, {} tables",
            needs.num_memories, needs.num_tables
        ),
    );
    Ok(())
}
