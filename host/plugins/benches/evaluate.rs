//! A policy's call with a store of its own: queue-depth is to take under 60 microseconds, off-peak with
//! two sections under 150, and the load of a cached component under 5 ms. Beside each the same policy
//! as a native call.
//!
//! The shipped components are read from SPRINGTIDE_PLUGINS, or from where `cargo xtask plugins` leaves
//! them; without them only the native calls are measured.

use criterion::{Criterion, criterion_group, criterion_main};
use springtide_plugins::contract::{CallContext, Counts, Limits, Queue, Targets, View, Waiting};
use springtide_plugins::{Host, HostOptions, Plugin, Source, Zones};
use springtide_policy_off_peak::OffPeak;
use springtide_policy_queue_depth::QueueDepth;
use springtide_sdk::Policy;
use springtide_sdk::testing;
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// 2026-03-02T09:00:00Z, a Monday.
const NOW: u32 = 1_772_442_000;

/// Two sections of which the first holds: both are looked at.
const SECTIONS: &str = r#"{"autoscaling":[
    {"Periods":["* * 9-17 * * mon-fri *"],"Timezone":"Europe/Berlin","IdleCount":5,"IdleTime":600},
    {"Periods":["* * * * * sat,sun *","* * 22-23,0-5 * * * *"],"Timezone":"Europe/Berlin","IdleCount":0,"IdleTime":60}
]}"#;

/// A busy pool, and three sets of tags of which this runner takes two.
fn view() -> View {
    let waiting = |tags: &[&str], count, oldest_age| Waiting {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        count,
        oldest_age,
    };
    View {
        now: NOW,
        machines: Counts {
            booting: 3,
            idle: 2,
            busy: 15,
            ..Counts::default()
        },
        limits: Limits {
            limit: 50,
            ..Limits::default()
        },
        jobs_held: 1,
        queue: Some(Queue {
            age: 5,
            waiting: vec![
                waiting(&["docker"], 12, 90),
                waiting(&["docker", "large"], 3, 20),
                waiting(&["macos"], 40, 900),
            ],
            tags: vec!["docker".into(), "large".into()],
            ..Queue::default()
        }),
        boot_times: vec![41, 38, 55, 40, 47, 39, 42, 60],
    }
}

fn proposal() -> Targets {
    Targets {
        idle_count: 2,
        idle_time: 1800,
        ..Targets::default()
    }
}

fn context(settings: &str) -> CallContext {
    CallContext {
        runner: "elastic".into(),
        settings: settings.into(),
        owner: String::new(),
    }
}

/// The same view in the types of the SDK.
fn native_view() -> springtide_sdk::View {
    let view = view();
    let mut native = testing::view(view.now);
    native.machines.booting = view.machines.booting;
    native.machines.idle = view.machines.idle;
    native.machines.busy = view.machines.busy;
    native.limits.limit = view.limits.limit;
    native.jobs_held = view.jobs_held;
    native.boot_times = view.boot_times;
    native.queue = view.queue.map(|queue| springtide_sdk::Queue {
        age: queue.age,
        waiting: queue
            .waiting
            .into_iter()
            .map(|set| springtide_sdk::Waiting {
                tags: set.tags,
                count: set.count,
                oldest_age: set.oldest_age,
            })
            .collect(),
        tags: queue.tags,
        ..testing::queue()
    });
    native
}

/// The host's zones behind the SDK's trait, so that both sides look at the same clocks.
struct HostZones(Zones);

impl springtide_sdk::Zones for HostZones {
    fn civil_time(&self, zone: &str, at: u32) -> Result<springtide_sdk::Civil, String> {
        let civil = self
            .0
            .civil_time(zone, at)
            .map_err(|error| error.to_string())?;
        Ok(springtide_sdk::Civil {
            year: civil.year,
            month: civil.month,
            day: civil.day,
            hour: civil.hour,
            minute: civil.minute,
            second: civil.second,
            weekday: civil.weekday,
            offset: civil.offset,
            next_change: civil.next_change,
            data_version: civil.data_version,
        })
    }
}

/// The directory of the shipped components, if they were built.
fn plugins() -> Option<PathBuf> {
    let target = || {
        let exe = std::env::current_exe().ok()?;
        let found = exe.ancestors().find(|path| path.join("plugins").is_dir());
        found.map(|target| target.join("plugins"))
    };
    let directory = std::env::var_os("SPRINGTIDE_PLUGINS")
        .map(PathBuf::from)
        .or_else(target)?;
    let all = ["queue-depth.wasm", "off-peak.wasm"];
    all.iter()
        .all(|name| directory.join(name).is_file())
        .then_some(directory)
}

fn load(host: &Host, directory: &Path, id: &str) -> Plugin {
    let file = directory.join(format!("{id}.wasm"));
    match host.load(&Source::file(&file)) {
        Ok(plugin) => plugin,
        Err(error) => panic!("loading {}: {error}", file.display()),
    }
}

fn policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluate");
    let native = native_view();
    let mut targets = testing::targets();
    targets.idle_count = 2;
    targets.idle_time = 1800;
    let zones = HostZones(Zones::new());
    let queue_depth = testing::context("{}");
    group.bench_function("queue-depth, 3 tag sets, native", |b| {
        b.iter(|| QueueDepth::evaluate(&zones, &queue_depth, black_box(&native), &targets, &[]));
    });
    let off_peak = testing::context(SECTIONS);
    group.bench_function("off-peak, 2 sections, native", |b| {
        b.iter(|| OffPeak::evaluate(&zones, &off_peak, black_box(&native), &targets, &[]));
    });

    let Some(directory) = plugins() else {
        eprintln!(
            "the shipped components are not there: run `cargo xtask plugins`, or name their directory \
             in SPRINGTIDE_PLUGINS; calls of components are not measured"
        );
        return;
    };
    let host = Host::new(&HostOptions::default()).expect("a host");
    let (view, proposal) = (view(), proposal());
    for (name, id, settings) in [
        ("queue-depth, 3 tag sets", "queue-depth", "{}"),
        ("off-peak, 2 sections", "off-peak", SECTIONS),
    ] {
        let plugin = load(&host, &directory, id);
        let context = context(settings);
        // A call that fails is fast, and says nothing.
        let decision = plugin.evaluate(&context, &view, &proposal, &[]);
        assert!(decision.is_ok(), "{id}: {decision:?}");
        group.bench_function(name, |b| {
            b.iter(|| plugin.evaluate(&context, black_box(&view), &proposal, &[]));
        });
    }
    group.finish();
    loads(c, &directory);
}

/// All stages of loading, compiled code from the cache.
fn loads(c: &mut Criterion, directory: &Path) {
    let folder = tempfile::tempdir().expect("a directory");
    let options = HostOptions {
        cache: Some(folder.path().join("compiled")),
        ..HostOptions::default()
    };
    let host = Host::new(&options).expect("a host");
    let mut group = c.benchmark_group("load from the cache");
    for id in ["queue-depth", "off-peak"] {
        drop(load(&host, directory, id));
        group.bench_function(id, |b| b.iter(|| load(&host, directory, id)));
    }
    group.finish();
}

criterion_group!(benches, policies);
criterion_main!(benches);
