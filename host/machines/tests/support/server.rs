//! A real OpenSSH server of the test's own.
#![allow(dead_code)]

use rustix::process::{Pid, Signal, kill_process};
use springtide_machines::{HostKeys, SshKey, SshOptions, SshTarget};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// An OpenSSH server for the current user on a free port, and the manager's state. Dropped, it and
/// all its sessions are killed.
pub struct Server {
    pub folder: TempDir,
    pub port: u16,
    user: String,
    sshd: Child,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines for its configuration, which go before ours.
    pub fn start_with(lines: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "there is no {SSHD}: these tests need the real OpenSSH server (Debian's package openssh-server)"
        );
        let folder = tempfile::tempdir().expect("a directory");
        let at = folder.path();
        SshKey::load_or_make(&at.join("host.key")).expect("a host key");
        let key = SshKey::load_or_make(&at.join("ssh.key")).expect("a key");
        fs::write(at.join("authorized"), key.public()).expect("writing the authorized keys");
        fs::write(at.join("sshd_config"), config(at, lines)).expect("writing sshd_config");
        if rustix::process::geteuid().is_root() {
            // An sshd of root's wants it; the Debian package's unit makes it.
            fs::create_dir_all("/run/sshd").expect("making /run/sshd");
        }
        let user = Command::new("id").arg("-un").output().expect("id");
        let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
        let (sshd, port) = listen(at);
        Self {
            folder,
            port,
            user,
            sshd,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub fn host_keys(&self) -> HostKeys {
        HostKeys::new(self.path("host-keys"))
    }

    pub fn key(&self) -> SshKey {
        SshKey::load(&self.path("ssh.key")).expect("the key")
    }

    pub fn target(&self) -> SshTarget {
        SshTarget {
            machine: "m-1".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: self.user.clone(),
        }
    }

    pub fn options(&self) -> SshOptions {
        SshOptions {
            homes: vec![self.text("home")],
            ..SshOptions::default()
        }
    }

    /// How many logins it has seen.
    pub fn logins(&self) -> usize {
        let log = fs::read_to_string(self.path("sshd.log")).expect("sshd's log");
        log.matches("Accepted publickey").count()
    }

    /// The processes that serve its connections: for each, one or, with privileges separated, two.
    pub fn sessions(&self) -> Vec<Pid> {
        let mut found = children(self.sshd.id());
        let mut seen = 0;
        while let Some(session) = found.get(seen) {
            seen += 1;
            found.extend(children(session.as_raw_nonzero().get().unsigned_abs()));
        }
        found
    }

    /// Cuts all connections. What runs behind them goes on.
    pub fn cut(&self) {
        let sessions = self.sessions();
        assert!(!sessions.is_empty(), "there is no connection to cut");
        self.signal(Signal::KILL);
    }

    /// Has it and all connections fall silent, as where the machine's network is gone.
    pub fn silence(&self) {
        let sshd = i32::try_from(self.sshd.id()).ok().and_then(Pid::from_raw);
        kill_process(sshd.expect("a pid"), Signal::STOP).expect("stopping sshd");
        self.signal(Signal::STOP);
    }

    pub fn signal(&self, signal: Signal) {
        for session in self.sessions() {
            match kill_process(session, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => panic!("signalling a session: {error}"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.sshd.kill().expect("killing sshd");
        self.sshd.wait().expect("waiting for sshd");
    }
}

fn config(at: &Path, lines: &str) -> String {
    let at = at.display();
    format!(
        "{lines}\n\
         ListenAddress 127.0.0.1\n\
         HostKey {at}/host.key\n\
         AuthorizedKeysFile {at}/authorized\n\
         AuthenticationMethods publickey\n\
         StrictModes no\n\
         UsePAM no\n\
         PidFile none\n\
         LogLevel VERBOSE\n\
         MaxStartups 100\n\
         Subsystem sftp internal-sftp\n"
    )
}

/// Starts it, on another port where one that was free is not any more.
fn listen(at: &Path) -> (Child, u16) {
    for _ in 0..5 {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let mut sshd = Command::new(SSHD)
            .arg("-D")
            .arg("-f")
            .arg(at.join("sshd_config"))
            .arg("-E")
            .arg(at.join("sshd.log"))
            .args(["-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting sshd");
        let limit = Instant::now() + Duration::from_secs(20);
        while sshd.try_wait().expect("asking for sshd").is_none() && Instant::now() < limit {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return (sshd, port);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let log = fs::read_to_string(at.join("sshd.log")).unwrap_or_default();
    panic!("sshd does not start:\n{log}");
}

/// A process's children that are sshds.
fn children(parent: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let processes = fs::read_dir("/proc").expect("/proc");
    for entry in processes.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        if name.contains("(sshd") && rest.split(' ').nth(1) == Some(&parent.to_string()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}
