//! A loaded plugin, and the calls it takes.

mod driver;

use crate::call::{ANSWER, Allowance, CallError, DRIVER_ANSWER, call, call_async};
use crate::capabilities::{Capabilities, Voice};
use crate::contract::{
    CallContext, Decision, Description, Kind, PACKAGE, PluginError, Targets, VERSION, View,
};
use crate::digest::Digest;
use crate::grants::Grants;
use crate::guest::{Bounds, Caller, Guest};
use crate::host::Host;
use crate::load::{LoadError, TRIAL, ceiling, default_deadline};
use crate::schema::Schema;
use crate::validate;
use semver::Version;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

/// Bytes of memory a policy's call has.
const POLICY_MEMORY: usize = 64 << 20;
/// Bytes of memory a driver's call has.
const DRIVER_MEMORY: usize = 256 << 20;

/// Who a plugin is.
#[derive(Clone, Debug)]
pub struct Info {
    /// What the host knows it by: its file's name without `.wasm`, or what the configuration says.
    pub id: Arc<str>,
    /// The file it was loaded from.
    pub file: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its version; a policy's state does not outlive a change of the major number.
    pub version: Version,
    /// All it says of itself.
    pub description: Description,
}

/// A plugin that passed all stages.
#[derive(Debug)]
pub struct Plugin {
    info: Info,
    schema: Schema,
    pub(crate) code: Code,
    grants: Grants,
    capabilities: Arc<Capabilities>,
}

impl Plugin {
    pub(crate) fn new(
        host: &Host,
        info: Info,
        schema: Schema,
        code: Code,
        grants: Grants,
    ) -> Plugin {
        let capabilities = Arc::new(Capabilities::new(host, &info.id, &grants));
        Plugin {
            info,
            schema,
            code,
            grants,
            capabilities,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What it may do: what was granted, and what a shipped plugin is granted by its digest.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What its settings must fit.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether it is a driver or a policy.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.code.kind
    }

    /// How long one of its functions may take: what it says, under the host's ceiling.
    #[must_use]
    pub fn deadline(&self, function: &str) -> Duration {
        let kind = self.kind();
        let said = self
            .info
            .description
            .deadlines
            .iter()
            .find(|deadline| deadline.function == function);
        let seconds = said.map_or(default_deadline(kind), |deadline| deadline.limit);
        Duration::from_secs(seconds.min(ceiling(kind)).into())
    }

    /// Asks a policy how many machines there should be. Takes tens of microseconds of a policy
    /// without WASI, and ends at its deadline, so that it may be called on any thread.
    ///
    /// # Errors
    /// Where the policy says so, fails, or answers with what can't be; and of a driver.
    pub fn evaluate(
        &self,
        context: &CallContext,
        view: &View,
        proposal: &Targets,
        state: &[u8],
    ) -> Result<Decision, CallError> {
        let Functions::Policy { evaluate } = &self.code.functions else {
            return Err(self.no_such_function("evaluate"));
        };
        let allowance = Allowance {
            time: self.deadline("evaluate"),
            ..self.code.allowance()
        };
        let guest = self.guest(context, &allowance);
        let parameters = (context.travels(), view, proposal, state);
        let (answer,): (Result<Decision, PluginError>,) = if self.code.waits {
            without_waiting(call_async(
                &self.code.pre,
                evaluate,
                parameters,
                &allowance,
                guest,
            ))?
        } else {
            call(&self.code.pre, evaluate, parameters, &allowance, guest)?
        };
        let decision = answer.map_err(validate::error)?;
        validate::decision(&decision)?;
        Ok(decision)
    }

    fn no_such_function(&self, function: &str) -> CallError {
        CallError::Invalid(format!(
            "{} is a {} and has no {function}",
            self.info.id,
            self.kind()
        ))
    }

    fn guest(&self, context: &CallContext, allowance: &Allowance) -> Guest {
        Guest::new(
            Bounds::new(allowance.memory),
            Voice::new(Arc::clone(&self.info.id), &context.runner),
            Caller::of(context),
            Arc::clone(&self.capabilities),
            Instant::now() + allowance.time,
            allowance.fuel,
        )
    }
}

/// A component, linked.
pub(crate) struct Code {
    kind: Kind,
    pre: InstancePre<Guest>,
    describe: ComponentExportIndex,
    functions: Functions,
    /// Whether functions that wait are linked behind it: then each call needs a stack of its own.
    waits: bool,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code")
            .field("kind", &self.kind)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

enum Functions {
    Policy {
        evaluate: ComponentExportIndex,
    },
    Driver {
        create: ComponentExportIndex,
        list_machines: ComponentExportIndex,
        get: ComponentExportIndex,
        destroy: ComponentExportIndex,
        renew_leases: ComponentExportIndex,
        list_leftovers: ComponentExportIndex,
        destroy_leftover: ComponentExportIndex,
    },
}

impl Code {
    /// Links a component that fits the world of its kind.
    pub(crate) fn link(
        host: &Host,
        kind: Kind,
        component: &Component,
        inert: bool,
    ) -> Result<Code, LoadError> {
        let (linker, waits) = match (kind, inert) {
            (Kind::Policy, false) => (&host.shared.policy, false),
            (Kind::Policy, true) => (&host.shared.policy_with_wasi, true),
            (Kind::Driver, _) => (&host.shared.driver, true),
        };
        let pre = linker.instantiate_pre(component).map_err(|error| {
            LoadError::Imports(vec![format!("what this host has not: {error:#}")])
        })?;
        let function = |interface: &str, name: &str| {
            component
                .get_export_index(None, format!("{PACKAGE}/{interface}@{VERSION}").as_str())
                .and_then(|instance| component.get_export_index(Some(&instance), name))
                .ok_or_else(|| LoadError::World {
                    world: "policy-plugin or driver-plugin",
                    why: format!("there is no {interface}.{name}"),
                })
        };
        let functions = match kind {
            Kind::Policy => Functions::Policy {
                evaluate: function("policy", "evaluate")?,
            },
            Kind::Driver => Functions::Driver {
                create: function("driver", "create")?,
                list_machines: function("driver", "list-machines")?,
                get: function("driver", "get")?,
                destroy: function("driver", "destroy")?,
                renew_leases: function("driver", "renew-leases")?,
                list_leftovers: function("driver", "list-leftovers")?,
                destroy_leftover: function("driver", "destroy-leftover")?,
            },
        };
        Ok(Code {
            kind,
            describe: function("meta", "describe")?,
            pre,
            functions,
            waits,
        })
    }

    /// What a call may use, but for its time.
    fn allowance(&self) -> Allowance {
        let (memory, answer) = match self.kind {
            Kind::Policy => (POLICY_MEMORY, ANSWER),
            Kind::Driver => (DRIVER_MEMORY, DRIVER_ANSWER),
        };
        Allowance {
            time: TRIAL,
            memory,
            answer,
            fuel: self.kind == Kind::Policy,
        }
    }

    /// Asks the component who it is, with nothing granted.
    pub(crate) fn describe(&self, host: &Host, id: &str) -> Result<Description, CallError> {
        let allowance = self.allowance();
        let capabilities = Arc::new(Capabilities::new(host, id, &Grants::default()));
        let guest = Guest::new(
            Bounds::new(allowance.memory),
            Voice::new(id.into(), ""),
            Caller::default(),
            capabilities,
            Instant::now() + TRIAL,
            allowance.fuel,
        );
        let (description,) = match (self.kind, self.waits) {
            (Kind::Policy, false) => call(&self.pre, &self.describe, (), &allowance, guest)?,
            (Kind::Policy, true) => {
                without_waiting(call_async(&self.pre, &self.describe, (), &allowance, guest))?
            }
            (Kind::Driver, _) => aside(
                TRIAL,
                call_async(&self.pre, &self.describe, (), &allowance, guest),
            )?,
        };
        Ok(description)
    }
}

/// Times a future that must not wait is asked again: a guest that gives way does not wait.
const ASKED: usize = 10_000;

/// Runs a future that has nothing to wait for. Its timers belong to a clock that nobody winds: one
/// that is waited for never rings, whatever the host.
fn without_waiting<T>(future: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    use std::sync::LazyLock;
    use std::task::{Context, Poll, Waker};
    use tokio::runtime::{Builder, Runtime};

    static CLOCK: LazyLock<std::io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build());
    let clock = CLOCK
        .as_ref()
        .map_err(|error| CallError::Trap(format!("no clock for it: {error}")))?;
    let _inside = clock.enter();
    let mut future = std::pin::pin!(tokio::task::unconstrained(future));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..ASKED {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
    }
    Err(CallError::Waited)
}

/// Runs a future on a thread of its own with its own timers, wherever this thread is.
fn aside<T: Send>(
    limit: Duration,
    future: impl Future<Output = Result<T, CallError>> + Send,
) -> Result<T, CallError> {
    let broken = |why: String| CallError::Trap(format!("it could not be asked: {why}"));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| broken(error.to_string()))?;
            runtime.block_on(async {
                tokio::time::timeout(limit, future)
                    .await
                    .unwrap_or(Err(CallError::Deadline(limit)))
            })
        });
        run.join()
            .unwrap_or_else(|_| Err(broken("the host panicked".into())))
    })
}
