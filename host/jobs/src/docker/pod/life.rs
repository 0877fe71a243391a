//! A job's containers made, waited for and removed.

use super::{BuildState, Pod};
use crate::docker::containers::{Kind, Own};
use crate::docker::image::Image;
use crate::docker::{BUILD_ROOT, EngineError, Fault, HELPER, ROOT, fault};
use crate::progress::{Cause, Failure};
use crate::trace::JobTrace;
use crate::words;
use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use std::collections::HashMap;
use std::time::Duration;

/// GitLab's own images to get sources with, by Go's name of an architecture.
const HELPER_IMAGE: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper";

/// How long the helper's own container may take until it holds.
const PREDEFINED: Duration = Duration::from_secs(120);

/// Between two looks whether a container holds.
const LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

impl Pod {
    /// Makes everything but the build's container: what jobs left is removed, network and volumes
    /// are made, services started and waited for, images got.
    pub(crate) async fn set_up(&self, trace: &JobTrace) -> Result<(), Fault> {
        trace.write(&words::plain(&format!(
            "Using Docker executor with image {} ...",
            self.image
        )));
        self.check(trace)?;
        self.remove_all().await?;
        if self.own_net {
            self.make_network().await?;
        }
        if self.settings.mac_address.is_some() && !self.engine.speaks(44).await? {
            trace.write(&words::warning(
                "mac_address is not obeyed: the machine's engine is older than Docker 25",
            ));
        }
        self.make_volumes().await?;
        let started = self.start_services(trace).await?;
        self.start_predefined(trace).await?;
        let client = self.predefined_client();
        self.await_services(&started, &client, trace).await?;
        self.puller(trace)
            .get(&self.image, &self.image_policy, &self.platform)
            .await?;
        Ok(())
    }

    async fn make_network(&self) -> Result<(), Fault> {
        let mtu = self.settings.network_mtu;
        let options = (mtu > 0).then(|| {
            let key = "com.docker.network.driver.mtu".to_owned();
            HashMap::from([(key, mtu.to_string())])
        });
        let body = NetworkCreateRequest {
            name: self.names.network(),
            driver: Some("bridge".into()),
            enable_ipv6: self.settings.enable_ipv6.then_some(true),
            options,
            labels: Some(self.labels.of("network")),
            ..NetworkCreateRequest::default()
        };
        Ok(self.engine.create_network(body).await?)
    }

    async fn make_volumes(&self) -> Result<(), Fault> {
        let driver = self.settings.volume_driver.clone();
        let driver_options = &self.settings.volume_driver_ops;
        for volume in &self.volumes.made {
            let labels = match volume.kept {
                true => self.labels.kept(&volume.destination),
                false => self.labels.of("cache"),
            };
            let body = VolumeCreateRequest {
                name: Some(volume.name.clone()),
                driver: driver.clone(),
                driver_opts: (!driver_options.is_empty())
                    .then(|| driver_options.clone().into_iter().collect()),
                labels: Some(labels),
                cluster_volume_spec: None,
            };
            self.engine.create_volume(body).await?;
        }
        for what in ["predefined", "build"] {
            self.engine
                .create_volume(VolumeCreateRequest {
                    name: Some(self.spool(what)),
                    labels: Some(self.labels.of("spool")),
                    ..VolumeCreateRequest::default()
                })
                .await?;
        }
        Ok(())
    }

    /// The volume that keeps the works of a container.
    fn spool(&self, what: &str) -> String {
        self.names.temporary(&format!("spool-{what}"))
    }

    async fn binds_of(&self, what: &str) -> Result<Vec<String>, Fault> {
        let helper = self.machine.helper_path().await.map_err(|error| {
            Fault::Engine(EngineError::Unreachable {
                call: "have the helper in containers".into(),
                why: error.to_string(),
            })
        })?;
        let mut binds = self.binds.clone();
        binds.push(format!("{helper}:{HELPER}:ro"));
        binds.push(format!("{}:{ROOT}", self.spool(what)));
        Ok(binds)
    }

    async fn helper_image(&self) -> Result<String, Fault> {
        if let Some(image) = &self.helper_image {
            return Ok(image.clone());
        }
        let arch = match self.engine.architecture().await?.as_str() {
            "amd64" => "x86_64".to_owned(),
            other => other.to_owned(),
        };
        Ok(match self.settings.helper_image_flavor.as_deref() {
            None | Some("alpine") => format!("{HELPER_IMAGE}:{arch}-latest"),
            Some(flavor) => format!("{HELPER_IMAGE}:{flavor}-{arch}-latest"),
        })
    }

    async fn start_predefined(&self, trace: &JobTrace) -> Result<(), Fault> {
        let image = self.helper_image().await?;
        let image: Image = self.puller(trace).get(&image, &[], "").await?;
        let name = self.predefined();
        let mut binds = self.binds_of("predefined").await?;
        binds.push(format!("{}:{BUILD_ROOT}", self.spool("build")));
        let mut open = vec![BUILD_ROOT.to_owned()];
        open.extend_from_slice(&self.volumes.open);
        let of = (image.id.as_str(), image.name.as_str());
        let word = self
            .bring_up(&name, of, "", binds, &open, Kind::Predefined)
            .await?;
        let held = tokio::time::timeout(PREDEFINED, self.await_held(&name, &word)).await;
        match held {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(code))) => {
                let log = self.engine.logs(&name).await?;
                let log = String::from_utf8_lossy(&log).trim().to_owned();
                Err(fault(
                    Cause::System,
                    format!(
                        "the container of the helper image {:?} ended with exit code {code}: {log}",
                        image.name
                    ),
                ))
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::Engine(EngineError::Hung {
                call: "bring up the helper's container".into(),
                limit: PREDEFINED,
            })),
        }
    }

    /// Makes one of the job's own containers of an image, its id and its name, and starts it. Answers
    /// the word it holds with.
    async fn bring_up(
        &self,
        name: &str,
        (image, image_name): (&str, &str),
        platform: &str,
        binds: Vec<String>,
        open: &[String],
        kind: Kind,
    ) -> Result<String, Fault> {
        let word = uuid::Uuid::new_v4().simple().to_string();
        let own = Own {
            settings: &self.settings,
            labels: &self.labels,
            net: &self.net,
            name,
            host_name: self.names.host(),
            image,
            image_name,
            binds,
            hosts: &self.hosts().await?,
            word: &word,
            open,
            kind,
        };
        self.engine.create(name, platform, own.body()).await?;
        self.start(name).await?;
        Ok(word)
    }

    /// Starts a container. What the runtime has against it is no fault of the machine's.
    pub(in crate::docker) async fn start(&self, name: &str) -> Result<(), Fault> {
        match self.engine.start(name).await {
            Err(EngineError::Failed { why, .. }) if why.contains("OCI runtime") => {
                Err(fault(Cause::System, why))
            }
            done => Ok(done?),
        }
    }

    /// Waits until a container's entry point has come to its end; its exit code if it ended instead.
    async fn await_held(&self, name: &str, word: &str) -> Result<Option<i64>, Fault> {
        let client = self.client(name);
        let mut pause = LOOK;
        loop {
            match client.held(word).await {
                Ok(()) => return Ok(None),
                Err(error) => {
                    tracing::debug!(container = name, %error, "a container is waited for")
                }
            }
            let found = self.engine.container(name).await?;
            let state = found.and_then(|found| found.state).unwrap_or_default();
            if state.running != Some(true) {
                return Ok(Some(state.exit_code.unwrap_or(-1)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Makes and starts the build's container anew, and waits for its entry point. What that said is
    /// in the trace.
    pub(crate) async fn start_build(&self, trace: &JobTrace) -> Result<(), Fault> {
        let image = self.engine.image(&self.image).await?;
        let name = self.build();
        let entrypoint = match self.settings.disable_entrypoint_overwrite {
            true if self.entrypoint.is_some() => {
                trace.write(&words::warning("Entrypoint override disabled"));
                None
            }
            true => None,
            false => self.entrypoint.clone(),
        };
        let environment = self.environment.iter();
        let kind = Kind::Build {
            environment: environment
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            entrypoint,
            user: self.user.clone(),
        };
        let binds = self.binds_of("build").await?;
        let id = image.id.as_deref().unwrap_or(&self.image);
        let word = self
            .bring_up(&name, (id, &self.image), &self.platform, binds, &[], kind)
            .await?;
        let ended = self.await_held(&name, &word).await?;
        trace.output(&self.engine.logs(&name).await?);
        trace.settle();
        match ended {
            None => Ok(()),
            Some(code) => Err(Fault::Job(Failure {
                exit_code: i32::try_from(code).ok(),
                ..Failure::new(Cause::Script, format!("exit code {code}"))
            })),
        }
    }

    /// What has become of the build's container; nothing where there is none.
    pub(crate) async fn build_state(&self) -> Result<Option<BuildState>, EngineError> {
        let found = self.engine.container(&self.build()).await?;
        Ok(found.map(|found| {
            let state = found.state.unwrap_or_default();
            let running = state.running == Some(true);
            BuildState {
                ended: (!running).then(|| state.exit_code.unwrap_or(-1)),
                out_of_memory: state.oom_killed == Some(true),
            }
        }))
    }

    /// Removes the build's container, and with it whatever the job left running there.
    pub(crate) async fn remove_build(&self) -> Result<(), EngineError> {
        self.engine
            .remove(&self.build(), !self.settings.volume_keep)
            .await
    }

    /// Removes everything of any job on this machine: containers, then networks and volumes. Images
    /// and what is kept for later jobs stay.
    pub(crate) async fn remove_all(&self) -> Result<(), EngineError> {
        let labels = self.labels.of_any_job();
        let engine = &self.engine;
        let containers = engine.containers(&labels).await?;
        let volumes = !self.settings.volume_keep;
        let removals = containers.iter().map(|id| engine.remove(id, volumes));
        all(futures_util::future::join_all(removals).await)?;
        let (networks, volumes) =
            tokio::try_join!(engine.networks(&labels), engine.volumes(&labels))?;
        let networks = networks.iter().map(|id| engine.remove_network(id));
        let volumes = volumes.iter().map(|name| engine.remove_volume(name));
        let (networks, volumes) = tokio::join!(
            futures_util::future::join_all(networks),
            futures_util::future::join_all(volumes)
        );
        all(networks)?;
        all(volumes)
    }
}

fn all(done: Vec<Result<(), EngineError>>) -> Result<(), EngineError> {
    done.into_iter().collect()
}
