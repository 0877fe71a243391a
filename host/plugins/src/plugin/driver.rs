//! The calls a driver takes. Each waits for what the driver does and ends at its deadline; dropped, it
//! ends with all it started.

use super::{Functions, Plugin};
use crate::call::{Allowance, CallError, call_async};
use crate::contract::{CallContext, Creation, Leftover, Machine, PluginError};
use crate::validate;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower};

/// A driver's function of this name.
macro_rules! function {
    ($plugin:expr, $field:ident, $name:literal) => {
        match &$plugin.code.functions {
            Functions::Driver { $field, .. } => ($field, $name),
            Functions::Policy { .. } => return Err($plugin.no_such_function($name)),
        }
    };
}

impl Plugin {
    /// Makes a machine, or carries one further that is being made; safe to repeat with its token.
    ///
    /// # Errors
    /// Where the driver says so or fails: then whether one was made is not known.
    pub async fn create(
        &self,
        context: &CallContext,
        creation: &Creation,
    ) -> Result<Machine, CallError> {
        let function = function!(self, create, "create");
        let machine: Machine = self
            .ask(function, context, (context.travels(), creation))
            .await?;
        validate::made(&machine, &creation.token)?;
        Ok(machine)
    }

    /// All machines that carry an owner mark, of every owner.
    ///
    /// # Errors
    /// Where the driver says so or fails.
    pub async fn list_machines(&self, context: &CallContext) -> Result<Vec<Machine>, CallError> {
        let function = function!(self, list_machines, "list-machines");
        self.ask(function, context, (context.travels(),)).await
    }

    /// One machine by its provider's id.
    ///
    /// # Errors
    /// Where there is none, the driver says so, or it fails.
    pub async fn get(&self, context: &CallContext, id: &str) -> Result<Machine, CallError> {
        let function = function!(self, get, "get");
        self.ask(function, context, (context.travels(), id)).await
    }

    /// Removes a machine; success is that its provider has accepted it, or has none such.
    ///
    /// # Errors
    /// Where the driver says so or fails.
    pub async fn destroy(&self, context: &CallContext, id: &str) -> Result<(), CallError> {
        let function = function!(self, destroy, "destroy");
        self.ask(function, context, (context.travels(), id)).await
    }

    /// Sets the end of leases, in epoch seconds.
    ///
    /// # Errors
    /// Where the driver says so or fails.
    pub async fn renew_leases(
        &self,
        context: &CallContext,
        ids: &[String],
        until: u32,
    ) -> Result<(), CallError> {
        let function = function!(self, renew_leases, "renew-leases");
        self.ask(function, context, (context.travels(), ids, until))
            .await
    }

    /// What machines left behind.
    ///
    /// # Errors
    /// Where the driver says so or fails.
    pub async fn list_leftovers(&self, context: &CallContext) -> Result<Vec<Leftover>, CallError> {
        let function = function!(self, list_leftovers, "list-leftovers");
        self.ask(function, context, (context.travels(),)).await
    }

    /// Removes something left behind; success if it is gone already.
    ///
    /// # Errors
    /// Where the driver says so or fails.
    pub async fn destroy_leftover(&self, context: &CallContext, id: &str) -> Result<(), CallError> {
        let function = function!(self, destroy_leftover, "destroy-leftover");
        self.ask(function, context, (context.travels(), id)).await
    }

    async fn ask<P, R>(
        &self,
        (function, name): (&ComponentExportIndex, &str),
        context: &CallContext,
        parameters: P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: validate::Answer + Lift + Send + Sync + 'static,
        (Result<R, PluginError>,): ComponentNamedList + Lift,
    {
        let allowance = Allowance {
            time: self.deadline(name),
            ..self.code.allowance()
        };
        let guest = self.guest(context, &allowance);
        let call = call_async(&self.code.pre, function, parameters, &allowance, guest);
        // A driver that waits for its host is not stopped by the engine's clock.
        let answer = tokio::time::timeout(allowance.time, call).await;
        let (answer,): (Result<R, PluginError>,) =
            answer.unwrap_or(Err(CallError::Deadline(allowance.time)))?;
        let answer = answer.map_err(validate::error)?;
        answer.check()?;
        Ok(answer)
    }
}
