//! One test for each way a component can be wrong or hostile.

mod common;

use common::{Bench, Policy, driver};
use springtide_plugins::contract::{CallContext, Kind, PluginError, Targets, View};
use springtide_plugins::{CallError, Digest, LoadError, MAX_BYTES, Source, Stage};
use std::time::{Duration, Instant};

const SPIN: &str = "(loop $again (br $again)) (unreachable)";

fn context() -> CallContext {
    CallContext::default()
}

#[test]
fn the_policy_all_others_are_made_of_works() {
    let bench = Bench::new();
    let decision = bench.evaluate(&Policy::default()).unwrap();
    assert_eq!(decision.patch.idle_count, Some(7));
    assert_eq!(decision.reason, "because");
    assert!(decision.state.is_empty());
}

#[test]
fn a_file_that_is_no_component_is_told_by_what_it_is() {
    let bench = Bench::new();
    let module = wat::parse_str("(module)").unwrap();
    let component = Policy::default().component();
    let mut odd = component.clone();
    odd[4] = 0x77;
    type Expected = fn(&LoadError) -> bool;
    let cases: [(&[u8], Expected); 7] = [
        (b"", |error| matches!(error, LoadError::Empty)),
        (b"#!/bin/sh\n", |error| {
            matches!(error, LoadError::NotWasm { .. })
        }),
        (b"(module)", |error| {
            matches!(error, LoadError::NotWasm { .. })
        }),
        (b"\0as", |error| {
            matches!(error, LoadError::Truncated { at: 3 })
        }),
        (&module, |error| matches!(error, LoadError::CoreModule)),
        (&odd, |error| matches!(error, LoadError::Broken(_))),
        (b"\x7fELF\x02\x01\x01", |error| {
            matches!(error, LoadError::Precompiled)
        }),
    ];
    for (bytes, expected) in cases {
        let error = bench.load(bytes).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(error.stage(), Stage::Component);
    }
}

#[test]
fn machine_code_from_elsewhere_is_never_run() {
    let bench = Bench::new();
    let engine = wasmtime::Engine::default();
    let code = engine
        .precompile_component(&Policy::default().component())
        .unwrap();
    for name in ["it.cwasm", "it.wasm"] {
        let file = bench.file(name, &code);
        let error = bench.host.load(&Source::file(file)).unwrap_err();
        assert!(matches!(error, LoadError::Precompiled), "{error:?}");
    }
}

#[test]
fn a_component_that_was_cut_is_refused_wherever_it_was_cut() {
    let bench = Bench::new();
    let whole = Policy::default().component();
    let half = bench.load(&whole[..whole.len() / 2]).unwrap_err();
    assert!(matches!(half, LoadError::Truncated { .. }), "{half:?}");
    for length in (0..whole.len() - 1).step_by(61) {
        // Cut between two of its sections it is a component still, but not the one it was.
        let end = bench.load(&whole[..length]).map(|_| ());
        assert!(end.is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn any_byte_may_be_wrong_and_the_host_lives() {
    let bench = Bench::new();
    let whole = Policy::default().component();
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        // Refused or not, it is an answer.
        if let Ok(plugin) = bench.load(&bytes) {
            plugin
                .evaluate(&context(), &View::default(), &Targets::default(), &[])
                .ok();
        }
    }
}

#[test]
fn a_file_that_is_missing_a_directory_or_too_large_is_not_read() {
    let bench = Bench::new();
    let directory = bench.directory.path();
    let load = |file| bench.host.load(&Source::file(file)).unwrap_err();
    assert!(matches!(
        load(directory.join("none.wasm")),
        LoadError::Read(_)
    ));
    assert!(matches!(load(directory.to_path_buf()), LoadError::Read(_)));
    let large = bench.file("large.wasm", b"");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&large)
        .unwrap();
    file.set_len(MAX_BYTES + 1).unwrap();
    assert!(matches!(load(large), LoadError::TooLarge { .. }));
}

#[test]
fn a_digest_that_was_pinned_must_be_the_files() {
    let bench = Bench::new();
    let bytes = Policy::default().component();
    let mut source = Source::file(bench.file("it.wasm", &bytes));
    source.digest = Some(Digest::of(&bytes));
    bench.host.load(&source).unwrap();
    source.digest = Some(Digest::of(b"another"));
    let error = bench.host.load(&source).unwrap_err();
    assert!(matches!(error, LoadError::Digest { .. }), "{error:?}");
}

#[test]
fn a_component_of_another_world_is_refused() {
    let bench = Bench::new();
    let stranger = r#"(component
        (component $inner)
        (instance $i (instantiate $inner))
        (export "example:other/thing@1.0.0" (instance $i)))"#;
    let error = bench.load(&wat::parse_str(stranger).unwrap()).unwrap_err();
    assert!(matches!(error, LoadError::NoKind), "{error:?}");

    let policy_with_a_tool = Policy {
        strangers: vec!["process"],
        imports: r#"(import "springtide:plugin/process@0.1.0" "run" (func (param i32 i32 i32 i32 i32 i32 i32)))"#.into(),
        ..Policy::default()
    };
    let error = bench.refused(&policy_with_a_tool).to_string();
    assert!(error.contains("process"), "{error}");

    let without_meta = Policy {
        changes: vec![("export meta;", "")],
        ..Policy::default()
    };
    let text = without_meta
        .text()
        .replace("springtide:plugin/meta@0.1.0#", "");
    let wit: Vec<_> = common::CONTRACT
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.replace("  export meta;\n", "")))
        .collect();
    let bytes = common::encode(&text, &wit, "policy-plugin", &[]);
    let error = bench.load(&bytes).unwrap_err();
    assert!(matches!(error, LoadError::World { .. }), "{error:?}");
}

#[test]
fn an_export_of_the_wrong_type_is_refused_before_it_runs() {
    let bench = Bench::new();
    for changes in [
        vec![("result<decision, plugin-error>", "result<decision, string>")],
        vec![(
            "    idle-time: option<seconds>,",
            "    idle-time: option<s32>,",
        )],
    ] {
        let policy = Policy {
            changes,
            ..Policy::default()
        };
        let error = bench.refused(&policy);
        assert!(matches!(error, LoadError::World { .. }), "{error:?}");
        assert_eq!(error.stage(), Stage::World);
    }
}

#[test]
fn a_component_for_another_version_of_the_contract_is_told_which() {
    let bench = Bench::new();
    for package in ["0.2.0", "0.1.7", "1.0.0"] {
        let policy = Policy {
            package: package.into(),
            ..Policy::default()
        };
        let error = bench.refused(&policy);
        let LoadError::OtherContract { found } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(found, package);
    }
}

const SOCKETS: &str = "package wasi:sockets@0.2.0; interface network { open: func(); }";
const HTTP: &str = "package wasi:http@0.2.0; interface outgoing-handler { open: func(); }";
const CONFIG: &str = "package wasi:config@0.2.0; interface store { open: func(); }";
const NEW: &str = "package wasi:cli@0.3.0; interface environment { open: func(); }";

#[test]
fn imports_of_the_network_and_of_strangers_are_refused_by_name() {
    let bench = Bench::new();
    for (interface, package, says) in [
        ("wasi:sockets/network@0.2.0", SOCKETS, "--stub-wasi"),
        ("wasi:http/outgoing-handler@0.2.0", HTTP, "--stub-wasi"),
        ("wasi:config/store@0.2.0", CONFIG, "does not have"),
        ("wasi:cli/environment@0.3.0", NEW, "WASI 0.2"),
    ] {
        let policy = Policy {
            imports: format!(r#"(import "{interface}" "open" (func))"#),
            strangers: vec![interface],
            packages: vec![package],
            ..Policy::default()
        };
        let error = bench.refused(&policy);
        assert_eq!(error.stage(), Stage::Imports, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(interface) && text.contains(says), "{text}");
    }
}

const RANDOM: &str =
    "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; }";
const CLOCKS: &str = "package wasi:clocks@0.2.0; interface monotonic-clock {
    use wasi:io/poll@0.2.0.{pollable};
    now: func() -> u64;
    subscribe-duration: func(when: u64) -> pollable; }";
const IO: &str = "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }";

fn with_wasi(evaluate: &str) -> Policy {
    Policy {
        imports: r#"
            (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
            (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
            (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
              (func $after (param i64) (result i32)))
            (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#
            .into(),
        strangers: vec![
            "wasi:random/random@0.2.0",
            "wasi:clocks/monotonic-clock@0.2.0",
            "wasi:io/poll@0.2.0",
        ],
        packages: vec![RANDOM, IO, CLOCKS],
        evaluate: evaluate.into(),
        ..Policy::default()
    }
}

/// Answers with this as the idle count.
fn answers(count: &str) -> String {
    format!(
        "(i32.store8 (i32.const 2048) (i32.const 0))
         (i32.store8 (i32.const 2056) (i32.const 1))
         (i32.store (i32.const 2060) {count})
         (i32.store (i32.const 2120) (i32.const 4096))
         (i32.store (i32.const 2124) (i32.const 7))
         (i32.const 2048)"
    )
}

#[test]
fn inert_wasi_is_accepted_and_for_a_policy_time_and_chance_stand_still() {
    let bench = Bench::new();
    let policy = with_wasi(&answers(
        "(i32.wrap_i64 (i64.add (call $random) (call $now)))",
    ));
    let first = bench.evaluate(&policy).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.evaluate(&policy), Ok(first.clone()));
    }
}

#[test]
fn a_policy_that_waits_is_ended_at_once_wherever_it_is_called() {
    let bench = Bench::new();
    let policy = with_wasi("(call $block (call $after (i64.const 3600000000000))) (unreachable)");
    let begun = Instant::now();
    assert_eq!(bench.evaluate(&policy), Err(CallError::Waited));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inside = runtime.block_on(async { bench.evaluate(&policy) });
    assert_eq!(inside, Err(CallError::Waited));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_loop_ends_where_it_is_in_start_in_describe_and_in_a_call() {
    let bench = Bench::new();
    let in_start = Policy {
        start: SPIN.into(),
        ..Policy::default()
    };
    let in_describe = Policy {
        describe: SPIN.into(),
        ..Policy::default()
    };
    for policy in [in_start, in_describe] {
        let error = bench.refused(&policy);
        assert!(
            matches!(error, LoadError::Trial(CallError::Fuel(_))),
            "{error:?}"
        );
    }
    let in_a_call = Policy {
        evaluate: SPIN.into(),
        ..Policy::default()
    };
    let end = bench.evaluate(&in_a_call);
    assert_eq!(end, Err(CallError::Fuel(Duration::from_secs(1))));
}

#[test]
fn a_driver_that_loops_is_ended_by_the_clock() {
    let bench = Bench::new();
    let in_start = Policy {
        start: SPIN.into(),
        ..driver("", "(i32.const 0)")
    };
    let error = bench.refused(&in_start);
    assert!(
        matches!(error, LoadError::Trial(CallError::Deadline(_))),
        "{error:?}"
    );

    let mut in_a_call = driver("", SPIN);
    in_a_call.deadline = Some(("list-machines".into(), 1));
    let plugin = bench.load(&in_a_call.component()).unwrap();
    assert_eq!(plugin.kind(), Kind::Driver);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let other = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Instant::now()
        };
        let context = context();
        let call = async {
            let end = plugin.list_machines(&context).await;
            (end, Instant::now())
        };
        let ((end, ended), other) = tokio::join!(call, other);
        assert_eq!(end, Err(CallError::Deadline(Duration::from_secs(1))));
        assert!(other < ended, "it gives way while it loops");
    });
}

#[test]
fn memory_without_end_is_refused_and_called_that() {
    let bench = Bench::new();
    let grows = "(loop $more
        (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let and_breaks = Policy {
        evaluate: format!("{grows} (unreachable)"),
        ..Policy::default()
    };
    assert_eq!(
        bench.evaluate(&and_breaks),
        Err(CallError::Memory(64 << 20))
    );
    let and_lives = Policy {
        evaluate: format!("{grows} {}", common::ANSWER),
        ..Policy::default()
    };
    assert!(bench.evaluate(&and_lives).is_ok(), "a refusal is no trap");
    let from_the_start = Policy {
        pages: 1025,
        ..Policy::default()
    };
    let error = bench.refused(&from_the_start);
    assert!(
        matches!(error, LoadError::Trial(CallError::Memory(_))),
        "{error:?}"
    );
}

fn reason(at: u32, length: u32) -> Policy {
    Policy {
        evaluate: format!(
            "(drop (memory.grow (i32.const 1000)))
             (i32.store (i32.const 2120) (i32.const {at}))
             (i32.store (i32.const 2124) (i32.const {length}))
             (i32.const 2048)"
        ),
        ..Policy::default()
    }
}

#[test]
fn an_answer_of_megabytes_is_not_taken_in() {
    let bench = Bench::new();
    assert_eq!(
        bench.evaluate(&reason(65536, 60 << 20)),
        Err(CallError::TooLarge(1 << 20))
    );
    let more_than_there_is = bench.evaluate(&reason(65536, 100_000_000));
    assert!(
        matches!(
            more_than_there_is,
            Err(CallError::Trap(_) | CallError::TooLarge(_))
        ),
        "{more_than_there_is:?}"
    );
    let a_list = Policy {
        evaluate: "(drop (memory.grow (i32.const 1000)))
            (i32.store (i32.const 2128) (i32.const 65536))
            (i32.store (i32.const 2132) (i32.const 50000000))
            (i32.const 2048)"
            .into(),
        ..Policy::default()
    };
    assert_eq!(bench.evaluate(&a_list), Err(CallError::TooLarge(1 << 20)));
}

#[test]
fn an_answer_out_of_range_is_an_error_of_the_plugins() {
    let bench = Bench::new();
    let factor = |bits: u64| Policy {
        evaluate: format!(
            "(i32.store8 (i32.const 2072) (i32.const 1))
             (i64.store (i32.const 2080) (i64.const {bits}))
             (i32.const 2048)"
        ),
        ..Policy::default()
    };
    for (value, can_be) in [
        (1.5_f64, true),
        (-1.0, false),
        (f64::NAN, false),
        (f64::INFINITY, false),
    ] {
        let end = bench.evaluate(&factor(value.to_bits()));
        assert_eq!(end.is_ok(), can_be, "{value}: {end:?}");
        assert!(
            can_be || matches!(end, Err(CallError::Invalid(_))),
            "{end:?}"
        );
    }
    let end = bench.evaluate(&reason(100_000, 1001));
    assert!(matches!(end, Err(CallError::Invalid(_))), "{end:?}");
}

#[test]
fn a_trap_is_an_error_and_the_next_call_is_another() {
    let bench = Bench::new();
    let policy = Policy {
        // The first byte of memory would be set in a store that was used before.
        evaluate: format!(
            "(if (i32.load8_u (i32.const 0)) (then (unreachable)))
             (i32.store8 (i32.const 0) (i32.const 1)) {}",
            common::ANSWER
        ),
        ..Policy::default()
    };
    let plugin = bench.load(&policy.component()).unwrap();
    let ask = || plugin.evaluate(&context(), &View::default(), &Targets::default(), &[]);
    assert_eq!(ask(), ask());
    assert!(ask().is_ok(), "each call has a memory of its own");
    let traps = Policy {
        evaluate: "(unreachable)".into(),
        ..Policy::default()
    };
    let end = bench.evaluate(&traps);
    let Err(CallError::Trap(text)) = &end else {
        panic!("{end:?}");
    };
    assert!(text.contains("unreachable"), "{text}");
}

#[test]
fn a_name_that_is_not_the_files_is_a_warning_and_a_name_that_can_not_be_an_error() {
    let bench = Bench::new();
    let named = |name: &str| Policy {
        name: name.into(),
        ..Policy::default()
    };
    let file = bench.file("it.wasm", &named("another").component());
    let report = bench.host.check(&Source::file(file));
    let plugin = report.outcome.unwrap();
    assert_eq!(&*plugin.info().id, "it", "the file's name counts");
    assert!(
        report.warnings[0].contains("another"),
        "{:?}",
        report.warnings
    );
    for name in ["", "It", "a b", "../it", "\u{1b}[2J"] {
        let error = bench.refused(&named(name));
        assert_eq!(error.stage(), Stage::Description, "{name:?}: {error:?}");
    }
}

#[test]
fn a_description_that_can_not_be_is_refused_with_all_that_is_wrong() {
    let bench = Bench::new();
    let schema = |schema: &str| Policy {
        schema: schema.into(),
        ..Policy::default()
    };
    let deadline = |function: &str, limit| Policy {
        deadline: Some((function.into(), limit)),
        ..Policy::default()
    };
    for (policy, says) in [
        (schema("settings: none"), "no JSON"),
        (schema(r#"{"type":"objekt"}"#), "JSON Schema"),
        (schema(r#"{"type":"array"}"#), "object"),
        (
            Policy {
                version: "1".into(),
                ..Policy::default()
            },
            "semantic version",
        ),
        (deadline("evaluate", 6), "1 to 5"),
        (deadline("evaluate", 0), "1 to 5"),
        (deadline("create", 1), "evaluate"),
        (
            Policy {
                kind: 0,
                ..Policy::default()
            },
            "exports policy",
        ),
    ] {
        let error = bench.refused(&policy);
        assert_eq!(error.stage(), Stage::Description, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let all = Policy {
        name: "No Name".into(),
        version: "x".into(),
        schema: "x".into(),
        ..Policy::default()
    };
    let LoadError::Description(problems) = bench.refused(&all) else {
        panic!("not a description's");
    };
    assert_eq!(problems.len(), 3, "{problems:?}");
    let good = bench.load(&deadline("evaluate", 2).component()).unwrap();
    assert_eq!(good.deadline("evaluate"), Duration::from_secs(2));
}

#[test]
fn a_kind_that_is_none_ends_at_the_border() {
    let bench = Bench::new();
    let policy = Policy {
        kind: 9,
        ..Policy::default()
    };
    let error = bench.refused(&policy);
    assert!(
        matches!(error, LoadError::Trial(CallError::Trap(_))),
        "{error:?}"
    );
}

#[test]
fn a_report_has_every_stage_up_to_the_one_that_refused() {
    let bench = Bench::new();
    let file = bench.file("it.wasm", &Policy::default().component());
    let report = bench.host.check(&Source::file(file));
    let stages: Vec<Stage> = report.stages.iter().map(|passed| passed.stage).collect();
    assert_eq!(stages, Stage::ALL);
    assert!(report.stages.iter().all(|passed| passed.ok));
    let file = bench.file("it.wasm", b"no");
    let report = bench.host.check(&Source::file(file));
    let last = report.stages.last().unwrap();
    assert_eq!((last.stage, last.ok), (Stage::Component, false));
    assert_eq!(report.stages.len(), 4);
}

#[tokio::test]
async fn a_driver_without_a_grant_is_told_which_lines_to_add() {
    let bench = Bench::new();
    let imports = r#"(import "springtide:plugin/process@0.1.0" "run"
        (func $run (param i32 i32 i32 i32 i32 i32 i32)))"#;
    // Runs the tool "because", and hands on why it was denied.
    let body = "(call $run (i32.const 4096) (i32.const 7) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 2048))
        (i32.store8 (i32.const 3072) (i32.const 1))
        (i32.store8 (i32.const 3076) (i32.const 4))
        (i32.store (i32.const 3080) (i32.load (i32.const 2056)))
        (i32.store (i32.const 3084) (i32.load (i32.const 2060)))
        (i32.const 3072)";
    let plugin = bench.load(&driver(imports, body).component()).unwrap();
    let end = plugin.list_machines(&context()).await;
    let Err(CallError::Plugin(PluginError::Denied(text))) = &end else {
        panic!("{end:?}");
    };
    assert!(text.contains("[plugins.it.grants.tools.because]"), "{text}");
    assert!(end.unwrap_err().is_answer());
    let wrong = plugin.evaluate(&context(), &View::default(), &Targets::default(), &[]);
    assert!(matches!(wrong, Err(CallError::Invalid(_))));
}
