//! What the tests of several files use.
#![allow(dead_code, missing_docs)]

use springtide_config::{Catalog, Config, Problem, Source, parse_at};

/// A Monday in 2026.
pub const NOW: &str = "2026-03-02T12:00:00Z";

pub fn read(text: &str) -> (Option<Config>, Vec<Problem>) {
    let now = NOW.parse().unwrap();
    parse_at(&Source::of(text.to_owned()), now, &|name| {
        (name == "TOKEN").then(|| "glrt-from-outside".to_owned())
    })
}

/// The problems of a text, one a line.
pub fn problems(text: &str) -> String {
    lines(&read(text).1)
}

pub fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A runner that has no problem, with more in its tables. Line 1 is `concurrent`; `more` begins in
/// line 7 of the `[[runners]]` table, or in line 10 of `[runners.machine]`.
pub fn runner(more: &str) -> String {
    format!(
        "concurrent = 4\n[[runners]]\nname = \"r\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-abcdefgh\"\nexecutor = \"shell+machine\"\n{more}\n[runners.machine]\nMachineName = \"ci-%s\"\nMachineDriver = \"local\"\n"
    )
}

pub fn machine(more: &str) -> String {
    format!("{}{more}\n", runner("limit = 5"))
}

/// Two plugins of each kind.
pub struct Shelf;

impl Catalog for Shelf {
    fn driver(&self, id: &str) -> Option<serde_json::Value> {
        (id == "local").then(|| {
            serde_json::json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "boot-delay": {"type": "integer", "minimum": 0},
                    "failure-rate": {"type": "number"},
                    "keep": {"type": "boolean"},
                    "label": {"type": "array", "items": {"type": "string"}},
                    "title": {"type": "string"},
                    "secret-key": {"type": "integer", "secret": true},
                },
            })
        })
    }

    fn policy(&self, id: &str) -> Option<serde_json::Value> {
        match id {
            "queue-depth" => Some(serde_json::json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "share": {"type": "number", "minimum": 0, "maximum": 1},
                    "floor": {"type": "integer", "minimum": 0},
                },
            })),
            "off-peak" => Some(serde_json::json!({"type": "object"})),
            _ => None,
        }
    }

    fn drivers(&self) -> Vec<String> {
        vec!["local".into()]
    }

    fn policies(&self) -> Vec<String> {
        vec!["off-peak".into(), "queue-depth".into()]
    }
}
