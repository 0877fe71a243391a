//! A job's containers on one machine, from nothing to nothing.

mod life;

use super::auth::{Helpers, Logins};
use super::connection::ContainerConnection;
use super::containers::Net;
use super::image::Puller;
use super::names::{Labels, Names};
use super::services::{self, Wanted};
use super::volumes::{self, Volumes};
use super::{Engine, EngineError, Fault, SOCKET, allow, fault};
use crate::plan::Plan;
use crate::progress::Cause;
use crate::settings::{DockerRunner, JobSettings};
use crate::trace::JobTrace;
use crate::variables::Variables;
use crate::words;
use secrecy::ExposeSecret;
use springtide_config::Docker;
use springtide_gitlab::Payload;
use springtide_machines::{ConnectError, Connection, HelperClient, HelperError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variable that has logins at registries.
const AUTH: &str = "DOCKER_AUTH_CONFIG";

/// A job's containers.
pub(crate) struct Pod {
    engine: Engine,
    machine: Arc<dyn Connection>,
    settings: Arc<Docker>,
    names: Names,
    labels: Labels,
    net: Net,
    /// Whether the network is made for the job.
    own_net: bool,
    volumes: Volumes,
    /// What every container has mounted of the job.
    binds: Vec<String>,
    environment: BTreeMap<String, String>,
    logins: Logins,
    image: String,
    image_policy: Vec<String>,
    entrypoint: Option<Vec<String>>,
    platform: String,
    user: Option<String>,
    asked_user: bool,
    helper_image: Option<String>,
    services: Vec<Wanted>,
}

/// What has become of the build's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuildState {
    /// Its exit code, if it ended.
    pub(crate) ended: Option<i64>,
    /// Whether the kernel killed something in it that was out of memory.
    pub(crate) out_of_memory: bool,
}

/// The platform and the user that an image's options for this executor ask for.
pub(super) fn options_of(
    image: &springtide_gitlab::Image,
    variables: &Variables,
) -> Result<(String, Option<String>), Fault> {
    let mut platform = String::new();
    let mut user = None;
    let unknown = |key: &str| {
        fault(
            Cause::Configuration,
            format!(
                "unsupported executor options for the image {:?}: {key}",
                image.name
            ),
        )
    };
    let Some(all) = image.executor_opts.as_object() else {
        return Ok((platform, user));
    };
    for (executor, options) in all {
        match executor.as_str() {
            "docker" => {}
            "kubernetes" => continue,
            other => return Err(unknown(other)),
        }
        for (key, value) in options.as_object().into_iter().flatten() {
            let text = variables.expand(value.as_str().unwrap_or_default());
            match key.as_str() {
                "platform" => platform = text,
                "user" => user = (!text.is_empty()).then_some(text),
                other => return Err(unknown(other)),
            }
        }
    }
    Ok((platform, user))
}

/// Says which names are allowed, and refuses one.
pub(super) fn disallowed(trace: &JobTrace, name: &str, what: &str, patterns: &[String]) -> Fault {
    trace.write(&words::error(&format!(
        "The {name:?} image is not present on list of allowed {what}:"
    )));
    for pattern in patterns {
        trace.write(&words::plain(&format!("- {pattern}")));
    }
    fault(
        Cause::Configuration,
        format!("disallowed image {name:?}: ask for it in allowed_{what} of the runner"),
    )
}

impl Pod {
    /// A job's containers as they are to be. Nothing is asked of the machine.
    pub(crate) fn new(
        payload: &Payload,
        job: &JobSettings,
        runner: &DockerRunner,
        plan: &Plan,
        machine: Arc<dyn Connection>,
    ) -> Result<Self, Fault> {
        let settings = Arc::clone(&runner.settings);
        let variables = &plan.variables;
        let configured = settings.image.clone().unwrap_or_default();
        let image = match variables.expand(&payload.image.name) {
            empty if empty.is_empty() => variables.expand(&configured),
            named => named,
        };
        if image.is_empty() {
            return Err(fault(
                Cause::Configuration,
                "no Docker image specified to run the build in: name one in `image` of the job or of [runners.docker]",
            ));
        }
        let (platform, asked) = options_of(&payload.image, variables)?;
        // Of several machines with one engine, two may run jobs of one project.
        let place = match machine.shares_engine() {
            true => job.machine_name.as_str(),
            false => "0",
        };
        let names = Names::new(payload, job, runner.token.expose_secret(), place);
        let wanted = volumes::Wanted {
            settings: &settings,
            volumes: settings
                .volumes
                .iter()
                .map(|one| variables.expand(one))
                .collect(),
            builds: &plan.builds,
            fetched: plan.is_fetched(payload),
            protected: payload.git_info.protected,
            names: &names,
        };
        let volumes = wanted
            .plan()
            .map_err(|error| fault(Cause::Configuration, error.to_string()))?;
        let (net, own_net) = Net::of(settings.network_mode.as_deref(), names.network());
        let socket = settings.socket.as_deref().unwrap_or(SOCKET);
        let entrypoint = payload.image.entrypoint.clone();
        let labels = Labels::new(payload, job, &settings.container_labels, variables);
        let container = |name: &str, number| names.service(name, number);
        let services = services::wanted(payload, &settings, variables, container)?;
        let pairs = variables.environment().into_iter();
        Ok(Self {
            engine: Engine::new(Arc::clone(&machine), socket),
            machine,
            labels,
            net,
            own_net,
            binds: volumes.binds.clone(),
            volumes,
            environment: pairs.map(|(key, value)| (key.to_owned(), value)).collect(),
            logins: Logins {
                variable: variables.content(AUTH),
                variable_helpers: match payload.variables.iter().any(|one| one.key == AUTH) {
                    true => Helpers::Refuse,
                    false => Helpers::Run,
                },
                file: runner.auth_file.clone(),
                credentials: payload.credentials.clone(),
            },
            image,
            image_policy: payload.image.pull_policy.clone(),
            entrypoint: (!entrypoint.is_empty()).then_some(entrypoint),
            platform,
            asked_user: asked.is_some(),
            user: asked.or_else(|| settings.user.as_ref().map(|user| variables.expand(user))),
            helper_image: settings
                .helper_image
                .as_ref()
                .map(|image| variables.expand(image)),
            services,
            names,
            settings,
        })
    }

    pub(super) fn settings(&self) -> &Docker {
        &self.settings
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    pub(super) fn binds(&self) -> &[String] {
        &self.binds
    }

    pub(super) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    pub(super) fn services(&self) -> &[Wanted] {
        &self.services
    }

    pub(super) fn puller<'a>(&'a self, trace: &'a JobTrace) -> Puller<'a> {
        Puller {
            engine: &self.engine,
            trace,
            settings: &self.settings,
            logins: &self.logins,
        }
    }

    fn client(&self, container: &str) -> HelperClient {
        let connection = ContainerConnection::new(self.engine.clone(), container);
        HelperClient::new(Arc::new(connection))
    }

    fn predefined(&self) -> String {
        self.names.container("predefined")
    }

    pub(super) fn build(&self) -> String {
        self.names.container("build")
    }

    /// The helper in the container that gets sources.
    pub(crate) fn predefined_client(&self) -> HelperClient {
        self.client(&self.predefined())
    }

    /// The helper in the container that runs the job's scripts.
    pub(crate) fn build_client(&self) -> HelperClient {
        self.client(&self.build())
    }

    /// Asks the engine whether it is there.
    pub(crate) async fn reach(&self) -> Result<(), HelperError> {
        self.engine.speaks(0).await.map(drop).map_err(|error| {
            HelperError::Connect(ConnectError::Unreachable {
                machine: "the machine".into(),
                why: error.to_string(),
            })
        })
    }

    /// Whether the container that gets sources runs.
    pub(crate) async fn has_predefined(&self) -> Result<bool, EngineError> {
        let found = self.engine.container(&self.predefined()).await?;
        let state = found.and_then(|found| found.state).unwrap_or_default();
        Ok(state.running == Some(true))
    }

    fn check(&self, trace: &JobTrace) -> Result<(), Fault> {
        let patterns = &self.settings.allowed_images;
        let own = self.settings.image.as_deref().unwrap_or_default();
        if !allow::is_allowed(patterns, &[own], &self.image) {
            return Err(disallowed(trace, &self.image, "images", patterns));
        }
        self.check_services(trace)?;
        let users = &self.settings.allowed_users;
        if let (true, Some(user)) = (self.asked_user, &self.user)
            && !users.is_empty()
            && !users.contains(user)
        {
            return Err(fault(
                Cause::Configuration,
                format!(
                    "user {user:?} is not an allowed user: [{}]",
                    users.join(" ")
                ),
            ));
        }
        Ok(())
    }
}

/// Whether a call to a container's helper failed because the container is not there or not running.
pub(crate) fn is_gone(error: &HelperError) -> bool {
    matches!(error, HelperError::Connect(ConnectError::Gone { .. }))
}
