//! What came of a job beside what had to.

use super::case::{Expect, Object, Upload};
use super::values::Part;
use super::{trace, zip};
use regex::Regex;
use springtide_sandbox::JobView;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::process::{Command, Stdio};

/// What is there of a job once it is over.
pub struct Seen {
    /// The job at GitLab.
    pub job: JobView,
    /// Its trace as it came.
    pub trace: String,
    /// What was uploaded, by type.
    pub uploads: BTreeMap<String, Vec<u8>>,
    /// What is in the bucket, of the objects the case names.
    pub bucket: BTreeMap<String, Vec<u8>>,
    /// The names of all objects, where the case names one.
    pub keys: Vec<String>,
}

/// Something that is not as it had to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// What of the job.
    pub what: &'static str,
    /// How it had to be.
    pub expected: String,
    /// How it is.
    pub actual: String,
}

/// Compares, and collects what differs.
struct Comparison<'a> {
    seen: &'a Seen,
    plain: String,
    found: Vec<Difference>,
}

/// Everything that is not as expected.
#[must_use]
pub fn compare(expect: &Expect, seen: &Seen) -> Vec<Difference> {
    let mut comparison = Comparison {
        seen,
        plain: trace::plain(&seen.trace),
        found: Vec::new(),
    };
    comparison.end(expect);
    comparison.trace(expect);
    comparison.measures(expect);
    comparison.uploads(&expect.uploads);
    comparison.bucket(&expect.bucket, &expect.not_in_bucket);
    comparison.found
}

impl Comparison<'_> {
    fn differs(
        &mut self,
        what: &'static str,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.found.push(Difference {
            what,
            expected: expected.into(),
            actual: actual.into(),
        });
    }

    fn same<T: PartialEq + Debug>(&mut self, what: &'static str, expected: &T, actual: &T) {
        if expected != actual {
            self.differs(what, format!("{expected:?}"), format!("{actual:?}"));
        }
    }

    fn end(&mut self, expect: &Expect) {
        let job = self.seen.job.clone();
        self.same("state", &expect.state.as_str(), &job.status.as_str());
        let code = job.exit_code.filter(|code| *code != 0);
        self.same("exit_code", &expect.exit_code, &code);
        self.same("reason", &expect.reason, &job.failure_reason);
        self.same("debug_trace", &expect.debug_trace, &job.debug_trace);
    }

    fn trace(&mut self, expect: &Expect) {
        let plain = self.plain.clone();
        let raw = &self.seen.trace;
        let mut from = 0;
        for part in &expect.trace {
            match place(part, &plain[from..]) {
                Ok(Some(end)) => from += end,
                Ok(None) => {
                    let after = plain[..from].lines().last().unwrap_or("its beginning");
                    let there = match place(part, &plain) {
                        Ok(Some(_)) => "it is there, but earlier",
                        _ => "it is not there",
                    };
                    self.differs("trace", format!("{part:?} after {after:?}"), there);
                    break;
                }
                Err(error) => self.differs("trace", "a regular expression", error),
            }
        }
        let mut from = 0;
        for text in &expect.raw {
            match raw[from..].find(text.as_str()) {
                Some(at) => from += at + text.len(),
                None => {
                    self.differs("raw", format!("{text:?}, in order"), "it is not there");
                    break;
                }
            }
        }
        for text in &expect.never {
            let lines = plain.lines().chain(raw.lines());
            let line = lines.clone().find(|line| line.contains(text.as_str()));
            // A text of several lines is in no line.
            if let Some(line) = line.or_else(|| raw.contains(text.as_str()).then_some("the trace"))
            {
                self.differs("never", format!("no {text:?}"), format!("{line:?}"));
            }
        }
        for (text, times) in &expect.times {
            let found = plain.matches(text.as_str()).count();
            if found != *times {
                let wanted = format!("{text:?} {times} times");
                self.differs("times", wanted, format!("{found} times"));
            }
        }
        if let Some(sections) = &expect.sections {
            match trace::sections(raw) {
                Ok(found) => self.same("sections", sections, &found),
                Err(why) => self.differs("sections", format!("{sections:?}"), why),
            }
        }
    }

    fn measures(&mut self, expect: &Expect) {
        let job = &self.seen.job;
        let (bytes, timings) = (job.trace_bytes, job.timings);
        if let Some([least, most]) = expect.bytes
            && !(least..=most).contains(&bytes)
        {
            self.differs("bytes", format!("{least} to {most}"), bytes.to_string());
        }
        let took = match (timings.started, timings.finished) {
            (Some(started), Some(finished)) => finished - started,
            _ => f64::NAN,
        };
        if let Some([least, most]) = expect.seconds
            && !(least..=most).contains(&took)
        {
            self.differs(
                "seconds",
                format!("{least} to {most}"),
                format!("{took:.1}"),
            );
        }
    }

    fn uploads(&mut self, uploads: &[Upload]) {
        let name = |kind: &str, format: &str, name: &str, expire_in: &str| {
            format!("{kind} {name} ({format}, kept {expire_in:?})")
        };
        let mut expected: Vec<String> = uploads
            .iter()
            .map(|one| name(&one.kind, &one.format, &one.name, &one.expire_in))
            .collect();
        let there = &self.seen.job.artifacts;
        let mut actual: Vec<String> = there
            .iter()
            .map(|one| name(&one.kind, &one.format, &one.filename, &one.expire_in))
            .collect();
        expected.sort();
        actual.sort();
        self.same("uploads", &expected, &actual);
        for upload in uploads {
            let Some(bytes) = self.seen.uploads.get(&upload.kind).cloned() else {
                continue;
            };
            match (&upload.text, upload.format.as_str()) {
                (Some(text), format) => match unpacked(&bytes, format) {
                    Ok(found) => self.same("an upload's text", text, &found),
                    Err(why) => self.differs("an upload's text", format!("{text:?}"), why),
                },
                (None, _) => {
                    if let Some(files) = &upload.files {
                        self.archive("an upload", &bytes, files, Some(&upload.links));
                    }
                }
            }
        }
    }

    fn archive(
        &mut self,
        what: &'static str,
        bytes: &[u8],
        files: &[String],
        links: Option<&Vec<String>>,
    ) {
        let entries = match zip::entries(bytes) {
            Ok(entries) => entries,
            Err(why) => {
                return self.differs(what, format!("a zip with {files:?}"), why.to_string());
            }
        };
        let names = |wanted: &dyn Fn(&zip::Entry) -> bool| {
            let chosen = entries.iter().filter(|entry| wanted(entry));
            let mut names: Vec<String> = chosen.map(|entry| entry.name.clone()).collect();
            names.sort();
            names
        };
        self.same(
            "the files in a zip",
            &files.to_vec(),
            &names(&|entry| !entry.is_directory()),
        );
        if let Some(links) = links {
            self.same("the links in a zip", links, &names(&zip::Entry::is_link));
        }
    }

    fn bucket(&mut self, objects: &[Object], none: &[String]) {
        for object in objects {
            match self.seen.bucket.get(&object.key).cloned() {
                None => {
                    let there = format!("there are {:?}", self.seen.keys);
                    self.differs("bucket", &object.key, there);
                }
                Some(bytes) => self.archive("an object", &bytes, &object.files, None),
            }
        }
        for key in none {
            if self.seen.bucket.contains_key(key) {
                self.differs("bucket", format!("no {key}"), "it is there");
            }
        }
    }
}

/// Where a part ends in a text, where it is there.
fn place(part: &Part, text: &str) -> Result<Option<usize>, String> {
    match part {
        Part::Text(wanted) => Ok(text.find(wanted.as_str()).map(|at| at + wanted.len())),
        Part::Like { like } => {
            let expression =
                Regex::new(&format!("(?m){like}")).map_err(|error| error.to_string())?;
            Ok(expression.find(text).map(|found| found.end()))
        }
    }
}

/// The text of a file that is no zip.
fn unpacked(bytes: &[u8], format: &str) -> Result<String, String> {
    if format != "gzip" {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    let gunzip = || -> std::io::Result<std::process::Output> {
        let mut child = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(bytes)?;
        }
        child.wait_with_output()
    };
    match gunzip() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(state: &str, trace: &str) -> Seen {
        let job = json!({
            "id": 1, "name": "job", "status": state, "offered": false, "project": "g/p",
            "pipeline": 1, "tags": [], "ref": "main", "sha": "", "runner": 1, "system_id": null,
            "assignments": 1, "exit_code": null, "failure_reason": null,
            "trace_bytes": trace.len(), "artifacts": [],
            "timings": {"created": 0.0, "queued": 0.0, "assigned": 0.0, "started": 1.0,
                "first_trace_byte": 1.0, "finished": 3.0},
        });
        Seen {
            job: serde_json::from_value(job).expect("a job"),
            trace: trace.to_owned(),
            uploads: BTreeMap::new(),
            bucket: BTreeMap::new(),
            keys: Vec::new(),
        }
    }

    #[test]
    fn each_thing_that_differs_is_found() {
        let cases = [
            ("", vec![]),
            ("trace = ['one', 'two']", vec![]),
            ("trace = ['two', 'one']", vec!["trace"]),
            ("trace = [{ like = '^t.o$' }]", vec![]),
            ("trace = [{ like = '^o$' }]", vec!["trace"]),
            ("trace = [{ like = '(' }]", vec!["trace"]),
            ("raw = [\"\\u001b[32mtwo\"]", vec![]),
            ("raw = ['two', 'one']", vec!["raw"]),
            ("never = ['three']", vec![]),
            ("never = ['two']", vec!["never"]),
            ("never = [\"one\\n\"]", vec!["never"]),
            ("times = { one = 2 }", vec!["times"]),
            ("times = { one = 1 }", vec![]),
            ("state = 'failed'\nreason = 'x'", vec!["state", "reason"]),
            ("exit_code = 1", vec!["exit_code"]),
            ("sections = ['a']", vec!["sections"]),
            ("sections = []", vec![]),
            ("bytes = [0, 5]", vec!["bytes"]),
            ("seconds = [0.0, 1.0]", vec!["seconds"]),
            ("seconds = [1.0, 2.0]", vec![]),
            ("debug_trace = true", vec!["debug_trace"]),
            ("uploads = [{ name = 'a.zip' }]", vec!["uploads"]),
            ("bucket = [{ key = 'k', files = [] }]", vec!["bucket"]),
            ("not_in_bucket = ['k']", vec![]),
        ];
        let seen = seen("success", "one\n\x1b[32mtwo\x1b[0m\n");
        for (text, expected) in cases {
            let expect: Expect = toml::from_str(text).expect(text);
            let found: Vec<&str> = compare(&expect, &seen).iter().map(|one| one.what).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
