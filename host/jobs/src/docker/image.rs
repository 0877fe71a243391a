//! Getting an image onto a machine, by the policies the operator and the job agree on.

use super::auth::Logins;
use super::engine::{Engine, EngineError};
use super::reference::Reference;
use super::{Fault, fault};
use crate::progress::Cause;
use crate::trace::JobTrace;
use crate::words;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use springtide_config::{Docker, PullPolicy};
use std::time::Duration;

/// How long a pull may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

/// How long the whole of a pull may take.
const WHOLE: Duration = Duration::from_secs(4 * 3600);

/// How often a pull is tried that failed for a reason that may pass.
const TRIES: u32 = 3;

/// Words of answers that no further try changes.
const FINAL: [&str; 11] = [
    "not found",
    "manifest unknown",
    "denied",
    "unauthorized",
    "no basic auth",
    "invalid reference",
    "no matching manifest",
    "does not match the specified platform",
    "forbidden",
    "authentication required",
    "incorrect username or password",
];

/// An image that is on the machine.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// The name it was asked for by.
    pub(super) name: String,
    /// What it is, whatever the name comes to mean.
    pub(super) id: String,
    /// Ports it exposes, as `number/protocol`.
    pub(super) ports: Vec<String>,
}

/// What getting an image needs.
pub(super) struct Puller<'a> {
    pub(super) engine: &'a Engine,
    pub(super) trace: &'a JobTrace,
    pub(super) settings: &'a Docker,
    pub(super) logins: &'a Logins,
}

/// The policies for an image of a job that asks for these, none asked for is the operator's.
pub(super) fn policies(
    settings: &Docker,
    image: &str,
    asked: &[String],
) -> Result<Vec<PullPolicy>, Fault> {
    let names = |policies: &[PullPolicy]| {
        let names: Vec<&str> = policies.iter().map(|one| one.name()).collect();
        format!("[{}]", names.join(" "))
    };
    let allowed = match settings.allowed_pull_policies.as_slice() {
        [] => &settings.pull_policy,
        allowed => allowed,
    };
    if asked.is_empty() {
        let kept: Vec<PullPolicy> = settings
            .pull_policy
            .iter()
            .copied()
            .filter(|one| allowed.contains(one))
            .collect();
        return match kept.as_slice() {
            [] => Err(fault(
                Cause::Configuration,
                format!(
                    "failed to pull image '{image}': pull_policy ({}) defined in Runner config is not one of the allowed_pull_policies ({})",
                    names(&settings.pull_policy),
                    names(allowed)
                ),
            )),
            _ => Ok(kept),
        };
    }
    let mut policies = Vec::new();
    for name in asked {
        policies.push(PullPolicy::named(name).ok_or_else(|| {
            fault(
                Cause::Configuration,
                format!("failed to pull image '{image}': unsupported pull_policy config: {name:?}"),
            )
        })?);
    }
    let kept: Vec<PullPolicy> = policies
        .iter()
        .copied()
        .filter(|one| allowed.contains(one))
        .collect();
    if kept.is_empty() {
        return Err(fault(
            Cause::Configuration,
            format!(
                "failed to pull image '{image}': pull_policy ({}) defined in GitLab pipeline config is not one of the allowed_pull_policies ({})",
                names(&policies),
                names(allowed)
            ),
        ));
    }
    Ok(kept)
}

/// What GitLab Runner says of a pull that failed: the engine's own words.
fn said(error: &EngineError) -> String {
    match error {
        EngineError::Failed { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

impl Puller<'_> {
    fn say(&self, text: &str) {
        self.trace.write(&words::plain(text));
    }

    /// Sees to it that an image is there.
    pub(super) async fn get(
        &self,
        name: &str,
        asked: &[String],
        platform: &str,
    ) -> Result<Image, Fault> {
        let policies = policies(self.settings, name, asked)?;
        let Some(reference) = Reference::read(name) else {
            let said = format!("invalid image name {name:?}");
            return Err(fault(Cause::Image, said));
        };
        let named: Vec<&str> = policies.iter().map(|one| one.name()).collect();
        let named = format!("[{}]", named.join(" "));
        self.say(&format!(
            "Using effective pull policy of {named} for container {name}"
        ));
        let mut last = None;
        for (index, policy) in policies.iter().enumerate() {
            if index > 0 {
                self.say(&format!(
                    "Attempt #{}: Trying \"{}\" pull policy",
                    index + 1,
                    policy.name()
                ));
            }
            let found = self.by(*policy, name, &reference, platform).await;
            match found {
                Ok(image) => {
                    let id = image.id.clone().unwrap_or_default();
                    let digest = image.repo_digests.iter().flatten().next();
                    let digest = digest.map(|digest| format!(" with digest {digest}"));
                    self.say(&format!(
                        "Using docker image {id} for {name}{} ...",
                        digest.unwrap_or_default()
                    ));
                    let config = image.config.unwrap_or_default();
                    return Ok(Image {
                        name: name.to_owned(),
                        id,
                        ports: config.exposed_ports.unwrap_or_default(),
                    });
                }
                Err(error) if is_the_machines(&error) => return Err(error.into()),
                Err(error) => {
                    self.trace.write(&words::warning(&format!(
                        "Failed to pull image with policy \"{}\": {}",
                        policy.name(),
                        said(&error)
                    )));
                    last = Some(error);
                }
            }
        }
        let why = last.as_ref().map(said).unwrap_or_default();
        Err(fault(
            Cause::Image,
            format!("failed to pull image {name:?} with specified policies {named}: {why}"),
        ))
    }

    async fn by(
        &self,
        policy: PullPolicy,
        name: &str,
        reference: &Reference,
        platform: &str,
    ) -> Result<ImageInspect, EngineError> {
        if policy != PullPolicy::Always {
            match self.engine.image(name).await {
                Ok(found) => {
                    if policy == PullPolicy::IfNotPresent {
                        self.say(
                            "Using locally found image version due to \"if-not-present\" pull policy",
                        );
                    }
                    return Ok(found);
                }
                Err(EngineError::Missing { .. }) if policy == PullPolicy::IfNotPresent => {}
                Err(error) => return Err(error),
            }
        }
        self.pull(name, reference, platform).await?;
        self.engine.image(name).await
    }

    async fn pull(
        &self,
        name: &str,
        reference: &Reference,
        platform: &str,
    ) -> Result<(), EngineError> {
        let (login, problems) = self.logins.of(reference).await;
        for problem in problems {
            self.trace.write(&words::warning(&problem));
        }
        if let Some(login) = &login {
            self.say(&format!(
                "Authenticating with credentials from {}",
                login.source
            ));
        }
        self.say(&format!("Pulling docker image {name} ..."));
        let login = login.map(|login| login.for_engine());
        let mut wait = Duration::from_secs(2);
        let mut tried = 1;
        loop {
            let options = CreateImageOptions {
                from_image: Some(reference.to_pull()),
                platform: platform.to_owned(),
                ..CreateImageOptions::default()
            };
            let login = login.clone();
            let call = format!("pull the image {name}");
            let pulled = self
                .engine
                .call(&call, WHOLE, |docker| async move {
                    let mut progress = Box::pin(docker.create_image(Some(options), None, login));
                    // Only the end counts; a registry that says nothing for so long is gone.
                    while let Some(step) = tokio::time::timeout(SILENCE, progress.next())
                        .await
                        .map_err(|_| bollard::errors::Error::RequestTimeoutError)?
                    {
                        step?;
                    }
                    Ok(())
                })
                .await;
            match pulled {
                Err(error) if tried < TRIES && may_pass(&error) => {
                    tracing::info!(image = name, %error, "an image is tried for again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(10));
                    tried += 1;
                }
                done => return done,
            }
        }
    }
}

/// Whether it is the machine that failed, and not the registry or the image.
fn is_the_machines(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Unreachable { .. } | EngineError::Hung { .. }
    )
}

/// Whether another try may do better.
fn may_pass(error: &EngineError) -> bool {
    let text = error.to_string().to_lowercase();
    match error {
        EngineError::Refused { .. } | EngineError::Failed { .. } => {
            !FINAL.iter().any(|word| text.contains(word))
        }
        EngineError::Missing { .. }
        | EngineError::Unreachable { .. }
        | EngineError::Hung { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_of_operator_and_job_are_brought_together() {
        use PullPolicy::{Always, IfNotPresent, Never};
        let with = |own: &[PullPolicy], allowed: &[PullPolicy], asked: &[&str]| {
            let settings = Docker {
                pull_policy: own.to_vec(),
                allowed_pull_policies: allowed.to_vec(),
                ..Docker::by_default()
            };
            let asked: Vec<String> = asked.iter().map(|one| (*one).to_owned()).collect();
            policies(&settings, "a", &asked).map_err(|fault| match fault {
                Fault::Job(failure) => failure.said,
                Fault::Engine(error) => error.to_string(),
            })
        };
        assert_eq!(
            with(&[Always, IfNotPresent], &[], &[]),
            Ok(vec![Always, IfNotPresent])
        );
        assert_eq!(
            with(&[Always], &[Always, Never], &["never", "always"]),
            Ok(vec![Never, Always])
        );
        assert_eq!(
            with(&[Always], &[], &["if-not-present"]),
            Err("failed to pull image 'a': pull_policy ([if-not-present]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([always])".into())
        );
        assert_eq!(
            with(&[Always], &[Never], &[]),
            Err("failed to pull image 'a': pull_policy ([always]) defined in Runner config is not one of the allowed_pull_policies ([never])".into())
        );
        let odd = with(&[Always], &[], &["sometimes"]).expect_err("no policy");
        assert!(odd.contains("unsupported pull_policy"), "{odd}");
    }

    #[test]
    fn what_no_try_changes_is_not_tried_again() {
        let refused = |why: &str| EngineError::Refused { why: why.into() };
        assert!(!may_pass(&refused(
            "manifest for a:1 not found: manifest unknown"
        )));
        assert!(!may_pass(&refused("pull access denied for a")));
        assert!(may_pass(&refused("net/http: TLS handshake timeout")));
        assert!(may_pass(&refused("toomanyrequests: slow down")));
        assert!(!may_pass(&EngineError::Missing {
            why: "no such image".into()
        }));
    }
}
