//! A job's services: which, under which names, started, and waited for.

use super::containers::{Net, Serving};
use super::image::Image;
use super::pod::{Pod, options_of};
use super::reference::Reference;
use super::{Fault, allow, fault};
use crate::progress::Cause;
use crate::trace::JobTrace;
use crate::variables::Variables;
use crate::words;
use springtide_config::Docker;
use springtide_gitlab::Payload;
use springtide_machines::HelperClient;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A service that a job is to have.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its image.
    name: String,
    aliases: Vec<String>,
    command: Vec<String>,
    entrypoint: Vec<String>,
    /// Variables beside the job's, which they win over.
    environment: BTreeMap<String, String>,
    pull_policy: Vec<String>,
    platform: String,
    user: Option<String>,
    /// Whether the operator wrote it, and not the job.
    own: bool,
    /// Its container.
    container: String,
}

/// A service whose container was started.
pub(super) struct Started {
    container: String,
    ports: Vec<String>,
    environment: BTreeMap<String, String>,
}

fn split(aliases: &str) -> impl Iterator<Item = String> {
    let parts = aliases.split([' ', ',']);
    parts.filter(|part| !part.is_empty()).map(str::to_owned)
}

/// The services of the operator, then those of the job. `container` names a service's container.
pub(super) fn wanted(
    payload: &Payload,
    settings: &Docker,
    variables: &Variables,
    container: impl Fn(&str, usize) -> String,
) -> Result<Vec<Wanted>, Fault> {
    let mut all = Vec::new();
    for service in &settings.services {
        let pairs = service.environment.0.iter();
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        all.push(Wanted {
            name: variables.expand(&service.name),
            aliases: split(service.alias.as_deref().unwrap_or_default()).collect(),
            command: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            environment: pairs
                .map(|(key, value)| (key.to_owned(), variables.expand(value)))
                .collect(),
            pull_policy: Vec::new(),
            platform: String::new(),
            user: None,
            own: true,
            container: String::new(),
        });
    }
    for service in &payload.services {
        let (platform, user) = options_of(service, variables)?;
        let value = |one: &springtide_gitlab::Variable| match one.raw {
            true => one.value.clone(),
            false => variables.expand(&one.value),
        };
        all.push(Wanted {
            name: variables.expand(&service.name),
            aliases: split(&variables.expand(&service.alias)).collect(),
            command: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            environment: service
                .variables
                .iter()
                .map(|one| (one.key.clone(), value(one)))
                .collect(),
            pull_policy: service.pull_policy.clone(),
            platform,
            user,
            own: false,
            container: String::new(),
        });
    }
    for (index, service) in all.iter_mut().enumerate() {
        let reference = Reference::read(&service.name).ok_or_else(|| {
            let said = format!("invalid service image name {:?}", service.name);
            fault(Cause::Configuration, said)
        })?;
        let mut aliases = reference.aliases();
        aliases.append(&mut service.aliases);
        service.aliases = aliases;
        service.container = container(&reference.service().replace('/', "__"), index);
    }
    Ok(all)
}

/// The address of a container, or of one on the machine's own network.
fn address(found: &bollard::models::ContainerInspectResponse, net: &Net) -> Option<String> {
    if *net == Net::Mode("host".into()) {
        return Some("127.0.0.1".into());
    }
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    let mut addresses = networks.values().filter_map(|one| one.ip_address.clone());
    addresses.find(|address| !address.is_empty())
}

impl Pod {
    /// Refuses services that the operator does not allow.
    pub(super) fn check_services(&self, trace: &JobTrace) -> Result<(), Fault> {
        let services = self.services();
        if let Some(limit) = self.settings().services_limit
            && services.len() > usize::try_from(limit).unwrap_or(usize::MAX)
        {
            return Err(fault(
                Cause::Configuration,
                format!(
                    "the job has {} services, and services_limit of its runner is {limit}",
                    services.len()
                ),
            ));
        }
        let patterns = &self.settings().allowed_services;
        let own: Vec<&str> = services
            .iter()
            .filter(|one| one.own)
            .map(|one| one.name.as_str())
            .collect();
        for service in services {
            if !allow::is_allowed(patterns, &own, &service.name) {
                return Err(super::pod::disallowed(
                    trace,
                    &service.name,
                    "services",
                    patterns,
                ));
            }
        }
        Ok(())
    }

    /// Starts all services.
    pub(super) async fn start_services(&self, trace: &JobTrace) -> Result<Vec<Started>, Fault> {
        let mut taken = BTreeSet::new();
        let mut started = Vec::new();
        for service in self.services() {
            let before = taken.len();
            for alias in &service.aliases {
                if !taken.insert(alias.clone()) {
                    trace.write(&words::warning(&format!(
                        "Service {} is already created. Ignoring.",
                        service.name
                    )));
                }
            }
            if taken.len() > before {
                started.push(self.start_service(service, trace).await?);
            }
        }
        Ok(started)
    }

    async fn start_service(&self, service: &Wanted, trace: &JobTrace) -> Result<Started, Fault> {
        let shown = Reference::read(&service.name)
            .map(|one| format!("{}:{}", one.service(), one.version()))
            .unwrap_or_default();
        trace.write(&words::plain(&format!("Starting service {shown} ...")));
        let image: Image = self
            .puller(trace)
            .get(&service.name, &service.pull_policy, &service.platform)
            .await?;
        let mut environment = self.environment().clone();
        environment.extend(service.environment.clone());
        let serving = Serving {
            settings: self.settings(),
            labels: self.labels(),
            net: self.net(),
            image: &image.id,
            image_name: &image.name,
            binds: self.binds().to_vec(),
            aliases: &service.aliases,
            environment: environment
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            command: &service.command,
            entrypoint: &service.entrypoint,
            user: service.user.clone(),
        };
        let engine = self.engine();
        engine
            .create(&service.container, &service.platform, serving.body())
            .await?;
        self.start(&service.container).await?;
        Ok(Started {
            container: service.container.clone(),
            ports: image.ports,
            environment,
        })
    }

    /// Services as hosts of the job's containers, where the network does not know their names.
    pub(super) async fn hosts(&self) -> Result<Vec<String>, Fault> {
        let mut hosts = Vec::new();
        if matches!(self.net(), Net::Named(_)) {
            return Ok(hosts);
        }
        for service in self.services() {
            let found = self.engine().container(&service.container).await?;
            if let Some(address) = found.and_then(|found| address(&found, self.net())) {
                let names = service.aliases.iter();
                hosts.extend(names.map(|alias| format!("{alias}:{address}")));
            }
        }
        Ok(hosts)
    }

    /// Waits until services take connections. One that does not is warned about, with what it said.
    pub(super) async fn await_services(
        &self,
        started: &[Started],
        client: &HelperClient,
        trace: &JobTrace,
    ) -> Result<(), Fault> {
        let Some(limit) = self.settings().wait_for_services_timeout else {
            return Ok(());
        };
        if started.is_empty() {
            return Ok(());
        }
        trace.write(&words::plain(&format!(
            "Waiting for services to be up and running (timeout {} seconds)...",
            limit.as_secs()
        )));
        let waits = started
            .iter()
            .map(|service| self.await_service(service, client, limit));
        let problems = futures_util::future::join_all(waits).await;
        for (service, problem) in started.iter().zip(problems) {
            let Err(why) = problem else { continue };
            let log = self.engine().logs(&service.container).await;
            let log = log.unwrap_or_else(|error| error.to_string().into_bytes());
            trace.write(&words::service_warning(
                &service.container,
                &why,
                String::from_utf8_lossy(&log).trim_end(),
            ));
        }
        Ok(())
    }

    async fn await_service(
        &self,
        service: &Started,
        client: &HelperClient,
        limit: Duration,
    ) -> Result<(), String> {
        let found = self.engine().container(&service.container).await;
        let found = found.map_err(|error| error.to_string())?;
        let address = found.and_then(|found| address(&found, self.net()));
        let Some(address) = address else {
            return Err(format!("service \"{}\" is not running", service.container));
        };
        let ports = ports(
            &service.ports,
            service.environment.get("HEALTHCHECK_TCP_PORT"),
        );
        if ports.is_empty() {
            return Err(format!(
                "service \"{}\" has no exposed ports",
                service.container
            ));
        }
        let places: Vec<String> = ports
            .into_iter()
            .map(|port| format!("{address}:{port}"))
            .collect();
        let waited = client.wait_for(&places, limit).await;
        waited.map_err(|error| format!("service \"{}\" timeout: {error}", service.container))
    }
}

/// The ports that a service is tried at: those of TCP its image exposes, or the one that is named.
fn ports(exposed: &[String], named: Option<&String>) -> BTreeSet<u16> {
    if let Some(named) = named.and_then(|text| text.parse().ok()) {
        return BTreeSet::from([named]);
    }
    let tcp = exposed
        .iter()
        .filter_map(|port| match port.split_once('/') {
            Some((number, "tcp")) => Some(number),
            None => Some(port.as_str()),
            Some(_) => None,
        });
    tcp.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::own;

    #[test]
    fn services_of_operator_and_job_are_known_by_all_their_names() {
        let payload = Payload::from_json(
            r#"{"id":1,"token":"t","services":[{"name":"reg.io:5000/a/$IMAGE:1","alias":"db, db2","command":["x"],
            "variables":[{"key":"P","value":"$IMAGE!"}],"executor_opts":{"docker":{"user":"9"}}}]}"#,
        )
        .expect("a job");
        let mut settings = Docker::by_default();
        settings.services = vec![springtide_config::Service {
            name: "redis:7".into(),
            alias: Some("cache".into()),
            command: Vec::new(),
            entrypoint: Vec::new(),
            environment: springtide_config::Hidden(vec!["A=$IMAGE".into(), "odd".into()]),
        }];
        let variables = Variables::expanded(vec![own("IMAGE", "b")], "/f");
        let all = wanted(&payload, &settings, &variables, |name, number| {
            format!("{name}-{number}")
        })
        .expect("services");
        let seen: Vec<_> = all
            .iter()
            .map(|one| (one.aliases.join(" "), one.container.as_str(), one.own))
            .collect();
        assert_eq!(
            seen,
            [
                ("redis cache".to_owned(), "redis-0", true),
                (
                    "reg.io__a__b reg.io-a-b db db2".to_owned(),
                    "reg.io__a__b-1",
                    false
                ),
            ]
        );
        assert_eq!(all[0].environment.get("A").map(String::as_str), Some("b"));
        assert_eq!(all[1].environment.get("P").map(String::as_str), Some("b!"));
        assert_eq!(all[1].user.as_deref(), Some("9"));
    }

    #[test]
    fn a_service_is_tried_at_its_ports_of_tcp() {
        let exposed = ["5432/tcp", "53/udp", "80"].map(str::to_owned);
        assert_eq!(ports(&exposed, None), BTreeSet::from([80, 5432]));
        let named = "99".to_owned();
        assert_eq!(ports(&exposed, Some(&named)), BTreeSet::from([99]));
    }
}
