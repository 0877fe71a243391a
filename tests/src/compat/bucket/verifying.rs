//! A bucket of a server that verifies signatures (s3s): its objects are files.

use super::{ACCESS, NAME, SECRET};
use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A bucket of a server that verifies signatures.
pub struct VerifyingBucket {
    address: String,
    root: TempDir,
}

impl VerifyingBucket {
    pub(super) async fn start(host: Ipv4Addr) -> Result<VerifyingBucket> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join(NAME))?;
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let files = s3s_fs::FileSystem::new(root.path())
            .map_err(|error| anyhow::anyhow!("making the bucket's server: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS, SECRET));
        let service = builder.build();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service);
                    // A client that went away is no matter.
                    drop(connection.await);
                });
            }
        });
        Ok(VerifyingBucket { address, root })
    }

    pub(super) fn host(&self) -> String {
        self.address.clone()
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join(NAME)
    }

    pub(super) fn keys(&self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        walk(&self.folder(), "", &mut keys).context("listing the bucket's files")?;
        keys.sort();
        Ok(keys)
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder().join(key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, bytes)?)
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder().join(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn walk(folder: &Path, before: &str, keys: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let key = format!("{before}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), &format!("{key}/"), keys)?,
            false => keys.push(key),
        }
    }
    Ok(())
}
