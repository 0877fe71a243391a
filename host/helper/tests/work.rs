//! Work on a machine of processes, through a client as the daemon has it.

mod support;

use springtide_machines::{ConnectError, HelperError, Output, Work, WorkEnd, WorkFile, WorkSignal};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::{Bench, HELPER, collect, lives, pid_in, until};

const DONE: WorkEnd = WorkEnd::Exited { code: 0 };

#[tokio::test]
async fn what_a_work_puts_out_is_followed_to_its_end() {
    let bench = Bench::new();
    bench.start("a", "echo out; echo err >&2; exit 3").await;
    let (output, end) = bench.output("a", 0).await;
    assert_eq!(String::from_utf8(output).unwrap(), "out\nerr\n");
    assert_eq!(end, WorkEnd::Exited { code: 3 });
    assert_eq!(bench.client.result("a").await.unwrap(), Some(end));
    assert_eq!(bench.client.list().await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_follow_goes_on_from_every_offset() {
    let bench = Bench::new();
    bench.start("a", "printf 0123456789").await;
    for from in 0..=10 {
        let (output, end) = bench.output("a", from).await;
        assert_eq!(output, b"0123456789"[from as usize..], "from {from}");
        assert_eq!(end, DONE);
    }
    let beyond = bench.client.follow("a", 11).await.unwrap_err();
    assert!(matches!(beyond, HelperError::Failed { .. }), "{beyond}");
}

#[tokio::test]
async fn a_work_outlives_its_followers_and_is_found_again_where_it_was_left() {
    let bench = Bench::new();
    let go = bench.path().join("go");
    let script = format!(
        "echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two",
        go.display()
    );
    bench.start("a", &script).await;
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    let first = follow.next().await.unwrap();
    assert!(matches!(first, Some(Output::Bytes { offset: 0, .. })));
    assert_eq!(bench.client.result("a").await.unwrap(), None);
    let at = follow.offset();
    drop(follow);
    let again = bench.client.follow("a", at).await.unwrap();
    std::fs::write(&go, "").unwrap();
    assert_eq!(collect(again, at).await, (b"two\n".to_vec(), DONE));
}

#[tokio::test]
async fn two_follow_the_same_work() {
    let bench = Bench::new();
    bench
        .start("a", "for i in 1 2 3; do echo $i; sleep 0.05; done")
        .await;
    let (one, two) = tokio::join!(bench.output("a", 0), bench.output("a", 0));
    assert_eq!(one, (b"1\n2\n3\n".to_vec(), DONE));
    assert_eq!(one, two);
}

#[tokio::test]
async fn output_and_end_arrive_promptly() {
    let bench = Bench::new();
    bench.start("a", "sleep 0.3; date +%s%N").await;
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    let Some(Output::Bytes { bytes, .. }) = follow.next().await.unwrap() else {
        panic!("no output");
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let said: u128 = String::from_utf8(bytes.to_vec())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let late = Duration::from_nanos((now - said) as u64);
    // A follow that only looks twice a second would be seen; a busy machine is not.
    assert!(late < Duration::from_millis(400), "{late:?}");
}

#[tokio::test]
async fn starting_the_same_work_again_starts_nothing() {
    let bench = Bench::new();
    let work = bench.script("a", "echo once >> ran; sleep 0.2");
    let (one, two, three) = tokio::join!(
        bench.client.start(&work),
        bench.client.start(&work),
        bench.client.start(&work)
    );
    for started in [one, two, three] {
        started.unwrap();
    }
    bench.output("a", 0).await;
    bench.client.start(&work).await.unwrap();
    let ran = std::fs::read_to_string(bench.path().join("builds/ran")).unwrap();
    assert_eq!(ran, "once\n");
}

#[tokio::test]
async fn what_a_work_was_given_is_no_file_once_it_runs() {
    let bench = Bench::new();
    let (ready, go) = (bench.path().join("ready"), bench.path().join("go"));
    let wait = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done; cat",
        ready.display(),
        go.display()
    );
    let mut work = bench.script("a", &wait);
    work.stdin = b"a script's text".to_vec();
    work.environment.insert("KEY".into(), "a value".into());
    bench.client.start(&work).await.unwrap();
    until("the program runs", || ready.exists()).await;
    let mut left: Vec<String> = std::fs::read_dir(bench.path().join("work/a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["begun", "lock", "processes.json", "reserve", "spool"]
    );
    std::fs::write(&go, "").unwrap();
    assert_eq!(bench.output("a", 0).await, (work.stdin, DONE));
}

#[tokio::test]
async fn a_program_that_is_missing_is_said_each_time() {
    let bench = Bench::new();
    let mut work = bench.script("a", "");
    work.program = vec!["no-such-program".into()];
    for _ in 0..2 {
        let error = bench.client.start(&work).await.unwrap_err();
        assert!(matches!(error, HelperError::NotStarted { .. }), "{error}");
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }
    let end = bench.client.result("a").await.unwrap();
    assert_eq!(end, Some(WorkEnd::Exited { code: 127 }));
    assert_eq!(bench.output("a", 0).await.0, b"");
}

#[tokio::test]
async fn a_work_has_its_input_files_directory_and_environment_and_no_more() {
    let bench = Bench::new();
    let file = bench.path().join("deep/er/secret");
    let mut work = bench.script(
        "a",
        "wc -c; pwd; env | grep -c ^CARGO_; echo $GREETING; cat $FILE",
    );
    work.stdin = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    work.environment
        .insert("GREETING".into(), "hello there".into());
    work.environment
        .insert("FILE".into(), file.to_str().unwrap().into());
    work.files = vec![WorkFile {
        path: file.to_str().unwrap().into(),
        mode: 0o600,
        bytes: b"a secret\n".to_vec(),
    }];
    bench.client.start(&work).await.unwrap();
    let (output, end) = bench.output("a", 0).await;
    assert_eq!(
        String::from_utf8(output).unwrap(),
        format!("1048576\n{}\n0\nhello there\na secret\n", work.directory)
    );
    assert_eq!(end, DONE);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&bench.path().join("work/a")), 0o700);
    // Neither the order with its variables nor the input stays behind.
    assert!(!bench.path().join("work/a/order.json").exists());
    until("the input is deleted", || {
        !bench.path().join("work/a/stdin").exists()
    })
    .await;
}

#[tokio::test]
async fn binary_output_and_none_come_whole() {
    let bench = Bench::new();
    let mut work = bench.script("a", "cat");
    work.stdin = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    bench.client.start(&work).await.unwrap();
    assert_eq!(bench.output("a", 0).await, (work.stdin, DONE));
    bench.start("b", ":").await;
    assert_eq!(bench.output("b", 0).await, (Vec::new(), DONE));
}

#[tokio::test]
async fn a_lot_of_output_goes_through_little_memory() {
    const ALL: u64 = 200 << 20;
    let bench = Bench::new();
    bench.start("a", &format!("head -c {ALL} /dev/zero")).await;
    let supervisor = bench.supervisor("a");
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    let mut most = 0;
    let started = Instant::now();
    while let Some(Output::Bytes { bytes, .. }) = follow.next().await.unwrap() {
        assert!(bytes.iter().all(|byte| *byte == 0));
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{supervisor}/status"))
            && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM"))
        {
            let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            most = most.max(kib);
        }
    }
    assert_eq!(follow.offset(), ALL);
    assert!(most < 20 << 10, "{most} KiB");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn beyond_its_limit_output_is_counted_and_the_work_goes_on() {
    let bench = Bench::new();
    let mut work = bench.script("a", "head -c 1000000 /dev/zero; exit 7");
    work.spool_limit = 1000;
    bench.client.start(&work).await.unwrap();
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    let mut kept = 0;
    while let Some(output) = follow.next().await.unwrap() {
        match output {
            Output::Bytes { bytes, .. } => kept += bytes.len(),
            Output::Ended(end) => assert_eq!(end, WorkEnd::Exited { code: 7 }),
        }
    }
    assert_eq!((kept, follow.discarded()), (1000, Some(999_000)));
}

/// A small disk in place of a machine's own, until it is dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn of_a_megabyte(at: &std::path::Path) -> Self {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
        assert!(mount.arg(at).status().unwrap().success(), "it takes root");
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        umount.arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn a_work_that_fills_the_disk_goes_on_and_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let _disk = Disk::of_a_megabyte(folder.path());
    let bench = Bench::at(folder);
    bench
        .start("a", "head -c 3000000 /dev/zero; echo x >more || exit 7")
        .await;
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    let mut kept = 0;
    while let Some(output) = follow.next().await.unwrap() {
        match output {
            Output::Bytes { bytes, .. } => kept += bytes.len() as u64,
            Output::Ended(end) => assert_eq!(end, WorkEnd::Exited { code: 7 }),
        }
    }
    assert!(kept > 500_000, "{kept}");
    assert!(
        follow
            .discarded()
            .is_some_and(|lost| kept + lost >= 3_000_000)
    );
    // The next one is told why it can't be.
    let refused = bench.client.start(&bench.script("b", "true")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("No space left on device"), "{refused}");
    bench.client.remove("a").await.unwrap();
    bench.start("b", "true").await;
}

#[tokio::test]
async fn who_watches_stays_until_the_last_process_is_gone() {
    let bench = Bench::new();
    let file = bench.path().join("pid");
    let script = format!(
        "setsid sleep 300 >/dev/null 2>&1 & echo $! >{}",
        file.display()
    );
    bench.start("a", &script).await;
    let (_, end) = bench.output("a", 0).await;
    assert_eq!(end, DONE);
    let left = pid_in(file).await;
    let watching = bench.supervisor("a");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(lives(left) && lives(watching));
    std::process::Command::new("kill")
        .args(["-9", &left.to_string()])
        .status()
        .unwrap();
    until("nobody is left to watch", || !lives(watching)).await;
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    for (signal, number) in [(WorkSignal::Interrupt, 2), (WorkSignal::Terminate, 15)] {
        let bench = Bench::new();
        // A shell in the background ignores SIGINT, so the grandchild is made by one in front.
        bench
            .start("a", "sh -c 'echo $$ > pid; exec sleep 100'; true")
            .await;
        let child = pid_in(bench.path().join("builds/pid")).await;
        bench.client.signal("a", signal).await.unwrap();
        assert_eq!(
            bench.output("a", 0).await.1,
            WorkEnd::Signaled { signal: number }
        );
        until("the grandchild is gone", || !lives(child)).await;
        bench.client.signal("a", signal).await.unwrap();
    }
}

#[tokio::test]
async fn kill_reaches_those_that_left_the_group_and_the_session() {
    let bench = Bench::new();
    bench
        .start(
            "a",
            "setsid sh -c 'echo $$ > pid; trap \"\" TERM; sleep 100; sleep 100' & wait",
        )
        .await;
    let stray = pid_in(bench.path().join("builds/pid")).await;
    bench
        .client
        .signal("a", WorkSignal::Terminate)
        .await
        .unwrap();
    assert_eq!(
        bench.output("a", 0).await.1,
        WorkEnd::Signaled { signal: 15 }
    );
    assert!(lives(stray), "it left the group");
    bench.kill("a").await;
    assert!(!lives(stray));
}

#[tokio::test]
async fn a_work_ends_with_its_program_whoever_holds_its_output_and_remove_ends_those() {
    let bench = Bench::new();
    bench
        .start("a", "setsid sleep 100 & echo $! > pid; echo done")
        .await;
    assert_eq!(bench.output("a", 0).await, (b"done\n".to_vec(), DONE));
    let stray = pid_in(bench.path().join("builds/pid")).await;
    assert!(lives(stray));
    bench.client.remove("a").await.unwrap();
    assert!(!lives(stray));
    bench.client.remove("a").await.unwrap();
    assert!(bench.client.list().await.unwrap().is_empty());
    let error = bench.client.result("a").await.unwrap_err();
    assert!(matches!(error, HelperError::NoWork { .. }), "{error}");
}

#[tokio::test]
async fn a_supervisor_that_was_killed_makes_its_work_lost_and_leaves_nothing_running() {
    let bench = Bench::new();
    bench
        .start(
            "a",
            "echo one; setsid sleep 100 & echo $! > stray; echo $$ > pid; wait",
        )
        .await;
    let leader = pid_in(bench.path().join("builds/pid")).await;
    let stray = pid_in(bench.path().join("builds/stray")).await;
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    follow.next().await.unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", &bench.supervisor("a").to_string()])
        .status();
    assert!(killed.unwrap().success());
    let ended = follow.next().await.unwrap();
    assert_eq!(ended, Some(Output::Ended(WorkEnd::Lost)));
    assert_eq!(bench.client.result("a").await.unwrap(), Some(WorkEnd::Lost));
    until("the program went with its supervisor", || !lives(leader)).await;
    // Started again, it is still lost: it may have run.
    bench.start("a", "echo again").await;
    assert_eq!(
        bench.output("a", 0).await,
        (b"one\n".to_vec(), WorkEnd::Lost)
    );
    assert!(lives(stray));
    bench.client.remove("a").await.unwrap();
    assert!(!lives(stray));
}

#[tokio::test]
async fn a_call_that_is_dropped_harms_no_work() {
    let bench = Bench::new();
    let work = bench.script("a", "echo once >> ran; echo done");
    for _ in 0..20 {
        let started = tokio::time::timeout(Duration::from_millis(2), bench.client.start(&work));
        if let Ok(done) = started.await {
            done.unwrap();
        }
    }
    bench.client.start(&work).await.unwrap();
    assert_eq!(bench.output("a", 0).await.1, DONE);
    let ran = std::fs::read_to_string(bench.path().join("builds/ran")).unwrap();
    assert_eq!(ran, "once\n");
}

#[tokio::test]
async fn a_next_that_is_dropped_loses_nothing() {
    let bench = Bench::new();
    bench
        .start(
            "a",
            "for i in 1 2 3 4 5; do head -c 100000 /dev/zero; sleep 0.02; done",
        )
        .await;
    let mut follow = bench.client.follow("a", 0).await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_micros(300), follow.next()).await {
            Ok(next) => match next.unwrap() {
                Some(Output::Ended(end)) => break assert_eq!(end, DONE),
                Some(Output::Bytes { .. }) => {}
                None => panic!("no end"),
            },
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert_eq!(follow.offset(), 500_000);
}

#[tokio::test]
async fn work_that_cannot_be_is_refused() {
    let bench = Bench::new();
    let change = |to: fn(&mut Work)| {
        let mut work = bench.script("a", ":");
        to(&mut work);
        work
    };
    for work in [
        change(|work| work.id = "../a".into()),
        change(|work| work.id = String::new()),
        change(|work| work.id = "a".repeat(81)),
        change(|work| work.program.clear()),
        change(|work| work.directory = "builds".into()),
        change(|work| work.directory = "/tmp/../etc".into()),
        change(|work| {
            work.environment.insert("A=B".into(), String::new());
        }),
        change(|work| work.program.push("\0".into())),
    ] {
        let error = bench.client.start(&work).await.unwrap_err();
        assert!(
            matches!(error, HelperError::Failed { .. }),
            "{work:?}: {error}"
        );
    }
    assert!(bench.client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_machine_that_is_gone_says_so_and_does_not_come_back() {
    let bench = Bench::new();
    let path = bench.path().to_owned();
    let work = bench.script("a", ":");
    std::fs::remove_dir_all(&path).unwrap();
    let error = bench.client.start(&work).await.unwrap_err();
    assert!(
        matches!(error, HelperError::Connect(ConnectError::Gone { .. })),
        "{error}"
    );
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
}

#[test]
fn signals_that_a_manager_ignores_reach_a_work() {
    let folder = tempfile::tempdir().expect("a directory");
    let root = folder.path().to_str().expect("UTF-8");
    let work = serde_json::json!({
        "id": "w", "program": ["grep", "SigIgn", "/proc/self/status"], "directory": root,
        "spool_limit": 1000,
    });
    let mut start = std::process::Command::new("sh")
        .args(["-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh", HELPER])
        .args(["--root", root, "start"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("sh");
    let mut input = start.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, work.to_string().as_bytes()).expect("written");
    drop(input);
    assert!(start.wait().expect("its end").success());
    let followed = std::process::Command::new(HELPER)
        .args(["--root", root, "follow", "w"])
        .output()
        .expect("the helper");
    let said = String::from_utf8_lossy(&followed.stdout);
    let ignored = said
        .split("SigIgn:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let ignored = ignored.and_then(|hex| u64::from_str_radix(&hex[..16], 16).ok());
    let ignored = ignored.expect("a mask");
    // A signal's bit is one below its number.
    for signal in [1, 2, 3, 15] {
        assert_eq!(
            ignored >> (signal - 1) & 1,
            0,
            "signal {signal}: {ignored:x}"
        );
    }
}

#[tokio::test]
async fn hello_tells_the_protocol() {
    let bench = Bench::new();
    let hello = bench.client.hello().await.unwrap();
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    let wrong = std::process::Command::new(HELPER)
        .arg("--root")
        .arg(bench.path())
        .arg("dance")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8(wrong.stdout)
            .unwrap()
            .contains("bad-call")
    );
}

#[tokio::test]
async fn a_program_named_as_the_helper_is_the_helper_itself() {
    let bench = Bench::new();
    let mut work = bench.script("a", "");
    work.program = vec!["springtide-helper".into(), "transfer".into()];
    work.stdin = br#"{"artifacts-download": {"url": "http://127.0.0.1:9", "items": []}}"#.into();
    // Nothing of that name is found on a path without it.
    work.environment
        .insert("PATH".into(), "/nonexistent".into());
    bench.client.start(&work).await.unwrap();
    let (output, end) = bench.output("a", 0).await;
    let output = String::from_utf8(output).unwrap();
    assert_eq!(end, WorkEnd::Exited { code: 12 }, "{output}");
}
