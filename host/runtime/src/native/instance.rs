//! A native instance: its state, and the executor of its calls.

use std::time::{Duration, Instant};

use plugnode_sdk::native::Instance;

use super::convert;
use super::executor::{Executor, HandlerFactory};
use crate::bindings::plugnode::app::types as wit;
use crate::failure::Trap;
use crate::instance_limit::InstancePermit;
use crate::state::{GRACE, HostFailure, InstanceState};

/// A native instance.
pub(crate) struct NativeInstance {
    executor: Executor,
    /// Lent to the handler during a call. Lost if the call is given up.
    state: Option<Box<InstanceState>>,
}

impl NativeInstance {
    /// Makes an instance, and calls its start function.
    ///
    /// # Errors
    /// The reason why it does not start.
    pub(super) async fn start(
        factory: &HandlerFactory,
        state: InstanceState,
        permit: InstancePermit,
    ) -> Result<Self, String> {
        let mut instance = Self {
            executor: Executor::new(factory, state.instance, permit)?,
            state: Some(Box::new(state)),
        };
        match instance.call(|handler| handler.start()).await {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(reason)) => Err(format!("its start function refused: {reason}")),
            Err(trap) => Err(format!("its start function failed: {trap}")),
        }
    }

    pub(crate) fn state(&mut self) -> &mut InstanceState {
        self.state
            .as_mut()
            .expect("an instance is dropped when a call is given up")
    }

    pub(crate) fn host_failure(&self) -> Option<HostFailure> {
        self.state.as_ref()?.call.host_failure.clone()
    }

    pub(crate) fn timeout_reason(&self, limit: Duration) -> String {
        self.executor.timeout_reason(limit)
    }

    pub(crate) async fn handle(
        &mut self,
        event: wit::Event<'_>,
        context: wit::Context<'_>,
    ) -> Result<Result<(), wit::HandlerError>, Trap> {
        let (event, context) = (convert::event(event), convert::context(context));
        let handled = self.call(move |handler| handler.handle(event, context));
        Ok(handled.await?.map_err(convert::handler_error))
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Trap> {
        self.call(|handler| handler.stop()).await
    }

    async fn call<T: Send + 'static>(
        &mut self,
        function: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<T, Trap> {
        let state = self
            .state
            .take()
            .expect("an instance is dropped when a call is given up");
        let (result, state) = self.executor.call(state, function).await?;
        let state = self.state.insert(state);
        let trap = |cause| Trap::without_backtrace(cause, String::new());
        let answer = result.map_err(|message| trap(format!("the handler panicked: {message}")))?;
        // A time-out cannot interrupt a call in place, so its time is checked afterwards.
        if Instant::now() > state.call.deadline + GRACE {
            return Err(trap(self.executor.timeout_reason(state.call.limit)));
        }
        Ok(answer)
    }
}
