//! Machines over SSH, against the real OpenSSH server.

mod support;

use rustix::process::Signal;
use springtide_machines::{
    ConnectError, Connection, FarEnd, HelperClient, HelperError, ListenAt, Output, SshConnection,
    SshKey, Terminal, Work, WorkEnd, probe_tcp,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Server, helper, refused, unreachable, until};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const DONE: WorkEnd = WorkEnd::Exited { code: 0 };

fn script(server: &Server, id: &str, script: &str) -> Work {
    Work {
        id: id.into(),
        program: vec!["sh".into(), "-c".into(), script.into()],
        directory: server.text("home/builds"),
        environment: Default::default(),
        stdin: Vec::new(),
        files: Vec::new(),
        spool_limit: 1 << 30,
    }
}

/// Bytes that a mixed-up stream would not reproduce.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// Sends bytes, says that they are all, and reads what comes back.
async fn exchange(stream: impl AsyncRead + AsyncWrite, sent: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut back = Vec::new();
    let send = async {
        write.write_all(sent).await?;
        write.shutdown().await
    };
    let (sent, received) = tokio::join!(send, read.read_to_end(&mut back));
    sent.unwrap();
    received.unwrap();
    back
}

/// Gives back what it is sent, connection by connection.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
}

fn echo_at_socket(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(echo(stream));
        }
    });
}

#[tokio::test]
async fn a_command_has_its_three_streams_and_its_exit_code() {
    let server = Server::start();
    let ssh = server.connection();
    let command = "tr a-z A-Z; echo \"it's odd\" >&2; exit 3";
    let output = ssh.output(command, b"shout").await.unwrap();
    assert_eq!(output.code, 3);
    assert_eq!(output.stdout, b"SHOUT");
    assert_eq!(output.stderr, b"it's odd\n");
    let killed = ssh.output("kill -9 $$", b"").await.unwrap();
    assert_eq!(killed.code, 137);
    // A command that reads nothing of a long input has ended all the same.
    let deaf = ssh.output("exit 4", &pattern(8 << 20)).await.unwrap();
    assert_eq!(deaf.code, 4);
}

#[tokio::test]
async fn streams_are_whole_in_both_directions() {
    let server = Server::start();
    let ssh = server.connection();
    let sent = pattern(5 << 20);
    let mut process = ssh.exec("cat").await.unwrap();
    let stdin = std::mem::replace(&mut process.stdin, Box::pin(tokio::io::sink()));
    let stdout = std::mem::replace(&mut process.stdout, Box::pin(tokio::io::empty()));
    assert!(exchange(tokio::io::join(stdout, stdin), &sent).await == sent);
    assert_eq!(process.wait().await.unwrap(), 0);
    assert_eq!(process.wait().await.unwrap(), 0);
}

#[tokio::test]
async fn all_that_is_done_on_a_machine_goes_over_one_connection() {
    let server = Server::start();
    let ssh = server.connection();
    let calls = (0..8).map(|at| {
        let ssh = Arc::clone(&ssh);
        tokio::spawn(async move { ssh.output(&format!("exit {at}"), b"").await })
    });
    for (at, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(
            call.await.unwrap().unwrap().code,
            i32::try_from(at).unwrap()
        );
    }
    assert_eq!(server.logins(), 1);
    ssh.close().await;
    until("the connection is closed", || server.sessions().is_empty()).await;
    ssh.connect().await.unwrap();
    assert_eq!(server.logins(), 2);
}

#[tokio::test]
async fn a_process_that_is_dropped_ends() {
    let server = Server::start();
    let ssh = server.connection();
    // One that writes: an sshd that serves root passes no signals on.
    let command = "echo $$; while sleep 0.01; do echo; done";
    let mut process = ssh.exec(command).await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut process.stdout)
        .read_line(&mut line)
        .await
        .unwrap();
    let directory = format!("/proc/{}", line.trim());
    assert!(Path::new(&directory).exists());
    drop(process);
    until("it is gone", || !Path::new(&directory).exists()).await;
    assert_eq!(ssh.output("exit 1", b"").await.unwrap().code, 1);
}

#[tokio::test]
async fn the_helper_is_put_on_a_machine_once_and_runs_its_work() {
    let server = Server::start();
    let ssh = server.connection();
    let client = HelperClient::new(ssh.clone());
    client.hello().await.unwrap();
    assert_eq!(ssh.home(), server.text("home"));
    client
        .start(&script(&server, "job", "echo out; exit 3"))
        .await
        .unwrap();
    let mut follow = client.follow("job", 0).await.unwrap();
    let mut said = Vec::new();
    let end = loop {
        match follow.next().await.unwrap().unwrap() {
            Output::Bytes { bytes, .. } => said.extend_from_slice(&bytes),
            Output::Ended(end) => break end,
        }
    };
    assert_eq!(
        (said, end),
        (b"out\n".to_vec(), WorkEnd::Exited { code: 3 })
    );
    assert_eq!(client.result("job").await.unwrap(), Some(end));
    client.remove("job").await.unwrap();
    let nothing = client.result("job").await.unwrap_err();
    assert!(matches!(nothing, HelperError::NoWork { .. }), "{nothing}");

    let put = || {
        let folder = fs::read_dir(server.path("home/.springtide")).unwrap();
        let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_string_lossy().contains("/helper-"));
        assert_eq!(files.len(), 1, "{files:?}");
        fs::metadata(&files[0]).unwrap()
    };
    let first = put();
    assert_eq!(first.permissions().mode() & 0o777, 0o755);
    let again = HelperClient::new(server.connection());
    again.hello().await.unwrap();
    assert_eq!(put().ino(), first.ino(), "it was put there again");
    assert_eq!(server.logins(), 2);
}

#[tokio::test]
async fn a_helper_that_was_damaged_is_put_there_again() {
    let server = Server::start();
    let client = HelperClient::new(server.connection());
    client.hello().await.unwrap();
    let folder = server.path("home/.springtide");
    let file = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::remove_file(&file).unwrap();
    fs::write(&file, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let client = HelperClient::new(server.connection());
    client.hello().await.unwrap();
}

#[tokio::test]
async fn a_helper_that_does_not_run_there_is_refused() {
    let server = Server::start();
    let foreign = server.path("foreign");
    fs::write(&foreign, b"\x7fELF of another machine").unwrap();
    let (target, key) = (server.target(), server.key());
    let options = server.options();
    let ssh = SshConnection::with_options(target, key, server.host_keys(), foreign, options);
    let why = refused(ssh.prepare().await);
    assert!(why.contains("does not run there"), "{why}");
    let kind = std::env::consts::ARCH;
    assert!(why.contains(&format!("foreign-{kind}")), "{why}");
    let left = fs::read_dir(server.path("home/.springtide"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "it was left there");
    // One for machines of its kind, beside that.
    fs::copy(helper(), server.path(&format!("foreign-{kind}"))).unwrap();
    ssh.prepare().await.unwrap();
}

#[tokio::test]
async fn the_home_is_the_first_that_can_be_written_to_and_is_remembered() {
    let server = Server::start();
    let mut options = server.options();
    options.homes = vec!["/proc/springtide".into(), server.text("second")];
    let ssh = server.connection_with(options.clone());
    ssh.prepare().await.unwrap();
    assert_eq!(ssh.home(), server.text("second"));
    // After a restart, and though another would be chosen now.
    options.homes.insert(0, server.text("first"));
    let ssh = server.connection_with(options);
    assert_eq!(ssh.home(), server.text("second"));
    ssh.prepare().await.unwrap();
    assert_eq!(ssh.home(), server.text("second"));

    let mut options = server.options();
    options.homes = vec!["/proc/springtide".into()];
    server.host_keys().forget("m-1").unwrap();
    let why = refused(server.connection_with(options).prepare().await);
    assert!(
        why.contains("can write to none of /proc/springtide"),
        "{why}"
    );
}

#[tokio::test]
async fn a_file_is_put_whole_with_its_mode_and_replaces_one_that_is_there() {
    let server = Server::start();
    let ssh = server.connection();
    let file = server.text("a 'file' with $odd name");
    for (bytes, mode) in [(pattern(3 << 20), 0o640), (b"short".to_vec(), 0o755)] {
        ssh.put(&file, &bytes, mode).await.unwrap();
        assert!(fs::read(&file).unwrap() == bytes);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
            mode
        );
    }
    let why = refused(ssh.put(&server.text("none/file"), b"", 0o600).await);
    assert!(why.contains("none/file"), "{why}");
    fs::create_dir(server.path("folder")).unwrap();
    fs::create_dir(server.path("folder/file")).unwrap();
    let into = ssh.put(&server.text("folder/file/"), b"", 0o600).await;
    assert!(into.is_err());
    assert_eq!(fs::read_dir(server.path("folder/file")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_of_the_machine_is_forwarded() {
    let server = Server::start();
    let ssh = server.connection();
    echo_at_socket(&server.path("socket"));
    let sent = pattern(6 << 20);
    let stream = ssh.forward_unix(&server.text("socket")).await.unwrap();
    assert!(exchange(stream, &sent).await == sent);
    let why = unreachable(ssh.forward_unix(&server.text("none")).await);
    assert!(why.contains("nothing answers at the socket"), "{why}");
}

#[tokio::test]
async fn a_port_of_the_machine_is_forwarded() {
    let server = Server::start();
    let ssh = server.connection();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    let sent = pattern(1 << 20);
    let stream = ssh.forward_port("127.0.0.1", port).await.unwrap();
    assert!(exchange(stream, &sent).await == sent);
    let why = unreachable(ssh.forward_port("127.0.0.1", port).await);
    assert!(why.contains("nothing answers at 127.0.0.1 port"), "{why}");
}

#[tokio::test]
async fn a_server_that_forbids_forwarding_is_named_with_its_setting() {
    let server = Server::start_with("AllowTcpForwarding no\nAllowStreamLocalForwarding no");
    let ssh = server.connection();
    let why = unreachable(ssh.forward_unix("/run/docker.sock").await);
    assert!(why.contains("AllowStreamLocalForwarding"), "{why}");
    let why = refused(ssh.forward_port("127.0.0.1", 1).await);
    assert!(why.contains("AllowTcpForwarding yes"), "{why}");
}

#[tokio::test]
async fn a_server_that_opens_no_more_sessions_is_named_with_its_setting() {
    let server = Server::start_with("MaxSessions 1");
    let ssh = server.connection();
    let first = ssh.exec("exec cat").await.unwrap();
    let why = unreachable(ssh.exec("exec cat").await);
    assert!(why.contains("MaxSessions"), "{why}");
    drop(first);
}

#[tokio::test]
async fn what_an_image_says_instead_of_running_a_command_is_passed_on() {
    let server = Server::start_with("ForceCommand echo Please login as the user admin; exit 142");
    let why = unreachable(server.connection().prepare().await);
    assert!(why.contains("142. Please login as the user admin"), "{why}");
}

#[tokio::test]
async fn a_place_on_this_host_leads_to_one_on_the_machine() {
    let server = Server::start();
    let ssh = server.connection();
    echo_at_socket(&server.path("socket"));
    let to = FarEnd::Unix(server.text("socket"));
    let tcp = ListenAt::Tcp(([127, 0, 0, 1], 0).into());
    let forward = ssh.listen_local(tcp, to.clone()).await.unwrap();
    let ListenAt::Tcp(address) = *forward.at() else {
        panic!("not a TCP address");
    };
    for sent in [pattern(1 << 20), b"again".to_vec()] {
        let stream = TcpStream::connect(address).await.unwrap();
        assert!(exchange(stream, &sent).await == sent);
    }
    let near = server.path("near");
    let unix = ListenAt::Unix(near.clone());
    let forward = ssh.listen_local(unix, to).await.unwrap();
    assert_eq!(
        fs::metadata(&near).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let stream = UnixStream::connect(&near).await.unwrap();
    assert_eq!(exchange(stream, b"over a socket").await, b"over a socket");
    drop(forward);
    assert!(!near.exists());
}

#[tokio::test]
async fn a_shell_has_a_terminal_of_the_right_size_and_a_connection_of_its_own() {
    let server = Server::start();
    let ssh = server.connection();
    ssh.connect().await.unwrap();
    let terminal = Terminal {
        kind: "xterm".into(),
        columns: 91,
        rows: 37,
    };
    let mut shell = ssh.shell(&terminal).await.unwrap();
    assert_eq!(server.logins(), 2);
    let mut lines = String::new();
    shell.process.stdin.write_all(b"stty size\n").await.unwrap();
    wait_for(&mut shell.process.stdout, &mut lines, "37 91").await;
    shell.resize(92, 38).await.unwrap();
    shell
        .process
        .stdin
        .write_all(b"while [ \"$(stty size)\" != '38 92' ]; do :; done; echo re''sized; exit 5\n")
        .await
        .unwrap();
    wait_for(&mut shell.process.stdout, &mut lines, "resized").await;
    assert_eq!(shell.process.wait().await.unwrap(), 5);
}

async fn wait_for(stream: &mut (impl AsyncRead + Unpin), said: &mut String, what: &str) {
    let mut buffer = [0; 4096];
    while !said.contains(what) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "it ended without {what:?}: {said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn a_changed_host_key_is_refused_until_its_pin_is_removed() {
    let server = Server::start();
    server.connection().connect().await.unwrap();
    let pin = server.host_keys().key_file("m-1");
    let pinned = fs::read_to_string(&pin).unwrap();
    let other = SshKey::load_or_make(&server.path("other.key")).unwrap();
    fs::write(&pin, other.public()).unwrap();
    let why = refused(server.connection().output("touch entered", b"").await);
    assert!(why.contains(&other.fingerprint()), "{why}");
    assert!(why.contains(&format!("remove {}", pin.display())), "{why}");
    fs::remove_file(&pin).unwrap();
    server.connection().connect().await.unwrap();
    assert_eq!(fs::read_to_string(&pin).unwrap(), pinned);
    assert_eq!(server.host_keys().machines().unwrap(), ["m-1"]);
}

#[tokio::test]
async fn a_key_that_is_not_accepted_is_refused_and_pins_nothing() {
    let server = Server::start();
    let key = SshKey::load_or_make(&server.path("other.key")).unwrap();
    let public = key.public();
    let ssh = SshConnection::new(server.target(), key, server.host_keys(), "helper".into());
    let why = refused(ssh.connect().await);
    assert!(why.contains(&public), "{why}");
    assert!(!server.host_keys().key_file("m-1").exists());
}

#[tokio::test]
async fn keys_of_an_operator_are_taken_whatever_their_kind() {
    let server = Server::start();
    let kinds = [
        vec!["-t", "rsa", "-b", "2048", "-m", "PEM"],
        vec!["-t", "ecdsa"],
        vec!["-t", "ed25519"],
    ];
    for (at, kind) in kinds.iter().enumerate() {
        let path = server.path(&format!("operator-{at}"));
        let made = std::process::Command::new("ssh-keygen")
            .args(kind)
            .args(["-q", "-N", "", "-f"])
            .arg(&path)
            .status()
            .expect("ssh-keygen (Debian's package openssh-client)");
        assert!(made.success());
        let key = SshKey::load(&path).unwrap();
        fs::write(server.path("authorized"), key.public()).unwrap();
        let ssh = SshConnection::new(server.target(), key, server.host_keys(), "helper".into());
        ssh.connect()
            .await
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
    let locked = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "a passphrase", "-f"])
        .arg(server.path("locked"))
        .status()
        .unwrap();
    assert!(locked.success());
    let error = SshKey::load(&server.path("locked")).unwrap_err();
    assert!(error.to_string().contains("has a passphrase"), "{error}");
}

#[tokio::test]
async fn what_answers_and_is_no_ssh_server_is_unreachable_in_its_own_time() {
    let mut server = Server::start();
    let port = server.port;
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    server.port = silent.local_addr().unwrap().port();
    let ssh = server.impatient(|times| times.banner = Duration::from_millis(200));
    let begin = Instant::now();
    let why = unreachable(ssh.connect().await);
    assert!(why.contains("sent no SSH banner for 0.2 s"), "{why}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    probe_tcp(&server.target(), Duration::from_secs(5))
        .await
        .unwrap();

    let closing = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    server.port = closing.local_addr().unwrap().port();
    tokio::spawn(async move { drop(closing.accept().await.unwrap()) });
    let why = unreachable(server.connection().connect().await);
    assert!(why.contains("before its SSH banner came"), "{why}");

    let talking = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    server.port = talking.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut stream = talking.accept().await.unwrap().0;
        stream.write_all(b"SSH-2.0-tarpit\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let ssh = server.impatient(|times| times.login = Duration::from_millis(200));
    let why = unreachable(ssh.connect().await);
    assert!(why.contains("took longer than 0.2 s"), "{why}");

    let unused = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    server.port = unused.local_addr().unwrap().port();
    drop(unused);
    unreachable(probe_tcp(&server.target(), Duration::from_secs(5)).await);
    let why = unreachable(server.connection().connect().await);
    assert!(why.contains("connecting to 127.0.0.1:"), "{why}");
    server.port = port;
    server.connection().connect().await.unwrap();
}

#[tokio::test]
async fn a_job_is_followed_on_where_a_cut_left_it() {
    let server = Server::start();
    let client = HelperClient::new(server.connection());
    let go = server.text("go");
    let waits = format!("echo one; while [ ! -e {go} ]; do sleep 0.01; done; echo two");
    client.start(&script(&server, "job", &waits)).await.unwrap();
    let mut follow = client.follow("job", 0).await.unwrap();
    let first = follow.next().await.unwrap();
    assert!(matches!(first, Some(Output::Bytes { offset: 0, .. })));
    server.cut();
    let broken = follow.next().await.unwrap_err();
    assert!(matches!(broken, HelperError::Connect(_)), "{broken}");
    assert!(broken.is_transient());

    let mut again = client.follow("job", follow.offset()).await.unwrap();
    fs::write(&go, "").unwrap();
    let Some(Output::Bytes { offset, bytes }) = again.next().await.unwrap() else {
        panic!("no output");
    };
    assert_eq!((offset, bytes.as_ref()), (4, b"two\n".as_slice()));
    assert_eq!(again.next().await.unwrap(), Some(Output::Ended(DONE)));
    assert_eq!(server.logins(), 2);
}

#[tokio::test]
async fn a_cut_is_told_to_all_that_is_under_way() {
    let server = Server::start();
    let ssh = server.connection();
    let mut process = ssh.exec("exec cat").await.unwrap();
    let listener = UnixListener::bind(server.path("socket")).unwrap();
    let mut stream = ssh.forward_unix(&server.text("socket")).await.unwrap();
    let deaf = listener.accept().await.unwrap();
    // More than every buffer on the way takes, so that a write is under way at the cut.
    let write = tokio::spawn(async move {
        let written = stream.write_all(&pattern(64 << 20)).await;
        (written, stream.read(&mut [0]).await)
    });
    server.cut();
    let why = unreachable(process.wait().await);
    assert!(why.contains("was cut"), "{why}");
    let mut rest = Vec::new();
    process.stdout.read_to_end(&mut rest).await.unwrap();
    let (written, read) = tokio::time::timeout(Duration::from_secs(10), write)
        .await
        .expect("the write hangs")
        .unwrap();
    written.unwrap_err();
    read.unwrap_err();
    drop(deaf);
    assert_eq!(ssh.output("exit 6", b"").await.unwrap().code, 6);
}

#[tokio::test]
async fn a_machine_whose_provider_says_that_it_is_off_is_gone_at_the_next_cut() {
    let server = Server::start();
    let ssh = server.connection();
    let code = async || ssh.output("exit 3", b"").await.map(|ended| ended.code);
    assert_eq!(code().await, Ok(3));
    ssh.set_off(true);
    assert_eq!(code().await, Ok(3), "a connection that lasts is left alone");
    server.cut();
    let gone = code().await.unwrap_err();
    assert!(matches!(gone, ConnectError::Gone { .. }), "{gone:?}");
    assert_eq!(server.logins(), 1, "it was not dialled");
    ssh.set_off(false);
    assert_eq!(code().await, Ok(3));
}

#[tokio::test]
async fn a_machine_that_says_nothing_any_more_is_noticed() {
    let server = Server::start();
    let ssh = server.impatient(|times| {
        times.keepalive = Duration::from_millis(300);
        times.open = Duration::from_secs(600);
    });
    let mut process = ssh.exec("exec cat").await.unwrap();
    until("the session is there", || !server.sessions().is_empty()).await;
    server.signal(Signal::STOP);
    let ended = tokio::time::timeout(Duration::from_secs(20), process.wait()).await;
    let why = unreachable(ended.expect("it was not noticed"));
    assert!(why.contains("was cut"), "{why}");
    assert_eq!(ssh.output("exit 7", b"").await.unwrap().code, 7);
}

#[tokio::test]
async fn a_connection_that_opens_nothing_is_given_up_for_a_new_one() {
    let server = Server::start();
    let ssh = server.impatient(|times| times.open = Duration::from_millis(1500));
    ssh.connect().await.unwrap();
    server.signal(Signal::STOP);
    let why = unreachable(ssh.output("exit 7", b"").await);
    assert!(
        why.contains("opening a session took longer than 1.5 s"),
        "{why}"
    );
    let ssh_again = ssh.output("exit 7", b"").await.unwrap();
    assert_eq!((ssh_again.code, server.logins()), (7, 2));
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_the_others_for_a_while_only() {
    let server = Server::start();
    let ssh = server.impatient(|times| times.stalled = Duration::from_millis(200));
    let mut process = ssh.exec("head -c 100000000 /dev/zero").await.unwrap();
    let other = ssh.output("head -c 3000000 /dev/zero", b"").await.unwrap();
    assert_eq!(other.code, 0);
    let why = unreachable(process.wait().await);
    assert!(why.contains("left unread"), "{why}");
    let mut rest = Vec::new();
    process.stdout.read_to_end(&mut rest).await.unwrap_err();
}
