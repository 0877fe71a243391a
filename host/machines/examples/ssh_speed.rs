//! How fast a machine is reached: this crate beside the system's ssh, scp and sftp, over loopback, in
//! one run against one server.
//!
//! `cargo run --release -p springtide-machines --example ssh_speed` prints a table with the machine.
//! It needs OpenSSH's server and client (Debian: openssh-server, openssh-client).

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// How often each is measured; the median counts.
const TIMES: usize = 7;

/// What is moved, in bytes.
const SIZE: usize = 100_000_000;

#[tokio::main]
async fn main() {
    let server = Server::start();
    let file = server.text("source");
    let bytes: Vec<u8> = (0..SIZE)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    std::fs::write(&file, &bytes).expect("writing the source");
    let echo = UnixListener::bind(server.path("far")).expect("a socket");
    tokio::spawn(drink(echo));

    println!("{}", machine());
    println!("| what | springtide | OpenSSH |");
    println!("|---|---|---|");

    let ours = median(async || {
        let ssh = server.connection();
        let mut process = ssh.exec("echo").await.expect("a command");
        assert_eq!(process.stdout.read(&mut [0]).await.expect("a byte"), 1);
    })
    .await;
    let theirs = median(async || run("ssh", &server, &["-p", "PORT"], &["HOST", "echo"])).await;
    row("connect to first byte", ours, theirs, None);

    let ssh = server.connection();
    ssh.connect().await.expect("a login");
    let ours = median(async || {
        let mut process = ssh.exec("echo").await.expect("a command");
        assert_eq!(process.stdout.read(&mut [0]).await.expect("a byte"), 1);
    })
    .await;
    let control = format!("ControlPath={}", server.text("control"));
    let held = ["-p", "PORT", "-o", &control];
    let master = ["-M", "-N", "-f", "HOST"];
    run("ssh", &server, &held, &master);
    let theirs = median(async || run("ssh", &server, &held, &["HOST", "echo"])).await;
    row("first byte, connected", ours, theirs, None);
    run("ssh", &server, &held, &["-O", "exit", "HOST"]);

    let to = server.text("uploaded");
    let ours = median(async || {
        ssh.put(&to, &bytes, 0o644).await.expect("an upload");
    })
    .await;
    let batch = server.text("batch");
    std::fs::write(&batch, format!("put {file} {to}")).expect("writing the batch");
    let theirs =
        median(async || run("sftp", &server, &["-P", "PORT", "-b", &batch], &["HOST"])).await;
    row("100 MB by SFTP (sftp)", ours, theirs, Some(SIZE));
    let far = format!("HOST:{to}");
    let theirs = median(async || run("scp", &server, &["-P", "PORT"], &[&file, &far])).await;
    row("100 MB by SFTP (scp)", ours, theirs, Some(SIZE));

    let far = server.text("far");
    let ours = median(async || {
        let stream = ssh.forward_unix(&far).await.expect("a forward");
        pour(stream, &bytes).await;
    })
    .await;
    let near = server.text("near");
    let forward = format!("{near}:{far}");
    let mut tunnel = command(
        "ssh",
        &server,
        &["-p", "PORT", "-N", "-L", &forward],
        &["HOST"],
    )
    .spawn()
    .expect("ssh");
    support::until("the tunnel is there", || server.path("near").exists()).await;
    let theirs = median(async || {
        pour(
            UnixStream::connect(&near).await.expect("the tunnel"),
            &bytes,
        )
        .await;
    })
    .await;
    tunnel.kill().expect("ending the tunnel");
    tunnel.wait().expect("the tunnel's end");
    row(
        "100 MB through a forwarded socket",
        ours,
        theirs,
        Some(SIZE),
    );

    let ours = median(async || {
        let mut process = ssh.exec(&format!("cat {file}")).await.expect("a command");
        let read = tokio::io::copy(&mut process.stdout, &mut tokio::io::sink()).await;
        assert_eq!(read.expect("the file"), SIZE as u64);
    })
    .await;
    let cat = format!("cat {file}");
    let theirs = median(async || run("ssh", &server, &["-p", "PORT"], &["HOST", &cat])).await;
    row("100 MB of a command's output", ours, theirs, Some(SIZE));
}

/// Reads each connection to its end, and answers with one byte.
async fn drink(listener: UnixListener) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(async move {
            let read = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            assert_eq!(read.expect("reading"), SIZE as u64);
            stream.write_all(b".").await.expect("answering");
        });
    }
}

async fn pour(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("sending");
    stream.shutdown().await.expect("the end");
    assert_eq!(stream.read(&mut [0]).await.expect("the answer"), 1);
}

async fn median(once: impl AsyncFn()) -> Duration {
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begin = Instant::now();
        once().await;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    took[TIMES / 2]
}

fn row(what: &str, ours: Duration, theirs: Duration, size: Option<usize>) {
    let show = |took: Duration| match size {
        Some(size) => format!("{:.0} MB/s", size as f64 / 1e6 / took.as_secs_f64()),
        None => format!("{:.1} ms", took.as_secs_f64() * 1e3),
    };
    println!("| {what} | {} | {} |", show(ours), show(theirs));
}

fn command(program: &str, server: &Server, options: &[&str], rest: &[&str]) -> Command {
    let target = server.target();
    let place = format!("{}@{}", target.user, target.host);
    let known = format!("UserKnownHostsFile={}", server.text("known-hosts"));
    let mut command = Command::new(program);
    command
        .args(["-q", "-F", "none", "-i"])
        .arg(server.path("ssh.key"))
        .args(["-o", "StrictHostKeyChecking=no", "-o", &known])
        .args(options.iter().map(|word| match *word {
            "PORT" => target.port.to_string(),
            word => word.to_owned(),
        }))
        .args(rest.iter().map(|word| word.replace("HOST", &place)))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn run(program: &str, server: &Server, options: &[&str], rest: &[&str]) {
    let ended = command(program, server, options, rest)
        .status()
        .unwrap_or_else(|error| panic!("{program} (Debian's package openssh-client): {error}"));
    assert!(ended.success(), "{program} {rest:?} failed");
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("a processor without a name", |line| {
            line.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ssh = Command::new("ssh").arg("-V").output();
    let version = ssh.map_or_else(
        |error| format!("no ssh: {error}"),
        |said| String::from_utf8_lossy(&said.stderr).trim().to_owned(),
    );
    format!("{model}, {cores} cores; {version}; over loopback; median of {TIMES}\n")
}
