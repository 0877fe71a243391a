//! `process_*`: what Prometheus clients tell of their own process, read when somebody looks.
//!
//! The client library's own reader brings a second version of crates that are here already, for these
//! seven numbers.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit};

/// Reads /proc. Where there is none, there are no such metrics.
pub(super) struct Process {
    descs: Vec<Desc>,
}

const CPU: (&str, &str) = ("process_cpu_seconds_total", "Processor time, in seconds.");
const GAUGES: [(&str, &str); 6] = [
    ("process_open_fds", "Open files."),
    ("process_max_fds", "Most files that may be open."),
    ("process_virtual_memory_bytes", "Addressable memory."),
    ("process_resident_memory_bytes", "Memory in use."),
    ("process_threads", "Threads."),
    (
        "process_start_time_seconds",
        "Start, in seconds since 1970.",
    ),
];

impl Process {
    pub(super) fn new() -> Result<Process, prometheus::Error> {
        let mut descs = Vec::new();
        for (name, help) in std::iter::once(CPU).chain(GAUGES) {
            let none = (Vec::new(), std::collections::HashMap::new());
            descs.push(Desc::new(name.into(), help.into(), none.0, none.1)?);
        }
        Ok(Process { descs })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(usage) = read() else {
            return Vec::new();
        };
        families(&usage).unwrap_or_default()
    }
}

fn families(usage: &Usage) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let cpu = Counter::new(CPU.0, CPU.1)?;
    cpu.inc_by(usage.cpu);
    let mut families = cpu.collect();
    let values = [
        usage.open_files,
        usage.most_files,
        usage.virtual_bytes,
        usage.resident_bytes,
        usage.threads,
        usage.started,
    ];
    for ((name, help), value) in GAUGES.into_iter().zip(values) {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        families.extend(gauge.collect());
    }
    Ok(families)
}

/// What the process uses; times in seconds, the start since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu: f64,
    started: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    open_files: f64,
    most_files: f64,
}

fn read() -> Option<Usage> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let (stat, status) = (text("/proc/self/stat")?, text("/proc/self/status")?);
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    let most = getrlimit(Resource::Nofile).current;
    Some(Usage {
        // One of them is open to count them.
        open_files: number(&open.saturating_sub(1).to_string())?,
        most_files: most.map_or(Some(f64::INFINITY), |most| number(&most.to_string()))?,
        ..usage(&stat, &status, &text("/proc/stat")?)?
    })
}

/// What `/proc/self/stat`, `/proc/self/status` and `/proc/stat` say.
fn usage(stat: &str, status: &str, machine: &str) -> Option<Usage> {
    // The kernel shows times to programs in hundredths of a second, whatever it counts in.
    const TICKS: f64 = 100.0;
    // The program's name stands in brackets and may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| number(fields.get(field - 3)?);
    let line = |text: &str, name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        number(rest.split_whitespace().next()?)
    };
    Some(Usage {
        cpu: (ticks(14)? + ticks(15)?) / TICKS,
        started: line(machine, "btime ")? + ticks(22)? / TICKS,
        threads: line(status, "Threads:")?,
        virtual_bytes: line(status, "VmSize:")? * 1024.0,
        resident_bytes: line(status, "VmRSS:")? * 1024.0,
        ..Usage::default()
    })
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_read_by_its_fields() {
        let stat = "42 (spring) tide 1) S 1 42 42 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 12345 99999744 2500 18446744073709551615";
        let status = "Name:\tspringtide\nVmSize:\t   97656 kB\nVmRSS:\t   10000 kB\nThreads:\t9\n";
        let machine = "cpu 1 2 3\nbtime 1772442000\nprocesses 5\n";
        assert_eq!(
            usage(stat, status, machine),
            Some(Usage {
                cpu: 3.0,
                started: 1_772_442_123.45,
                threads: 9.0,
                virtual_bytes: 99_999_744.0,
                resident_bytes: 10_240_000.0,
                ..Usage::default()
            })
        );
        for (stat, status, machine) in [
            ("", status, machine),
            (stat, "", machine),
            (stat, status, ""),
        ] {
            assert_eq!(usage(stat, status, machine), None);
        }
    }

    #[test]
    fn this_process_has_memory_and_open_files() {
        let usage = read().unwrap();
        assert!(usage.resident_bytes > 0.0 && usage.resident_bytes <= usage.virtual_bytes);
        assert!(usage.open_files > 0.0 && usage.open_files <= usage.most_files);
        assert!(usage.threads >= 1.0 && usage.started > 1.0e9);
    }
}
