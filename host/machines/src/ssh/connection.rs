//! A machine over SSH, as everything else sees it.

use super::channel::{Purpose, Streams, streams};
use super::dial::{Client, SshTimes, dial};
use super::forward::FarEnd;
use super::host_keys::HostKeys;
use super::install::{Installed, install};
use super::key::SshKey;
use super::process::{CommandOutput, SshProcess, helper_process};
use super::shell::{Shell, Terminal, open_shell};
use super::stream::SshStream;
use crate::connection::{ByteStream, ConnectError, Connection, HelperProcess};
use async_trait::async_trait;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelOpenFailure, Disconnect};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use uuid::Uuid;

/// Where a machine's sshd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshTarget {
    /// The machine's name, which its host key is pinned under.
    pub machine: String,
    /// An address or a name.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
}

/// What may be chosen of a connection.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// How long each part of the way may take.
    pub times: SshTimes,
    /// Where the machine's home may be: the first directory that can be written to. One that is
    /// not absolute is under the user's home directory.
    pub homes: Vec<String>,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            times: SshTimes::default(),
            homes: vec!["/var/lib/springtide".into(), "springtide".into()],
        }
    }
}

/// A machine over SSH. It connects when something is first asked of it, and again after a cut.
pub struct SshConnection {
    target: SshTarget,
    key: SshKey,
    host_keys: HostKeys,
    helper: PathBuf,
    options: SshOptions,
    link: Mutex<Arc<OnceCell<Arc<Link>>>>,
    home: OnceLock<String>,
    mark: Uuid,
    /// Whether its provider says that it is off.
    off: AtomicBool,
}

/// What a channel leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The machine's sshd itself, for a command.
    Session,
    /// Something beyond it.
    To(FarEnd),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Session => f.write_str("a session"),
            Way::To(far) => far.fmt(f),
        }
    }
}

/// One connection, from its login to its cut.
pub(super) struct Link {
    pub(super) handle: Handle<Client>,
    installed: OnceCell<Installed>,
}

impl SshTarget {
    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    pub(super) fn unreachable(&self, why: impl Into<String>) -> ConnectError {
        ConnectError::Unreachable {
            machine: format!("machine {}", self.machine),
            why: why.into(),
        }
    }

    fn gone(&self, why: impl Into<String>) -> ConnectError {
        ConnectError::Gone {
            machine: format!("machine {}", self.machine),
            why: why.into(),
        }
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> ConnectError {
        ConnectError::Refused {
            machine: format!("machine {}", self.machine),
            why: why.into(),
        }
    }
}

impl SshConnection {
    /// A machine by where its sshd is, the key to log in with, the pinned host keys, and the helper
    /// binary on this host that is put on it.
    #[must_use]
    pub fn new(target: SshTarget, key: SshKey, host_keys: HostKeys, helper: PathBuf) -> Arc<Self> {
        Self::with_options(target, key, host_keys, helper, SshOptions::default())
    }

    /// As [`new`](Self::new), with other options. Both look for a small file: the home that was found
    /// at an earlier login.
    #[must_use]
    pub fn with_options(
        target: SshTarget,
        key: SshKey,
        host_keys: HostKeys,
        helper: PathBuf,
        options: SshOptions,
    ) -> Arc<Self> {
        let home = OnceLock::new();
        if let Some(known) = host_keys.home(&target.machine) {
            home.get_or_init(|| known);
        }
        Arc::new(Self {
            target,
            key,
            host_keys,
            helper,
            options,
            link: Mutex::default(),
            home,
            mark: Uuid::new_v4(),
            off: AtomicBool::new(false),
        })
    }

    /// Where this leads.
    #[must_use]
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Takes note of what the machine's provider says of it. One that is off is not dialled any more: it
    /// is [`ConnectError::Gone`], so that nobody waits for it. A connection that lasts is left alone.
    pub fn set_off(&self, off: bool) {
        self.off.store(off, Ordering::Relaxed);
    }

    /// Logs in, if that is not done yet.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] where nothing answers as it should,
    /// [`ConnectError::Refused`] where the key is not accepted (which during a first boot may change
    /// yet) or the host key is another than at first contact.
    pub async fn connect(&self) -> Result<(), ConnectError> {
        self.link().await.map(drop)
    }

    /// Puts the helper on the machine, if it is not there yet, and finds its home; from then on
    /// [`home`](Connection::home) is known.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); and [`ConnectError::Refused`] where the machine has no place
    /// for it or can't run it.
    pub async fn prepare(&self) -> Result<(), ConnectError> {
        self.over(async |link| self.installed(&link).await.map(drop))
            .await
    }

    /// Starts a command under the user's login shell. Nothing secret is in it: others on the
    /// machine can read it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and where the command can't be started.
    pub async fn exec(&self, command: &str) -> Result<SshProcess, ConnectError> {
        let channel = self.channel(&Way::Session).await?;
        self.start(&channel, command).await?;
        let streams = self.streams(channel, Purpose::Command);
        Ok(SshProcess::new(self.target.clone(), streams))
    }

    /// Runs a command to its end: its exit code, and what it put out, 1 MiB of each stream at most.
    ///
    /// # Errors
    /// As [`exec`](Self::exec), and where the connection is cut before the end.
    pub async fn output(&self, command: &str, input: &[u8]) -> Result<CommandOutput, ConnectError> {
        self.exec(command).await?.output(input).await
    }

    /// Opens a stream to a unix socket on the machine.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`ConnectError::Unreachable`] where nothing listens there, or
    /// the machine's sshd forbids it.
    pub async fn forward_unix(&self, path: &str) -> Result<SshStream, ConnectError> {
        self.forward(FarEnd::Unix(path.to_owned())).await
    }

    /// Opens a stream to a TCP port as the machine sees it.
    ///
    /// # Errors
    /// As [`forward_unix`](Self::forward_unix); but [`ConnectError::Refused`] where the machine's
    /// sshd forbids it.
    pub async fn forward_port(&self, host: &str, port: u16) -> Result<SshStream, ConnectError> {
        let host = host.to_owned();
        self.forward(FarEnd::Port { host, port }).await
    }

    /// A shell for a person at a terminal. It has a connection of its own, for a terminal may stand
    /// still.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn shell(&self, terminal: &Terminal) -> Result<Shell, ConnectError> {
        let link = self.dial().await?;
        open_shell(&self.target, link, terminal, self.stalled()).await
    }

    /// Ends the connection, if there is one. The next call makes a new one.
    pub async fn close(&self) {
        let slot = std::mem::take(&mut *self.slot());
        if let Some(link) = slot.get() {
            let left = link
                .handle
                .disconnect(Disconnect::ByApplication, "", "")
                .await;
            if let Err(error) = left {
                tracing::debug!(machine = self.target.machine, %error, "it was cut already");
            }
        }
    }

    pub(super) async fn forward(&self, to: FarEnd) -> Result<SshStream, ConnectError> {
        let channel = self.channel(&Way::To(to)).await?;
        Ok(SshStream::new(channel, self.stalled()))
    }

    pub(super) fn streams(&self, channel: Channel<Msg>, purpose: Purpose) -> Streams {
        streams(channel, purpose, self.stalled()).0
    }

    /// What tells this connection's unfinished files from those of others.
    pub(super) fn mark(&self) -> impl fmt::Display {
        self.mark.simple()
    }

    pub(super) fn stalled(&self) -> Duration {
        self.options.times.stalled
    }

    pub(super) async fn channel(&self, to: &Way) -> Result<Channel<Msg>, ConnectError> {
        self.over(async |link| self.open(&link, to).await).await
    }

    /// Asks for a command on a channel. Whether it was started is told by how the channel goes on.
    pub(super) async fn start(
        &self,
        channel: &Channel<Msg>,
        command: &str,
    ) -> Result<(), ConnectError> {
        channel.exec(true, command).await.map_err(|error| {
            self.target
                .unreachable(format!("starting a command there: {error}"))
        })
    }

    pub(super) async fn open(&self, link: &Link, to: &Way) -> Result<Channel<Msg>, ConnectError> {
        let handle = &link.handle;
        let limit = self.options.times.open;
        let opened = timeout(limit, async {
            match to {
                Way::Session => handle.channel_open_session().await,
                Way::To(FarEnd::Unix(path)) => handle.channel_open_direct_streamlocal(path).await,
                Way::To(FarEnd::Port { host, port }) => {
                    let (host, port) = (host.as_str(), u32::from(*port));
                    handle
                        .channel_open_direct_tcpip(host, port, "127.0.0.1", 0)
                        .await
                }
            }
        })
        .await;
        let target = &self.target;
        match opened {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(russh::Error::ChannelOpenFailure(failure))) => {
                Err(not_opened(target, to, &failure))
            }
            Ok(Err(error)) => Err(target.unreachable(format!("opening {to}: {error}"))),
            Err(_) => {
                self.give_up(link);
                Err(target.unreachable(format!(
                    "opening {to} took longer than {} s",
                    limit.as_secs_f32()
                )))
            }
        }
    }

    /// Does something over the connection; once more over a new one where the connection turns out
    /// to have been cut. What is done must be the opening of a channel, or bear being repeated.
    async fn over<T, F>(&self, act: impl Fn(Arc<Link>) -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let link = self.link().await?;
        match act(Arc::clone(&link)).await {
            Err(_) if link.handle.is_closed() => act(self.link().await?).await,
            done => done,
        }
    }

    async fn link(&self) -> Result<Arc<Link>, ConnectError> {
        let slot = {
            let mut slot = self.slot();
            if slot.get().is_some_and(|link| link.handle.is_closed()) {
                *slot = Arc::default();
            }
            Arc::clone(&slot)
        };
        // Callers that come while it is made wait for the same connection.
        slot.get_or_try_init(|| self.dial()).await.cloned()
    }

    async fn dial(&self) -> Result<Arc<Link>, ConnectError> {
        if self.off.load(Ordering::Relaxed) {
            return Err(self
                .target
                .gone("its provider says that it is switched off"));
        }
        let times = &self.options.times;
        let handle = dial(&self.target, &self.key, &self.host_keys, times).await?;
        Ok(Arc::new(Link {
            handle,
            installed: OnceCell::new(),
        }))
    }

    fn give_up(&self, link: &Link) {
        let mut slot = self.slot();
        if slot
            .get()
            .is_some_and(|held| std::ptr::eq(&raw const **held, link))
        {
            *slot = Arc::default();
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Arc<OnceCell<Arc<Link>>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn installed<'a>(&self, link: &'a Link) -> Result<&'a Installed, ConnectError> {
        let homes = match self.home.get() {
            Some(known) => std::slice::from_ref(known),
            None => &self.options.homes,
        };
        let install = || install(self, link, &self.helper, homes);
        let installed = link.installed.get_or_try_init(install).await?;
        if self.home.get().is_none() {
            let (keys, machine) = (self.host_keys.clone(), self.target.machine.clone());
            let home = installed.home.clone();
            super::dial::on_files(&self.target, "remembering its home", move || {
                keys.keep_home(&machine, &home)
            })
            .await?;
            self.home.get_or_init(|| installed.home.clone());
        }
        Ok(installed)
    }
}

fn not_opened(target: &SshTarget, to: &Way, failure: &ChannelOpenFailure) -> ConnectError {
    match (failure, to) {
        (ChannelOpenFailure::AdministrativelyProhibited, Way::To(FarEnd::Port { .. })) => target.refused(
            format!("its sshd forbids {to}: set AllowTcpForwarding yes in sshd_config there"),
        ),
        (ChannelOpenFailure::ConnectFailed, Way::Session) => target.unreachable(
            "its sshd opens no more sessions on this connection: MaxSessions in sshd_config there is too low",
        ),
        (ChannelOpenFailure::ConnectFailed, Way::To(FarEnd::Port { .. })) => {
            target.unreachable(format!("nothing answers at {to} there"))
        }
        // OpenSSH says the same of one it forbids.
        (ChannelOpenFailure::ConnectFailed, Way::To(FarEnd::Unix(_))) => target.unreachable(format!(
            "nothing answers at {to} there that {} may use, or its sshd forbids it (AllowStreamLocalForwarding in sshd_config)",
            target.user
        )),
        _ => target.unreachable(format!("its sshd did not open {to}: {failure:?}")),
    }
}

#[async_trait]
impl Connection for SshConnection {
    async fn helper(&self, arguments: &[&str]) -> Result<HelperProcess, ConnectError> {
        let (channel, command) = self
            .over(async |link| {
                let installed = self.installed(&link).await?;
                let channel = self.open(&link, &Way::Session).await?;
                Ok((channel, installed.command(arguments)))
            })
            .await?;
        self.start(&channel, &command).await?;
        let streams = self.streams(channel, Purpose::Helper);
        Ok(helper_process(self.target.clone(), streams))
    }

    /// Known from the first time the helper was started there; before that, the first of the
    /// options.
    fn home(&self) -> &str {
        match (self.home.get(), self.options.homes.first()) {
            (Some(home), _) | (None, Some(home)) => home,
            (None, None) => "/",
        }
    }

    async fn socket(&self, path: &str) -> Result<ByteStream, ConnectError> {
        Ok(Box::new(self.forward_unix(path).await?))
    }

    async fn helper_path(&self) -> Result<String, ConnectError> {
        self.over(async |link| Ok(self.installed(&link).await?.path()))
            .await
    }

    fn shares_engine(&self) -> bool {
        false
    }
}

impl fmt::Debug for SshConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SshConnection({} as {} at {})",
            self.target.machine,
            self.target.user,
            self.target.place()
        )
    }
}
