//! A registry of a test's own on loopback: Debian's `docker-registry`, and the peers' engine that fills
//! it.

use crate::engine::{self, docker};
use anyhow::{Context, Result, bail};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(60);

/// A registry that ends with the test.
pub struct Registry {
    process: Child,
    address: String,
    _files: tempfile::TempDir,
}

impl Registry {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start() -> Result<Registry> {
        let files = tempfile::tempdir()?;
        let address = crate::free_address()?.to_string();
        let config = serde_json::json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": files.path().join("images")}},
            "http": {"addr": address},
        });
        let file = files.path().join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string())?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting docker-registry, which `cargo xtask peers` installs")?;
        let registry = Registry {
            process,
            address,
            _files: files,
        };
        let limit = Instant::now() + START;
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > limit {
                bail!("docker-registry does not answer at {}", registry.address);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(registry)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts an image of the peers' engine into it under a name.
    ///
    /// # Errors
    /// Where the engine has it not, or the registry does not take it.
    pub fn push(&self, image: &str, name: &str) -> Result<()> {
        let socket = engine::socket()?;
        let pushed = format!("{}/{name}", self.address);
        docker(&socket, &["tag", image, &pushed])?;
        docker(&socket, &["push", "--quiet", &pushed])?;
        docker(&socket, &["rmi", &pushed]).map(drop)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
