//! `springtide policy eval`: asks a policy about views that are written down, one JSON object a line.
//!
//! Each line is a call of its own, limited as in the daemon, and has exactly one line as its answer:
//! a decision, or why there is none. Answers come in the order of the lines and are written out before
//! the next line is waited for, so that a program can ask, read and ask again.

mod spelling;

use super::plugin::{Directory, host};
use crate::logging;
use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use spelling::respell;
use springtide_plugins::contract::{CallContext, Decision, Kind, PluginError, Targets, View};
use springtide_plugins::{CallError, Plugin};
use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;

/// Bytes of a line: a policy could not take in more.
const LINE: usize = 16 << 20;
/// Bytes read and written at once.
const BUFFER: usize = 64 << 10;

/// Commands about scaling policies.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Ask a policy what it would do, once for each line of standard input.
    ///
    /// A line is one JSON object:
    ///
    ///   view      what the policy sees; what is left out of it is zero or empty
    ///   settings  the settings, with the keys of config.toml, in any case; without them, those of
    ///             --settings
    ///   proposal  the targets of the policies before it; without them, zero
    ///   state     what it kept at the last call, in base64; without it, nothing
    ///
    /// Keys are the names of wit/policy.wit, with dashes. Each line is by itself: to go on from a
    /// decision, write its state into the next line.
    ///
    ///   echo '{"view": {"now": 1772442000, "queue": {"run-untagged": true, "waiting": [{"count": 3}]}}}' |
    ///     springtide policy eval queue-depth
    ///
    /// prints one decision a line, in order:
    ///
    ///   {"patch":{"wanted":3},"reason":"...","state":"AwAAAA=="}
    ///
    /// A line that fails has its own answer, and the next one is asked all the same:
    ///
    ///   {"error":{"invalid-config":"..."}}  or another error that the policy answers with
    ///   {"error":{"deadline":"..."}}        the host ended it: also fuel, memory, too-large, trap,
    ///                                       waited, invalid-answer
    ///   {"error":{"bad-input":"line 3: ..."}}  the line is none of these objects
    ///
    /// Exits with 0 if all lines were read, whatever the answers are. What the policy logs goes to
    /// standard error, from warnings up; RUST_LOG=plugin=debug shows more.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  springtide policy eval off-peak < views.jsonl"
    )]
    Eval(EvalArgs),
}

/// Which policy is asked, and how.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The policy: a file, or its id in the plugin directory.
    plugin: String,
    /// Settings of lines that have none: one JSON object.
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        hide_default_value = true
    )]
    settings: String,
    #[command(flatten)]
    directory: Directory,
}

/// Runs a command.
///
/// # Errors
/// Where the policy can't be loaded, or standard input can't be read.
pub fn run(command: Command) -> Result<()> {
    let Command::Eval(arguments) = command;
    logging::start(Some("warn"), logging::Format::Text);
    let settings = &arguments.settings;
    serde_json::from_str::<Object<IgnoredAny>>(settings)
        .with_context(|| format!("--settings is no JSON object: {settings}"))?;
    let source = arguments.directory.source(&arguments.plugin)?;
    let plugin = host()?.load(&source).with_context(|| {
        let file = source.file.display();
        format!("{file} is no plugin; `springtide plugin check {file}` shows where it fails")
    })?;
    anyhow::ensure!(
        plugin.kind() == Kind::Policy,
        "{} is a driver, and a driver has nothing to evaluate",
        plugin.info().id
    );
    let mut questions = Lines::new(std::io::stdin().lock());
    let mut answers = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
    let mut policy = Policy {
        plugin: &plugin,
        settings,
        known: None,
    };
    policy.answer_all(&mut questions, &mut answers)
}

struct Policy<'a> {
    plugin: &'a Plugin,
    settings: &'a str,
    /// The settings of the last line: most lines have the same.
    known: Option<Known>,
}

/// Settings as they were written, and as the policy reads them or why they do not fit.
struct Known {
    written: String,
    read: Result<String, String>,
}

impl Policy<'_> {
    fn answer_all<R: Read>(
        &mut self,
        questions: &mut Lines<R>,
        answers: &mut impl Write,
    ) -> Result<()> {
        loop {
            if questions.must_wait()
                && let Err(error) = answers.flush()
            {
                return written(error);
            }
            let number = questions.number + 1;
            let line = questions
                .next()
                .with_context(|| format!("reading line {number} of standard input"))?;
            let answer = match line {
                Line::End => break,
                Line::Whole(line) if line.trim_ascii().is_empty() => continue,
                Line::Whole(line) => {
                    let question = Question::read(line.trim_ascii_end());
                    question
                        .map_err(|why| bad_input(number, &why))
                        .and_then(|question| self.ask(question))
                }
                Line::TooLong => Err(bad_input(
                    number,
                    &format!("it has more than {} MiB", LINE >> 20),
                )),
            };
            let wrote = match answer {
                Ok(decision) => serde_json::to_writer(&mut *answers, &decision),
                Err(failure) => serde_json::to_writer(&mut *answers, &failure),
            };
            if let Err(error) = wrote
                .map_err(Into::into)
                .and_then(|()| answers.write_all(b"\n"))
            {
                return written(error);
            }
        }
        answers.flush().or_else(written)
    }

    fn ask(&mut self, question: Question<'_>) -> Result<Decision, Value> {
        let written = question.settings.map_or(self.settings, RawValue::get);
        let settings = self
            .read(written)
            .map_err(|why| json!({"error": PluginError::InvalidConfig(why)}))?;
        let context = CallContext {
            runner: "eval".into(),
            settings,
            owner: String::new(),
        };
        let proposal = question.proposal.map_or_else(Targets::default, |one| one.0);
        let state = question.state.map_or_else(Vec::new, |state| state.0);
        self.plugin
            .evaluate(&context, &question.view.0, &proposal, &state)
            .map_err(|error| failure(&error))
    }

    /// Settings as the policy reads them. That they fit its schema the daemon finds when it reads its
    /// configuration: a policy need not expect others.
    fn read(&mut self, written: &str) -> Result<String, String> {
        if let Some(known) = self.known.as_ref().filter(|known| known.written == written) {
            return known.read.clone();
        }
        let read = self.fit(written);
        self.known = Some(Known {
            written: written.to_owned(),
            read: read.clone(),
        });
        read
    }

    fn fit(&self, written: &str) -> Result<String, String> {
        let mut settings: Value =
            serde_json::from_str(written).map_err(|error| error.to_string())?;
        let schema = self.plugin.schema();
        let respelled = respell(&mut settings, schema.value());
        schema.validate(&settings).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("the settings do not fit: {}", problems.join("; "))
        })?;
        Ok(match respelled {
            true => settings.to_string(),
            false => written.to_owned(),
        })
    }
}

/// Nobody reads the answers any more: that is an end and no error.
fn written(error: std::io::Error) -> Result<()> {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error).context("writing the answers"),
    }
}

fn bad_input(line: u64, why: &str) -> Value {
    json!({"error": {"bad-input": format!("line {line}: {why}")}})
}

fn failure(error: &CallError) -> Value {
    let case = match error {
        CallError::Plugin(error) => return json!({"error": error}),
        CallError::Deadline(_) => "deadline",
        CallError::Fuel(_) => "fuel",
        CallError::Memory(_) => "memory",
        CallError::TooLarge(_) => "too-large",
        CallError::Trap(_) => "trap",
        CallError::Waited => "waited",
        CallError::Invalid(_) => "invalid-answer",
        _ => "failed",
    };
    json!({"error": {case: error.to_string()}})
}

/// One line of the input.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    view: Object<View>,
    #[serde(borrow, default)]
    settings: Option<&'a RawValue>,
    #[serde(default)]
    proposal: Option<Object<Targets>>,
    #[serde(default)]
    state: Option<Base64>,
}

impl Question<'_> {
    fn read(line: &[u8]) -> Result<Question<'_>, String> {
        match serde_json::from_slice(line) {
            Ok(Object(question)) => Ok(question),
            // Its place is within the line, whose number is that of the input.
            Err(error) => {
                let text = error.to_string();
                let place = format!(" at line {} column {}", error.line(), error.column());
                Err(match (text.strip_suffix(&place), error.column()) {
                    (Some(what), 0) => what.to_owned(),
                    (Some(what), column) => format!("{what} at column {column}"),
                    (None, _) => text,
                })
            }
        }
    }
}

/// A record of the contract in JSON. Read as it is, a list would be taken as its fields in their order.
struct Object<T>(T);

impl<'a, T: Deserialize<'a>> Deserialize<'a> for Object<T> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'a, T: Deserialize<'a>> Visitor<'a> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

struct Base64(Vec<u8>);

impl<'a> Deserialize<'a> for Base64 {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Base64(bytes)),
            Err(error) => Err(D::Error::custom(format!("the state is no base64: {error}"))),
        }
    }
}

/// Lines of an input, none of them kept beyond the next.
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// The line read last, from 1.
    number: u64,
}

enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
    End,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Lines<R> {
        Lines {
            input: BufReader::with_capacity(BUFFER, input),
            line: Vec::new(),
            number: 0,
        }
    }

    /// Whether the next line is not here yet.
    fn must_wait(&self) -> bool {
        !self.input.buffer().contains(&b'\n')
    }

    fn next(&mut self) -> std::io::Result<Line<'_>> {
        self.line.clear();
        let limit = u64::try_from(LINE).unwrap_or(u64::MAX);
        let read = (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        if read == LINE && !self.line.ends_with(b"\n") {
            self.input.skip_until(b'\n')?;
            return Ok(Line::TooLong);
        }
        Ok(Line::Whole(&self.line))
    }
}
