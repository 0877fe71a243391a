//! What a file is, and what it imports and exports, from its outermost sections alone.

use super::error::LoadError;
use wasmparser::{BinaryReaderError, ComponentExternalKind, Encoding, Parser, Payload};

const WASM: &[u8] = b"\0asm";
const ELF: &[u8] = b"\x7fELF";

/// The names of what a component imports and exports.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// Reads the outermost sections.
pub(super) fn scan(bytes: &[u8]) -> Result<Names, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if bytes.starts_with(ELF) || wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(LoadError::Precompiled);
    }
    if !bytes.starts_with(WASM) {
        return Err(if WASM.starts_with(bytes) {
            truncated(bytes)
        } else {
            LoadError::NotWasm {
                begins: bytes[..bytes.len().min(8)].escape_ascii().to_string(),
            }
        });
    }
    let mut names = Names::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| broken(&error, bytes))? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => return Err(LoadError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|error| broken(&error, bytes))?;
                    names.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| broken(&error, bytes))?;
                    if export.kind == ComponentExternalKind::Instance {
                        names.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

fn truncated(bytes: &[u8]) -> LoadError {
    LoadError::Truncated {
        at: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
    }
}

fn broken(error: &BinaryReaderError, bytes: &[u8]) -> LoadError {
    // The parser says `unexpected end` both where the file ends and where a section does.
    let text = error.message();
    if text.contains("unexpected end") || text.contains("unexpected-eof") {
        return truncated(bytes);
    }
    LoadError::Broken(error.to_string())
}
