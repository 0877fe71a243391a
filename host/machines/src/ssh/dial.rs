//! The way to a connection: TCP, the server's banner, keys, login; each with a clock of its own.

use super::connection::SshTarget;
use super::host_keys::HostKeys;
use super::key::SshKey;
use crate::connection::ConnectError;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, cipher};
use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long each part of the way may take.
#[derive(Clone, Copy, Debug)]
pub struct SshTimes {
    /// For the TCP connection.
    pub connect: Duration,
    /// For the first byte of the server's banner, which some servers that can't serve never send.
    pub banner: Duration,
    /// For the exchange of keys, and again for the login.
    pub login: Duration,
    /// For the opening of a channel: a connection that is this slow is given up.
    pub open: Duration,
    /// After this long without a word the server is asked whether it is there; three questions
    /// without an answer end the connection.
    pub keepalive: Duration,
    /// How long a reader may leave 4 MiB of a command's output or of a stream unread, which holds up
    /// all else on the machine, before that command or stream is closed.
    pub stalled: Duration,
}

impl Default for SshTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            banner: Duration::from_secs(15),
            login: Duration::from_secs(20),
            open: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
            stalled: Duration::from_secs(30),
        }
    }
}

/// Whether something takes TCP connections at a target: the first sign that a machine has booted.
///
/// # Errors
/// [`ConnectError::Unreachable`] where nothing does within that time.
pub async fn probe_tcp(target: &SshTarget, within: Duration) -> Result<(), ConnectError> {
    tcp(target, within).await.map(drop)
}

/// A connection that is logged in.
pub(super) async fn dial(
    target: &SshTarget,
    key: &SshKey,
    host_keys: &HostKeys,
    times: &SshTimes,
) -> Result<Handle<Client>, ConnectError> {
    let pinned = pinned(target, host_keys).await?;
    let stream = tcp(target, times.connect).await?;
    stream
        .set_nodelay(true)
        .map_err(|error| target.unreachable(format!("setting up the connection: {error}")))?;
    banner(target, &stream, times.banner).await?;
    let config = config(times, pinned.as_ref());
    let offered = Arc::default();
    let client = Client {
        pinned: pinned.clone(),
        offered: Arc::clone(&offered),
    };
    let shaken = client::connect_stream(Arc::new(config), stream, client);
    let shaken = within(target, times.login, "the exchange of keys", shaken).await?;
    let mut handle = shaken.map_err(|broke| match broke {
        Broke::HostKey { offered } => changed(target, host_keys, pinned.as_ref(), &offered),
        Broke::Ssh(error) => {
            target.unreachable(format!("exchanging keys with {}: {error}", target.place()))
        }
    })?;
    let login = login(target, key, &mut handle);
    within(target, times.login, "the login", login).await??;
    // Pinned now and not before: until the login is done, whoever answers may be another machine.
    if pinned.is_none() {
        let offered = offered.get().cloned().ok_or_else(|| {
            target.unreachable(format!("{} has shown no host key", target.place()))
        })?;
        let pinned = pin(target, host_keys, offered.clone()).await?;
        if pinned.key_data() != offered.key_data() {
            return Err(changed(target, host_keys, Some(&pinned), &offered));
        }
        let key = fingerprint(&pinned);
        tracing::info!(machine = target.machine, key, "its host key is pinned");
    }
    Ok(handle)
}

async fn tcp(target: &SshTarget, limit: Duration) -> Result<TcpStream, ConnectError> {
    let connect = TcpStream::connect((target.host.as_str(), target.port));
    within(target, limit, "a TCP connection", connect)
        .await?
        .map_err(|error| target.unreachable(format!("connecting to {}: {error}", target.place())))
}

async fn banner(
    target: &SshTarget,
    stream: &TcpStream,
    limit: Duration,
) -> Result<(), ConnectError> {
    let heard = timeout(limit, stream.peek(&mut [0])).await;
    let why = match heard {
        Ok(Ok(1..)) => return Ok(()),
        Ok(Ok(0)) => "closed the connection before its SSH banner came".to_owned(),
        Ok(Err(error)) => format!("broke the connection before its SSH banner came: {error}"),
        Err(_) => format!(
            "took the connection and sent no SSH banner for {} s",
            limit.as_secs_f32()
        ),
    };
    Err(target.unreachable(format!("{} {why}", target.place())))
}

async fn login(
    target: &SshTarget,
    key: &SshKey,
    handle: &mut Handle<Client>,
) -> Result<(), ConnectError> {
    let broken = |error: russh::Error| {
        target.unreachable(format!("logging in to {}: {error}", target.place()))
    };
    let private = key.private();
    let hash = match private.algorithm().is_rsa() {
        // A server that says nothing of hashes is an old one that most likely knows SHA-2.
        true => match handle.best_supported_rsa_hash().await.map_err(broken)? {
            Some(best) => best,
            None => Some(HashAlg::Sha512),
        },
        false => None,
    };
    let key_and_hash = PrivateKeyWithHashAlg::new(private, hash);
    let answer = handle
        .authenticate_publickey(&target.user, key_and_hash)
        .await
        .map_err(broken)?;
    match answer {
        AuthResult::Success => Ok(()),
        AuthResult::Failure {
            partial_success: true,
            ..
        } => Err(target.refused(format!(
            "it wants more than a key from {}: let the key alone be enough for that user",
            target.user
        ))),
        AuthResult::Failure { .. } if handle.is_closed() => {
            Err(target.unreachable(format!("{} closed the connection at the login", target.place())))
        }
        AuthResult::Failure { .. } => Err(target.refused(format!(
            "it does not accept the key {} for the user {} at {}: is that the image's user, and is `{}` in its authorized_keys?",
            key.fingerprint(),
            target.user,
            target.place(),
            key.public(),
        ))),
    }
}

/// A future under a clock.
async fn within<T>(
    target: &SshTarget,
    limit: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    timeout(limit, future).await.map_err(|_| {
        target.unreachable(format!(
            "{what} with {} took longer than {} s",
            target.place(),
            limit.as_secs_f32()
        ))
    })
}

fn config(times: &SshTimes, pinned: Option<&PublicKey>) -> client::Config {
    let mut keys = Preferred::DEFAULT.key.into_owned();
    if let Some(pinned) = pinned {
        // A server that has got a second host key since shows the one we know.
        let kind = pinned.algorithm();
        keys.sort_by_key(|algorithm| match (algorithm, &kind) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => false,
            _ => *algorithm != kind,
        });
    }
    client::Config {
        keepalive_interval: Some(times.keepalive),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred {
            key: Cow::Owned(keys),
            // Several times as fast as the usual first choice where the processor knows AES.
            cipher: Cow::Borrowed(&[
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
            ]),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

async fn pinned(
    target: &SshTarget,
    host_keys: &HostKeys,
) -> Result<Option<PublicKey>, ConnectError> {
    let (keys, machine) = (host_keys.clone(), target.machine.clone());
    on_files(target, "looking for its pinned host key", move || {
        keys.pinned(&machine)
    })
    .await
}

async fn pin(
    target: &SshTarget,
    host_keys: &HostKeys,
    key: PublicKey,
) -> Result<PublicKey, ConnectError> {
    let (keys, machine) = (host_keys.clone(), target.machine.clone());
    on_files(target, "pinning its host key", move || {
        keys.pin(&machine, &key)
    })
    .await
}

/// Work on this host's files, off the threads that must not block.
pub(super) async fn on_files<T: Send + 'static>(
    target: &SshTarget,
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ConnectError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| target.unreachable(format!("{what}: {error}")))
}

fn changed(
    target: &SshTarget,
    host_keys: &HostKeys,
    pinned: Option<&PublicKey>,
    offered: &PublicKey,
) -> ConnectError {
    let was = pinned.map_or_else(String::new, |key| {
        format!(", and was {} at first contact", fingerprint(key))
    });
    target.refused(format!(
        "the host key at {} is {}{was}: another machine answers there, or someone in between. If the machine was set up anew, remove {} to pin the new key",
        target.place(),
        fingerprint(offered),
        host_keys.key_file(&target.machine).display(),
    ))
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// What russh asks of us.
#[derive(Debug)]
pub(super) struct Client {
    pinned: Option<PublicKey>,
    offered: Arc<OnceLock<PublicKey>>,
}

/// Why a connection was not made.
#[derive(Debug)]
pub(super) enum Broke {
    /// The server's key is not the one that is pinned.
    HostKey { offered: Box<PublicKey> },
    /// Anything else.
    Ssh(russh::Error),
}

impl From<russh::Error> for Broke {
    fn from(error: russh::Error) -> Self {
        Broke::Ssh(error)
    }
}

impl client::Handler for Client {
    type Error = Broke;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Broke> {
        let offered = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone(),
            PublicKeyOrCertificate::Certificate(certificate) => {
                PublicKey::new(certificate.public_key().clone(), "")
            }
        };
        // Asked again when keys are exchanged anew: then the first counts as pinned.
        let known = self.pinned.as_ref().or_else(|| self.offered.get());
        if known.is_some_and(|known| known.key_data() != offered.key_data()) {
            let offered = Box::new(offered);
            return Err(Broke::HostKey { offered });
        }
        self.offered.get_or_init(|| offered);
        Ok(true)
    }
}
