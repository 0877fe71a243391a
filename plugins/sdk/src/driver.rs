//! Machine drivers: how machines are made and removed at one provider.

pub use bindings::exports::springtide::plugin::driver::{
    Billing, Creation, Leftover, Machine, MachineState, Reach, SshAddress,
};
pub use bindings::springtide::plugin::http::{HttpError, Request, Response};
pub use bindings::springtide::plugin::process::{Output, ProcessError};

use crate::{CallContext, Description, Kind, PluginError};
use bindings::exports::springtide::plugin::{driver, meta};
use std::marker::PhantomData;

/// The world of a machine driver, as generated from the contract. What both worlds have in common
/// is one type, that of [`crate::policy::bindings`].
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "driver-plugin",
        path: "../../wit",
        pub_export_macro: true,
        default_bindings_module: "springtide_sdk::driver::bindings",
        additional_derives: [PartialEq],
        with: {
            "springtide:plugin/types@0.1.0": springtide_policy_bindings::springtide::plugin::types,
            "springtide:plugin/logging@0.1.0": springtide_policy_bindings::springtide::plugin::logging,
        },
    });
}

/// Running a tool the operator granted.
pub trait Process {
    /// Runs a tool to its end and returns what it wrote.
    ///
    /// # Errors
    /// Where it could not be run, or not to its end.
    fn run(&self, tool: &str, arguments: &[String], stdin: &[u8]) -> Result<Output, ProcessError>;
}

/// Sending HTTP requests to origins the operator granted.
pub trait Http {
    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// Where there is no answer.
    fn send(&self, request: &Request) -> Result<Response, HttpError>;
}

/// The plugin's own scratch directory.
pub trait Files {
    /// Writes a file and returns its absolute path.
    ///
    /// # Errors
    /// Where the name is not allowed or the directory is full; a sentence for a person.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, String>;

    /// Removes a file; success if there is none.
    ///
    /// # Errors
    /// Where it can't be removed; a sentence for a person.
    fn remove(&self, name: &str) -> Result<(), String>;
}

/// What a host gives to a driver. A test puts its own in:
/// `Host { process: &fake, ..Host::refusing() }`.
#[derive(Clone, Copy)]
pub struct Host<'h> {
    /// Tools.
    pub process: &'h dyn Process,
    /// HTTP.
    pub http: &'h dyn Http,
    /// Files.
    pub files: &'h dyn Files,
}

impl Host<'static> {
    /// The host that runs the component. Natively there is none, and a call panics.
    #[must_use]
    pub fn real() -> Self {
        Self {
            process: &Real,
            http: &Real,
            files: &Real,
        }
    }

    /// A host that grants nothing.
    #[must_use]
    pub fn refusing() -> Self {
        Self {
            process: &Refusing,
            http: &Refusing,
            files: &Refusing,
        }
    }
}

struct Real;

impl Process for Real {
    fn run(&self, tool: &str, arguments: &[String], stdin: &[u8]) -> Result<Output, ProcessError> {
        bindings::springtide::plugin::process::run(tool, arguments, stdin)
    }
}

impl Http for Real {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        bindings::springtide::plugin::http::send(request)
    }
}

impl Files for Real {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        bindings::springtide::plugin::files::put(name, bytes)
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        bindings::springtide::plugin::files::remove(name)
    }
}

struct Refusing;

const REFUSED: &str = "this host grants nothing";

impl Process for Refusing {
    fn run(&self, _: &str, _: &[String], _: &[u8]) -> Result<Output, ProcessError> {
        Err(ProcessError::Denied(REFUSED.into()))
    }
}

impl Http for Refusing {
    fn send(&self, _: &Request) -> Result<Response, HttpError> {
        Err(HttpError::Denied(REFUSED.into()))
    }
}

impl Files for Refusing {
    fn put(&self, _: &str, _: &[u8]) -> Result<String, String> {
        Err(REFUSED.into())
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        Err(REFUSED.into())
    }
}

/// A machine driver. Errors are typed, for the host acts on them; the text is for a person.
pub trait Driver {
    /// Who it is; always the same answer.
    fn describe() -> Description;

    /// Makes a machine, or carries one further that is being made; idempotent by token.
    ///
    /// # Errors
    /// Where none was made; a call with the same token may be tried again.
    fn create(
        host: &Host,
        context: &CallContext,
        creation: &Creation,
    ) -> Result<Machine, PluginError>;

    /// All machines that carry an owner mark, in whatever state, of every owner.
    ///
    /// # Errors
    /// Where the provider can't be asked; never a part of the list.
    fn list_machines(host: &Host, context: &CallContext) -> Result<Vec<Machine>, PluginError>;

    /// One machine by its id. Without an answer of its own, a driver looks through the list.
    ///
    /// # Errors
    /// [`PluginError::NotFound`] where there is none.
    fn get(host: &Host, context: &CallContext, id: &str) -> Result<Machine, PluginError> {
        Self::list_machines(host, context)?
            .into_iter()
            .find(|machine| machine.id == id)
            .ok_or_else(|| PluginError::NotFound(format!("there is no machine {id}")))
    }

    /// Removes a machine and all that belongs to it; success if it is gone already.
    ///
    /// # Errors
    /// Where the provider has not accepted it; the host repeats the call.
    fn destroy(host: &Host, context: &CallContext, id: &str) -> Result<(), PluginError>;

    /// Sets the end of the lease of these machines, passing over those that are gone. A driver
    /// whose machines carry no lease has nothing to do here.
    ///
    /// # Errors
    /// Where a lease could not be written.
    fn renew_leases(
        _host: &Host,
        _context: &CallContext,
        _ids: &[String],
        _until: u32,
    ) -> Result<(), PluginError> {
        Ok(())
    }

    /// What machines of this plugin's making left behind; nothing, unless a driver says otherwise.
    ///
    /// # Errors
    /// Where the provider can't be asked.
    fn list_leftovers(_host: &Host, _context: &CallContext) -> Result<Vec<Leftover>, PluginError> {
        Ok(Vec::new())
    }

    /// Removes something left behind; success if it is gone already.
    ///
    /// # Errors
    /// Where it is still there.
    fn destroy_leftover(
        _host: &Host,
        _context: &CallContext,
        _id: &str,
    ) -> Result<(), PluginError> {
        Ok(())
    }
}

/// What the component of a driver exports.
#[doc(hidden)]
#[derive(Debug)]
pub struct Exported<D>(PhantomData<D>);

impl<D: Driver> meta::Guest for Exported<D> {
    fn describe() -> meta::Description {
        describe(D::describe())
    }
}

impl<D: Driver> driver::Guest for Exported<D> {
    fn create(context: CallContext, creation: Creation) -> Result<Machine, PluginError> {
        D::create(&Host::real(), &context, &creation)
    }

    fn list_machines(context: CallContext) -> Result<Vec<Machine>, PluginError> {
        D::list_machines(&Host::real(), &context)
    }

    fn get(context: CallContext, id: String) -> Result<Machine, PluginError> {
        D::get(&Host::real(), &context, &id)
    }

    fn destroy(context: CallContext, id: String) -> Result<(), PluginError> {
        D::destroy(&Host::real(), &context, &id)
    }

    fn renew_leases(context: CallContext, ids: Vec<String>, until: u32) -> Result<(), PluginError> {
        D::renew_leases(&Host::real(), &context, &ids, until)
    }

    fn list_leftovers(context: CallContext) -> Result<Vec<Leftover>, PluginError> {
        D::list_leftovers(&Host::real(), &context)
    }

    fn destroy_leftover(context: CallContext, id: String) -> Result<(), PluginError> {
        D::destroy_leftover(&Host::real(), &context, &id)
    }
}

/// The description as the driver's world has it, whose types are not those of a policy's.
fn describe(description: Description) -> meta::Description {
    meta::Description {
        name: description.name,
        version: description.version,
        kind: match description.kind {
            Kind::Driver => meta::Kind::Driver,
            Kind::Policy => meta::Kind::Policy,
        },
        settings_schema: description.settings_schema,
        requests: description.requests.into_iter().map(request).collect(),
        deadlines: description
            .deadlines
            .into_iter()
            .map(|deadline| meta::Deadline {
                function: deadline.function,
                limit: deadline.limit,
            })
            .collect(),
    }
}

fn request(request: crate::Request) -> meta::Request {
    match request {
        crate::Request::Tool(name) => meta::Request::Tool(name),
        crate::Request::Origin(origin) => meta::Request::Origin(origin),
        crate::Request::Credential(name) => meta::Request::Credential(name),
        crate::Request::Files => meta::Request::Files,
        crate::Request::Other(text) => meta::Request::Other(text),
    }
}

/// Makes a component of a type that implements [`Driver`](crate::Driver).
// rustfmt can't parse what the inner macro takes, and moves it by its mood.
#[rustfmt::skip]
#[macro_export]
macro_rules! export_driver {
    ($driver:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type SpringtideExport = $crate::driver::Exported<$driver>;
            $crate::driver::bindings::export!(SpringtideExport with_types_in $crate::driver::bindings);
        };
    };
}
