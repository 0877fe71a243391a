//! A machine's container engine: each call with a deadline, each failure told apart.

mod error;

pub(crate) use error::EngineError;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ImageInspect, NetworkCreateRequest,
    VolumeCreateRequest,
};
use bollard::query_parameters as query;
use bollard::{BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use springtide_machines::Connection;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::OnceCell;

/// What a command in a container puts out.
pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// The input of a command in a container.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Where an engine listens that nothing else is said of.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// How long a call may take that changes little.
pub(super) const QUICK: Duration = Duration::from_secs(60);

/// How long a call may take that makes or removes a container or a volume.
pub(super) const SLOW: Duration = Duration::from_secs(180);

/// The header that a login at a registry is in.
const LOGIN: &str = "x-registry-auth";

/// How long bollard itself waits for the head of an answer; ours are shorter.
const LONGEST: u64 = 600;

/// The newest version of the API that is spoken, from which it is agreed downwards.
const NEWEST: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 44,
};

/// A machine's engine.
#[derive(Clone)]
pub(crate) struct Engine {
    machine: Arc<dyn Connection>,
    socket: String,
    client: Arc<OnceCell<Docker>>,
    /// How long it may take to say which API it speaks.
    patience: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?}, {})", self.machine, self.socket)
    }
}

/// A request over a connection of its own, which is the machine's to make.
async fn send(
    machine: Arc<dyn Connection>,
    socket: String,
    request: BollardRequest,
) -> Result<hyper::Response<hyper::body::Incoming>, Error> {
    let stream = machine
        .socket(&socket)
        .await
        .map_err(std::io::Error::other)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an engine broke");
        }
    });
    let (mut parts, body) = request.into_parts();
    parts
        .headers
        .insert(HOST, HeaderValue::from_static("docker"));
    // An engine wants the alphabet of URLs here, and takes the other for no login at all.
    if let Some(login) = parts.headers.get_mut(LOGIN)
        && let Ok(text) = login.to_str()
    {
        let text = text.replace('+', "-").replace('/', "_");
        *login = text.parse().map_err(std::io::Error::other)?;
    }
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = path.as_str().parse().map_err(std::io::Error::other)?;
    }
    let request = hyper::Request::from_parts(parts, body);
    Ok(sender.send_request(request).await?)
}

impl Engine {
    /// The engine that listens at a socket of a machine. Nothing is asked yet.
    pub(crate) fn new(machine: Arc<dyn Connection>, socket: &str) -> Self {
        Self {
            machine,
            socket: socket.to_owned(),
            client: Arc::default(),
            patience: QUICK,
        }
    }

    /// Does one call.
    pub(super) async fn call<T, F>(
        &self,
        call: &str,
        limit: Duration,
        make: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = self.client().await?;
        within(call, limit, make(client)).await
    }

    async fn client(&self) -> Result<Docker, EngineError> {
        let connect = || async {
            let (machine, socket) = (Arc::clone(&self.machine), self.socket.clone());
            let transport =
                move |request| Box::pin(send(Arc::clone(&machine), socket.clone(), request));
            let agree = async {
                Docker::connect_with_custom_transport(
                    transport,
                    Some("http://docker"),
                    LONGEST,
                    &NEWEST,
                )?
                .negotiate_version()
                .await
            };
            within("tell its version", self.patience, agree).await
        };
        self.client.get_or_try_init(connect).await.cloned()
    }

    /// Starts a command in a container: its id, what it puts out and its input.
    pub(super) async fn exec(
        &self,
        call: &str,
        container: &str,
        options: CreateExecOptions<String>,
    ) -> Result<(String, Output, Input), EngineError> {
        let made = self.call(call, QUICK, |docker| async move {
            docker.create_exec(container, options).await
        });
        let id = made.await?.id;
        let started = id.clone();
        let started = self.call(call, QUICK, |docker| async move {
            docker.start_exec(&started, None).await
        });
        match started.await? {
            StartExecResults::Attached { output, input } => Ok((id, output, input)),
            StartExecResults::Detached => Err(EngineError::Failed {
                call: call.to_owned(),
                why: "it was started without its streams".into(),
            }),
        }
    }

    /// The engine's architecture, as Go names it.
    pub(super) async fn architecture(&self) -> Result<String, EngineError> {
        let version = self
            .call("tell its version", QUICK, |docker| async move {
                docker.version().await
            })
            .await?;
        Ok(version.arch.unwrap_or_default())
    }

    /// Whether it speaks a version of the API, `1.minor`.
    pub(super) async fn speaks(&self, minor: usize) -> Result<bool, EngineError> {
        let version = self.client().await?.client_version();
        Ok((version.major_version, version.minor_version) >= (1, minor))
    }

    pub(super) async fn image(&self, name: &str) -> Result<ImageInspect, EngineError> {
        let call = format!("look for the image {name}");
        self.call(&call, QUICK, |docker| async move {
            docker.inspect_image(name).await
        })
        .await
    }

    /// Makes a container, in place of one of that name.
    pub(super) async fn create(
        &self,
        name: &str,
        platform: &str,
        body: ContainerCreateBody,
    ) -> Result<String, EngineError> {
        self.remove(name, true).await?;
        let options = query::CreateContainerOptions {
            name: Some(name.to_owned()),
            platform: platform.to_owned(),
        };
        let made = self
            .call(
                &format!("create the container {name}"),
                SLOW,
                |docker| async move { docker.create_container(Some(options), body).await },
            )
            .await?;
        for warning in &made.warnings {
            tracing::warn!(container = name, warning, "the engine warns of a container");
        }
        Ok(made.id)
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), EngineError> {
        let call = format!("start the container {name}");
        self.call(&call, SLOW, |docker| async move {
            let options = None::<query::StartContainerOptions>;
            docker.start_container(name, options).await
        })
        .await
    }

    /// A container; nothing where there is none.
    pub(super) async fn container(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let call = format!("look at the container {name}");
        let found = self
            .call(&call, QUICK, |docker| async move {
                let options = None::<query::InspectContainerOptions>;
                docker.inspect_container(name, options).await
            })
            .await;
        absent(found.map(Some))
    }

    /// Kills and removes a container, a success if there is none; `volumes` with its anonymous
    /// volumes.
    pub(super) async fn remove(&self, name: &str, volumes: bool) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptions {
            force: true,
            v: volumes,
            ..query::RemoveContainerOptions::default()
        };
        let call = format!("remove the container {name}");
        let removed = self
            .call(&call, SLOW, |docker| async move {
                docker.remove_container(name, Some(options)).await
            })
            .await;
        match removed {
            // Somebody else removes it: then it goes, too.
            Err(EngineError::Refused { why }) if why.contains("already in progress") => Ok(()),
            done => absent(done),
        }
    }

    /// What a container put out, 64 KiB of it at most, from the end.
    pub(super) async fn logs(&self, name: &str) -> Result<Vec<u8>, EngineError> {
        let options = query::LogsOptions {
            stdout: true,
            stderr: true,
            tail: "500".into(),
            ..query::LogsOptions::default()
        };
        let call = format!("read the log of the container {name}");
        self.call(&call, QUICK, |docker| async move {
            let mut logs = Box::pin(docker.logs(name, Some(options)));
            let mut all = Vec::new();
            while let Some(line) = logs.next().await {
                let bytes: Bytes = line?.into_bytes();
                if all.len() + bytes.len() <= 64 << 10 {
                    all.extend_from_slice(&bytes);
                }
            }
            Ok(all)
        })
        .await
    }

    /// The names of all containers, running or not, that bear all of these labels, `KEY=VALUE`.
    pub(super) async fn containers(&self, labels: &[String]) -> Result<Vec<String>, EngineError> {
        let options = query::ListContainersOptions {
            all: true,
            filters: filters(labels),
            ..query::ListContainersOptions::default()
        };
        let found = self
            .call("list containers", QUICK, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().filter_map(|one| one.id).collect())
    }

    pub(super) async fn create_volume(&self, body: VolumeCreateRequest) -> Result<(), EngineError> {
        let name = body.name.clone().unwrap_or_default();
        let call = format!("create the volume {name}");
        self.call(&call, SLOW, |docker| async move {
            docker.create_volume(body).await
        })
        .await
        .map(drop)
    }

    pub(super) async fn volumes(&self, labels: &[String]) -> Result<Vec<String>, EngineError> {
        let options = query::ListVolumesOptions {
            filters: filters(labels),
        };
        let found = self
            .call("list volumes", QUICK, |docker| async move {
                docker.list_volumes(Some(options)).await
            })
            .await?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes.into_iter().map(|one| one.name).collect())
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let call = format!("remove the volume {name}");
        let removed = self
            .call(&call, SLOW, |docker| async move {
                let options = query::RemoveVolumeOptions { force: true };
                docker.remove_volume(name, Some(options)).await
            })
            .await;
        absent(removed)
    }

    pub(super) async fn create_network(
        &self,
        body: NetworkCreateRequest,
    ) -> Result<(), EngineError> {
        let call = format!("create the network {}", body.name);
        self.call(&call, SLOW, |docker| async move {
            docker.create_network(body).await
        })
        .await
        .map(drop)
    }

    pub(super) async fn networks(&self, labels: &[String]) -> Result<Vec<String>, EngineError> {
        let options = query::ListNetworksOptions {
            filters: filters(labels),
        };
        let found = self
            .call("list networks", QUICK, |docker| async move {
                docker.list_networks(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().filter_map(|one| one.id).collect())
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        let call = format!("remove the network {id}");
        let removed = self
            .call(&call, SLOW, |docker| async move {
                docker.remove_network(id).await
            })
            .await;
        absent(removed)
    }
}

fn filters(labels: &[String]) -> Option<HashMap<String, Vec<String>>> {
    Some(HashMap::from([("label".to_owned(), labels.to_vec())]))
}

/// What is not there is nothing.
fn absent<T: Default>(found: Result<T, EngineError>) -> Result<T, EngineError> {
    match found {
        Err(EngineError::Missing { .. }) => Ok(T::default()),
        found => found,
    }
}

async fn within<T>(
    call: &str,
    limit: Duration,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done.map_err(|error| EngineError::of(call, &error)),
        Err(_) => Err(EngineError::Hung {
            call: call.to_owned(),
            limit,
        }),
    }
}

#[cfg(test)]
mod tests;
