//! A certificate for loopback by an authority nobody knows, and the server's end of a connection with it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Identity {
    /// The authority's certificate, PEM.
    pub ca: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    /// One for a host.
    pub fn of(host: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = KeyPair::generate().unwrap();
        let ca = params.self_signed(&authority).unwrap().pem();
        let issuer = Issuer::new(params, authority);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap().der().clone();
        Self {
            ca,
            certificate,
            key,
        }
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key);
        Arc::new(config.unwrap())
    }
}

/// How long a reader has the connection to itself.
const TURN: Duration = Duration::from_millis(10);

/// One connection, of which its reader and its writer have a copy each.
#[derive(Clone)]
pub struct TlsStream(Arc<Mutex<StreamOwned<ServerConnection, TcpStream>>>);

impl TlsStream {
    pub fn new(config: Arc<ServerConfig>, stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TURN)).unwrap();
        let connection = ServerConnection::new(config).unwrap();
        Self(Arc::new(Mutex::new(StreamOwned::new(connection, stream))))
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::ErrorKind::{TimedOut, WouldBlock};
        loop {
            match self.0.lock().unwrap().read(buffer) {
                Err(error) if matches!(error.kind(), TimedOut | WouldBlock) => {}
                done => return done,
            }
            // Who waits to write is let in.
            std::thread::yield_now();
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.0.lock().unwrap();
        let written = stream.write(bytes)?;
        stream.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}
