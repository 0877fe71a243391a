//! The session server: where GitLab comes for the terminal of a job that runs here.
//!
//! Every request for a job carries an address of its own and a word that has to be said there; GitLab
//! pins the certificate that comes along, which is made anew at each start. What a person types goes to
//! a shell in the job's container and back, as binary messages of a web socket (GitLab Workhorse's
//! `terminal.gitlab.com`). GitLab decides who is let in.

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use springtide_config::SessionServer;
use springtide_gitlab::SessionInfo;
use springtide_jobs::{Door, NoEntry, Visit};
use springtide_machines::ByteStream;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

/// How long a person waits for a job's container, as at GitLab Runner.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a connection may take to speak TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections that speak TLS at a time.
const HANDSHAKES: usize = 64;

/// What GitLab asks to speak.
const PROTOCOL: &str = "terminal.gitlab.com";

/// A message from GitLab, in bytes at most.
const PASTE: usize = 4 << 20;

/// A message to GitLab, in bytes at most.
const MESSAGE: usize = 16 << 10;

/// The sessions of all jobs. Clones share everything.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    base: String,
    certificate: String,
    open: Mutex<HashMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    /// SHA-256 of what has to be said: comparing digests tells nothing of it.
    word: [u8; 32],
    door: Door,
}

/// The session of one job, or of a request for one. Dropped, its address is gone and its door shut.
pub struct Session {
    sessions: Sessions,
    id: String,
    word: SecretString,
    door: Door,
}

impl Sessions {
    /// Listens, until the program ends.
    ///
    /// # Errors
    /// Where the address can't be listened on.
    pub async fn serve(settings: &SessionServer) -> Result<Sessions> {
        let listen = &settings.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("listening for terminals at {listen}; give `listen_address` of [session_server] another port")
        })?;
        let host = host_of(&settings.advertise).to_owned();
        let made = rcgen::generate_simple_self_signed(vec![host])
            .context("making the certificate of the session server")?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|why| anyhow::anyhow!("making the key of the session server: {why}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config
                    .with_no_client_auth()
                    .with_single_cert(vec![made.cert.der().clone()], key)
            })
            .context("preparing the session server")?;
        let sessions = Sessions(Arc::new(Inner {
            base: format!("https://{}/session", settings.advertise),
            certificate: made.cert.pem(),
            open: Mutex::default(),
        }));
        let router = Router::new()
            .route("/session/{id}/exec", get(enter))
            .with_state(sessions.clone());
        let address = listener
            .local_addr()
            .context("the session server's address")?;
        tracing::info!(%address, advertised = settings.advertise, "terminals of jobs are served");
        let accepted = accept(listener, TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            let listener = Accepted { accepted, address };
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "terminals are no longer served");
            }
        });
        Ok(sessions)
    }

    /// A session for the job that a request may bring.
    #[must_use]
    pub fn begin(&self) -> Session {
        let id = Uuid::new_v4().simple().to_string();
        let word = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let door = Door::default();
        let known = Known {
            word: Sha256::digest(&word).into(),
            door: door.clone(),
        };
        self.open().insert(id.clone(), known);
        Session {
            sessions: self.clone(),
            id,
            word: word.into(),
            door,
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What GitLab is told of it.
    #[must_use]
    pub fn info(&self) -> SessionInfo {
        SessionInfo {
            url: format!("{}/{}", self.sessions.0.base, self.id),
            certificate: self.sessions.0.certificate.clone(),
            authorization: self.word.expose_secret().to_owned().into(),
        }
    }

    /// The job's door.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.open().remove(&self.id);
        self.door.shut();
    }
}

/// The host of `host:port`, as a certificate names it.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Connections that speak TLS; one that does not holds up no other.
fn accept(listener: TcpListener, tls: TlsAcceptor) -> mpsc::Receiver<Connected> {
    let (to, accepted) = mpsc::channel(HANDSHAKES);
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        while let Ok(one) = Arc::clone(&room).acquire_owned().await {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Of a connection that is gone, or for want of descriptors.
                    tracing::warn!(%error, "a connection for a terminal was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, to) = (tls.clone(), to.clone());
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
                drop(one);
                if let Ok(Ok(stream)) = shaken {
                    to.send((stream, from)).await.ok();
                }
            });
        }
    });
    accepted
}

type Connected = (TlsStream<TcpStream>, SocketAddr);

struct Accepted {
    accepted: mpsc::Receiver<Connected>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connected {
        match self.accepted.recv().await {
            Some(connected) => connected,
            // Its task died; the server stays, for who is in.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The answers are GitLab Runner's.
async fn enter(
    State(sessions): State<Sessions>,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(known) = sessions.open().get(&id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let said = headers.get(header::AUTHORIZATION);
    let said = said.map(|said| Sha256::digest(said.as_bytes()).into());
    if said != Some(known.word) {
        tracing::warn!("somebody without the right word asked for a job's terminal");
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(upgrade) = upgrade else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    match known.door.enter(PATIENCE).await {
        Ok((visit, terminal)) => upgrade
            .protocols([PROTOCOL])
            .max_message_size(PASTE)
            .on_upgrade(move |socket| attend(socket, terminal, visit)),
        Err(NoEntry::NotOpen) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(NoEntry::Taken) => StatusCode::LOCKED.into_response(),
        Err(NoEntry::Failed(why)) => {
            tracing::warn!(why, "a job's terminal could not be started");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Passes on what is typed and shown, until either end leaves or the door is shut. Neither way waits
/// for the other: a shell that is pasted into shows as much.
async fn attend(socket: WebSocket, terminal: ByteStream, visit: Visit) {
    let (mut shown, mut typed) = tokio::io::split(terminal);
    let (mut to, mut from) = socket.split();
    let typing = async {
        while let Some(Ok(message)) = from.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => break,
            };
            if typed.write_all(&bytes).await.is_err() || typed.flush().await.is_err() {
                break;
            }
        }
    };
    let showing = async {
        let mut buffer = vec![0; MESSAGE];
        while let Ok(count @ 1..) = shown.read(&mut buffer).await {
            let bytes = buffer[..count].to_vec();
            if to.send(Message::Binary(bytes.into())).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = typing => {}
        () = showing => {}
        () = visit.shut() => {}
    }
    // Who is gone hears it no more.
    to.send(Message::Close(None)).await.ok();
}
