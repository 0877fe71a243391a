//! moto as a process of a test's own.

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A moto that ends with the test.
pub(crate) struct Moto {
    address: SocketAddr,
    venv: PathBuf,
    _process: Child,
}

/// How long it may take to start: Python reads the whole model first.
const START: Duration = Duration::from_secs(120);

impl Moto {
    pub(crate) async fn start() -> Result<Moto> {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// One that listens at an address of this host.
    pub(crate) async fn start_at(host: Ipv4Addr) -> Result<Moto> {
        let venv = crate::peers()?.join("moto/venv");
        let server = venv.join("bin/moto_server");
        if !server.exists() {
            bail!(
                "{} is missing; run `cargo xtask test`, which sets it up",
                server.display()
            );
        }
        let address = SocketAddr::new(host.into(), crate::free_address()?.port());
        let mut process = Command::new(&server)
            .args(["--host", &host.to_string(), "--port"])
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", server.display()))?;
        let begun = tokio::time::Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = process.try_wait()? {
                bail!("moto ended with {status} before it answered");
            }
            if begun.elapsed() > START {
                bail!("moto does not answer at {address}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Moto {
            address,
            venv,
            _process: process,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.venv.join("bin/python")
    }
}
